"""The decision that both hosts share: what a call cost, would have cost, could cost, and how surely."""

from __future__ import annotations

import contextlib
import json
import threading
from dataclasses import replace
from decimal import Context, Decimal, localcontext
from typing import Any

import httpx
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_savings import Budget, Meter, PriceBook, Usage
from llm_savings.attribution import attribute
from llm_savings.bounds import Size, upper_bound
from llm_savings.errors import BudgetExceededError
from llm_savings.evidence import AT_END, at_end, evidence_in, noted
from llm_savings.ledger import Sent, total
from llm_savings.meter import Answer, Live, may_have_billed, settle

PRICES = PriceBook()
SENT = Sent(call_id="c", host="sdk", requested_model="gpt-4o", provider="openai", bound=Decimal("0.5"))
USED = Usage(input=86, cache_read=1920, output=300)


def test_a_measured_call() -> None:
    end = settle(PRICES, SENT, Answer(model="gpt-4o-2024-08-06", usage=USED), "ok")
    assert (end.basis, end.actual) == ("measured", Decimal("0.005615"))
    # With nothing cached, 2,006 tokens in: 0.005015 + 0.003.
    assert end.baseline == Decimal("0.008015")


@pytest.fixture(scope="module")
def yuan(tmp_path_factory: pytest.TempPathFactory) -> PriceBook:
    """A model at 8 and 2 yuan for a million tokens, at seven a dollar, as LiteLLM 1.110 writes it."""
    path = tmp_path_factory.mktemp("yuan") / "map.json"
    entry = {"input_cost_per_token": 8 / 7e6, "cache_read_input_token_cost": 2 / 7e6, "output_cost_per_token": 4e-6}
    path.write_text(json.dumps({"glm": {"litellm_provider": "bigmodel", "mode": "chat", **entry}}))
    return PriceBook.from_file(path)


@given(st.lists(st.builds(Usage, input=st.integers(1, 10**7), cache_read=st.integers(0, 10**7)), max_size=5))
def test_an_amount_finer_than_the_ledgers_unit_is_off_by_half_of_it_at_most(
    yuan: PriceBook, usages: list[Usage]
) -> None:
    meter = Meter(":memory:", prices=yuan)
    for number, usage in enumerate(usages):
        live = meter.begin(replace(SENT, call_id=str(number), requested_model="glm", provider="bigmodel"))
        meter.answered(live, Answer(model="glm", usage=usage))
    rows = list(meter.ledger.calls())
    for row, usage in zip(rows, usages, strict=True):
        assert row.settled and row.settled.actual is not None
        exact, most = yuan.price(usage, "glm"), Decimal("0.5e-12")
        assert abs(row.settled.actual - exact) <= most
        true = (8 * usage.input + 2 * usage.cache_read) / Decimal(7 * 10**6)
        assert abs(row.settled.actual - true) <= most + true * Decimal("1e-14")  # the map's own digits
    assert meter.spent == total(meter.ledger.summary()).actual  # the same here as there
    assert attribute(rows, yuan).repriced == 0


def test_a_batch_call_is_compared_with_the_list_price() -> None:
    end = settle(PRICES, SENT, Answer(model="gpt-4o", usage=Usage(input=1000, output=1000), mode="batch"), "ok")
    assert (end.actual, end.baseline) == (Decimal("0.00625"), Decimal("0.0125"))


def test_flex_is_what_the_user_ordered_not_a_saving() -> None:
    sent = replace(SENT, requested_model="gpt-5", mode="flex")
    end = settle(PRICES, sent, Answer(model="gpt-5", usage=Usage(input=2000, cache_read=8000, output=1000)), "ok")
    assert end.actual == Decimal("0.00675")
    assert end.baseline == Decimal("0.01125")


def test_a_hit_costs_nothing_and_is_worth_its_call() -> None:
    end = settle(PRICES, SENT, Answer(model="gpt-4o", usage=USED, hit=True), "hit")
    assert (end.actual, end.baseline, end.basis) == (0, Decimal("0.008015"), "measured")


@pytest.mark.parametrize(
    ("answer", "basis"),
    [
        (Answer(model="gpt-4o"), "unknown"),
        (Answer(model="gpt-4o", usage=Usage()), "unknown"),
        (Answer(model="gpt-4o", suspect=True), "suspect"),
        (Answer(model="nobody-knows-it", usage=USED), "unpriced"),
        (Answer(model="gpt-4o", usage=USED, mode="priority"), "measured"),
        (Answer(model="gpt-4o", usage=USED, estimated=True), "estimated"),
    ],
)
def test_what_is_not_known_is_never_zero(answer: Answer, basis: str) -> None:
    end = settle(PRICES, SENT, answer, "ok")
    assert end.basis == basis
    assert (end.actual is None) == (basis in ("unknown", "suspect", "unpriced"))


def test_the_name_asked_for_prices_an_answer_that_only_adds_a_date() -> None:
    sent = replace(SENT, requested_model="openai/gpt-4o")
    dated = settle(PRICES, sent, Answer(model="gpt-4o-2031-01-01", usage=USED), "ok")
    assert dated.actual == Decimal("0.005615")
    for other in ("llama-behind-a-gateway", "gpt-4o-giant", "gpt-4o-giant-2031-01-01"):
        assert settle(PRICES, sent, Answer(model=other, usage=USED), "ok").basis == "unpriced"


def test_a_price_of_the_users_own_wins_over_the_model_that_answered() -> None:
    prices = PRICES.with_overrides({"azure/prod": {"input": "1", "output": "2"}})
    sent = replace(SENT, requested_model="azure/prod", provider="azure")
    end = settle(prices, sent, Answer(model="gpt-4o-2024-08-06", usage=Usage(input=1000, output=1000)), "ok")
    assert end.actual == Decimal("0.003")


@given(
    st.integers(0, 200_000),
    st.integers(0, 10_000),
    st.sampled_from(["gpt-4o", "gpt-5.4", "claude-sonnet-4-5", "o3"]),
    st.sampled_from(["input", "cache_read", "cache_write_5m"]),
)
def test_no_split_of_the_prompt_exceeds_the_bound(prompt: int, limit: int, model: str, bucket: str) -> None:
    bound = upper_bound(PRICES, model, Size(prompt, limit))
    assert bound is not None
    assert PRICES.price(Usage(**{bucket: prompt, "output": limit}), model) <= bound


def test_a_bound_without_max_tokens_is_the_models_own_limit() -> None:
    assert upper_bound(PRICES, "gpt-4o", Size(0)) == Decimal("0.16384")
    assert upper_bound(PRICES, "gpt-4o", Size(0, max_tokens=10, choices=3)) == Decimal("0.0003")
    assert upper_bound(PRICES, "gpt-4o", Size(None, max_tokens=10)) is None
    assert upper_bound(PRICES, "nobody-knows-it", Size(1)) is None


class _Status(Exception):
    def __init__(self, status_code: int) -> None:
        self.status_code = status_code


def _caused(cause: Exception) -> Exception:
    try:
        raise RuntimeError("wrapped") from cause
    except RuntimeError as error:
        return error


@pytest.mark.parametrize(
    ("error", "billed"),
    [
        (_Status(429), False),
        (_Status(401), False),
        (_Status(408), True),
        (_Status(500), True),
        (TimeoutError(), True),
        (ValueError("not JSON"), True),
        (_caused(httpx.ConnectError("refused")), False),
        (_caused(httpx.ReadTimeout("slow")), True),
    ],
)
def test_only_a_refusal_is_surely_free(error: Exception, billed: bool) -> None:
    assert may_have_billed(error) is billed


def test_what_the_user_was_handling_says_nothing_of_the_call() -> None:
    # Their cache is down, so they ask the model; the model's answer is lost on the way.
    for lost in (httpx.ReadTimeout("slow"), ValueError("not JSON"), _Status(500)):
        try:
            raise ConnectionRefusedError("the user's own database")
        except ConnectionRefusedError:
            try:
                raise lost
            except Exception as error:
                assert may_have_billed(error)


def test_causes_in_a_circle_end() -> None:
    error = RuntimeError("its own cause")
    error.__cause__ = error
    assert may_have_billed(error)


def test_a_limit_beyond_all_reason_is_no_bound() -> None:
    assert Meter(":memory:").bound("gpt-4o", Size(10, 10**13)) is None


def test_a_meter_writes_ahead_settles_once_and_counts() -> None:
    meter = Meter(":memory:", tags={"team": "a"})
    live = meter.begin(replace(SENT, bound=meter.bound("gpt-4o", Size(100, 50))))
    row = meter.ledger.get("c")
    assert row is not None
    assert (row.status, row.sent.bound) == ("sent", Decimal("0.00075"))
    meter.answered(live, Answer(model="gpt-4o", usage=USED, response_id="r"))
    meter.failed(live, TimeoutError())
    row = meter.ledger.get("c")
    assert row is not None
    assert row.settled is not None
    assert (row.status, row.settled.actual) == ("ok", Decimal("0.005615"))
    assert (meter.spent, meter.saved, meter.calls) == (Decimal("0.005615"), Decimal("0.0024"), 1)


def test_errors_are_free_or_unknown() -> None:
    meter = Meter(":memory:")
    for name, error in (("refused", _Status(429)), ("lost", TimeoutError())):
        meter.failed(meter.begin(replace(SENT, call_id=name)), error)
    rows = {call.sent.call_id: call for call in meter.ledger.calls()}
    assert [(rows[n].basis, rows[n].settled.actual, rows[n].settled.error) for n in ("refused", "lost")] == [  # type: ignore[union-attr]
        ("measured", Decimal(0), "_Status"),
        ("unknown", None, "TimeoutError"),
    ]
    assert meter.lines[0].unknown_bound == Decimal("0.5")


def test_an_abandoned_stream_is_an_estimate() -> None:
    meter = Meter(":memory:")
    meter.abandoned(meter.begin(SENT), Answer(model="gpt-4o", usage=USED))
    row = meter.ledger.get("c")
    assert row is not None
    assert (row.status, row.basis) == ("abandoned", "estimated")


def test_a_defect_in_metering_is_logged_and_goes_no_further(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    meter = Meter(":memory:")
    monkeypatch.setattr(PriceBook, "price", lambda *_, **__: 1 / 0)
    live = meter.begin(SENT)
    meter.answered(live, Answer(model="gpt-4o", usage=USED))
    assert "was not settled" in caplog.text


class _Watched(Live):
    """A call whose `done` is looked at by two threads at the same moment, unless one has to wait for the other."""

    @property
    def done(self) -> bool:
        seen = self.is_done
        with contextlib.suppress(threading.BrokenBarrierError):
            self.meet.wait(0.2)
        return seen

    @done.setter
    def done(self, value: bool) -> None:
        self.is_done = value


def test_a_call_that_two_threads_settle_counts_once() -> None:
    meter = Meter(":memory:")
    begun = meter.begin(SENT)
    live = _Watched(begun.sent, begun.target, begun.began)
    live.meet = threading.Barrier(2)
    threads = [
        threading.Thread(target=meter.answered, args=(live, Answer(model="gpt-4o", usage=USED))) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert meter.calls == 1


def test_a_routed_call_is_compared_with_its_baseline_model() -> None:
    meter = Meter(":memory:")
    live = meter.begin(Sent(call_id="1", host="sdk", requested_model="gpt-4o-mini"))
    live.strategies = evidence_in(noted(None, "routing", {"tier": "simple", "baseline_model": "gpt-4o"}))
    meter.answered(live, Answer(model="gpt-4o-mini", usage=Usage(input=1000, output=1000)))
    assert (meter.spent, meter.saved) == (Decimal("0.00075"), Decimal("0.01175"))
    assert attribute(meter.ledger.calls()).credits == {"routing": Decimal("0.01175")}


@pytest.mark.parametrize(
    "evidence", [{"baseline_model": "nobody-knows-it"}, {"baseline_model": "gpt-4o", "shadow": True}]
)
def test_a_baseline_without_a_price_or_in_shadow_saves_nothing(evidence: dict[str, Any]) -> None:
    meter = Meter(":memory:")
    live = meter.begin(Sent(call_id="1", host="sdk", requested_model="gpt-4o-mini"))
    live.strategies = {"routing": evidence}
    meter.answered(live, Answer(model="gpt-4o-mini", usage=Usage(input=1000, output=1000)))
    assert (meter.spent, meter.saved) == (Decimal("0.00075"), Decimal(0))


def _asks(text: str, output: int) -> dict[str, Any]:
    return {"baseline_output": output + len(text)}


@pytest.mark.parametrize("hit", [False, True])
def test_an_answer_tells_what_could_not_be_known_before(hit: bool) -> None:
    meter = Meter(":memory:")
    live = meter.begin(Sent(call_id="1", host="sdk", requested_model="gpt-4o"))
    live.strategies = evidence_in(noted(None, "output", {"form": "columns", AT_END: _asks}))
    meter.answered(live, Answer(usage=Usage(input=10, output=5), text=lambda: "x" * 95, hit=hit))
    (call,) = meter.ledger.calls()
    assert call.settled is not None
    assert call.settled.strategies == {"output": {"form": "columns", "baseline_output": 100}}
    assert call.settled.baseline == Decimal("0.001025")


def test_without_an_answer_or_with_a_faulty_question_the_rest_of_the_evidence_stays() -> None:
    def fails(text: str, output: int) -> dict[str, Any]:
        raise ValueError(text)

    for asked, text in ((_asks, None), (_asks, lambda: None), (fails, lambda: "x"), ("no function", lambda: "x")):
        assert at_end({"output": {"form": "rows", AT_END: asked}, "batch": {"id": 1}}, text, 5) == {
            "output": {"form": "rows"},
            "batch": {"id": 1},
        }
    meter = Meter(":memory:")
    live = meter.begin(Sent(call_id="1", host="sdk", requested_model="gpt-4o"))
    live.strategies = {"output": {AT_END: _asks}}
    meter.failed(live, TimeoutError())
    (call,) = meter.ledger.calls()
    assert call.settled is not None and call.settled.strategies == {"output": {}}


def test_sums_and_what_is_held_are_exact_whatever_the_context() -> None:
    used = Usage(input=123_457, output=98_765)
    with localcontext(prec=3):
        meter = Meter(":memory:", budget=Budget(total="1000"))
        for number in range(3):
            live = meter.begin(replace(SENT, call_id=str(number)), Size(123_457, max_tokens=98_765))
            assert str(live.sent.reserved) == "1.2962925"
            meter.answered(live, Answer(model="gpt-4o", usage=used))
        (line,) = meter.ledger.summary("total")
        assert (str(line.actual.normalize(Context(60))), line.saved) == ("3.8888775", 0)
        assert (meter.spent, meter.saved) == (line.actual, 0)
        with pytest.raises(BudgetExceededError) as refused:
            meter.begin(replace(SENT, call_id="too much"), Size(1, max_tokens=200_000_000))
        assert str(refused.value.spent) == "3.8888775"
