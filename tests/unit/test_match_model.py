"""The shipped model judges: sane at every extreme, monotone where it must be, right on the pairs it promises."""

from __future__ import annotations

import math

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

pytest.importorskip("llm_savings.embedding", reason="the bundled embedder is not in this checkout")

from llm_savings.embedding import BundledEmbedder
from llm_savings.semantic_cache.match import Candidate, Judgement, MatchModel, prepare
from llm_savings.semantic_cache.match.bounds import at_least, at_most, safe_threshold
from llm_savings.semantic_cache.match.features import NAMES, SIGNS

MODEL = MatchModel.load()


def judged(asked: str, *stored: str) -> Judgement:
    vectors = BundledEmbedder().embed([asked, *stored])
    cosines = vectors[1:] @ vectors[0]
    return MODEL.judge(prepare(asked), [Candidate(prepare(t), float(c)) for t, c in zip(stored, cosines, strict=True)])


@pytest.mark.parametrize(
    ("asked", "stored"),
    [
        ("배송이 얼마나 걸려요?", "배송 기간은 얼마나 걸리나요?"),
        ("배송 기간은 얼마나 걸리나요?", "배송이 얼마나 걸려요?"),
        ("RAG에 대해 설명해줘", "RAG가 뭐야?"),
        ("RAG가 뭐야?", "RAG에 대해 설명해줘"),
    ],
)
def test_the_articles_pairs_are_served_from_a_cache_that_holds_one_entry(asked: str, stored: str) -> None:
    assert judged(asked, stored).probability >= MODEL.threshold_for(0.01, "ko")


@pytest.mark.parametrize(
    ("asked", "stored"),
    [
        ("what is the weather in Paris tomorrow", "what is the weather in London tomorrow"),
        ("how much does a nurse earn", "how much does a plumber earn"),
        ("RAG가 뭐야?", "API가 뭐야?"),
        ("서울 맛집 추천해줘", "부산 맛집 추천해줘"),
        ("What is RAG?", "RAG가 뭐야?"),
        ("😀", "😂"),
        ("", ""),
    ],
)
def test_another_question_is_not_served(asked: str, stored: str) -> None:
    assert judged(asked, stored).probability < MODEL.threshold_for(0.01, prepare(asked).language)


def test_a_blocked_candidate_gives_way_to_the_next() -> None:
    found = judged(
        "transfer 50 dollars to savings", "transfer 500 dollars to savings", "transfer 50 dollars into savings"
    )
    assert found.best == 1
    assert found.blocks == ("number",)
    assert len(found.features) == len(NAMES) == len(SIGNS)


def test_nothing_is_judged_where_nothing_is_near() -> None:
    assert MODEL.judge(prepare("hello world"), []) == Judgement(None, 0.0, (), ())


@pytest.mark.parametrize("cosine", [0.0, -0.3, math.nan, math.inf, -math.inf, 7.0])
def test_a_zero_or_broken_vector_never_matches(cosine: float) -> None:
    question = prepare("what is the refund policy")
    assert MODEL.judge(question, [Candidate(question, cosine)]).best is None


WORDS = str.split("배송 기간이 얼마나 RAG card limit refund not 3 서울에서 what 😀 ﷽ \u202e \x00 é 中文 \ud800", " ")
TEXTS = st.one_of(st.text(max_size=40), st.lists(st.sampled_from(WORDS), max_size=8).map(" ".join))


@given(TEXTS, TEXTS, st.floats(allow_nan=True, allow_infinity=True))
def test_hostile_text_and_numbers_are_judged_without_error(asked: str, stored: str, cosine: float) -> None:
    found = MODEL.judge(prepare(asked), [Candidate(prepare(stored), cosine)])
    assert 0.0 <= found.probability <= 1.0
    assert all(math.isfinite(number) for number in found.features)
    assert found == MODEL.judge(prepare(asked), [Candidate(prepare(stored), cosine)])


@given(TEXTS, st.lists(st.tuples(TEXTS, st.floats(0.01, 1.0)), max_size=5))
@example("I", [("", 1.0)])
def test_a_text_is_judged_as_the_question_read_of_it(asked: str, stored: list[tuple[str, float]]) -> None:
    read = [Candidate(prepare(text), cosine) for text, cosine in stored]
    assert MODEL.judge(prepare(asked), [Candidate(*pair) for pair in stored]) == MODEL.judge(prepare(asked), read)


@given(TEXTS, TEXTS, st.floats(0.01, 1.0), st.floats(0.01, 1.0))
def test_a_nearer_vector_is_never_less_likely_right(asked: str, stored: str, one: float, other: float) -> None:
    low, high = sorted((one, other))
    first, second = prepare(asked), prepare(stored)
    assert (
        MODEL.judge(first, [Candidate(second, low)]).probability
        <= MODEL.judge(first, [Candidate(second, high)]).probability
    )


@given(TEXTS, TEXTS, st.floats(0.01, 1.0))
def test_the_order_of_asking_does_not_matter(asked: str, stored: str, cosine: float) -> None:
    first, second = prepare(asked), prepare(stored)
    there = MODEL.judge(first, [Candidate(second, cosine)])
    back = MODEL.judge(second, [Candidate(first, cosine)])
    if first.language == second.language and first.tokens and second.tokens:
        assert there.probability == pytest.approx(back.probability, abs=1e-6)
        assert there.blocks == back.blocks


@pytest.mark.parametrize("language", ["en", "ko"])
def test_a_larger_error_allowed_never_asks_for_more(language: str) -> None:
    errors = (0.0, 0.001, 0.005, 0.01, 0.02, 0.05, 1.0)
    for embedder in ("bundled", "openai/text-embedding-3-small"):
        limits = [MODEL.threshold_for(error, language, embedder) for error in errors]  # type: ignore[arg-type]
        assert limits == sorted(limits, reverse=True)
        assert limits[0] == math.inf
    assert MODEL.threshold_for(0.01, language, "another") >= MODEL.threshold_for(0.01, language)  # type: ignore[arg-type]


def test_the_bound_is_the_one_of_clopper_and_pearson() -> None:
    # One-sided 95% bounds from the beta distribution, worked out by hand for no event: 1 - 0.05 ** (1 / n).
    assert at_most(0, 100) == pytest.approx(1 - 0.05 ** (1 / 100), abs=1e-9)
    assert at_most(100, 100) == 1.0
    assert at_least(0, 100) == 0.0
    assert at_most(0, 0) == 1.0
    assert at_most(5, 1000) < at_most(6, 1000) < at_most(6, 900)


SCORES = st.floats(0, 1) | st.sampled_from([0.2, 0.9])  # some are equal


@given(st.lists(st.tuples(SCORES, st.booleans()), max_size=200), st.sampled_from([0.01, 0.05, 0.2]))
def test_a_safe_threshold_keeps_its_promise_on_its_own_rows(scored: list[tuple[float, bool]], error: float) -> None:
    lookups = len(scored) + 100
    threshold = safe_threshold(scored, lookups=lookups, max_error=error)
    wrong = sum(score >= threshold and not right for score, right in scored)
    assert at_most(wrong, lookups) <= error or threshold == math.inf


@pytest.mark.parametrize(
    ("asked", "stored", "same"),
    [
        ("How can I reset my password?", "How do I reset my password?", True),
        ("Please, what's the refund policy?", "What is the refund policy?", True),
        ("Hello, how would I cancel my order?", "how do i cancel my order", True),
        ("Can I cancel my order?", "How do I cancel my order?", False),
        ("How do I not cancel my order?", "How can I cancel my order?", False),
        ("How can I reset my password 2 times?", "How do I reset my password 3 times?", False),
        ("How can dogs chase cats?", "How do cats chase dogs?", False),
    ],
)
def test_another_manner_of_asking_is_the_same_question_even_in_an_empty_cache(
    asked: str, stored: str, same: bool
) -> None:
    embedder, model = BundledEmbedder(), MatchModel.load()
    one, other = embedder.embed([asked, stored])
    said = model.judge(prepare(asked), [Candidate(prepare(stored), float(one @ other))])
    assert (said.probability >= model.threshold_for(0.01, "en")) is same
