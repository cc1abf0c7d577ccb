"""`Gate`: what a call passes before it leaves. It holds, in every budget, the most that the call can cost."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal
from functools import lru_cache

from llm_savings.alerts import deliver
from llm_savings.bounds import Size, dearest
from llm_savings.budget import Alert, Budget, Limit
from llm_savings.errors import (
    BudgetError,
    BudgetExceededError,
    BudgetUnavailableError,
    ConfigError,
    LedgerError,
    UnboundedCallError,
)
from llm_savings.history import History, route_of
from llm_savings.ledger import Ledger, Sent, Settled
from llm_savings.ledger.counters import BusyError, Cap, Charged, CorruptError, RefusedError
from llm_savings.ledger.records import from_picodollars, to_picodollars
from llm_savings.pricing import PriceBook
from llm_savings.pricing.amounts import EXACT

_log = logging.getLogger("llm_savings.budget")

# How long plans set by `llm-savings budget set` may go unnoticed: with a budget of one's own, and without.
_LOOK_SECONDS, _GLANCE_SECONDS = 5.0, 30.0
# A prompt of so many bytes is counted before it is held; a longer one only when its bytes would not fit.
_SHORT = 4_000


@dataclass(frozen=True, slots=True)
class Held:
    """A call as it may leave.

    Attributes:
        sent: The call with what is reserved for it, already written ahead.
        counted: The prompt's tokens, where they were counted.
    """

    sent: Sent
    counted: int | None = None


class Gate:
    """Every limit of every budget that a ledger's calls fall under.

    Args:
        ledger: Where calls and counters are.
        prices: The price book.
        budgets: The program's own budgets. One that is set in the ledger under the same name replaces it.

    Raises:
        ConfigError: Two budgets have one name.
    """

    def __init__(self, ledger: Ledger, prices: PriceBook, budgets: Sequence[Budget] = ()) -> None:
        names = [budget.name for budget in budgets]
        if twice := next((name for name in names if names.count(name) > 1), None):
            raise ConfigError(
                f"two budgets are named {twice!r} and would share their counters; give each its own name="
            )
        self._ledger, self._prices, self._own = ledger, prices, tuple(budgets)
        self._budgets = self._own
        self._look_at = float("-inf")
        self._warned = self._announced = False
        self._broken: str | None = None
        self.history = History(ledger.outputs)

    def budgets(self) -> tuple[Budget, ...]:
        """The budgets that hold right now.

        Those that were set in the ledger hold from when they were first read: a program with no budget of its own goes
        on as long as its ledger cannot be read at all, and with its own budget as that one says.

        Raises:
            BudgetUnavailableError: A budget that was set in the ledger makes no sense.
        """
        now = time.monotonic()
        if now >= self._look_at:
            # Set first, so that other threads go on with what is known while this one looks.
            self._look_at = now + (_LOOK_SECONDS if self._own else _GLANCE_SECONDS)
            try:
                self._budgets, self._broken = self._look(), None
            except ConfigError as error:
                self._broken = str(error)
            except LedgerError as error:
                level = logging.WARNING if self._budgets else logging.DEBUG
                _log.log(level, "the ledger's budgets could not be read, those last known hold: %s", error)
        if self._broken:
            raise BudgetUnavailableError(self._broken)
        return self._budgets

    def _look(self) -> tuple[Budget, ...]:
        plans = self._ledger.budgets.plans()
        for budget in self._own:
            # Said again when it was forgotten: `llm-savings budget set --remove`.
            if not self._announced or budget.name not in plans:
                self._ledger.budgets.plan(budget.name, budget.plan())
        self._announced = True
        found = {budget.name: budget for budget in self._own}
        for name, (plan, pinned) in plans.items():
            if pinned:
                on_alert = found[name].on_alert if name in found else None
                try:
                    found[name] = Budget.from_plan(plan, on_alert=on_alert)
                except Exception as error:
                    raise ConfigError(
                        f"the ledger's plan of budget {name!r} cannot be: {error}. Calls are refused until it is "
                        f"forgotten with: llm-savings budget set {name} --remove"
                    ) from error
        return tuple(found.values())

    def admit(self, sent: Sent, size: Size, *, now: bool = False) -> Held:
        """Write a call ahead and hold its cost in its budgets.

        Args:
            sent: The call.
            size: How large it can get.
            now: Wait for nobody.

        Raises:
            BusyError: With `now`, where it would have to wait; nothing was written or held.
            BudgetExceededError: A limit has no room for it.
            UnboundedCallError: Nothing bounds its cost (no price, or `strict` and no max_tokens).
            UnscopedCallError: A budget is per something that the call does not carry.
            BudgetUnavailableError: The counters cannot be read or written, and a budget says to refuse then.
        """
        try:
            return self._admit(sent, size, now=now)
        except (BudgetError, BusyError):
            raise
        except Exception as error:
            # A defect, or a record that cannot be kept: where money is at stake, not knowing is a no.
            raise BudgetUnavailableError(f"call {sent.call_id} could not be held in its budget: {error}") from error

    def admit_all(self, first: Sent, calls: Callable[[], Iterable[Sent]], total: Decimal) -> tuple[str, ...]:
        """Write many calls ahead and hold the bound of each in their budgets: all of them, or none.

        Args:
            first: One of them; labels, model and start are the same for all.
            calls: Yields them, each with its bound; may be asked twice. A call that is held already stays so.
            total: USD of all their bounds, for the message.

        Returns:
            The counters that they are charged to.

        Raises:
            BudgetError: As for `admit`.
        """
        budgets = self.budgets()
        limits = [pair for budget in budgets for pair in self._limits(budget, first)]
        keys = tuple(limit.key for _, limit in limits)
        most = min([b.per_call_limit for b in budgets if b.per_call_limit is not None], default=None)

        def held() -> Iterable[Sent]:
            for call in calls():
                if most is not None and call.bound is not None and call.bound > most:
                    raise BudgetExceededError(Decimal(0), Decimal(0), most, needed=call.bound, budget="per call")
                yield replace(call, reserved=call.bound, budgets=keys)

        try:
            charged = self._ledger.reserve_all(held, [_cap(budget, limit) for budget, limit in limits])
        except RefusedError as refusal:
            raise self._refused(refusal.full, replace(first, reserved=total), limits) from None
        except LedgerError as error:
            self._unavailable(error, budgets)
            for call in held():
                self._ledger.sent(call)
            return keys
        self._tell(charged, limits)
        return keys

    def charged(self, sent: Sent) -> Sent:
        """The call, charged to its budgets with whatever it turns out to have cost; nothing is held or refused."""
        try:
            keys = tuple(limit.key for budget in self.budgets() for _, limit in self._limits(budget, sent))
        except BudgetError as error:
            _log.warning("a call that has ended is charged to no budget: %s", error)
            return sent
        return replace(sent, budgets=keys)

    def _admit(self, sent: Sent, size: Size, *, now: bool) -> Held:
        budgets = self.budgets()
        limits = [pair for budget in budgets for pair in self._limits(budget, sent)]
        held = self._hold(sent, size, budgets, limits, count=size.prompt is None or size.prompt <= _SHORT)
        try:
            try:
                charged = self._reserve(held.sent, limits, now=now)
            except RefusedError:
                if held.counted is not None or size.count is None or any(budget.strict for budget in budgets):
                    raise
                held = self._hold(sent, size, budgets, limits, count=True)  # it may fit after all
                charged = self._reserve(held.sent, limits, now=now)
        except RefusedError as refusal:
            raise self._refused(refusal.full, held.sent, limits) from None
        except BusyError:
            raise
        except LedgerError as error:
            self._unavailable(error, budgets)
            self._ledger.sent(held.sent)
            return held
        self._warned = False
        self._tell(charged, limits)
        return held

    def learn(self, sent: Sent, settled: Settled, counted: int | None) -> None:
        """Learn from a call that has ended."""
        self.history.learn(sent, settled, counted)

    def _limits(self, budget: Budget, sent: Sent) -> list[tuple[Budget, Limit]]:
        labels: Mapping[str, str | None] = {
            **sent.tags,
            "user": sent.user,
            "model": sent.requested_model,
            "session": sent.session,
            "tenant": sent.tenant,
        }
        return [(budget, limit) for limit in budget.limits(sent.started_at, budget.scope_of(labels))]

    def _hold(
        self, sent: Sent, size: Size, budgets: Sequence[Budget], limits: Sequence[tuple[Budget, Limit]], *, count: bool
    ) -> Held:
        keys = tuple(limit.key for _, limit in limits)
        if sent.reserved is not None:  # the same request again
            return Held(replace(sent, budgets=keys))
        strict = any(budget.strict for budget in budgets)
        output = self._output(sent, size, budgets, strict=strict)
        counted = size.count() if count and not strict and size.count is not None else None
        prompt = self._prompt(sent, size, counted, budgets, strict=strict)
        rates = dearest(self._prices, sent.requested_model, prompt, mode=sent.mode, provider=sent.provider)
        if rates is None:
            raise UnboundedCallError(
                f"model {sent.requested_model!r} has no price, so no budget can hold it; give it one with "
                f'PriceBook().with_overrides({{{sent.requested_model!r}: {{"input": "0.10", "output": "0.40"}}}})'
            )
        amount = EXACT.fma(output * size.choices, rates.output, EXACT.fma(prompt, rates.prompt, rates.fee))
        for budget in budgets:
            if (most := budget.per_call_limit) is not None and amount > most:
                raise BudgetExceededError(
                    Decimal(0), Decimal(0), most, needed=amount, budget=f"{budget.name}, per call"
                )
        return Held(replace(sent, reserved=amount, budgets=keys), counted)

    def _output(self, sent: Sent, size: Size, budgets: Sequence[Budget], *, strict: bool) -> int:
        if size.max_tokens is not None:
            return size.max_tokens
        if strict:
            raise UnboundedCallError(
                "the call carries no max_tokens, and a strict budget holds only calls that do; set max_tokens on the "
                "model or the call"
            )
        usual = self.history.usual_output(route_of(sent))
        return usual if usual is not None else max(budget.output_cap for budget in budgets)

    def _prompt(self, sent: Sent, size: Size, counted: int | None, budgets: Sequence[Budget], *, strict: bool) -> int:
        if size.prompt is None:
            if strict:
                raise UnboundedCallError(
                    "the provider adds to this call's prompt (a hosted tool, a file or an earlier conversation), and a "
                    "strict budget holds only calls whose prompt is all here"
                )
            # What the provider adds cannot be known; what an answer may get is a stand-in for it.
            more = max(budget.output_cap for budget in budgets)
            return more + self.history.prompt(sent.requested_model, sent.provider, counted or 0)
        if counted is None:
            return size.prompt
        return min(size.prompt, self.history.prompt(sent.requested_model, sent.provider, counted))

    def _reserve(self, sent: Sent, limits: Sequence[tuple[Budget, Limit]], *, now: bool) -> list[Charged]:
        caps = [_cap(budget, limit) for budget, limit in limits]
        return self._ledger.reserve(sent, caps, now=now)

    def _refused(self, full: Charged, sent: Sent, limits: Sequence[tuple[Budget, Limit]]) -> BudgetExceededError:
        budget, limit = next(pair for pair in limits if pair[1].key == full.key)
        try:
            alert = self._ledger.budgets.refused(_cap(budget, limit))
        except LedgerError:
            alert = 0
        if alert:
            self._tell([replace(full, alert=alert)], limits)
        return BudgetExceededError(
            _usd(full.spent),
            _usd(full.reserved),
            limit.amount,
            limit.resets_at and limit.resets_at.astimezone(budget.zone),
            needed=sent.reserved,
            budget=", ".join(filter(None, (budget.name, limit.period, limit.scope))),
        )

    def _unavailable(self, error: LedgerError, budgets: Sequence[Budget]) -> None:
        if isinstance(error, CorruptError):  # it is here, and nobody asked to go on with nonsense
            raise BudgetUnavailableError(str(error)) from error
        allow = all(budget.on_unavailable == "allow" for budget in budgets)
        if not self._warned:
            self._warned = True
            doing = "go on, uncounted until it is back" if allow else "are refused"
            _log.warning("%s. Calls under a budget %s.", error, doing)
        if not allow:
            raise BudgetUnavailableError(
                f'{error}. What is left of the budget is not known; Budget(on_unavailable="allow") goes on regardless.'
            ) from error

    def _tell(self, charged: Sequence[Charged], limits: Sequence[tuple[Budget, Limit]]) -> None:
        by_key = {limit.key: (budget, limit) for budget, limit in limits}
        for counter in charged:
            if counter.alert:
                budget, limit = by_key[counter.key]
                alert = Alert(
                    budget=budget.name,
                    scope=limit.scope,
                    period=limit.period,
                    share=Decimal(counter.alert) / 1000,
                    charged=_usd(counter.spent + counter.reserved),
                    limit=limit.amount,
                    resets_at=limit.resets_at,
                )
                deliver(alert, budget.on_alert)


def _cap(budget: Budget, limit: Limit) -> Cap:
    return Cap(limit.key, _pico(limit.amount), _per_mille(budget.shares))


@lru_cache(maxsize=256)
def _per_mille(shares: tuple[Decimal, ...]) -> tuple[int, ...]:
    return tuple(int(share * 1000) for share in shares)


@lru_cache(maxsize=256)
def _pico(amount: Decimal) -> int:
    pico = to_picodollars(amount)
    assert pico is not None  # noqa: S101 (None comes of None alone)
    return pico


def _usd(pico: int) -> Decimal:
    amount = from_picodollars(pico)
    assert amount is not None  # noqa: S101
    short = amount.normalize(EXACT)
    return short.quantize(Decimal(1), context=EXACT) if short == short.to_integral_value() else short
