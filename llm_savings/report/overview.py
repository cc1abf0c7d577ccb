"""What a report's page and the plain report tell of a ledger: periods, strategies, days, what is unsure, findings."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, timedelta, tzinfo
from decimal import Decimal

from llm_savings.attribution import Attribution, attribute
from llm_savings.errors import SavingsError
from llm_savings.foreseen import Foreseen, foresee
from llm_savings.ledger import Call, Ledger, Line, last_days, total, zone
from llm_savings.pricing import PriceBook
from llm_savings.report.budgets import BudgetState, budget_states
from llm_savings.report.money import dollars, tokens
from llm_savings.report.prefixes import PrefixLine, by_prefix
from llm_savings.report.texts import Said, say
from llm_savings.usage import Usage

_ZERO = Decimal(0)
_CHUNK = 1_000  # calls attributed at once
_TAGS = 4  # names of tags that are shown
_SHORT_IN, _SHORT_OUT = 300, 100  # tokens of a call that any model can answer, perhaps
_MOST = 5  # findings that are told
_FEW = 20  # short calls below which nothing is said of them
_CACHEABLE = 1024  # tokens from which OpenAI caches a prompt (platform.openai.com/docs/guides/prompt-caching)
PERIODS = {"today": 1, "week": 7, "month": 30}
"""The periods that are always told, in days that end today."""


@dataclass(slots=True)
class Unsure:
    """Calls of one model whose cost is not known, or not for sure.

    Attributes:
        model: The model.
        basis: How their figures came about.
        calls: How many.
        bound: USD that those with a bound cannot exceed; of estimated ones, what they are estimated at.
        unbounded: How many have no bound.
    """

    model: str
    basis: str
    calls: int = 0
    bound: Decimal = _ZERO
    unbounded: int = 0


@dataclass(slots=True)
class Told:
    """What one reading of the calls tells beyond the ledger's own sums.

    Attributes:
        days: What was paid and saved each day, by ISO date in the zone asked for.
        prefixes: How each stable beginning is cached.
        unsure: Calls whose cost is not known for sure.
        tags: How often calls carry each tag.
        short: By model the calls with short questions and answers: how many, their tokens, and USD.
        failed: How many calls failed at a cost, and USD.
        foreseen: What strategies in shadow would have saved.
    """

    days: dict[str, Attribution] = field(default_factory=lambda: {})
    prefixes: list[PrefixLine] = field(default_factory=lambda: [])
    unsure: dict[tuple[str, str], Unsure] = field(default_factory=lambda: {})
    tags: Counter[str] = field(default_factory=lambda: Counter[str]())
    short: dict[str, tuple[int, Usage, Decimal]] = field(default_factory=lambda: {})
    failed: tuple[int, Decimal] = (0, _ZERO)
    foreseen: Foreseen = field(default_factory=Foreseen)

    @property
    def every_day(self) -> dict[str, Attribution]:
        """The days from the first to the last, those without a call included: in a chart they are equally far apart.

        Example:
            >>> [*Told(days={"2026-11-01": Attribution(), "2026-11-03": Attribution()}).every_day]
            ['2026-11-01', '2026-11-02', '2026-11-03']
        """
        if not self.days:
            return {}
        first, last = (date.fromisoformat(end(self.days)) for end in (min, max))
        days = ((first + timedelta(count)).isoformat() for count in range((last - first).days + 1))
        return {day: self.days.get(day, Attribution()) for day in days}

    @property
    def attribution(self) -> Attribution:
        """All days together."""
        return sum(self.days.values(), Attribution())


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """A ledger at one moment.

    Attributes:
        at: The moment.
        tz: The zone whose days are meant.
        periods: Sums of `PERIODS`.
        since: The beginning of all that follows.
        until: Its end, or None for now.
        lines: Sums by "model", "day", "user" and "tag:NAME".
        told: What the calls say one by one.
        findings: What is worth knowing, the most money first.
        budgets: Where they stand.
        trouble: Why budgets cannot be told, or "".
        prices: The price book.
    """

    at: datetime
    tz: str
    periods: dict[str, Line]
    since: datetime
    until: datetime | None
    lines: dict[str, list[Line]]
    told: Told
    findings: list[Said]
    budgets: list[BudgetState]
    trouble: str
    prices: PriceBook

    @property
    def whole(self) -> Line:
        """The sum of the period."""
        return total(self.lines["model"])


def overview(
    ledger: Ledger,
    *,
    tz: str = "UTC",
    since: datetime | None = None,
    until: datetime | None = None,
    at: datetime | None = None,
    prices: PriceBook | None = None,
) -> Overview:
    """Read a ledger for a report.

    Args:
        ledger: The ledger.
        tz: The zone whose days are meant.
        since: Calls started at or after this instant (aware); by default the last 30 days.
        until: Calls started before this instant.
        at: The moment that is now.
        prices: The price book; LiteLLM's bundled map by default.

    Raises:
        ConfigError: There is no such zone.
        LedgerError: The ledger cannot be read.
    """
    at, book = at or datetime.now(UTC), prices or PriceBook()
    since = since or last_days(PERIODS["month"], tz, at)
    told = read(ledger.calls(since=since, until=until), zone(tz), book)
    names = [name for name, _ in told.tags.most_common(_TAGS)]
    groups = ("model", "day", "user", *(f"tag:{name}" for name in names))
    lines = {by: ledger.summary(by, since=since, until=until, tz=tz) for by in groups}
    budgets, trouble = _budgets(ledger, at)
    return Overview(
        at=at,
        tz=tz,
        periods=period_lines(ledger, tz, at),
        since=since,
        until=until,
        lines=lines,
        told=told,
        findings=findings(told, total(lines["model"]), book),
        budgets=budgets,
        trouble=trouble,
        prices=book,
    )


def period_lines(ledger: Ledger, tz: str, at: datetime) -> dict[str, Line]:
    """Sums of today, 7 and 30 days."""
    return {
        name: total(ledger.summary("total", since=last_days(days, tz, at), tz=tz)) for name, days in PERIODS.items()
    }


def read(calls: Iterable[Call], days: tzinfo, prices: PriceBook) -> Told:
    """Read the calls once, in bounded memory.

    Args:
        calls: Rows of a ledger in the order they started.
        days: The zone whose days are meant.
        prices: The price book.
    """
    told = Told()
    chunk: list[Call] = []
    today = ""

    def shared() -> None:
        if chunk:
            told.days[today] = told.days.get(today, Attribution()) + attribute(chunk, prices)
            told.foreseen += foresee(chunk, prices)
            chunk.clear()

    def passed() -> Iterator[Call]:
        nonlocal today
        for call in calls:
            day = call.sent.started_at.astimezone(days).date().isoformat()
            if day != today or len(chunk) == _CHUNK:
                shared()
                today = day
            chunk.append(call)
            _note(told, call)
            yield call

    told.prefixes = by_prefix(passed(), prices)
    shared()
    return told


def _note(told: Told, call: Call) -> None:
    sent, settled = call.sent, call.settled
    model = (settled and settled.model) or sent.requested_model
    for name in sent.tags:
        if name != "overhead":
            told.tags[name] += 1
    actual = (settled and settled.actual) or _ZERO
    if call.basis != "measured":
        row = told.unsure.setdefault((model, call.basis), Unsure(model, call.basis))
        bound = actual if call.basis == "estimated" else sent.bound
        row.calls += 1
        row.bound += bound or _ZERO
        row.unbounded += bound is None
    if settled is None or not actual:
        return
    if settled.status == "error":
        count, usd = told.failed
        told.failed = count + 1, usd + actual
    used = settled.usage
    short = used.output and used.prompt <= _SHORT_IN and used.completion <= _SHORT_OUT
    if short and settled.status == "ok" and "overhead" not in sent.tags:
        count, usage, usd = told.short.get(model, (0, Usage(), _ZERO))
        told.short[model] = count + 1, usage + used, usd + actual


def findings(told: Told, whole: Line, prices: PriceBook) -> list[Said]:
    """What is worth knowing, what costs most first.

    Args:
        told: What the calls say.
        whole: The sum of the same period.
        prices: The price book.
    """
    found: list[tuple[Decimal, Said]] = []
    found += _short_ones(told, prices)
    lost = [line for line in told.prefixes if line.lost > 0]
    if lost:
        worst, all_lost = max(lost, key=lambda line: line.lost), sum((line.lost for line in lost), _ZERO)
        found.append((all_lost, say("finding.lost", dollars(all_lost), worst.prefix[:12], dollars(worst.lost))))
    prompt, took = sum(line.prompt for line in told.prefixes), sum(line.read for line in told.prefixes)
    asked = sum(line.calls for line in told.prefixes)
    if took:
        saved = sum((line.saved for line in told.prefixes), _ZERO)
        name = "finding.read" if saved >= 0 else "finding.read_dear"
        found.append((_ZERO, say(name, f"{took / prompt:.1%}", tokens(prompt), dollars(abs(saved)))))
    elif asked and prompt / asked >= _CACHEABLE:
        found.append((_ZERO, say("finding.uncached", tokens(prompt))))
    attribution = told.attribution
    for strategy, usd in attribution.credits.items():
        if usd < 0:
            found.append((-usd, say("finding.dear_strategy", say(f"strategy.{strategy}"), dollars(-usd))))
    if whole.hits:
        credit = attribution.credits.get("semantic_cache")  # None: no hit's model has a known price
        worth = say("page.unknown") if credit is None else dollars(credit)
        found.append((_ZERO, say("finding.hits", whole.hits, whole.calls, f"{whole.hits / whole.calls:.1%}", worth)))
    would = told.foreseen
    if would.credits:
        share = f"{would.saved / would.actual:.1%}" if would.actual else "0%"
        found.append(
            (would.saved, say("finding.shadow", would.calls, dollars(would.actual), dollars(would.saved), share))
        )
    failed, usd = told.failed
    if failed:
        found.append((usd, say("finding.errors", failed, dollars(usd))))
    return [said for _, said in sorted(found, key=lambda pair: -pair[0])][:_MOST]


def _short_ones(told: Told, prices: PriceBook) -> Iterator[tuple[Decimal, Said]]:
    """Dear models that were asked short questions, where a much cheaper one is in use already."""
    for model, (count, usage, usd) in told.short.items():
        others: dict[str, Decimal] = {}
        for other in told.short:
            try:  # each call has its own prompt, and none of them is long
                rates = prices.rates(other, prompt=_SHORT_IN)
                others[other] = rates["input"] * usage.prompt + rates["output"] * usage.completion
            except (SavingsError, KeyError):
                continue
        cheap = min(others, key=others.__getitem__, default=model)
        if count >= _FEW and cheap != model and others[cheap] * 3 < usd:
            said = say("finding.short", count, model, dollars(usd), cheap, dollars(others[cheap]))
            yield usd - others[cheap], said


def _budgets(ledger: Ledger, at: datetime) -> tuple[list[BudgetState], str]:
    try:
        return budget_states(ledger, at), ""
    except SavingsError as error:  # a counter or plan that makes no sense: the calls are known all the same
        return [], str(error)
