"""What the cache learns of its own error: the laws of the counters, and the promise on seeded streams."""

from __future__ import annotations

import math
import random
from collections import Counter
from dataclasses import replace

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
    entry_label,
    epoch_of,
    label,
    seen,
    suspended,
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


def steady(counts: Counter[str]) -> Evidence:
    """The evidence when nothing has changed lately."""
    evidence = Evidence.from_counts(counts)
    return replace(evidence, recent=evidence.all)


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
    if before.labels != FEWEST_LABELS - 1:  # the label that allows to loosen
        # A wrong one where a third is expected to be wrong says less than those above it did: a hair, not more.
        assert after.value >= before.value - 1e-4


@given(EVENTS, PROBABILITY, st.integers(1, 20))
@settings(max_examples=200)
def test_more_right_labels_never_tighten(events: list[tuple[float, str]], p: float, times: int) -> None:
    counts = counted(events, times) + counted([(p, "seen")])
    before = threshold(Evidence.from_counts(counts), SHIPPED, 0.05)
    after = threshold(Evidence.from_counts(counts + Counter(label(p, True))), SHIPPED, 0.05)
    if before.labels != FEWEST_LABELS - 1:  # from that label on, all of them count
        assert after.value <= before.value + 1e-9


@given(EVENTS, st.integers(1, 50))
def test_the_lowest_bin_is_never_served(events: list[tuple[float, str]], times: int) -> None:
    assert threshold(Evidence.from_counts(counted(events, times)), SHIPPED, 1.0).value >= edge(1) > 0


def test_counters_of_another_make_are_passed_over() -> None:
    foreign = {"x.s1": 3, "0.s99": 3, "0.q1": 3, "s1": 3, "0.": 3, "": 3, "0.r1": -2}
    assert Evidence.from_counts(foreign) == Evidence()


def test_the_recent_is_the_last_part_of_it() -> None:
    counts: Counter[str] = Counter()
    for number in range(10_000):
        counts.update(seen(None, False, epoch_of(number)))
    evidence = Evidence.from_counts(counts)
    assert evidence.all.lookups == 10_000 and evidence.epoch == epoch_of(10_000)
    assert 0.25 < evidence.recent.lookups / 10_000 < 0.6


def test_a_domain_that_turns_bad_is_noticed_by_its_recent_labels() -> None:
    easy = counted([(0.7, "right"), (0.95, "right")], 1000)
    later = epoch_of(10_000)
    # Served from 0.7 on: hardly a label there. Just below, where labels are free, most are wrong now.
    turned = Counter({f"{later}.lookups": 2000, f"{later}.s{bin_of(0.7)}": 1000, f"{later}.h{bin_of(0.7)}": 980})
    turned += Counter({f"{later}.s{bin_of(0.65)}": 900, f"{later}.w{bin_of(0.65)}": 900, f"{later - 1}.lookups": 6000})
    assert threshold(Evidence.from_counts(easy + turned), SHIPPED).value > 0.7


@pytest.mark.parametrize("shipped", [0.5, 1.0, math.inf])
def test_any_shipped_threshold_will_do(shipped: float) -> None:
    assert threshold(Evidence(), shipped).value == shipped
    bad = Evidence.from_counts(counted([(0.3, "wrong"), (0.9, "wrong"), (1.0, "wrong")], 200))
    assert threshold(bad, shipped).value > 1


def test_an_entry_that_was_wrong_is_left_out_until_it_is_right_often() -> None:
    counts: Counter[str] = Counter()
    assert not suspended(counts)
    counts.update(entry_label(True) | entry_label(None))
    counts.update(entry_label(False))
    assert suspended(counts)
    for _ in range(4):
        counts.update(entry_label(True))
    assert not suspended(counts)


def test_few_labels_loosen_nothing() -> None:
    counts = counted([(0.8, "right")], FEWEST_LABELS - 1)
    assert threshold(Evidence.from_counts(counts), SHIPPED).value == SHIPPED


def test_many_right_labels_loosen_and_wrong_ones_tighten() -> None:
    counts = counted([(0.7, "right"), (0.95, "right")], 1000)
    loose = threshold(steady(counts), SHIPPED)
    assert loose.value < 0.7 and loose.error_bound <= 0.01
    counts += counted([(0.7, "wrong")], 100)
    tight = threshold(steady(counts), SHIPPED)
    assert tight.value > 0.7
    counts += counted([(0.95, "wrong"), (0.999, "wrong")], 300)
    assert threshold(steady(counts), SHIPPED).value > 0.999


def test_unsure_comparisons_loosen_nothing_and_tighten_nothing() -> None:
    counts = counted([(0.7, "unsure"), (0.95, "unsure")], 1000)
    seen_alone = counted([(0.7, "seen"), (0.95, "seen")], 1000)
    expected = threshold(steady(seen_alone), SHIPPED)
    assert threshold(steady(counts), SHIPPED) == expected and expected.value >= SHIPPED


def sights(**shows: int) -> Evidence:
    counts = counted([(0.2, "seen")], 800) + counted([(0.91, "seen")], 50)
    return steady(counts + Counter({f"0.{name}": number for name, number in shows.items()}))


def test_only_a_domain_whose_questions_come_again_is_served_more_without_labels() -> None:
    narrow = threshold(sights(dense=300, reworded=100, exchanged=60, varied=50), SHIPPED)
    assert narrow.repeats and edge(bin_of(SHIPPED) - 2) < narrow.value < SHIPPED
    for broad in (
        {"dense": 20, "reworded": 100, "varied": 50},
        {"dense": 300, "reworded": 50, "exchanged": 100, "varied": 50},
        {"dense": 300, "reworded": 100, "exchanged": 60, "added": 200, "varied": 50},
        {},
    ):
        found = threshold(sights(**broad), SHIPPED)
        assert not found.repeats and found.value == SHIPPED


def test_more_likely_candidates_than_may_be_wrong_tighten_without_labels() -> None:
    crowd = steady(counted([(0.91, "seen"), (0.99, "seen")], 1000))
    assert SHIPPED < threshold(crowd, SHIPPED).value < 0.99


def test_labels_that_belie_the_calibration_tighten_before_there_are_many() -> None:
    few = counted([(0.2, "seen")], 20) + counted([(0.93, "seen")], 3)
    assert threshold(steady(few), SHIPPED).value == SHIPPED
    assert threshold(steady(few + counted([(0.85, "right")], 20)), SHIPPED).value == SHIPPED
    assert threshold(steady(few + counted([(0.85, "wrong")], 20)), SHIPPED).value > 0.92


def test_what_is_mostly_wrong_is_not_served_however_seldom_it_comes() -> None:
    counts = counted([(0.2, "right")], 3_000) + counted([(0.999, "wrong")], 15)
    assert threshold(steady(counts), SHIPPED).value > 1


def test_a_tuned_threshold_moves_by_labels_alone() -> None:
    crowd = counted([(0.91, "seen"), (0.99, "seen")], 1000)
    found = threshold(steady(crowd), SHIPPED, tuned=True)
    assert (found.value, found.repeats) == (SHIPPED, False)
    assert threshold(steady(crowd + counted([(0.91, "wrong")], 200)), SHIPPED, tuned=True).value > SHIPPED


def test_what_only_labels_allow_is_audited_more() -> None:
    loose = threshold(steady(counted([(0.7, "right"), (0.95, "right")], 1000)), SHIPPED)
    assert loose.value < loose.trusted <= SHIPPED
    assert audit_chance(loose, 0.02, 0.95) < 0.03 < 0.3 < audit_chance(loose, 0.02, loose.value)
    assert audit_chance(loose, 0.0, loose.value) == 0.0


def test_hits_are_audited_more_often_where_free_labels_are_suspicious() -> None:
    def chance(rate: float, *events: tuple[float, str]) -> float:
        return audit_chance(threshold(Evidence.from_counts(counted(list(events), 200)), SHIPPED), rate)

    assert chance(0.02) == chance(0.02, (0.85, "right")) == pytest.approx(0.02)
    assert chance(0.02, (0.85, "wrong")) > 0.1
    assert chance(0.02, *[(p / 100, "wrong") for p in range(50, 99)]) == 0.5
    assert chance(0.0, (0.85, "wrong")) == 0.0
    assert chance(1.0) == 1.0
    assert chance(0.5, (0.95, "right")) == pytest.approx(0.05)  # 200 labels


def stream(
    draw: random.Random,
    length: int,
    *,
    odds: float,
    shipped: float = SHIPPED,
    noise: float = 0.0,
    told: float = 0.0,
    rate: float = 0.02,
) -> tuple[list[float], list[int]]:
    """Wrong answers per lookup, and hits, up to each lookup of a domain that is `odds` times as wrong as p says."""
    counts: Counter[str] = Counter()
    evidence, now = Evidence(), Threshold(value=shipped, shipped=shipped)
    wrong, hits = [0], [0]
    for number in range(length):
        p = 1 / (1 + math.exp(-draw.gauss(0.5, 2.0)))
        right = draw.random() < p / (p + odds * (1 - p))
        served = p >= now.value and draw.random() >= audit_chance(now, rate, p)
        counts.update(seen(p, served, evidence.epoch))
        if not served:
            counts.update(label(p, right != (draw.random() < noise), evidence.epoch))
        wrong.append(wrong[-1] + (served and not right))
        hits.append(hits[-1] + served)
        if number % 10 == 9:
            evidence = Evidence.from_counts(counts)
            now = threshold(evidence, shipped, judge_error=told)
    return [count / number for number, count in enumerate(wrong) if number], hits


@pytest.mark.parametrize(
    ("odds", "rate", "gains"),
    [(0.2, 0.5, True), (0.2, 0.02, False), (1.0, 0.02, False), (2.0, 0.02, False), (10.0, 0.02, False)],
)
def test_the_promise_holds_and_an_easy_domain_gains_hits(odds: float, rate: float, gains: bool) -> None:
    ended: list[float] = []
    for seed in range(4):
        wrong, hits = stream(random.Random(seed), 2500, odds=odds, rate=rate)
        assert max(wrong[1000:]) <= 0.013  # noisy: a handful of wrong answers, most before there were labels
        ended.append(wrong[-1])
        if gains:
            assert hits[-1] - hits[-501] > hits[500]
    assert sum(ended) / len(ended) <= 0.01


@pytest.mark.parametrize("odds", [1.0, 5.0])
def test_a_judge_whose_error_is_known_costs_fewer_hits_and_no_more_wrong_answers(odds: float) -> None:
    found: dict[float, int] = {}
    for told in (0.0, 0.05):
        runs = [stream(random.Random(seed), 2500, odds=odds, noise=0.05, told=told) for seed in range(3)]
        found[told] = sum(hits[-1] for _, hits in runs)
        assert sum(wrong[-1] for wrong, _ in runs) / len(runs) <= 0.01
    assert found[0.05] > found[0.0] * 1.05


@given(EVENTS, st.floats(0, 0.25))
def test_a_judge_that_errs_more_is_believed_less(events: list[tuple[float, str]], error: float) -> None:
    evidence = steady(counted(events, 3))
    assert threshold(evidence, SHIPPED, judge_error=error).value <= threshold(evidence, SHIPPED).value + 1e-9
