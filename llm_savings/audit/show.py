"""An audit for people and machines: a table, a page, a document."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from decimal import Decimal
from html import escape
from itertools import chain
from math import ceil
from typing import TYPE_CHECKING, Any

from rich.table import Table

from llm_savings.evidence import Strategy
from llm_savings.report.charts import waterfall
from llm_savings.report.money import dollars
from llm_savings.report.page import (
    Words,
    bullets,
    cards,
    code,
    element,
    headline,
    joined,
    page,
    section,
    table,
    usd,
)
from llm_savings.report.strategies import strategies_document
from llm_savings.report.tables import add_row, plain_table
from llm_savings.report.texts import Lang, Said, say

if TYPE_CHECKING:
    from llm_savings.audit.auditing import Audit

_CODE: dict[Strategy, tuple[str, str]] = {
    "routing": (
        "from llm_savings.langchain import RoutedChatModel\n"
        'model = RoutedChatModel(tiers={"simple": init_chat_model("SMALL"), "complex": init_chat_model("LARGE")})',
        "from llm_savings.litellm import ComplexityRouting\n"
        'ComplexityRouting(tiers={"simple": "SMALL", "complex": "LARGE"}).attach(router)',
    ),
    "output": (
        "from llm_savings.langchain import with_compact_output\nwith_compact_output(model, Schema, many=True)",
        "from llm_savings.litellm import compact_completion\ncompact_completion(model, messages, Schema, many=True)",
    ),
    "prompt_cache": (
        "from llm_savings.langchain import with_prompt_caching\nmodel = with_prompt_caching(model)",
        "from llm_savings.litellm import PromptCaching\nlitellm.callbacks = [PromptCaching()]",
    ),
    "batch": (
        "from llm_savings.langchain import submit_batch\nsubmit_batch(chain, inputs)",
        "from llm_savings.litellm import submit_batch\nsubmit_batch(calls)",
    ),
    "semantic_cache": (
        "from llm_savings import SemanticCache\nset_llm_cache(SemanticCache())",
        "from llm_savings.litellm import SemanticCache\nlitellm.cache = SemanticCache()",
    ),
}


def advice(found: Audit) -> list[tuple[Strategy, str, str]]:
    """The changes worth most, at most three: the strategy, and its code in LangChain and in LiteLLM."""
    worth = sorted(found.spans.items(), key=lambda pair: pair[1].expected, reverse=True)
    (large, small), _ = next(iter(found.seen.routes.most_common(1)), (("LARGE", "SMALL"), 0))

    def named(code: str) -> str:
        return code.replace("LARGE", large).replace("SMALL", small)

    return [
        (name, named(langchain), named(litellm))
        for name, span in worth[:3]
        for langchain, litellm in (_CODE[name],)
        if span.expected > 0
    ]


def quality(found: Audit) -> Iterator[Said]:
    """What may get worse: the router's estimate, and the bound of the cache's false hits."""
    seen = found.seen
    if seen.routed:
        doubt = f"{seen.doubt:,.0f}" if seen.doubt >= 10 else f"{seen.doubt:.1f}"
        yield say("audit.risk_routing", seen.routed, doubt, f"{found.doubtful:.1%}")
    if seen.served:
        wrong, share = ceil(round(found.false_hits * seen.lookups, 6)), f"{found.false_hits:.2%}"
        yield say(
            "audit.risk_cache", wrong, seen.lookups, share, seen.by_meaning, seen.served, f"{found.max_error:.1%}"
        )


def spans_table(found: Audit) -> Table:
    """What each strategy would have saved, at worst, as expected and at best."""
    heads = (say(f"audit.{name}") for name in ("worst", "expected", "best", "share"))
    shown = plain_table("", *heads, "", title=say("audit.saved"))
    for name, span in found.spans.items():
        part = _share(span.expected, found.attribution.baseline)
        add_row(shown, say(f"strategy.{name}"), *map(dollars, span), part, say(f"audit.{_basis(name)}"))
    shown.add_section()
    whole = found.saved
    add_row(shown, say("audit.whole"), *map(dollars, whole), _share(whole.expected, found.spent), "", style="bold")
    return shown


def uncached(found: Audit) -> Iterator[Said]:
    """What keeps prompts from being cached, in sentences."""
    for one in found.findings:
        why = say(f"{one.kind}.reason", *one.details)
        if one.usd_per_1000:
            why = say("audit.dear", why, f"{one.usd_per_1000:.4f}")
        yield say("audit.finding", one.place, why, say(f"{one.kind}.fix"))


def sentences(found: Audit) -> Iterator[Said]:
    """The head of the report, in sentences."""
    seen, priced = found.seen, f"{found.priced_share:.1%}"
    if seen.first and seen.last:
        first, last = (f"{moment:%Y-%m-%d %H:%M}" for moment in (seen.first, seen.last))
        yield say("audit.sentences_when", seen.calls, first, last, priced)
    else:
        yield say("audit.sentences", seen.calls, priced)
    yield say("audit.spent", dollars(found.spent), dollars(found.attribution.actual))
    before = found.attribution.baseline + found.attribution.overhead - found.spent
    if before > 0:
        yield say("audit.before", dollars(before))


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
        "quality": {
            "routing": {"kind": "estimate", "calls": seen.routed, "wrong": seen.doubt, "share": found.doubtful},
            "semantic_cache": {
                "kind": "bound",
                "calls": seen.lookups,
                "wrong": found.false_hits * seen.lookups,
                "share": found.false_hits,
            },
        },
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
        "notes": [str(note) for note in found.notes],
    }


def audit_page(found: Audit, *, lang: Lang | None = None) -> str:
    """The audit as one self-contained page."""
    whole = found.saved
    rows = [
        [say(f"strategy.{name}"), *map(usd, span), say(f"audit.{_basis(name)}")] for name, span in found.spans.items()
    ]
    told = [
        (element("h3", say(f"strategy.{name}")), code(f"# LangChain\n{one}\n\n# LiteLLM\n{other}"))
        for name, one, other in advice(found)
    ]
    wrong = list(uncached(found))
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
        *(
            section(say(f"audit.{name}"), block, name=name, lead=lead)
            for name, block, lead in (
                ("quality", bullets(quality(found)), say("audit.quality_lead")),
                ("advice", joined(chain.from_iterable(told)), ""),
                ("findings", bullets(wrong), ""),
            )
            if block
        ),
        section(say("report.notes"), bullets([*sentences(found), *found.notes]), name="notes"),
        lang=lang,
    )


def in_notebook(found: Audit, *, lang: Lang = "en") -> str:
    """A table for a notebook; everything from outside is escaped."""

    def line(tag: str, cells: Iterable[Words], name: Words) -> str:
        rest = "".join(f"<{tag}>{cell(one)}</{tag}>" for one in cells)
        return f'<tr><th scope="row">{cell(name)}</th>{rest}</tr>'

    def cell(said: Words) -> str:
        return escape(said if isinstance(said, str) else said.text(lang))

    head = line("th", (say(f"audit.{one}") for one in ("worst", "expected", "best", "basis")), "")
    body = "".join(
        line("td", [*map(dollars, span), say(f"audit.{_basis(name)}")], say(f"strategy.{name}"))
        for name, span in found.spans.items()
    )
    foot = line("td", [*map(dollars, found.saved), ""], say("audit.whole"))
    said = "".join(f"<li>{cell(one)}</li>" for one in (*sentences(found), *quality(found), *found.notes))
    return (
        f"<table><caption>{cell(say('audit.title'))}</caption><thead>{head}</thead><tbody>{body}</tbody>"
        f"<tfoot>{foot}</tfoot></table><ul>{said}</ul>"
    )


def _basis(name: Strategy) -> str:
    return {"routing": "estimated", "output": "modelled"}.get(name, "replayed")


def _share(amount: Decimal, whole: Decimal) -> str:
    return f"{amount / whole:.1%}" if whole > 0 else "–"


def _text(amount: Decimal) -> str:
    return format(amount, "f")
