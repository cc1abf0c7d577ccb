"""What every host's callback says of the calls that it has metered."""

from __future__ import annotations

from decimal import Decimal

from llm_savings.ledger import Ledger, Line
from llm_savings.meter import Meter


class Metered:
    """The figures of a meter, as attributes of what holds it.

    Attributes:
        meter: What meters the calls.
    """

    meter: Meter

    @property
    def ledger(self) -> Ledger:
        """Where the calls are written. It may know more than is counted here, from other processes."""
        return self.meter.ledger

    @property
    def spent(self) -> Decimal:
        """USD spent by these calls, measured and estimated."""
        return self.meter.spent

    @property
    def saved(self) -> Decimal:
        """USD that these calls would have cost more with nothing saved."""
        return self.meter.saved

    @property
    def calls(self) -> int:
        """How many calls have ended."""
        return self.meter.calls

    @property
    def lines(self) -> list[Line]:
        """The calls that have ended, by model, the most expensive first."""
        return self.meter.lines

    # The report loads rich, which only those need who look.

    def __repr__(self) -> str:
        from llm_savings.report import plain_text

        return f"{self._title()}: {plain_text(self.lines)}"

    def _repr_html_(self) -> str:
        from llm_savings.report import html_table

        return html_table(self.lines, caption=self._title())

    def _title(self) -> str:
        return type(self).__name__ + repr(self.ledger).removeprefix("Ledger")
