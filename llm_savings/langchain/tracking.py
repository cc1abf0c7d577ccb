# pyright: standard
"""`track_costs`: meter every LangChain call of a block, or of the whole process, without passing callbacks."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextvars import ContextVar, Token
from pathlib import Path
from types import TracebackType
from typing import Any

from langchain_core.tracers.context import register_configure_hook

from llm_savings.budget import Budget
from llm_savings.langchain.costs import CostCallback
from llm_savings.ledger import Ledger
from llm_savings.pricing import PriceBook
from llm_savings.storage.forks import Latch


class _Everywhere:
    """A process's callback, in the form in which LangChain asks a hook for one: a variable with a value.

    A `ContextVar` cannot be that: other threads start with its default, which cannot change.
    """

    def __init__(self) -> None:
        self.cost: CostCallback | None = None

    def get(self) -> CostCallback | None:
        """The callback, if tracking is on."""
        return self.cost


# LangChain keeps a hook for ever, so both are used again: there are as many as trackings were ever nested.
_here: list[ContextVar[CostCallback | None]] = []
_everywhere: list[_Everywhere] = []
_lock = Latch()


def _free(slots: list[Any], make: Callable[[], Any]) -> Any:
    with _lock:
        for slot in slots:
            if slot.get() is None:
                return slot
        slot = make()
        register_configure_hook(slot, inheritable=True)
        slots.append(slot)
        return slot


class CostTracking:
    """What `track_costs` returns: a context manager, and a switch for the whole process.

    Attributes:
        cost: The callback that meters.
    """

    def __init__(self, cost: CostCallback) -> None:
        self.cost = cost
        self._entered: list[tuple[ContextVar[CostCallback | None], Token[CostCallback | None]]] = []
        self._slot: _Everywhere | None = None

    def __enter__(self) -> CostCallback:
        slot = _free(_here, lambda: ContextVar("llm_savings_tracking", default=None))
        self._entered.append((slot, slot.set(self.cost)))
        return self.cost

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        slot, token = self._entered.pop()
        try:
            slot.reset(token)
        except ValueError:  # an async generator may be closed in another context than it was entered in
            slot.set(None)

    def start(self) -> CostCallback:
        """Meter every LangChain call of this process, in all its threads, until `stop`. Twice is once."""
        if self._slot is None:
            slot = self._slot = _free(_everywhere, _Everywhere)
            slot.cost = self.cost
        return self.cost

    def stop(self) -> None:
        """Undo `start`; calls in flight are still settled."""
        if self._slot is not None:
            self._slot.cost = None
            self._slot = None

    def __repr__(self) -> str:
        return f"CostTracking({self.cost!r})"


def track_costs(
    ledger: Ledger | str | Path | None = None,
    *,
    prices: PriceBook | None = None,
    tags: Mapping[str, str] | None = None,
    user: str | None = None,
    session: str | None = None,
    budget: Budget | Sequence[Budget] | None = None,
) -> CostTracking:
    """Meter LangChain calls that pass no callback: those of a block, or all of the process.

    A block covers what runs in its context: awaited tasks and LangChain's own threads, but not threads that the
    block starts itself; `start` covers those too. Trackings may be nested, each counts. Passing the callback to a
    chain as well counts nothing twice.

    Args:
        ledger: As for `CostCallback`, like the other arguments.
        prices: The price book; LiteLLM's bundled map by default.
        tags: Labels for every call.
        user: Who causes the calls, unless a run says otherwise.
        session: The conversation they belong to, unless a run says otherwise.
        budget: What these calls must stay within.

    Raises:
        ConfigError: The ledger's path or URL cannot be one, or two budgets have one name.

    Example:
        >>> with track_costs("costs.db") as cost:                                 # doctest: +SKIP
        ...     chain.invoke(question)
        >>> cost = track_costs("costs.db").start()                                # doctest: +SKIP
    """
    return CostTracking(CostCallback(ledger, prices=prices, tags=tags, user=user, session=session, budget=budget))


def tracked() -> CostCallback | None:
    """The callback of the tracking that holds here, the innermost one, if there is any."""
    return next((cost for slot in (*reversed(_here), *_everywhere) if (cost := slot.get()) is not None), None)
