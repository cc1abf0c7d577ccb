"""How well each stable beginning of prompts is cached, and what was lost when a provider no longer held it."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from rich.table import Table

from llm_savings.errors import SavingsError
from llm_savings.ledger import Call
from llm_savings.ledger.records import Settled
from llm_savings.pricing import PriceBook
from llm_savings.report.money import amount, tokens
from llm_savings.report.tables import add_row, plain_table
from llm_savings.report.texts import Said, columns, say


@dataclass(slots=True)
class PrefixLine:
    """What calls with one stable beginning read and wrote.

    Attributes:
        prefix: The hash that names it; "" for calls of which no plan is known.
        calls: How many calls.
        hits: How many of them read something from the provider's cache.
        prompt: Input tokens in all.
        read: Tokens read from the cache.
        written: Tokens written to it.
        saved: USD that caching took off the input, writes' premium paid; negative where it cost more.
        lost: USD paid because the provider no longer held what it was expected to hold.
        unpriced: Calls whose model has no known price; their amounts are missing.
    """

    prefix: str
    calls: int = 0
    hits: int = 0
    prompt: int = 0
    read: int = 0
    written: int = 0
    saved: Decimal = Decimal(0)
    lost: Decimal = Decimal(0)
    unpriced: int = 0

    @property
    def amounts(self) -> tuple[Decimal | None, Decimal | None]:
        """What was saved and lost; None, and not $0, where no call has a known price."""
        return (self.saved, self.lost) if self.unpriced < self.calls else (None, None)

    @property
    def hit_rate(self) -> float:
        """The share of input tokens that were read from the cache."""
        return self.read / self.prompt if self.prompt else 0.0


def by_prefix(calls: Iterable[Call], prices: PriceBook | None = None) -> list[PrefixLine]:
    """Sum calls by the stable beginning of their prompts, the largest first.

    Args:
        calls: Rows of a ledger, as `Ledger.calls` gives them; they are read once.
        prices: The price book; LiteLLM's bundled map by default.

    Example:
        >>> by_prefix([])
        []
    """
    book = prices or PriceBook()
    lines: dict[str, PrefixLine] = {}
    for call in calls:
        settled = call.settled
        if settled is None or settled.status == "hit" or not settled.usage.prompt:
            continue
        evidence: Any = settled.strategies.get("prompt_cache") or {}
        prefix = str(evidence.get("prefix") or "")
        usage = settled.usage
        written = usage.cache_write_5m + usage.cache_write_1h
        line = lines.setdefault(prefix, PrefixLine(prefix))
        line.calls += 1
        line.hits += bool(usage.cache_read)
        line.prompt += usage.prompt
        line.read += usage.cache_read
        line.written += written
        held = 0 if evidence.get("shadow") else int(evidence.get("held") or 0)
        # What was expected may be off by the difference of two tokenizers: only nothing read at all is a loss.
        gone = held if held and not usage.cache_read else 0
        try:
            saved, lost = _amounts(call, settled, min(gone, usage.input + written), book)
            line.saved += saved
            line.lost += lost
        except SavingsError:
            line.unpriced += 1
    return sorted(lines.values(), key=lambda line: -line.prompt)


def _amounts(call: Call, settled: Settled, gone: int, book: PriceBook) -> tuple[Decimal, Decimal]:
    model, provider, at = settled.model or call.sent.requested_model, call.sent.provider, call.sent.started_at
    mode = settled.mode or call.sent.mode
    usage = settled.usage
    paid = book.price(usage, model, mode=mode, at=at, provider=provider)
    uncached = usage.uncached()
    plain = paid if uncached is usage else book.price(uncached, model, mode=mode, at=at, provider=provider)
    if not gone:
        return plain - paid, Decimal(0)
    rates = book.rates(model, prompt=usage.prompt, mode=mode, at=at, provider=provider)
    dear = rates["cache_write_5m"] if usage.cache_write_5m + usage.cache_write_1h else rates["input"]
    return plain - paid, gone * (dear - rates.get("cache_read", rates["input"]))


def prefixes_table(lines: list[PrefixLine]) -> Table:
    """A row a prefix."""
    names = ("prefix", "calls", "hits", "in", "read", "written", "saved", "lost")
    table = plain_table(*columns(*names))
    table.columns[0].no_wrap = True
    for line in lines:
        add_row(
            table,
            line.prefix or say("report.no_plan"),
            f"{line.calls:,}",
            f"{line.hits:,}",
            tokens(line.prompt),
            f"{line.hit_rate:.1%}",
            tokens(line.written),
            *map(amount, line.amounts),
        )
    return table


def prefixes_notes(lines: list[PrefixLine]) -> list[Said]:
    """What the table does not say, in sentences."""
    unpriced = sum(line.unpriced for line in lines)
    return [say("note.prefixes"), *([say("note.unpriced_credit", unpriced)] if unpriced else [])]


def prefixes_document(lines: list[PrefixLine]) -> list[dict[str, Any]]:
    """The same for machines: amounts as decimal text, in USD; null where nobody knows any."""
    amounts = [[usd if usd is None else format(usd, "f") for usd in line.amounts] for line in lines]
    return [
        {
            "prefix": line.prefix,
            "calls": line.calls,
            "hits": line.hits,
            "prompt_tokens": line.prompt,
            "read_tokens": line.read,
            "written_tokens": line.written,
            "hit_rate": round(line.hit_rate, 6),
            "saved": saved,
            "lost_to_invalidation": lost,
            "unpriced": line.unpriced,
        }
        for line, (saved, lost) in zip(lines, amounts, strict=True)
    ]
