"""What a callback says of itself, in text and in a notebook."""

from __future__ import annotations

from decimal import Decimal

import pytest

from llm_savings import Meter, Usage
from llm_savings.ledger import Line, Sent
from llm_savings.meter import Answer
from llm_savings.metered import Metered
from llm_savings.report import dollars, html_table, plain_text

LINE = Line(
    key="gpt-4o <b>",
    calls=1200,
    hits=3,
    errors=2,
    estimated=1,
    unknown=2,
    unpriced=1,
    unbounded=1,
    usage=Usage(input=1000, output=34),
    actual=Decimal("12.5"),
    estimated_usd=Decimal("0.00002999"),
    baseline=Decimal("13"),
    unknown_bound=Decimal("0.5"),
)


class Callback(Metered):
    def __init__(self) -> None:
        self.meter = Meter(":memory:")


def test_the_figures_are_the_meters() -> None:
    callback = Callback()
    assert repr(callback) == "Callback(':memory:'): 0 calls, $0.00 spent, $0.00 saved"
    live = callback.meter.begin(Sent(call_id="1", host="sdk", requested_model="gpt-4o"))
    callback.meter.answered(live, Answer(model="gpt-4o", usage=Usage(input=10, output=5, cache_read=8)))
    assert (callback.calls, callback.spent, callback.saved) == (1, Decimal("0.000085"), Decimal("0.00001"))
    assert [line.key for line in callback.lines] == ["gpt-4o"]
    assert callback.ledger is callback.meter.ledger
    assert repr(callback) == "Callback(':memory:'): 1 call, $0.000085 spent, $0.000010 saved"
    assert "<caption>Callback(&#x27;:memory:&#x27;)</caption>" in callback._repr_html_()


def test_text_says_what_is_known_and_what_is_not() -> None:
    first, *noted = plain_text([LINE]).splitlines()
    assert first == "1,200 calls, $12.50 spent, $0.500000 saved"
    assert len(noted) == 5
    assert "at most $0.500000, besides 1 without a bound" in noted[3]
    assert len(plain_text([LINE, LINE]).splitlines()) == 1 + 2 + 5
    lost = Line("gpt-4o", calls=1, unknown=1)
    assert plain_text([lost]).startswith("1 call, unknown spent")


def test_the_table_is_escaped_and_complete() -> None:
    html = html_table([LINE, LINE])
    assert "gpt-4o &lt;b&gt;" in html
    assert "<b>" not in html
    for cell in ("1,200", "1,000", "34", "$12.50", "$0.500000", "2,400", "$25.00"):
        assert f">{cell}</td>" in html, cell


@pytest.mark.parametrize(
    ("amount", "shown"),
    [
        ("0", "$0.00"),
        ("0.5", "$0.500000"),
        ("1234.567", "$1,234.57"),
        ("0.00002999", "$0.000030"),
        ("0.0000004", "$0.00000040"),
        ("-2", "-$2.00"),
    ],
)
def test_dollars(amount: str, shown: str) -> None:
    assert dollars(Decimal(amount)) == shown
