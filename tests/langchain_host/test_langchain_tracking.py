"""`track_costs`, callbacks beside callbacks, and the mark by which LiteLLM's side knows a call that is metered."""

from __future__ import annotations

import asyncio
import logging
import threading
from collections.abc import Iterator
from typing import Any

import litellm
import pytest
from langchain_checks import (
    WAYS,
    Way,
    assert_is_the_bill,
    invoke,
    litellm_anthropic,
    litellm_openai,
    only,
    openai,
    rows,
)
from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.language_models import FakeListLLM
from langchain_core.tracers.context import _configure_hooks
from litellm.integrations.custom_logger import CustomLogger

import llm_savings
from llm_savings import Ledger
from llm_savings.langchain import CostCallback, CostTracking, track_costs
from llm_savings.meter import Live, current_call
from llm_savings.sandbox import Sandbox


@pytest.fixture
def tracking() -> Iterator[CostTracking]:
    tracking = track_costs(":memory:")
    yield tracking
    tracking.stop()


@pytest.mark.parametrize("way", WAYS)
async def test_a_block_is_metered(way: Way, box: Sandbox) -> None:
    with track_costs(":memory:", tags={"feature": "faq"}, user="u1") as cost:
        await way(openai(box, stream_usage=True), ["a", "b"], {})
    await way(openai(box), ["c"], {})
    bill = box.bill().rows
    assert len(bill) == 3
    assert cost.spent == bill[0].usd + bill[1].usd
    assert {(call.sent.user, *call.sent.tags.values()) for call in rows(cost)} == {("u1", "faq")}


@pytest.mark.parametrize("way", WAYS)
async def test_the_whole_process_is_metered(way: Way, box: Sandbox, tracking: CostTracking) -> None:
    cost = tracking.start()
    assert tracking.start() is cost
    await way(openai(box, stream_usage=True), ["a", "b"], {})
    assert_is_the_bill(cost, box)
    tracking.stop()
    tracking.stop()
    await way(openai(box), ["c"], {})
    assert cost.calls == 2


@pytest.mark.parametrize("way", WAYS)
async def test_the_same_callback_twice_counts_once(way: Way, box: Sandbox, tracking: CostTracking) -> None:
    cost = tracking.start()
    model = openai(box, stream_usage=True, callbacks=[cost])
    with tracking:
        await way(model, ["a", "b"], {"callbacks": [cost]})
    assert_is_the_bill(cost, box)


def test_other_threads_are_metered_by_the_process_only(box: Sandbox, tracking: CostTracking) -> None:
    cost = tracking.start()
    with track_costs(":memory:") as here:
        thread = threading.Thread(target=openai(box).invoke, args=("hello",))
        thread.start()
        thread.join()
    assert (cost.calls, here.calls) == (1, 0)


def test_trackings_nest_and_hooks_do_not_pile_up(box: Sandbox) -> None:
    before = len(_configure_hooks)
    for _ in range(3):
        with track_costs(":memory:") as outer:
            openai(box).invoke("a")
            with track_costs(":memory:") as inner:
                openai(box).invoke("b")
            openai(box).invoke("c")
        assert (outer.calls, inner.calls) == (3, 1)
    for _ in range(3):
        tracking = track_costs(":memory:")
        tracking.start()
        tracking.stop()
    assert len(_configure_hooks) <= before + 3


async def test_a_block_may_be_left_in_another_context(box: Sandbox) -> None:
    async def answers() -> Any:
        with track_costs(":memory:") as cost:
            yield cost
            yield cost

    generator = answers()
    cost = await asyncio.create_task(anext(generator))
    await generator.aclose()
    openai(box).invoke("a")
    assert cost.calls == 0


def test_callbacks_may_share_a_ledger(box: Sandbox, tmp_path: Any) -> None:
    ledger = Ledger(tmp_path / "costs.db")
    first, second = CostCallback(ledger, tags={"by": "first"}), CostCallback(ledger)
    openai(box).invoke("a", config={"callbacks": [first]})
    openai(box).invoke("b", config={"callbacks": [second]})
    openai(box).invoke("c", config={"callbacks": [first, second]})
    assert first.ledger is second.ledger is ledger
    # Each has seen two calls, and the ledger has each call once.
    assert (first.calls, second.calls, len(list(ledger.calls()))) == (2, 2, 3)
    assert ledger.summary("total")[0].actual == box.bill().total


def test_the_package_offers_them_by_name() -> None:
    assert llm_savings.CostCallback is CostCallback
    assert llm_savings.track_costs is track_costs


class Inner(CustomLogger):
    """What LiteLLM's side does: it looks at the mark before a request leaves."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, bool] | None] = []

    def log_pre_api_call(self, model: Any, messages: Any, kwargs: Any) -> None:
        live = current_call.get()
        self.seen.append(None if live is None or not live.target else (live.target, live.done))


@pytest.fixture
def inner(monkeypatch: pytest.MonkeyPatch) -> Inner:
    inner = Inner()
    monkeypatch.setattr(litellm, "callbacks", [inner])
    monkeypatch.setattr(litellm, "input_callback", [inner])
    return inner


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("client", [litellm_openai, litellm_anthropic])
async def test_litellms_side_sees_that_the_call_is_metered(
    client: Any, way: Way, box: Sandbox, cost: CostCallback, inner: Inner
) -> None:
    await way(client(box), ["a", "b"], {"callbacks": [cost]})
    assert inner.seen == [(cost.ledger.identity, False)] * 2


@pytest.mark.parametrize("way", WAYS)
async def test_a_later_call_of_its_own_is_not_marked(way: Way, box: Sandbox, cost: CostCallback, inner: Inner) -> None:
    await way(litellm_openai(box), ["a"], {"callbacks": [cost]})
    direct(box)
    await asyncio.to_thread(direct, box)
    assert [live is None or live[1] for live in inner.seen] == [False, True, True]


def test_a_call_between_two_pieces_of_a_stream_is_not_marked(box: Sandbox, cost: CostCallback, inner: Inner) -> None:
    pieces = litellm_openai(box).stream("hello", config={"callbacks": [cost]})
    next(pieces)
    direct(box)
    pieces.close()  # type: ignore[attr-defined]
    direct(box)
    assert [live is None or live[1] for live in inner.seen] == [False, True, True]


def test_a_call_after_an_error_is_not_marked(box: Sandbox, cost: CostCallback, inner: Inner) -> None:
    box.fail("garbage")
    with pytest.raises(litellm.APIConnectionError):
        litellm_anthropic(box).invoke("hello", config={"callbacks": [cost]})
    direct(box)
    assert [live is None or live[1] for live in inner.seen] == [False, True]


def test_a_call_without_the_callback_is_not_marked(box: Sandbox, inner: Inner) -> None:
    CostCallback(":memory:")  # marks are being made from here on, and nobody claims this one
    litellm_openai(box).invoke("hello")
    assert inner.seen == [None]


def direct(box: Sandbox) -> None:
    asked: Any = [{"role": "user", "content": "hi"}]
    litellm.completion("openai/gpt-4o-mini", asked, api_base=box.openai_url, api_key="x", max_retries=0)


class Watching(BaseCallbackHandler):
    def __init__(self, *, inline: bool = False) -> None:
        self.run_inline = inline
        self.events: list[str] = []

    def on_llm_start(self, *_: Any, **__: Any) -> None:
        self.events.append("start")

    def on_llm_end(self, *_: Any, **__: Any) -> None:
        self.events.append("end")


async def test_callbacks_of_others_still_get_every_event(cost: CostCallback) -> None:
    # langchain-core forgets them where any handler runs inline, so none of ours may.
    other = Watching()
    await FakeListLLM(responses=["a"]).ainvoke("hello", config={"callbacks": [cost, other]})
    assert other.events == ["start", "end"]
    assert not cost.run_inline


async def test_a_call_whose_start_langchain_dropped_is_in_the_ledger(cost: CostCallback) -> None:
    tracer = Watching(inline=True)
    await FakeListLLM(responses=["a"]).ainvoke("hello", config={"callbacks": [cost, tracer]})
    assert (only(cost).status, only(cost).basis) == ("ok", "unknown")
    assert not cost._open


async def test_a_mark_is_made_even_where_a_context_is_bare(box: Sandbox, cost: CostCallback) -> None:
    seen: list[Live | None] = []

    def run() -> None:
        openai(box).invoke("hello", config={"callbacks": [cost]})
        seen.append(current_call.get())

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    assert seen[0] is not None and seen[0].done
    await invoke(openai(box), ["again"], {"callbacks": [cost]})
    assert_is_the_bill(cost, box)


def test_nothing_is_written_while_disabled(
    box: Sandbox, cost: CostCallback, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("LLM_SAVINGS_DISABLED", "1")
    with caplog.at_level(logging.DEBUG, "llm_savings"):
        openai(box).invoke("hello", config={"callbacks": [cost]})
    assert (rows(cost), cost.calls, caplog.records) == ([], 0, [])
    monkeypatch.setenv("LLM_SAVINGS_DISABLED", "0")
    openai(box).invoke("hello", config={"callbacks": [cost]})
    assert cost.calls == 1
