"""What the demo shows: the bill before, the ledger after, and whether they agree."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal
from typing import TYPE_CHECKING, Any

from rich.table import Table

from llm_savings.attribution import Attribution
from llm_savings.ledger import Ledger, Line
from llm_savings.report import dollars, tokens
from llm_savings.report.strategies import strategies_document
from llm_savings.report.tables import plain_table

if TYPE_CHECKING:
    from llm_savings.demo.check import Group
    from llm_savings.sandbox import Bill


@dataclass(frozen=True, slots=True)
class Agreement:
    """The ledger against the provider's own bill.

    Attributes:
        named: Calls that both have under one id of the provider's, at the same price.
        unnamed: Calls whose host kept no id, and that match a call on the bill by their exact price.
        different: Calls that the two price differently, or that only one of them has.
        ledger: USD in the ledger.
        bill: USD on the bill.
    """

    named: int
    unnamed: int
    different: int
    ledger: Decimal
    bill: Decimal

    @property
    def exact(self) -> bool:
        """Whether every call agrees to the last decimal."""
        return self.different == 0 and self.ledger == self.bill


def compare(ledger: Ledger, bill: Bill) -> Agreement:
    """Compare call by call.

    By the provider's id of the answer, or of the request (LiteLLM renames some answers); calls without one (LangChain
    drops the ids of streams) by their exact price, each against another call on the bill. What a cache answered is on
    no bill, and has to be $0.
    """
    name_of = {name: row.id for row in bill.rows for name in (row.id, row.request_id) if name}
    theirs = {row.id: row.usd for row in bill.rows}
    named, different, nameless, spent = 0, 0, Counter[Decimal | None](), Decimal(0)
    for call in ledger.calls():
        usd = call.settled and call.settled.actual
        spent += usd or 0
        if call.status == "hit" and usd == 0:
            continue
        name = name_of.get((call.settled and call.settled.response_id) or "")
        if name is None:
            nameless[usd] += 1
        elif theirs.pop(name, None) == usd:
            named += 1
        else:  # another price, or the same call once more
            different += 1
    rest = Counter[Decimal | None](theirs.values())
    unnamed = (nameless & rest).total()
    different += max(nameless.total(), rest.total()) - unnamed
    return Agreement(named, unnamed, different, spent, bill.total)


def checks_table(groups: Sequence[Group]) -> Table:
    """Answers by how they came about, and how many of them say something else than the fresh answer."""
    title = "Every answer beside the strong model's fresh one"
    table = plain_table("", "answers", "wrong", "at most (95%)", title=title)
    for group in groups:
        table.add_row(group.name, f"{group.answers:,}", f"{group.wrong:,}", f"{group.bound:.1%}")
    return table


def outcome(before: Bill, found: Attribution, groups: Sequence[Group], agreement: Agreement) -> dict[str, Any]:
    """All of it for machines: exact amounts as decimal text, in USD."""
    return {
        "before": format(before.total, "f"),
        "after": format(agreement.bill, "f"),
        "strategies": strategies_document(found),
        "answers": [{"how": group.name, "answers": group.answers, "wrong": group.wrong} for group in groups],
        "ledger_equals_bill": agreement.exact,
    }


def before_after(before: Bill, after: Bill) -> Table:
    """The two bills by model."""
    title = "The provider's bill by model: as it is today, then with llm-savings"
    table = plain_table("model", "calls", "then", "tokens", "then", "cost", "then", title=title)
    table.columns[0].min_width = 12
    sums = [_by_model(before), _by_model(after)]
    for model in sorted(sums[0].keys() | sums[1].keys()):
        table.add_row(model, *_pairs(sums[0][model], sums[1][model]))
    table.add_section()
    whole = [
        (
            sum(s[0] for s in side.values()),
            sum(s[1] for s in side.values()),
            sum((s[2] for s in side.values()), Decimal(0)),
        )
        for side in sums
    ]
    table.add_row("total", *_pairs(*whole), style="bold")
    return table


_Sum = tuple[int, int, Decimal]


def _by_model(bill: Bill) -> defaultdict[str, _Sum]:
    sums: defaultdict[str, _Sum] = defaultdict(lambda: (0, 0, Decimal(0)))
    for row in bill.rows:
        calls, used, usd = sums[row.model]
        sums[row.model] = (calls + 1, used + _tokens(row.usage), usd + row.usd)
    return sums


def _tokens(usage: dict[str, object]) -> int:
    names = ("prompt_tokens", "completion_tokens", "input_tokens", "output_tokens")
    cached = ("cache_read_input_tokens", "cache_creation_input_tokens")
    return sum(value for name in (*names, *cached) if isinstance(value := usage.get(name), int))


def _pairs(before: _Sum, after: _Sum) -> list[str]:
    return [
        tokens(before[0]),
        tokens(after[0]),
        tokens(before[1]),
        tokens(after[1]),
        dollars(before[2]),
        dollars(after[2]),
    ]


def verdict(agreement: Agreement, whole: Line) -> str:
    """One sentence: does the ledger equal the bill."""
    unsure = f"{whole.unknown} unknown, {whole.unpriced} unpriced, {whole.estimated} estimated"
    if agreement.exact:
        calls = agreement.named + agreement.unnamed
        how = f"{agreement.named:,} by the provider's id, {agreement.unnamed:,} without one by price"
        return (
            f"Ledger = provider's bill: {dollars(agreement.ledger)}, all {calls:,} calls equal to the last "
            f"decimal ({how}); {unsure}."
        )
    return f"Ledger {agreement.ledger} and bill {agreement.bill} USD differ in {agreement.different:,} calls; {unsure}."
