"""An audit for people and machines: a table, a page, a document."""

from __future__ import annotations

from collections.abc import Iterator
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from rich.box import SIMPLE_HEAD
from rich.table import Table

from llm_savings.evidence import Strategy
from llm_savings.report.charts import waterfall
from llm_savings.report.money import dollars
from llm_savings.report.page import bullets, cards, headline, page, section, table, usd
from llm_savings.report.strategies import strategies_document
from llm_savings.report.texts import Lang, say

if TYPE_CHECKING:
    from llm_savings.audit.auditing import Audit

_CODE: dict[Strategy, tuple[str, str]] = {
    "routing": (
        'RoutedChatModel(tiers={"simple": mini, "complex": gpt4o})',
        'ComplexityRouting(tiers={"simple": "gpt-4o-mini", "complex": "gpt-4o"}).attach(router)',
    ),
    "output": (
        "with_compact_output(model, Schema, many=True)",
        "compact_completion(model, messages, Schema, many=True)",
    ),
    "prompt_cache": ("with_prompt_caching(model)", "litellm.callbacks = [PromptCaching()]"),
    "batch": ("submit_batch(chain, inputs)", "submit_batch(calls)"),
    "semantic_cache": ("set_llm_cache(SemanticCache())", "litellm.cache = SemanticCache()"),
}
_NAMES: dict[Strategy, str] = {
    "routing": "routing",
    "output": "shorter output",
    "prompt_cache": "prompt cache",
    "batch": "batch",
    "semantic_cache": "semantic cache",
}


def advice(found: Audit) -> list[tuple[Strategy, str, str]]:
    """The changes worth most, at most three: the strategy, and its line in LangChain and in LiteLLM."""
    worth = sorted(found.spans.items(), key=lambda pair: pair[1].expected, reverse=True)
    return [(name, *_CODE[name]) for name, span in worth[:3] if span.expected > 0]


def spans_table(found: Audit) -> Table:
    """What each strategy would have saved, at worst, as expected and at best."""
    shown = Table(title="What would have been saved", title_justify="left", box=SIMPLE_HEAD, header_style="bold")
    shown.pad_edge, shown.padding = False, (0, 1, 0, 0)
    for name in ("", "at worst", "expected", "at best", "share", ""):
        shown.add_column(name, justify="right" if name not in ("",) else "left", no_wrap=True)
    for name, span in found.spans.items():
        amounts = (dollars(usd) for usd in span)
        shown.add_row(_NAMES[name], *amounts, _share(span.expected, found.attribution.baseline), _basis(name))
    shown.add_section()
    whole = found.saved
    shown.add_row(
        "of what was spent", *(dollars(usd) for usd in whole), _share(whole.expected, found.spent), "", style="bold"
    )
    return shown


def sentences(found: Audit) -> Iterator[str]:
    """The head of the report, in sentences."""
    seen = found.seen
    when = f", {seen.first:%Y-%m-%d %H:%M} to {seen.last:%Y-%m-%d %H:%M} UTC" if seen.first and seen.last else ""
    yield f"{seen.calls:,} calls{when}; {found.priced_share:.1%} of them could be priced."
    yield f"Spent: {dollars(found.spent)}. With the strategies: {dollars(found.attribution.actual)}."
    provider = found.attribution.baseline + found.attribution.overhead - found.spent
    if provider > 0:
        yield f"{dollars(provider)} of the credits below was saved already, by what providers cache by themselves."


def document(found: Audit) -> dict[str, Any]:
    """All of it for machines: exact amounts as decimal text, in USD."""
    seen = found.seen
    return {
        "calls": seen.calls,
        "since": seen.first and seen.first.isoformat(),
        "until": seen.last and seen.last.isoformat(),
        "priced_share": found.priced_share,
        "spent": _text(found.spent),
        "logged": _text(seen.logged),
        "saved": [_text(usd) for usd in found.saved],
        "strategies": strategies_document(found.attribution),
        "spans": {name: [_text(usd) for usd in span] for name, span in found.spans.items()},
        "routed": seen.routed,
        "doubtful_routes": seen.doubt,
        "served": seen.served,
        "by_meaning": seen.by_meaning,
        "max_error": found.max_error,
        "waited": seen.waited,
        "findings": [
            {
                "kind": one.kind,
                "place": one.place,
                "reason": one.reason,
                "fix": one.fix,
                "usd_per_1000": one.usd_per_1000 and _text(one.usd_per_1000),
                "count": one.count,
            }
            for one in found.findings
        ],
        "advice": [{"strategy": name, "langchain": one, "litellm": other} for name, one, other in advice(found)],
        "unread": dict(found.unread),
        "notes": list(found.notes),
    }


def audit_page(found: Audit, *, lang: Lang | None = None) -> str:
    """The audit as one self-contained page."""
    whole = found.saved
    rows = [
        [say(f"strategy.{name}"), *map(usd, span), say(f"audit.{_basis(name)}")] for name, span in found.spans.items()
    ]
    told = [f"{_NAMES[name]}: {one}  /  {other}" for name, one, other in advice(found)]
    wrong = [f"{one.place}: {one.reason} {one.fix}" for one in found.findings]
    return page(
        say("audit.title"),
        headline(
            say("audit.headline", dollars(found.spent), dollars(whole.expected), _share(whole.expected, found.spent)),
            "",
        ),
        cards(
            (say(f"audit.{name}"), dollars(amount), _share(amount, found.spent))
            for name, amount in zip(("worst", "expected", "best"), whole, strict=True)
        ),
        section(say("report.strategies"), waterfall(found.attribution, name="waterfall"), name="strategies"),
        section(
            say("audit.spans"),
            table(
                [say(f"audit.{one}") for one in ("strategy", "worst", "expected", "best", "basis")],
                rows,
                caption=say("audit.spans"),
                name="spans-table",
            ),
            name="spans",
        ),
        section(say("audit.advice"), bullets(told), name="advice"),
        section(say("audit.findings"), bullets(wrong), name="findings"),
        section(say("report.notes"), bullets([*sentences(found), *found.notes]), name="notes"),
        lang=lang,
    )


def in_notebook(found: Audit) -> str:
    """A table for a notebook; everything from outside is escaped."""
    from html import escape

    head = "".join(f'<th scope="col">{name}</th>' for name in ("", "at worst", "expected", "at best", ""))
    body = "".join(
        f'<tr><th scope="row">{_NAMES[name]}</th>'
        + "".join(f"<td>{escape(dollars(amount))}</td>" for amount in span)
        + f"<td>{escape(_basis(name))}</td></tr>"
        for name, span in found.spans.items()
    )
    whole = "".join(f"<td>{escape(dollars(amount))}</td>" for amount in found.saved)
    said = "".join(f"<li>{escape(line)}</li>" for line in (*sentences(found), *found.notes))
    return (
        f"<table><caption>What would have been saved</caption><thead><tr>{head}</tr></thead><tbody>{body}</tbody>"
        f'<tfoot><tr><th scope="row">of what was spent</th>{whole}<td></td></tr></tfoot></table><ul>{said}</ul>'
    )


def _basis(name: Strategy) -> str:
    return {"routing": "estimated", "output": "modelled"}.get(name, "replayed")


def _share(amount: Decimal, whole: Decimal) -> str:
    return f"{amount / whole:.1%}" if whole > 0 else "–"


def _text(amount: Decimal) -> str:
    return format(amount, "f")
