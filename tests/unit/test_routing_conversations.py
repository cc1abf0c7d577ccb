"""Conversations stick to their tier, move up when asked to, and never flap; answers of a small model are judged."""

from __future__ import annotations

import random
import threading
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_savings.pricing import PriceBook
from llm_savings.routing import ComplexityRouter, suffices
from llm_savings.routing.conversations import Conversations, Standing, escalation, stick, worth_a_cold_cache
from llm_savings.routing.requests import Asked, read

PAIR = {"simple": "gpt-4o-mini", "complex": "gpt-4o"}
HARD = "Design a microservice architecture and compare the trade-offs in detail."


def talk(*turns: str) -> list[dict[str, Any]]:
    """User turns with an assistant's answer between them."""
    found: list[dict[str, Any]] = []
    for turn in turns:
        found += [{"role": "user", "content": turn}, {"role": "assistant", "content": "Sure."}]
    return found[:-1]


@pytest.mark.parametrize(
    "turn", ["That's wrong.", "다시 해봐, 틀렸어", "그게 아니라 다른 거야", "try again", "still not correct"]
)
def test_a_complaint_moves_up(turn: str) -> None:
    decision = ComplexityRouter(PAIR).route(talk("What is Python?", turn))
    assert (decision.tier, decision.escalated) == ("complex", True)
    assert "complaint" in decision.reasons


@pytest.mark.parametrize("turn", ["use a better model", "더 좋은 모델로 해줘", "think harder please"])
def test_a_request_moves_up(turn: str) -> None:
    assert "requested" in ComplexityRouter(PAIR).route(talk("hi", turn)).reasons


def test_a_first_turn_is_no_complaint() -> None:
    assert escalation(Asked(text="that is wrong", answered=False)) is None
    assert ComplexityRouter(PAIR).route("틀렸어?").tier == "simple"


def test_the_caller_may_ask_for_at_least_a_tier() -> None:
    assert ComplexityRouter(PAIR).route("hi", at_least="complex").tier == "complex"
    assert ComplexityRouter(PAIR).route("hi", at_least="simple").tier == "simple"
    assert ComplexityRouter(PAIR).route("hi", at_least="no such tier").reasons == ("difficulty", "at_least")


def test_a_follow_up_is_as_hard_as_what_it_follows() -> None:
    router = ComplexityRouter(PAIR)
    assert router.route(talk(HARD, "and why?")).tier == "complex"
    assert router.route(talk(HARD, "thanks")).tier == "simple"
    assert router.route(talk("What is Python?", "and why?")).tier == "simple"


def test_after_a_complaint_a_conversation_stays_up() -> None:
    router = ComplexityRouter(PAIR)
    turns = ["What is Python?", "that's wrong", "thanks", "What is Java?", "hi", "bye"]
    tiers = [router.route(talk(*turns[: n + 1]), conversation="c").tier for n in range(len(turns))]
    assert tiers == ["simple", *["complex"] * 5]


def test_two_failures_in_a_row_move_up() -> None:
    router = ComplexityRouter(PAIR)
    assert router.route("hi", conversation="c").tier == "simple"
    router.failed("c")
    assert router.route("hi", conversation="c").tier == "simple"
    router.failed("c")
    assert router.route("hi", conversation="c").tier == "complex"
    router.failed("unknown")


def test_a_good_answer_ends_a_row_of_failures() -> None:
    router = ComplexityRouter(PAIR)
    router.route("hi", conversation="c")
    for _ in range(3):
        router.failed("c")
        router.answered("c")
    assert router.route("hello", conversation="c").tier == "simple"


def test_the_steps_of_an_agent_are_one_turn() -> None:
    router = ComplexityRouter(PAIR)
    messages = talk(HARD)
    assert router.route(messages, conversation="c").tier == "complex"
    messages = talk(HARD, "thanks")
    for _ in range(5):  # a loop of tool calls within the second turn
        assert router.route(messages, conversation="c").tier == "complex"
        messages = [*messages, {"role": "assistant", "tool_calls": [{}]}, {"role": "tool", "content": "x"}]
    three = {"simple": "gpt-4o-mini", "medium": "gpt-4.1", "complex": "gpt-4o"}
    patient = ComplexityRouter(three)
    patient.route(talk("hi"), conversation="c")
    complaint = talk("hi", "that's wrong")
    assert [patient.route(complaint, conversation="c").tier for _ in range(3)] == ["medium"] * 3


@given(st.integers(1, 3), st.lists(st.tuples(st.integers(0, 3), st.booleans(), st.booleans()), max_size=60))
def test_a_conversation_never_flaps(strongest: int, turns: list[tuple[int, bool, bool]]) -> None:
    standing, moves = None, 0
    for wanted, raised, worth in turns:
        proposed = min(wanted, strongest)
        after = stick(standing, proposed, raised=raised, worth=lambda worth=worth: worth)
        assert proposed <= after.place <= strongest
        assert standing is None or after.place >= standing.place or (worth and not raised)
        moves += standing is not None and after.place != standing.place
        standing = after
    assert moves <= (4 if strongest == 1 else 3 * strongest + 2)


def test_moving_down_needs_two_easy_turns_that_are_worth_it() -> None:
    up = Standing(1)
    once = stick(up, 0, worth=lambda: True)
    assert once.place == 1
    assert stick(once, 0, worth=lambda: True).place == 0
    assert stick(once, 0, worth=lambda: False).place == 1
    assert stick(stick(once, 1, worth=lambda: True), 0, worth=lambda: True).place == 1


def test_a_cold_cache_has_its_price() -> None:
    prices = PriceBook()
    long = Asked(text="", tokens=50_100, prefix=50_000, output=100)
    # GPT-4o reads 50,000 tokens from its cache for $0.0625; Haiku 4.5 would write them for $0.0625, and o3 costs more.
    assert worth_a_cold_cache("gpt-4o", "gpt-4o-mini", long, prices)
    assert not worth_a_cold_cache("claude-haiku-4-5", "gpt-4.1-mini", long, prices)
    assert worth_a_cold_cache("claude-haiku-4-5", "gpt-4.1-mini", long, prices, warm=False)
    assert not worth_a_cold_cache("gpt-4o", "nobody-knows", long, prices)


def test_memory_is_bounded_and_shared_by_threads() -> None:
    known = Conversations(most=50)

    def work(seed: int) -> None:
        dice = random.Random(seed)
        for _ in range(300):
            name = str(dice.randrange(200))
            known.put(name, Standing(1))
            known.get(name)
            known.failed(name, 1)

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(known) == 50


def test_reading_a_request() -> None:
    asked = read(
        [
            {"role": "system", "content": "s" * 300},
            {"role": "user", "content": "first"},
            {"role": "assistant", "content": None, "tool_calls": [{"function": {"arguments": "{}"}}]},
            {"role": "tool", "content": "result"},
            {"role": "user", "content": [{"type": "input_text", "text": "second"}, {"type": "document"}]},
            {"role": "tool", "content": "later"},
        ],
        tools=[{"type": "function"}],
        max_tokens=7,
    )
    assert (asked.text, asked.before, asked.turns, asked.answered, asked.output) == ("second", "first", 2, True, 7)
    assert asked.needs == {"tools", "documents"}
    assert 100 < asked.prefix < asked.tokens


@pytest.mark.parametrize(
    ("answer", "known", "reasons"),
    [
        ("Seoul", {}, ()),
        ("  ", {}, ("empty",)),
        ("A long", {"finish_reason": "length"}, ("truncated",)),
        ("I'm sorry, but I can't help with that.", {}, ("refusal",)),
        ("죄송하지만 도와드릴 수 없습니다.", {}, ("refusal",)),
        ("I don't know.", {}, ("refusal",)),
        ("정확한 값은 잘 모르겠습니다", {}, ("unsure",)),
        ("x", {"finish_reason": "content_filter"}, ("refusal",)),
        ('{"a": 1}', {"schema": {"type": "object", "required": ["a"]}}, ()),
        ('{"b": 1}', {"schema": {"type": "object", "required": ["a"]}}, ("schema",)),
        ("no json", {"schema": {"type": "object"}}, ("schema",)),
        ("{}", {"schema": {"type": 7}}, ()),
        ("Seoul", {"logprobs": [-0.1, -0.2]}, ()),
        ("Seoul", {"logprobs": [-2.0, -2.0]}, ("confidence",)),
        ("Seoul", {"confidence": lambda _: 0.2}, ("confidence",)),
        ("Seoul", {"confidence": lambda _: float("nan")}, ("confidence",)),
        ("Seoul", {"confidence": lambda _: 1 / 0}, ("judge",)),
    ],
)
def test_judging_an_answer(answer: str, known: dict[str, Any], reasons: tuple[str, ...]) -> None:
    verdict = suffices(answer, **known)
    assert (verdict.ok, verdict.reasons) == (not reasons, reasons)
