"""Every error the package raises on purpose, in one tree.

Catch `SavingsError` to catch them all. At a host's rim an error may also inherit the host's own type, so that
code which already catches the host's errors keeps working.
"""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal


class SavingsError(Exception):
    """The root of every error raised by llm_savings."""


class ConfigError(SavingsError, ValueError):
    """A setting is wrong; the message names the field, the value and the fix."""


class UsageError(SavingsError, ValueError):
    """A provider's token counts contradict themselves (negative, or a part larger than its whole)."""


class UnknownModelError(SavingsError, LookupError):
    """No price is known for this model."""


class UnpricedError(UnknownModelError):
    """The model is known, but something this request used has no known price."""


class LedgerError(SavingsError, OSError):
    """The ledger's file or database cannot be opened, read or written."""


class RecordError(SavingsError, ValueError):
    """A record cannot be kept in a ledger: a naive time, or an amount that is not finite or too large."""


class BudgetError(SavingsError):
    """A call was stopped for the sake of a budget. Nothing was sent."""


class BudgetExceededError(BudgetError):
    """A call was stopped because it could have passed a budget.

    Attributes:
        spent: USD already spent in the period.
        reserved: USD held by calls in flight, and by calls of which nobody knows what they cost.
        limit: The budget's limit in USD.
        resets_at: When the period ends (aware, in the budget's zone), or None for a budget without a period.
        needed: USD that the call could have cost.
        budget: The budget's name, period and scope, such as "default, daily, user=kim".
    """

    def __init__(
        self,
        spent: Decimal,
        reserved: Decimal,
        limit: Decimal,
        resets_at: datetime | None = None,
        *,
        needed: Decimal | None = None,
        budget: str = "",
    ) -> None:
        self.spent, self.reserved, self.limit, self.resets_at = spent, reserved, limit, resets_at
        self.needed, self.budget = needed, budget
        named = f" ({budget})" if budget else ""
        more = f"; this call may cost ${needed:f}" if needed is not None else ""
        when = f"; resets at {resets_at.isoformat()}" if resets_at else ""
        super().__init__(f"budget of ${limit:f}{named} has no room: ${spent:f} spent, ${reserved:f} held{more}{when}")


class UnboundedCallError(BudgetError):
    """A call was stopped because nothing bounds what it may cost; the message says what is missing."""


class UnscopedCallError(BudgetError, ConfigError):
    """A call was stopped because its budget is per user, tag or the like, and the call does not carry it."""


class BudgetUnavailableError(BudgetError):
    """A call was stopped because its budget cannot be read or written right now, so nobody knows what is left."""


class CacheError(SavingsError):
    """The semantic cache's store cannot be used."""


class BatchError(SavingsError):
    """A batch job cannot be prepared, sent or collected."""


class StructuredOutputError(SavingsError, ValueError):
    """An answer does not fit the schema asked for.

    Attributes:
        raw: The answer's text, as it came.
    """

    def __init__(self, message: str, raw: str) -> None:
        super().__init__(message)
        self.raw = raw


class LogFormatError(SavingsError, ValueError):
    """A log cannot be read.

    Attributes:
        line: The number of the offending line, from 1, or None when it is the whole file.
    """

    def __init__(self, message: str, line: int | None = None) -> None:
        super().__init__(message if line is None else f"line {line}: {message}")
        self.line = line
