"""Calls on OpenTelemetry's spans, and charts in a notebook."""

from __future__ import annotations

import sys
import warnings
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from llm_savings import Budget, ConfigError, Ledger, Meter, Usage
from llm_savings.attribution import attribute
from llm_savings.bounds import Size
from llm_savings.ledger import Sent
from llm_savings.meter import Answer
from llm_savings.metered import Metered
from llm_savings.telemetry import on_spans, otel_attributes

USED = Usage(input=1000, output=100, cache_read=500, cache_write_5m=20)


def met(meter: Meter, name: str = "1", **answer: Any) -> None:
    sent = Sent(call_id=name, host="sdk", requested_model="gpt-4o", provider="openai", user="kim", tags={"a": "secret"})
    routed = {"routing": {"baseline_model": "gpt-4o"}}
    meter.answered(meter.begin(sent), Answer(**{"model": "gpt-4o-mini", "usage": USED, "strategies": routed, **answer}))


def test_a_call_has_the_conventions_names_and_exact_money() -> None:
    meter = Meter(":memory:")
    met(meter, response_id="chatcmpl-1")
    call = meter.ledger.get("1")
    assert call
    found = otel_attributes(call)
    assert found["gen_ai.request.model"] == "gpt-4o"
    assert found["gen_ai.response.model"] == "gpt-4o-mini"
    assert found["gen_ai.response.id"] == "chatcmpl-1"
    assert found["gen_ai.provider.name"] == "openai"
    assert found["gen_ai.usage.input_tokens"] == 1520
    assert found["gen_ai.usage.output_tokens"] == 100
    assert found["gen_ai.usage.cache_read.input_tokens"] == 500
    assert found["gen_ai.usage.cache_creation.input_tokens"] == 20
    assert Decimal(str(found["llm_savings.cost_usd"])) == meter.spent
    assert Decimal(str(found["llm_savings.saved_usd"])) == meter.saved > 0
    assert found["llm_savings.strategies"] == ("routing", "prompt_cache")
    assert "kim" not in repr(found)
    assert "secret" not in repr(found)


def test_what_is_not_known_is_left_out() -> None:
    ledger = Ledger(":memory:")
    ledger.sent(Sent(call_id="1", host="sdk", requested_model="gpt-4o"))
    call = ledger.get("1")
    assert call
    assert otel_attributes(call) == {
        "gen_ai.request.model": "gpt-4o",
        "llm_savings.call_id": "1",
        "llm_savings.status": "sent",
        "llm_savings.basis": "unknown",
    }


def test_the_span_where_a_call_began_gets_it() -> None:
    trace = pytest.importorskip("opentelemetry.trace")

    class Span(trace.NonRecordingSpan):  # type: ignore[name-defined, misc]
        def __init__(self) -> None:
            super().__init__(trace.INVALID_SPAN_CONTEXT)
            self.said: dict[str, Any] = {}
            self.events: list[tuple[str, Any]] = []
            self.ended = False

        def is_recording(self) -> bool:
            return not self.ended

        def set_attributes(self, attributes: Any) -> None:
            self.said.update(attributes)

        def add_event(self, name: str, attributes: Any = None, timestamp: Any = None) -> None:
            self.events.append((name, attributes))

    class Callback(Metered):
        meter = Meter(":memory:")

    on_spans(Callback())
    meter, span, ended = Callback.meter, Span(), Span()
    sent = Sent(call_id="late", host="sdk", requested_model="gpt-4o")
    with trace.use_span(span):
        met(meter)
        live = meter.begin(sent)
    meter.answered(live, Answer(model="gpt-4o", usage=USED))  # where another span, or none, is current
    assert [name for name, _ in span.events] == ["llm_savings.call"] * 2
    assert [said["llm_savings.call_id"] for _, said in span.events] == ["1", "late"]
    assert span.said["llm_savings.call_id"] == "late"
    with trace.use_span(ended):
        live = meter.begin(Sent(call_id="3", host="sdk", requested_model="gpt-4o"))
    ended.ended = True
    meter.answered(live, Answer(model="gpt-4o", usage=USED))
    assert ended.events == []
    met(meter, "4")  # without any span
    assert meter.calls == 4


def test_a_watcher_that_fails_breaks_no_call(caplog: pytest.LogCaptureFixture) -> None:
    meter = Meter(":memory:")

    def watch() -> Any:
        raise ZeroDivisionError

    meter.watch = watch
    met(meter)
    meter.watch = lambda: lambda _: 1 / 0
    met(meter, "2")
    assert meter.calls == 2
    assert "is not watched" in caplog.text


def test_without_opentelemetry_its_package_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "opentelemetry.trace", None)
    with pytest.raises(ConfigError, match="opentelemetry-api"):
        on_spans(Meter(":memory:"))


def test_charts_show_the_figures_in_both_languages_without_warnings() -> None:
    matplotlib = pytest.importorskip("matplotlib")
    matplotlib.use("Agg")
    from llm_savings.report import plots

    ledger = Ledger(":memory:")
    meter = Meter(ledger, budget=Budget(daily="5", per="user", name="each"))
    for number in range(3):
        sent = Sent(
            call_id=str(number),
            host="sdk",
            requested_model="gpt-4o",
            user="박지민 $x$ _^{",
            bound=Decimal("0.1"),
            started_at=datetime.now(UTC) - timedelta(days=number),
        )
        live = meter.begin(sent, Size(prompt=100, max_tokens=100))
        routed = {"routing": {"baseline_model": "gpt-4o"}}
        meter.answered(live, Answer(model="gpt-4o-mini", usage=USED, strategies=routed))
    shared = attribute(ledger.calls())
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if plots._written("ko") == "en":  # pyright: ignore[reportPrivateUsage]
            warnings.filterwarnings("ignore", "Glyph")  # no font here has Korean letters: matplotlib says so of each
        for lang in ("en", "ko"):
            fall = plots.plot_waterfall(shared, lang=lang)
            days = plots.plot_days(ledger, lang=lang)
            burn = plots.plot_budget(ledger, lang=lang)
            for ax in (fall, days, burn):
                ax.figure.canvas.draw()
            widths = [bar.get_width() for bar in fall.patches]
            assert widths[0] == pytest.approx(float(shared.baseline))
            assert widths[-1] == pytest.approx(float(shared.actual))
            assert sum(bar.get_height() for bar in days.patches) == pytest.approx(float(shared.baseline))
            assert "박지민" in burn.get_yticklabels()[0].get_text()
            matplotlib.pyplot.close("all")


def test_without_matplotlib_its_extra_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    from llm_savings.report import plots

    monkeypatch.setitem(sys.modules, "matplotlib.pyplot", None)
    with pytest.raises(ConfigError, match=r"llm-savings\[notebook\]"):
        plots.plot_waterfall(attribute([]))
