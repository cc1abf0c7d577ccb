"""A user's labelled pairs: read, fitted, and what they support."""

from __future__ import annotations

import math
import random
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_savings.errors import ConfigError, LogFormatError
from llm_savings.semantic_cache.tuning import Pair, Tuning, read_pairs, tune


def fitted(scored: list[tuple[float, bool]], max_error: float = 0.01) -> Tuning:
    chances = {str(number): p for number, (p, _) in enumerate(scored)}
    pairs = [Pair(str(number), "stored", same) for number, (_, same) in enumerate(scored)]
    return tune(pairs, probability=lambda a, _: chances[a], language=lambda _: "en", max_error=max_error)


def drawn(count: int, odds: float, seed: int = 1) -> list[tuple[float, bool]]:
    """Pairs whose odds of being wrong are `odds` times what the probability says."""
    draw = random.Random(seed)
    chances = [1 / (1 + math.exp(-draw.gauss(1, 2))) for _ in range(count)]
    return [(p, draw.random() < p / (p + odds * (1 - p))) for p in chances]


@pytest.mark.parametrize("odds", [0.2, 1.0, 5.0])
def test_probabilities_come_out_calibrated(odds: float) -> None:
    found = fitted(drawn(4000, odds)).fits["en"]
    assert found.slope == pytest.approx(1.0, abs=0.15)
    assert found.shift == pytest.approx(-math.log(odds), abs=0.2)
    assert found.probability(0.5) == pytest.approx(1 / (1 + odds), abs=0.06)


@given(st.lists(st.tuples(st.floats(0, 1), st.booleans()), min_size=30, max_size=80))
@settings(max_examples=50, deadline=None)
def test_the_order_and_the_blocks_stay(scored: list[tuple[float, bool]]) -> None:
    try:
        found = fitted(scored).fits["en"]
    except ConfigError:
        return
    assert found.probability(0.0) == 0.0
    asked = sorted(p for p, _ in scored)
    said = [found.probability(p) for p in asked]
    assert said == sorted(said) and all(0 <= p <= 1 for p in said)
    hits = [step.hits for step in found.curve]
    assert hits == sorted(hits) and all(step.low <= step.precision <= step.high for step in found.curve)


def test_the_threshold_keeps_the_promise_on_other_pairs() -> None:
    broken = served = 0
    other = drawn(10_000, 3.0, seed=99)
    for seed in range(12):
        found = fitted(drawn(500, 3.0, seed), 0.05).fits["en"]
        wrong = sum(found.probability(p) >= found.threshold and not same for p, same in other)
        served += sum(found.probability(p) >= found.threshold for p, _ in other)
        broken += wrong > 0.05 * len(other)
    assert served > 0
    assert broken <= 2  # 95% confidence: more than two of twelve has a chance of 2%


def test_few_pairs_support_no_threshold() -> None:
    found = fitted([(0.99, True)] * 40 + [(0.2, False)] * 20).fits["en"]
    assert found.threshold == math.inf and found.pairs == 60 and found.same == 40


def test_a_language_with_too_few_pairs_is_left_out() -> None:
    pairs = [Pair(f"q{n}", "s", n % 2 == 0) for n in range(60)] + [Pair("한글", "s", True)]
    found = tune(pairs, probability=lambda a, b: 0.5, language=lambda a: "ko" if a == "한글" else "en")
    assert list(found.fits) == ["en"] and found.skipped == {"ko": 1}


@pytest.mark.parametrize("pairs", [[], [Pair("a", "b", True)] * 100, [Pair("a", "b", True)] * 5])
def test_too_few_pairs_are_refused(pairs: list[Pair]) -> None:
    with pytest.raises(ConfigError, match="too few pairs"):
        tune(pairs, probability=lambda a, b: 0.5, language=lambda _: "en")


@pytest.mark.parametrize("max_error", [0.0, 1.0, -1.0, math.nan])
def test_a_share_out_of_range_is_refused(max_error: float) -> None:
    with pytest.raises(ConfigError, match="max_error"):
        fitted(drawn(100, 1.0), max_error)


@pytest.mark.parametrize(
    "text",
    [
        'a,b,same\n"Hi, there",Hello,1\n\nIs it open?,Is it closed?,0\n',
        '\ufeffquestion1,question2,is_duplicate\n"Hi, there",Hello,True\nIs it open?,Is it closed?,false\n',
        'a,b,same\n"Hi, there",Hello,1\nIs it open?\u2028,Is it closed?,0\n',
        '번호,질문1,질문2,같음\n1,"Hi, there",Hello,예\n2,Is it open?,Is it closed?,아니오\n',
    ],
)
def test_pairs_are_read(tmp_path: Path, text: str) -> None:
    file = tmp_path / "pairs.csv"
    file.write_text(text, "utf-8")
    assert read_pairs(file) == [Pair("Hi, there", "Hello", True), Pair("Is it open?", "Is it closed?", False)]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("a,b,same\nx,y,1\nx,y,maybe\n", "line 3: column 'same' is 'maybe'"),
        ("a,b,same\nx,,1\n", "line 2: column 'b' is empty"),
        ('a,b,same\n"x\nx",y,1\nx\n', "line 4: column 'b' is empty"),
        ("a,same\nx,1\n", "no column 'b'"),
        ('a,b,same\n"' + "x" * 2_000, "line 2: no CSV"),
        ("", "no column 'a'"),
    ],
)
def test_what_is_no_pair_is_named(tmp_path: Path, text: str, said: str) -> None:
    file = tmp_path / "pairs.csv"
    file.write_text(text, "utf-8")
    with pytest.raises((LogFormatError, ConfigError), match=said):
        read_pairs(file)


def test_a_file_that_is_no_text_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        read_pairs(tmp_path / "missing.csv")
    (tmp_path / "bytes.csv").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ConfigError, match="UTF-8"):
        read_pairs(tmp_path / "bytes.csv")
