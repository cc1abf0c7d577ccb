"""What a semantic cache has done, in a terminal and for machines."""

from __future__ import annotations

from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from rich.table import Table
from rich.text import Text

from llm_savings.report.money import dollars, tokens
from llm_savings.report.tables import plain_table

if TYPE_CHECKING:
    from llm_savings.semantic_cache import Stats
    from llm_savings.semantic_cache.tuning import Fit, Tuning

_TIERS = {"exact": "the same words", "canonical": "but for case, spacing, punctuation", "semantic": "the same meaning"}


def cache_table(stats: Stats) -> Table:
    """Hits by tier and misses by reason, with their share of the lookups."""
    table = plain_table("", "lookups", "share", "")
    for name, count in stats.hits.items():
        table.add_row(Text(f"hit: {name}"), tokens(count), _share(count, stats), Text(_TIERS.get(name, ""), "dim"))
    if stats.hits and stats.misses:
        table.add_section()
    for reason, count in stats.misses.items():
        table.add_row(Text(f"miss: {reason}"), tokens(count), _share(count, stats), "")
    table.add_section()
    table.add_row("all", tokens(stats.lookups), "", "", style="bold")
    return table


def errors_table(stats: Stats) -> Table:
    """The share of wrong answers by domain: of the lookups, and of the hits by meaning."""
    heads = ("model", "language", "lookups", "labels", "threshold", "wrong\nat most", "of hits\nat most")
    table = plain_table(*heads, left=("language",))
    for domain, now in sorted(stats.errors.items(), key=lambda pair: -pair[1].lookups):
        known = now.labels_above > 0
        table.add_row(
            Text(domain.model),
            domain.language,
            tokens(now.lookups),
            tokens(now.labels),
            f"{now.value:.3f}" if now.value <= 1 else "none",
            f"{_percent(now.error_estimate if known else None)}\n{_percent(now.error_bound)}",
            f"{_percent(now.per_hit_estimate if known else None)}\n{_percent(now.per_hit_bound)}",
        )
    return table


def cache_notes(stats: Stats) -> list[str]:
    """What the tables do not say, each in a sentence."""
    kept = f"{stats.entries:,} answers are kept, {stats.size / 1e6:,.1f} MB."
    if not stats.lookups:
        return ["Nothing was looked up yet.", kept]
    hits = sum(stats.hits.values())
    said = [f"{hits:,} of {stats.lookups:,} lookups were answered ({stats.hit_rate:.1%})."]
    if hits:
        unpriced = f", and those of {stats.unpriced:,} hits, which nobody knows" if stats.unpriced else ""
        said.append(f"Saved {dollars(stats.saved)}{unpriced}, and {stats.seconds:,.1f} s of waiting for models.")
    if stats.waited:
        said.append(f"{stats.waited:,} hits waited for another call with the same question.")
    if stats.wrong is not None:
        estimate, bound = stats.wrong
        said.append(
            f"Answered wrongly: {estimate:.2%} of lookups, at most {bound:.2%} (95%). An estimate, from comparing "
            "stored answers with fresh ones."
        )
    elif stats.hits.get("semantic"):
        said.append("How many hits by meaning are wrong is not known: no stored answer was compared with a new one.")
    return [*said, kept]


def cache_document(stats: Stats) -> dict[str, Any]:
    """All of it for machines: amounts as decimal text, shares from 0 to 1."""
    wrong = stats.wrong
    return {
        "lookups": stats.lookups,
        "hit_rate": stats.hit_rate,
        "hits": dict(stats.hits),
        "waited": stats.waited,
        "misses": dict(stats.misses),
        "saved_usd": format(stats.saved, "f"),
        "unpriced_hits": stats.unpriced,
        "saved_seconds": stats.seconds,
        "wrong_per_lookup": None if wrong is None else {"estimate": wrong[0], "bound": wrong[1]},
        "domains": [
            {
                "model": domain.model,
                "language": domain.language,
                "digest": domain.digest,
                "lookups": now.lookups,
                "labels": now.labels,
                "labels_above_threshold": now.labels_above,
                "threshold": now.value,
                "wrong_per_lookup": {"estimate": now.error_estimate, "bound": now.error_bound},
                "wrong_per_hit": {"estimate": now.per_hit_estimate, "bound": now.per_hit_bound},
            }
            for domain, now in stats.errors.items()
        ],
        "entries": stats.entries,
        "bytes": stats.size,
    }


def curve_table(language: str, fit: Fit) -> Table:
    """Precision and hits at each threshold, from the strictest to the loosest."""
    title = f"{language}: {fit.pairs:,} pairs, {fit.same:,} of them the same"
    table = plain_table("threshold", "hits", "right", "95% interval", title=title)
    for step in fit.curve:
        chosen = step.threshold >= fit.threshold
        interval = f"{step.low:.1%} – {step.high:.1%}"
        row = (f"{step.threshold:.3f}", f"{step.hits:.1%}", f"{step.precision:.1%}", interval)
        table.add_row(*row, style="green" if chosen else "dim")
    return table


def tuning_notes(found: Tuning, out: str | None) -> list[str]:
    """What the pairs support, each in a sentence."""
    said: list[str] = []
    for language, fit in found.fits.items():
        if fit.threshold > 1:
            said.append(
                f"{language}: {fit.pairs:,} pairs are too few, or too often wrong, to promise at most "
                f"{found.max_error:.1%} wrong lookups; the shipped threshold stays."
            )
        else:
            hits = max((step.hits for step in fit.curve if step.threshold >= fit.threshold), default=0.0)
            said.append(
                f"{language}: from {fit.threshold:.3f} on {hits:.1%} of such lookups are answered, and at most "
                f"{found.max_error:.1%} wrongly (95%), if lookups are like these pairs."
            )
    said += [f"{language}: {count:,} pairs are too few to fit." for language, count in found.skipped.items()]
    if out is not None:
        said.append(f"Written to {out}: SemanticCache(tuned={out!r}).")
    return said


def tuning_document(found: Tuning) -> dict[str, Any]:
    """All of it for machines; shares from 0 to 1, no threshold as null."""
    return {
        "max_error": found.max_error,
        "languages": {
            name: {
                "pairs": fit.pairs,
                "same": fit.same,
                "threshold": fit.threshold if fit.threshold <= 1 else None,
                "curve": [asdict(step) for step in fit.curve],
            }
            for name, fit in found.fits.items()
        },
        "skipped": dict(found.skipped),
    }


def _share(count: int, stats: Stats) -> str:
    return f"{count / stats.lookups:.1%}" if stats.lookups else ""


def _percent(share: float | None) -> str:
    return "–" if share is None else f"{share:.2%}"
