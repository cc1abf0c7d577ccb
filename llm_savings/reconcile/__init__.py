"""The ledger against the provider's own usage export.

Example:
    >>> from llm_savings import Ledger
    >>> from llm_savings.reconcile import read_export, reconcile
    >>> ledger, export = Ledger("costs.db"), read_export("usage.json")                     # doctest: +SKIP
    >>> found = reconcile(ledger.calls(since=export.start, until=export.end), export)       # doctest: +SKIP
    >>> [(line.day, line.model, line.difference, line.verdict) for line in found.lines]     # doctest: +SKIP
    >>> ledger.reconcile(found.settlements)  # what unknown calls turned out to have cost   # doctest: +SKIP
"""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from decimal import localcontext

from llm_savings.ledger import Call
from llm_savings.pricing import PriceBook
from llm_savings.pricing.amounts import WIDE
from llm_savings.reconcile.per_bucket import by_bucket
from llm_savings.reconcile.per_request import by_request
from llm_savings.reconcile.readers import KINDS, Billed, Export, Figure, Kind, read_export
from llm_savings.reconcile.result import Line, Reconciliation, Verdict

__all__ = [
    "KINDS",
    "Billed",
    "Export",
    "Figure",
    "Kind",
    "Line",
    "Reconciliation",
    "Verdict",
    "read_export",
    "reconcile",
]

WINDOW = timedelta(minutes=10)
"""How long after it began a call may be billed, by default: the time that the providers' clients wait for an answer."""


def reconcile(
    calls: Iterable[Call],
    export: Export,
    *,
    prices: PriceBook | None = None,
    window: timedelta = WINDOW,
    now: datetime | None = None,
) -> Reconciliation:
    """Compare calls with a provider's export. Pure: nothing is written.

    On a bill of single requests a call is found by its id, or else by model, price and time; of the requests left,
    those that only one unknown call can be are that call, and an unknown call for which none is left was free. In an
    export of sums, an unknown call is what is missing if it is the only one that can be, and free if nothing is
    missing. Nothing is guessed that would change a sum.

    Args:
        calls: The ledger's, such as `ledger.calls(since=export.start, until=export.end)`, in the order of time.
        export: From `read_export`.
        prices: Prices the tokens of usage exports; LiteLLM's bundled map by default.
        window: How long after it began a call may still be billed. Make it longer than your longest call.
        now: Sums of time that has not passed since then settle nothing; the present by default.

    Raises:
        ConfigError: `LLM_SAVINGS_PRICES` names a file that cannot be used.

    Example:
        >>> day = datetime(2026, 11, 1, tzinfo=UTC)
        >>> reconcile([], Export(kind="openai-costs", start=day, end=day + timedelta(days=1))).lines
        ()
    """
    with localcontext(WIDE):  # whatever the caller's is
        if export.kind == "bill":
            return by_request(calls, export, window)
        return by_bucket(calls, export, prices or PriceBook(), window, now or datetime.now(UTC))
