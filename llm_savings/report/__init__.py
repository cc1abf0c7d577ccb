"""Reports for people: tables in the terminal, HTML in a notebook."""

from llm_savings.report.money import dollars, tokens
from llm_savings.report.notebook import html_table
from llm_savings.report.terminal import calls_table, notes, plain_text

__all__ = ["calls_table", "dollars", "html_table", "notes", "plain_text", "tokens"]
