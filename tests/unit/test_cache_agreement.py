"""Near questions that were all given one answer vouch for it, where that tells something."""

from __future__ import annotations

from datetime import UTC, datetime
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_savings.semantic_cache.agreement import Agreement
from llm_savings.semantic_cache.cache import AnswerCache
from llm_savings.semantic_cache.comparing import wording
from llm_savings.semantic_cache.entries import Entry, Near
from llm_savings.semantic_cache.found import Hit
from llm_savings.semantic_cache.match import MatchModel
from llm_savings.semantic_cache.scope import Request
from llm_savings.semantic_cache.settings import Settings

MODEL = MatchModel.load()
TODAY = datetime(2026, 1, 1, tzinfo=UTC)
STEPS = "Open the app, tap Cards, choose your card and tap Change PIN."


def near(*answers: str) -> list[Near]:
    def one(number: int, answer: str) -> Near:
        entry = Entry(id=str(number), scope="s", namespace="", model="m", text="", answer=answer, created_at=TODAY)
        return Near("", 0.9 - number / 100, lambda: entry)

    return [one(*pair) for pair in enumerate(answers)]


def used(times: int = 40) -> Agreement:
    """One that has seen other candidates, each with an answer of its own."""
    agreement = Agreement(text_of=str)
    for number in range(times):
        agreement.others(near(f"Another answer, the {number}th."), 0)
    return agreement


def test_answers_agree_by_their_words_alone() -> None:
    found = near(STEPS, STEPS.upper(), f"Sure! {STEPS}", "Please visit a branch.", STEPS)
    assert used().others(found, 0) == 3
    assert used().others(found, 3) == 0


@pytest.mark.parametrize("answer", ["Yes.", "No, it is not.", "네, 가능합니다.", "42", "", "OK", "5"])
def test_a_bare_answer_says_nothing_of_its_question(answer: str) -> None:
    assert wording(answer) == ""
    assert used().others(near(*[answer] * 5), 0) == 0


def test_what_most_questions_are_told_says_nothing() -> None:
    agreement = used()
    found = [agreement.others(near(*[STEPS] * 5), 0) for _ in range(30)]
    assert found[0] == 4
    assert found[-1] == 0


def test_at_first_nothing_is_known_of_what_is_usual() -> None:
    assert used(5).others(near(*[STEPS] * 5), 0) == 0


def test_an_answer_that_cannot_be_read_agrees_with_none() -> None:
    agreement = Agreement(text_of=lambda answer: str(1 / int(answer)))
    assert [agreement.others(near(*["0"] * 5), 0) for _ in range(60)] == [0] * 60


@given(st.floats(0, 1), st.floats(0, 1), st.integers(0, 4), st.integers(0, 4))
def test_agreement_only_ever_adds(one: float, other: float, few: int, many: int) -> None:
    low, high = sorted((one, other))
    fewer, more = sorted((few, many))
    assert low <= MODEL.agreed(low, fewer) <= MODEL.agreed(high, more) <= 1.0
    assert MODEL.agreed(low, 2) == low


THINGS = ("card PIN", "delivery address", "phone number", "user name", "payment method", "language", "billing plan")
WORDINGS = (
    "how do I change my {}",
    "how can the {} be changed",
    "I want to change the {}",
    "is there a way to change my {}",
    "what must I do to change my {}",
    "tell me about changing my {}",
    "changing the {}",
    "I need help to change the {}",
    "could I get my {} changed",
    "please change my {} for me",
)


def hits(*, alike: bool) -> int:
    """How often questions asked in turn are served; a miss is answered in the words of its thing, or in its own."""
    asked = [(wording.format(thing), thing) for thing in THINGS for wording in WORDINGS]
    Random(1).shuffle(asked)
    found = 0
    with AnswerCache(None, Settings(max_error=0.002, audit_rate=0, wait=0), text_of=str) as cache:
        for number, (text, thing) in enumerate(asked):
            look = cache.lookup(Request(model="m", messages=[{"role": "user", "content": text}], parameters={}))
            if isinstance(look, Hit):
                assert f"{thing}." in look.entry.answer
                found += 1
            elif look.question is not None:
                own = "" if alike else f" We have said so {number} times."
                cache.keep(look.question, f"Open the app and look for {thing}.{own}")
    return found


def test_a_cache_serves_more_where_answers_come_in_the_same_words() -> None:
    assert hits(alike=True) >= hits(alike=False) + 5
