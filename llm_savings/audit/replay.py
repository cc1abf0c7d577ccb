"""Past calls through the strategies, one after the other in order of time, as they would have gone.

A call that can wait goes into a batch, at its own model. Any other is routed, looked up in the cache of the model that
routing chose, shortened, and planned for that model's prompt cache. So overlaps are not counted twice: a hit that the
small model would have answered saves the small model's price.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from random import Random
from typing import Any, cast

import orjson

from llm_savings.attribution import Facts, shared_out
from llm_savings.audit.ahead import Ahead, Foresight
from llm_savings.audit.choices import Choices
from llm_savings.audit.prefixes import Automatic, Beginning, Marked, Reads, with_cached
from llm_savings.audit.records import Record
from llm_savings.audit.seen import Seen
from llm_savings.bounds import limits
from llm_savings.errors import SavingsError
from llm_savings.evidence import Strategy
from llm_savings.pricing import PriceBook
from llm_savings.pricing.amounts import EXACT
from llm_savings.prompt_cache import Terms, terms_of
from llm_savings.semantic_cache import AnswerCache, Hit, Lookup, Question, Settings
from llm_savings.tokens import count
from llm_savings.usage import Usage

_Part = Callable[[Facts, Mapping[Strategy, Decimal]], Mapping[Strategy, Decimal]]
"""What of each credit may not come, or may come on top, in USD: a function of a call's facts and its credits."""

_ZERO = Decimal(0)
_MOST_KEPT = 100_000  # as many answers as the cache keeps
_SHORT = 3  # records below which columns save nothing worth asking for


class Replay:
    """Takes calls in order of time; `seen` is what they came to so far.

    Args:
        choices: What is tried.
        prices: The price book.
    """

    def __init__(self, choices: Choices, prices: PriceBook) -> None:
        self.seen = Seen()
        self._choices, self._prices = choices, prices
        self._terms: dict[tuple[str, str | None], Terms] = {}
        self._now = datetime.now(UTC)
        settings = Settings(max_error=choices.max_error, ttl=choices.ttl, wait=0)  # nobody else asks meanwhile
        chance = Random(0).random  # noqa: S311 (repeatable, no secret)
        self._cache = AnswerCache(None, settings, text_of=str, chance=chance, clock=lambda: self._now)
        self.foresight = Foresight(choices, prices, self._cache)
        self._kept: dict[str, Usage] = {}
        self._before, self._automatic, self._marked = Automatic(), Automatic(), Marked(prices)
        self._begun: Beginning | None = None  # of the latest call

    def take(self, record: Record, ahead: Ahead | None = None) -> None:
        """Replay one call.

        Args:
            record: The call.
            ahead: What `foresight` read of it, if anybody asked it to.
        """
        seen = self.seen
        seen.calls += 1
        if record.at is not None:
            seen.first, seen.last = seen.first or record.at, record.at
            self._now = record.at
        if record.cost is not None:
            seen.logged = EXACT.add(seen.logged, record.cost)
        if record.hit:
            seen.hits += 1
            return
        if record.usage is None:
            seen.failed += 1
            return
        if record.failed:
            self._lost(record, record.usage)
            return
        for name, missing in (
            ("prompt", not record.messages),
            ("time", record.at is None),
            ("answer", record.answer is None and not record.tool_calls),
        ):
            if missing:
                seen.blind[name] = seen.blind.get(name, 0) + 1
        try:
            self._priced(record, record.usage, ahead)
        except SavingsError:
            seen.unpriced += 1

    def close(self) -> None:
        """Let go of the cache."""
        self._cache.close()

    def _lost(self, record: Record, used: Usage) -> None:
        """A call that failed and may have cost something all the same."""
        seen = self.seen
        try:
            usd = self._price(used, record.model, record)
        except SavingsError:
            seen.unpriced += 1
            return
        seen.priced += 1
        seen.spent, seen.overhead = EXACT.add(seen.spent, usd), EXACT.add(seen.overhead, usd)

    def _priced(self, record: Record, used: Usage, ahead: Ahead | None) -> None:
        seen = self.seen
        spent = self._price(used, record.model, record)
        facts, less, more = self._saved(record, used, ahead or self.foresight.see(record, used))
        active = facts.active
        as_it_was = not active and facts.usage == used
        baseline = spent if as_it_was else facts.price(self._prices, frozenset())
        credits = shared_out(facts, self._prices) if active else {}
        seen.priced += 1
        seen.baseline, seen.spent = EXACT.add(seen.baseline, baseline), EXACT.add(seen.spent, spent)
        if record.streamed:
            seen.live = EXACT.add(seen.live, spent)
        if active:
            parts = (seen.credits, credits), (seen.less, less(facts, credits)), (seen.more, more(facts, credits))
            for sums, part in parts:
                for name, usd in part.items():
                    sums[name] = EXACT.add(sums.get(name, _ZERO), usd)

    def _price(self, used: Usage, model: str, record: Record) -> Decimal:
        provider = record.provider if model == record.model else None
        return self._prices.price(used, model, mode=record.mode, at=record.at, provider=provider)

    def _saved(self, record: Record, used: Usage, ahead: Ahead) -> tuple[Facts, _Part, _Part]:
        """What the strategies do to a call, and how much less or more of it might come."""
        asked = Facts(model=record.model, usage=used, mode=record.mode, provider=record.provider, at=record.at)
        if ahead.begins is not None:
            self._begun = Beginning(ahead.begins, record)
        then = self._read(self._before, record, asked) if "prompt_cache" in self._choices.strategies else None
        if ahead.waits:
            self.seen.waited += 1
            # Batches read a cache by luck only.
            return replace(asked, mode="batch", usage=used.uncached()), _nothing, _nothing
        if not record.messages:
            return asked, _nothing, _nothing
        model, facts = ahead.model, asked
        route = self.foresight.route(record.model, record.provider) if model != record.model else None
        if route is not None:
            facts = replace(asked, model=route.small, baseline_model=route.large, provider=None)
            self.seen.routes[record.model, model] += 1
            if route.elsewhere:
                self.seen.elsewhere[model, record.provider or record.model.rpartition("/")[0]] += 1
            self.seen.doubt += 1 - (ahead.sufficiency or 1.0)
        found = self._looked_up(record, used, ahead)
        if isinstance(found, Hit):
            facts = replace(facts, hit=True, usage=self._as_kept(found, used))
            return facts, _if_wrong if found.tier == "semantic" else _nothing, _nothing
        if "output" in self._choices.strategies and (shorter := _shorter(record, used, model)) is not None:
            facts = replace(facts, usage=shorter, baseline_output=used.output)
        reads = None
        if "prompt_cache" in self._choices.strategies and record.at is not None:
            facts, reads = self._cached(record, facts, then, record.at)
        if found is not None and found.question is not None:
            self._kept[found.question.id] = facts.usage
            if len(self._kept) > _MOST_KEPT:
                del self._kept[next(iter(self._kept))]
        return facts, self._worse(ahead, reads), self._better(reads)

    def _as_kept(self, hit: Hit, used: Usage) -> Usage:
        """What a hit would have consumed: its own tokens, cached as those of the call whose answer it gets.

        So a ledger has it, whose row of a hit shows the usage that came with the stored answer.
        """
        kept = self._kept.get(hit.entry.id, Usage())
        return with_cached(used.uncached(), kept.cache_read, kept.cache_write_5m, kept.cache_write_1h)

    def _looked_up(self, record: Record, used: Usage, ahead: Ahead) -> Lookup | None:
        """What the cache has for a call; what it does not answer, it keeps."""
        if ahead.question is None:
            return None
        if ahead.reading is not None and isinstance(ahead.question, Question):
            self._cache.remember(ahead.question.text, ahead.reading)
        self.seen.lookups += 1
        found = self._cache.lookup(ahead.question)
        if isinstance(found, Hit):
            self.seen.served += 1
            self.seen.by_meaning += found.tier == "semantic"
            return found
        most = limits(record.parameters)[0]
        whole = most is None or used.output < most  # else it was cut off
        if found.question is not None and record.answer and not record.tool_calls and whole:
            self._cache.keep(found.question, record.answer)
        return found

    def _rules(self, facts: Facts) -> Terms:
        name = (facts.model, facts.provider)
        if name not in self._terms:
            self._terms[name] = terms_of(facts.model, facts.provider, self._prices)
        return self._terms[name]

    def _read(self, cache: Automatic, record: Record, facts: Facts) -> Reads | None:
        """What a provider's own cache holds of a prompt, and from now on has all of; None where it has no such one."""
        terms, prompt = self._rules(facts), facts.usage.uncached().input
        if not record.messages or record.at is None or (terms.marked and terms.lives):
            return None
        if terms.dialect != "automatic" or prompt < terms.minimum:
            return Reads()
        whose = f"{facts.model}\0{record.tenant or ''}"
        if self._begun is None or self._begun.record is not record:
            self._begun = Beginning.of(record)
        return cache.read(self._begun, whose, terms, prompt, record.at.timestamp())

    def _cached(
        self, record: Record, facts: Facts, then: Reads | None, at: datetime
    ) -> tuple[Facts, tuple[Usage, Usage] | None]:
        """The call with what its provider's prompt cache would have held, and the same at worst and at best.

        Where the model stays the log has what was read; only what the strategies change of the traffic is reckoned, as
        against the same rules on the calls as they were (`then`).
        """
        used, now = facts.usage, self._read(self._automatic, record, facts)
        if now is None:
            marked = self._marked.usage(record, facts.model, self._rules(facts), used, at.timestamp())
            return replace(facts, usage=marked), None
        stays = facts.model == record.model
        if stays and now == then:
            return facts, None
        known, before = (used.cache_read, then or Reads()) if stays else (0, Reads())
        plain = used.uncached()
        low, usual, high = (
            with_cached(plain, known if a == b else known * a // b if b else known + a)
            for a, b in zip(now, before, strict=True)
        )
        return replace(facts, usage=usual), (low, high)

    def _worse(self, ahead: Ahead, reads: tuple[Usage, Usage] | None) -> _Part:
        """At worst, what the smaller model does not do is asked again, and caches let go early."""
        doubt = Decimal(str(round(1 - (ahead.sufficiency or 1.0), 4)))

        def part(facts: Facts, credits: Mapping[Strategy, Decimal]) -> dict[Strategy, Decimal]:
            found: dict[Strategy, Decimal] = {}
            if facts.baseline_model is not None and credits.get("routing", _ZERO) > 0:
                strong = facts.price(self._prices, frozenset(facts.active) - {"routing"})
                found["routing"] = EXACT.multiply(doubt, strong)
            if facts.baseline_output is not None:
                found["output"] = max(credits.get("output", _ZERO), _ZERO)
            if reads is not None and reads[0] != facts.usage:
                found["prompt_cache"] = self._difference(facts, reads[0])
            return found

        return part

    def _better(self, reads: tuple[Usage, Usage] | None) -> _Part:
        def part(facts: Facts, credits: Mapping[Strategy, Decimal]) -> dict[Strategy, Decimal]:
            if reads is None or reads[1] == facts.usage:
                return {}
            return {"prompt_cache": -self._difference(facts, reads[1])}

        return part

    def _difference(self, facts: Facts, usage: Usage) -> Decimal:
        """What the call would cost more with another usage."""
        cached: Strategy = "prompt_cache"
        on = frozenset((*facts.active, cached))
        return EXACT.subtract(replace(facts, usage=usage).price(self._prices, on), facts.price(self._prices, on))


def _shorter(record: Record, used: Usage, model: str) -> Usage | None:
    """What an answer that is a list of records would take as columns; None where there is nothing to shorten.

    As many tokens less as the same texts take less, counted here.
    """
    if not record.answer or record.answer.lstrip()[:1] not in ("{", "["):
        return None
    try:
        found: Any = orjson.loads(record.answer)
    except ValueError:
        return None
    if isinstance(found, dict) and len(cast("dict[str, Any]", found)) == 1:
        found = next(iter(cast("dict[str, Any]", found).values()))
    rows = cast("list[Any]", found) if isinstance(found, list) else []
    if len(rows) < _SHORT or not all(isinstance(row, dict) for row in rows):
        return None
    names = list(cast("dict[str, Any]", rows[0]))
    if not names or any(list(row) != names for row in rows):
        return None
    columns = orjson.dumps({name: [row[name] for row in rows] for name in names}).decode()
    written, shorter = count(record.answer, model), count(columns, model)
    if shorter >= written:
        return None
    return replace(used, output=used.output * shorter // written)


def _if_wrong(facts: Facts, credits: Mapping[Strategy, Decimal]) -> dict[Strategy, Decimal]:
    return {"semantic_cache": credits.get("semantic_cache", _ZERO)}


def _nothing(facts: Facts, credits: Mapping[Strategy, Decimal]) -> dict[Strategy, Decimal]:
    return {}
