"""The command line: parse, call, print."""

from llm_savings.cli.main import main

__all__ = ["main"]
