"""Writes docs/configuration.md from the code: python scripts/write_reference.py [--check]."""

from __future__ import annotations

import inspect
import os
import re
import sys
import textwrap
from pathlib import Path
from typing import Any

os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "true")  # LiteLLM would fetch prices that nobody asks for here
TARGET = Path(__file__).parents[1] / "docs" / "configuration.md"

VARIABLES = {
    "LLM_SAVINGS_DISABLED": "1 makes every part of the package a pass-through.",
    "LLM_SAVINGS_LEDGER": "The ledger used where none is named: a path or a postgresql:// URL.",
    "LLM_SAVINGS_PRICES": "A TOML file with prices of your own, or with names for other models' prices.",
    "LLM_SAVINGS_HASH_KEY": "The key that turns tenants' names into hashes, where several machines must agree on them.",
    "LLM_SAVINGS_BATCHES": "The journal of batch jobs, a path.",
    "LLM_SAVINGS_CONFIG": "The proxy's options file, in place of the llm_savings.yaml beside config.yaml.",
    "LLM_SAVINGS_BUDGETS": "The proxy's option `budgets`, in YAML.",
    "LLM_SAVINGS_CACHE": "The proxy's option `cache`, in YAML.",
    "LLM_SAVINGS_SHADOW": "1 makes every strategy decide and record and change nothing; it is read when one is made.",
    "LLM_SAVINGS_CACHE_RULES": "A TOML file that corrects the providers' prompt-cache rules.",
}


def main() -> None:
    """Write the page, or say that it is not what the code says."""
    text = page()
    if "--check" in sys.argv:
        sys.exit(None if TARGET.read_text("utf-8") == text else f"{TARGET} is old; run {Path(__file__).name}")
    TARGET.write_text(text, "utf-8")


def page() -> str:
    """The whole page."""
    parts = ["# Configuration", "Written from the code by `python scripts/write_reference.py`; `make test` checks it."]
    for title, things in sections().items():
        parts += [f"## {title}", *(entry(thing) for thing in things)]
    rows = [f"| `{name}` | {meaning} |" for name, meaning in sorted(VARIABLES.items())]
    parts += ["## Environment", "\n".join(["| variable | meaning |", "|---|---|", *rows])]
    return "\n\n".join(parts) + "\n"


def sections() -> dict[str, list[Any]]:
    """What a user configures, in the order of the page."""
    from llm_savings import Budget, ComplexityRouter, langchain, litellm
    from llm_savings.batch import Options as BatchOptions
    from llm_savings.batch import submit
    from llm_savings.routing import Rule, Tier
    from llm_savings.semantic_cache import Settings
    from llm_savings.structured.compact import Options as CompactOptions

    return {
        "Metering and budgets": [langchain.CostCallback, langchain.track_costs, litellm.CostLogger, Budget],
        "Semantic cache": [langchain.SemanticCache, litellm.SemanticCache, Settings],
        "Routing": [langchain.RoutedChatModel, langchain.RoutingMiddleware, litellm.ComplexityRouting, ComplexityRouter,
                    Tier, Rule],
        "Prompt caching": [langchain.with_prompt_caching, langchain.PromptCachingMiddleware, litellm.PromptCaching],
        "Batch": [submit, langchain.submit_batch, litellm.submit_batch, BatchOptions],
        "Compact answers": [langchain.with_compact_output, langchain.summarizer, litellm.compact_completion,
                            CompactOptions],
    }  # fmt: skip


def entry(thing: Any) -> str:
    """One class or function: its first line and a table of what it takes."""
    doc = inspect.getdoc(thing) or ""
    host = next((host for host in ("langchain", "litellm") if thing.__module__.startswith(f"llm_savings.{host}")), "")
    name = f"### `{thing.__name__}`" + (f" ({host})" if host else "")
    defaults = {
        name: parameter.default
        for name, parameter in inspect.signature(thing).parameters.items()
        if parameter.default is not inspect.Parameter.empty
    }
    rows = [f"| `{name}` | {_default(defaults, name)} | {text} |" for name, text in arguments(doc)]
    table = "\n".join(["| | default | meaning |", "|---|---|---|", *rows]) if rows else ""
    return "\n\n".join(part for part in (name, doc.split("\n\n")[0].replace("\n", " "), table) if part)


def arguments(doc: str) -> list[tuple[str, str]]:
    """Names and meanings of a Google docstring's Args, or of its Attributes where it has no Args."""
    found = re.search(r"^Args:\n((?:[ ]+.*\n?|\n)+)", doc, re.M) or re.search(
        r"^Attributes:\n((?:[ ]+.*\n?|\n)+)", doc, re.M
    )
    if not found:
        return []
    body = textwrap.dedent(found[1])
    pairs = re.findall(r"(?m)^(\*{0,2}\w+): ((?:.*\n?)(?:^[ ]+.*\n?)*)", body)
    return [(name, " ".join(text.split()).replace("|", "\\|")) for name, text in pairs]


def _default(defaults: dict[str, Any], name: str) -> str:
    if name not in defaults:
        return ""
    value = defaults[name]
    return "" if "factory" in repr(value) or callable(value) else f"`{value!r}`"


if __name__ == "__main__":
    main()
