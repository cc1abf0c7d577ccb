"""Runs the Python blocks of documents as written, against the sandbox: python document_blocks.py URL.

A line of its input is a document and a folder in JSON. The hosts are imported once; each document runs in a process
forked from this one, in that folder, where `said.txt` has what it printed. A line of its output is how that ended.

What a reader already has (models, a prompt, questions, the hosts' own imports) is given to the blocks under the names
that the documents use; all else has to be in the blocks.
"""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from datetime import timedelta
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, Literal

CONFIG = """
model_list:
  - {model_name: gpt-4o-mini, litellm_params: {model: gpt-4o-mini}}
  - {model_name: gpt-4o, litellm_params: {model: gpt-4o}}
llm_savings:
  routing: {tiers: {simple: gpt-4o-mini, complex: gpt-4o}}
"""
"""The reader's own Router in YAML."""

LOGGED = """\
{"model": "gpt-4o", "messages": [{"role": "user", "content": "?"}], "usage": {"input_tokens": 9, "output_tokens": 1}}
"""
"""The reader's own log."""

BLOCK = re.compile(r"(<!-- not run: [^>]+ -->\n)?^```python\n(.*?)^```", re.MULTILINE | re.DOTALL)


def blocks(document: Path) -> list[tuple[int, str]]:
    """Line number and code of each block that can be run."""
    text = document.read_text("utf-8")
    return [(text.count("\n", 0, m.start(2)) + 1, m[2]) for m in BLOCK.finditer(text) if not m[1]]


def given() -> dict[str, Any]:
    """What the reader's own program has."""
    import litellm
    from langchain.agents import create_agent
    from langchain_anthropic import ChatAnthropic
    from langchain_core.output_parsers import StrOutputParser
    from langchain_core.prompts import ChatPromptTemplate
    from langchain_core.tools import tool
    from langchain_openai import ChatOpenAI, OpenAIEmbeddings
    from pydantic import BaseModel

    from llm_savings import CostCallback

    @tool
    def stock(product: str) -> str:
        """How many of a product are in stock."""
        return f"12 {product}"

    prompt = ChatPromptTemplate.from_messages([("system", "You answer for a shop."), ("user", "{question}")])
    mini, gpt4o = ChatOpenAI(model="gpt-4o-mini", max_tokens=200), ChatOpenAI(model="gpt-4o", max_tokens=200)
    claude = ChatAnthropic(model="claude-sonnet-4-5", max_tokens=200)
    messages = [{"role": "user", "content": "Do you ship abroad?"}]
    groups = [{"model_name": name, "litellm_params": {"model": name}} for name in ("gpt-4o-mini", "gpt-4o")]

    class Review(BaseModel):
        sentiment: Literal["positive", "negative", "neutral"]
        confidence: float

    return {
        "litellm": litellm, "create_agent": create_agent, "BaseModel": BaseModel, "Annotated": Annotated,
        "Literal": Literal, "timedelta": timedelta, "ChatAnthropic": ChatAnthropic, "ChatOpenAI": ChatOpenAI,
        "OpenAIEmbeddings": OpenAIEmbeddings, "prompt": prompt, "mini": mini, "gpt4o": gpt4o, "claude": claude,
        "model": mini, "chain": prompt | mini | StrOutputParser(), "question": {"question": "Do you ship abroad?"},
        "cost": CostCallback(":memory:"),
        "messages": messages, "router": litellm.Router(model_list=groups), "tools": [stock],
        "PROMPT": "You answer for a shop.",
        "Review": Review, "reviews": ["아주 좋아요", "별로예요"], "inputs": [{"question": "아주 좋아요"}],
        "article": "배송이 늦었다. " * 40,
        "chats": [messages, [{"role": "user", "content": "반품은 어떻게 하나요?"}]],
        "prompts": [f"{'Prove that' if i % 2 else 'What is'} {i}?" for i in range(60)],
        "scores": [{"gpt-4o-mini": float(i % 2 == 0), "gpt-4o": 1.0} for i in range(60)],
    }  # fmt: skip


def run(document: Path, folder: Path) -> None:
    signal.alarm(300)
    os.chdir(folder)
    os.environ |= {f"XDG_{kind}_HOME": str(folder / kind.lower()) for kind in ("DATA", "STATE", "CACHE")}
    said = os.open("said.txt", os.O_WRONLY | os.O_CREAT)
    os.dup2(said, 1)
    os.dup2(said, 2)
    Path("config.yaml").write_text(CONFIG, "utf-8")
    Path("before.jsonl").write_text(LOGGED, "utf-8")
    names = given()
    for line, code in blocks(document):
        print(f"{document.name}:{line}", flush=True)
        exec(compile("\n" * (line - 1) + code, document.name, "exec", dont_inherit=True), names)


def main(url: str) -> None:
    os.environ |= {
        "OPENAI_API_KEY": "sandbox", "OPENAI_BASE_URL": f"{url}/v1", "OPENAI_API_BASE": f"{url}/v1",
        "ANTHROPIC_API_KEY": "sandbox", "ANTHROPIC_BASE_URL": url, "ANTHROPIC_API_BASE": url,
    }  # fmt: skip
    for name in ("litellm", "langchain.agents", "langchain_anthropic", "langchain_openai"):
        import_module(name)
    for line in sys.stdin:
        document, folder = map(Path, json.loads(line))
        if not (child := os.fork()):
            return run(document, folder)
        print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)


if __name__ == "__main__":
    main(sys.argv[1])
