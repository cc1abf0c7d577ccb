"""What the cache learns of its own error: the laws of the counters, and the promise on seeded streams."""

from __future__ import annotations

import math
import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_savings.semantic_cache.learning import (
    BINS,
    FEWEST_LABELS,
    Evidence,
    Threshold,
    audit_chance,
    bin_of,
    edge,
    label,
    seen,
    threshold,
)

SHIPPED = 0.9
PROBABILITY = st.floats(0, 1)
EVENTS = st.lists(st.tuples(PROBABILITY, st.sampled_from(["seen", "served", "right", "wrong", "unsure"])), max_size=80)


def counted(events: list[tuple[float, str]], times: int = 1) -> Counter[str]:
    counts: Counter[str] = Counter()
    for p, kind in events:
        for _ in range(times):
            if kind in {"seen", "served"}:
                counts.update(seen(p, kind == "served"))
            else:
                counts.update(seen(p, False))
                counts.update(label(p, {"right": True, "wrong": False, "unsure": None}[kind]))
    return counts


@given(PROBABILITY)
def test_a_bin_holds_its_probabilities(p: float) -> None:
    number = bin_of(p)
    assert edge(number) <= p * (1 + 1e-12)
    assert number == BINS - 1 or p < edge(number + 1) * (1 + 1e-12)


def test_what_is_no_probability_is_never_served() -> None:
    assert [bin_of(p) for p in (math.nan, -1.0, 0.0)] == [0, 0, 0]
    assert bin_of(1.0) == bin_of(7.0) == BINS - 1


@given(EVENTS, EVENTS)
def test_counts_of_two_processes_add_up_in_any_order(
    mine: list[tuple[float, str]], theirs: list[tuple[float, str]]
) -> None:
    assert Evidence.from_counts(counted(mine) + counted(theirs)) == Evidence.from_counts(counted(theirs + mine))


@given(st.floats(0.5, 1))
def test_without_evidence_the_shipped_threshold_holds(shipped: float) -> None:
    found = threshold(Evidence(), shipped)
    assert (found.value, found.error_bound, found.labels) == (shipped, 1.0, 0)


@given(EVENTS, PROBABILITY, st.integers(1, 20))
@settings(max_examples=200)
def test_more_wrong_labels_never_loosen(events: list[tuple[float, str]], p: float, times: int) -> None:
    counts = counted(events, times) + counted([(p, "seen")])
    before = threshold(Evidence.from_counts(counts), SHIPPED, 0.05)
    after = threshold(Evidence.from_counts(counts + Counter(label(p, False))), SHIPPED, 0.05)
    if before.look == after.look:  # a label more may be the one that allows a look
        assert after.value >= before.value


@given(EVENTS, PROBABILITY, st.integers(1, 20))
@settings(max_examples=200)
def test_more_right_labels_never_tighten(events: list[tuple[float, str]], p: float, times: int) -> None:
    counts = counted(events, times) + counted([(p, "seen")])
    before = threshold(Evidence.from_counts(counts), SHIPPED, 0.05)
    after = threshold(Evidence.from_counts(counts + Counter(label(p, True))), SHIPPED, 0.05)
    if before.look == after.look:
        assert after.value <= before.value


@given(EVENTS, st.integers(1, 50))
def test_the_lowest_bin_is_never_served(events: list[tuple[float, str]], times: int) -> None:
    assert threshold(Evidence.from_counts(counted(events, times)), SHIPPED, 1.0).value >= edge(1) > 0


def test_few_labels_loosen_nothing() -> None:
    counts = counted([(0.8, "right")], FEWEST_LABELS - 1)
    assert threshold(Evidence.from_counts(counts), SHIPPED).value == SHIPPED


def test_many_right_labels_loosen_and_wrong_ones_tighten() -> None:
    counts = counted([(0.7, "right"), (0.95, "right")], 1000)
    loose = threshold(Evidence.from_counts(counts), SHIPPED)
    assert loose.value < 0.7 and loose.error_bound <= 0.01
    counts += counted([(0.7, "wrong")], 100)
    tight = threshold(Evidence.from_counts(counts), SHIPPED, previous=loose)
    assert tight.value > 0.7
    counts += counted([(0.95, "wrong"), (0.999, "wrong")], 300)
    assert threshold(Evidence.from_counts(counts), SHIPPED, previous=tight).value > 0.999


def test_between_two_looks_it_does_not_loosen() -> None:
    counts = counted([(0.7, "right"), (0.95, "right")], 1000)
    held = Threshold(value=SHIPPED, shipped=SHIPPED, look=99)
    assert threshold(Evidence.from_counts(counts), SHIPPED, previous=held).value == SHIPPED


def test_unsure_comparisons_loosen_nothing_and_tighten_nothing() -> None:
    counts = counted([(0.7, "unsure"), (0.95, "unsure")], 1000)
    assert threshold(Evidence.from_counts(counts), SHIPPED).value == SHIPPED


def test_audits_are_frequent_at_first_and_rare_later() -> None:
    assert audit_chance(Evidence(), 0.95, 0.02) == 0.5
    known = Evidence.from_counts(counted([(0.95, "right")], 5000))
    assert audit_chance(known, 0.95, 0.02) == pytest.approx(0.02)
    assert audit_chance(Evidence(), 0.95, 0.0) == 0.0
    assert audit_chance(known, 0.95, 1.0) == 1.0


def stream(
    draw: random.Random, length: int, *, odds: float, shipped: float = SHIPPED, noise: float = 0.0
) -> tuple[list[float], list[int]]:
    """Wrong answers per lookup, and hits, up to each lookup of a domain that is `odds` times as wrong as p says."""
    counts: Counter[str] = Counter()
    evidence, now = Evidence(), Threshold(value=shipped, shipped=shipped)
    wrong, hits = [0], [0]
    for number in range(length):
        p = 1 / (1 + math.exp(-draw.gauss(0.5, 2.0)))
        right = draw.random() < p / (p + odds * (1 - p))
        served = p >= now.value and draw.random() >= audit_chance(evidence, p, 0.02)
        counts.update(seen(p, served, evidence.epoch))
        if not served:
            counts.update(label(p, right != (draw.random() < noise), evidence.epoch))
        wrong.append(wrong[-1] + (served and not right))
        hits.append(hits[-1] + served)
        if number % 10 == 9:
            evidence = Evidence.from_counts(counts)
            now = threshold(evidence, shipped, previous=now)
    return [count / number for number, count in enumerate(wrong) if number], hits


@pytest.mark.parametrize(("odds", "gains"), [(0.2, True), (1.0, False), (2.0, False)])
def test_the_promise_holds_and_an_easy_domain_gains_hits(odds: float, gains: bool) -> None:
    for seed in range(4):
        wrong, hits = stream(random.Random(seed), 2500, odds=odds)
        assert max(wrong[1000:]) <= 0.013  # noisy: a handful of wrong answers
        if gains:
            assert hits[-1] - hits[-501] > 1.5 * (hits[500] - hits[0])
