"""How often the cache is wrong in a domain, learned from the answers that come in anyway, and what may be served then.

No calibration made elsewhere holds in a domain it never saw. So the cache counts, per domain and per bin of the
probability that its best candidate is right, the lookups and the labels. A label says whether the candidate's stored
answer would have been right. Below the threshold each miss gives one for free: the fresh answer is there to compare.
Above it some would-be hits are answered as misses ("audits") to get one.

The share of lookups answered wrongly at a threshold is then a stratified estimate: the sum, over the strata above it,
of the share of lookups in the stratum times the share of its labels that are wrong. That audits are rarer than free
labels does not bias it, and it assumes nothing about how the match model's probability relates to being right, only
that labels within a stratum are like its lookups. Counts only ever add up, so processes and machines share them.

Without labels the domain's own lookups tell two things: how many of them are likely enough to be served, and so how
many wrong answers to expect, and whether its questions come again in other words at all (`repeats`).

Source: the upper bound is the score interval of a Poisson mean (Rao 1948), for a weighted sum of counts as in Fay and
Feuer, "Confidence intervals for directly standardized rates" (1997).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist

LOWEST, STEP, BINS = -1.5, 0.25, 32
"""Bins of p on the logit scale: below -1.5 (0.18), then every 0.25, from 6.0 (0.9975) up the last."""

CONFIDENCE = 0.95
"""How sure the upper bounds are."""

FEWEST_LABELS = 100
"""Below this no label loosens."""

EPOCH, GROWTH, EPOCHS = 500, 1.5, 24
"""Lookups in the first epoch, how much longer each later one is, and how many there are; the last one does not end."""

PRIOR = 8
"""What the shipped calibration counts for in each bin, in labels."""

SHIPPED = 4
"""What it counts for when it is corrected for the domain, in wrong labels."""

EXPECTED = tuple(1 / (1 + math.exp(LOWEST + (number - 0.5) * STEP)) for number in range(BINS))
"""How often the shipped calibration expects a candidate to be wrong, by bin."""

NEAR = 6
"""Labels from so many bins below the shipped threshold on correct it."""

FILLED = 2_500
"""Lookups from which on a larger share of dense ones is asked for, three times as large at most."""

START = 50
"""Lookups taken to have been right before the first, so that a few say little; fewer where labels belie what ships."""

WIDER = 0.4
"""Log odds below the shipped threshold that are served at most without labels, however few lookups are that likely."""

TAUGHT, SPENT = 0.9, 0.75
"""The shares of `max_error` that labels tighten to, and loosen to: hits grow as the store fills, labels come later."""

CROWDED, REWORDED, VARIED = 0.1, 0.65, 0.25
"""In a domain that repeats, at least: the share of dense lookups, reworded ones for each exchanged one, and those that
differ in several words for each that differs in one."""

SURE, CAUTION = NormalDist().inv_cdf(CONFIDENCE), 1.5
"""Normal quantiles: of the upper bounds, and of what labels leave room for before they tighten."""

AUDITS, AUDITED = 0.02, 500
"""The share of hits audited in the long run, at most, and from how many labels on."""

TRIAL = 0.33
"""The share of hits audited where only labels have loosened: the labels that led there get no newer otherwise."""


@dataclass(frozen=True, slots=True)
class Counts:
    """What was counted in a domain during some time.

    Attributes:
        seen: Lookups with a candidate, by bin of the candidate's probability. Shape (32,), as the other four.
        served: Those answered from the cache, by bin.
        right: Candidates whose stored answer was right, by bin.
        wrong: Candidates whose stored answer was wrong, by bin.
        unsure: Candidates of which the comparison could not tell, by bin.
        lookups: All lookups, with those that had no candidate.
        dense: Lookups whose third nearest question was near too.
        reworded: Those whose nearest, a near one, has the same content words.
        exchanged: Those whose nearest, a near one, has another word in place of one.
        added: Those whose nearest, a near one, has one content word more, or less.
        varied: Those whose nearest, a near one, has several other content words.
    """

    seen: tuple[int, ...] = (0,) * BINS
    served: tuple[int, ...] = (0,) * BINS
    right: tuple[int, ...] = (0,) * BINS
    wrong: tuple[int, ...] = (0,) * BINS
    unsure: tuple[int, ...] = (0,) * BINS
    lookups: int = 0
    dense: int = 0
    reworded: int = 0
    exchanged: int = 0
    added: int = 0
    varied: int = 0

    def labels(self, first: int = 0) -> int:
        """Comparisons that said right or wrong, in this bin and those above."""
        return sum(self.right[first:]) + sum(self.wrong[first:])


@dataclass(frozen=True, slots=True)
class Evidence:
    """What is known about a domain.

    Attributes:
        all: Counted since the beginning.
        recent: Counted in the last two epochs: the last third to half of all lookups.
        epoch: The epoch that new counts belong to.
    """

    all: Counts = Counts()
    recent: Counts = Counts()
    epoch: int = 0

    @classmethod
    def from_counts(cls, counts: Mapping[str, int]) -> Evidence:
        """Read a domain's counters, as `Store.counts` gives them.

        Example:
            >>> Evidence.from_counts(seen(0.9, False) | label(0.9, True)).all.labels()
            1
        """
        epoch = epoch_of(sum(n for name, n in counts.items() if name.endswith(".lookups")))
        whole, recent = dict.fromkeys(_NAMES, 0), dict.fromkeys(_NAMES, 0)
        for name, n in counts.items():
            when, _, what = name.partition(".")
            if what in whole and when.isdecimal():
                whole[what] += n
                if int(when) >= epoch - 1:
                    recent[what] += n
        return cls(_counts(whole), _counts(recent), epoch)


_NAMES = (
    *(f"{kind}{number}" for kind in "shrwu" for number in range(BINS)),
    *("lookups", "dense", "reworded", "exchanged", "added", "varied"),
)


def _counts(named: Mapping[str, int]) -> Counts:
    numbers = [max(0, n) for n in named.values()]
    seen, served, right, wrong, unsure = (tuple(numbers[i * BINS : (i + 1) * BINS]) for i in range(5))
    return Counts(seen, served, right, wrong, unsure, *numbers[5 * BINS :])


@dataclass(frozen=True, slots=True)
class Threshold:
    """From which probability on a stored answer is served, and what is known about serving from there.

    Attributes:
        value: Probability, 0 to 1; above 1 nothing is served.
        shipped: The threshold that holds without any evidence.
        error_estimate: Share of lookups that serving from here on answers wrongly, 0 to 1. Without any lookup 0.
        error_bound: Upper confidence bound of it, 1 at most.
        served_estimate: Share of all lookups until now that were answered wrongly.
        served_bound: Upper confidence bound of it.
        hit_share: Share of lookups at or above the threshold.
        labels: Labels this rests on, in all.
        labels_above: Those among them at or above the threshold.
        lookups: Lookups this rests on.
        suspicion: How many times as wrong as the shipped calibration says candidates near the threshold and above are.
        trusted: The threshold that holds without what labels have loosened.
        repeats: Whether the domain's questions come again in other words; see `repeats`.
    """

    value: float
    shipped: float
    error_estimate: float = 0.0
    error_bound: float = 1.0
    served_estimate: float = 0.0
    served_bound: float = 1.0
    hit_share: float = 0.0
    labels: int = 0
    labels_above: int = 0
    lookups: int = 0
    suspicion: float = 1.0
    trusted: float = 0.0
    repeats: bool = False

    @property
    def per_hit_estimate(self) -> float:
        """Share of semantic hits that are wrong."""
        return min(1.0, self.error_estimate / self.hit_share) if self.hit_share else 0.0

    @property
    def per_hit_bound(self) -> float:
        """Upper confidence bound of the share of semantic hits that are wrong."""
        return min(1.0, self.error_bound / self.hit_share) if self.hit_share else 1.0


def epoch_of(lookups: int) -> int:
    """The epoch after so many lookups."""
    return 0 if lookups < EPOCH else min(EPOCHS, 1 + math.floor(math.log(lookups / EPOCH, GROWTH)))


def bin_of(p: float) -> int:
    """The bin of a probability, 0 to 31. What is not a number is in the lowest."""
    if not p > 0.0:
        return 0
    if p >= 1.0:
        return BINS - 1
    return min(BINS - 1, max(0, 1 + math.floor((math.log(p / (1 - p)) - LOWEST) / STEP)))


def edge(number: int) -> float:
    """The lowest probability of a bin."""
    return 1 / (1 + math.exp(-(LOWEST + (number - 1) * STEP))) if number else 0.0


def seen(p: float | None, served: bool, epoch: int = 0) -> dict[str, int]:
    """What a lookup adds to its domain's counters.

    Args:
        p: The probability that the best candidate is right; None when there was no candidate.
        served: Whether the candidate's answer was served.
        epoch: `Evidence.epoch`.
    """
    added = {f"{epoch}.lookups": 1}
    if p is not None:
        added |= {f"{epoch}.s{bin_of(p)}": 1} | ({f"{epoch}.h{bin_of(p)}": 1} if served else {})
    return added


def label(p: float, right: bool | None, epoch: int = 0) -> dict[str, int]:
    """What comparing a candidate's stored answer with the fresh one adds to the domain's counters.

    Args:
        p: The probability that the candidate had at the lookup.
        right: Whether its answer would have been right; None when the comparison could not tell.
        epoch: `Evidence.epoch`.
    """
    return {f"{epoch}.{'u' if right is None else 'r' if right else 'w'}{bin_of(p)}": 1}


def entry_label(right: bool | None) -> dict[str, int]:
    """What the label of a would-be hit adds to the counters of its entry (owner `entry:ID`).

    Only labels of candidates at or above the threshold say something about an entry: below it, it is the nearest of
    the wrong ones and nobody's fault.
    """
    return {} if right is None else {"right" if right else "wrong": 1}


def suspended(counts: Mapping[str, int]) -> bool:
    """Whether an entry was wrong too often to be served to a similar question; to its own it still is.

    Its would-be hits are misses then, each of which gives a label, so that it comes back when it is right.

    Example:
        >>> suspended({"right": 2, "wrong": 1}), suspended({"right": 5, "wrong": 1})
        (True, False)
    """
    return counts.get("right", 0) < 5 * counts.get("wrong", 0)


def audit_chance(now: Threshold, rate: float, p: float = 1.0) -> float:
    """How likely a would-be hit should be answered as a miss, to learn whether it would have been right.

    A rate above `AUDITS` falls to it as labels come in. Free labels come from below the threshold: where they are wrong
    more often than the shipped calibration says, hits are looked at more closely, up to every second one.

    Args:
        now: The threshold in use.
        rate: The share of hits audited at first; 0 for none.
        p: The would-be hit's probability.
    """
    falling = max(min(rate, AUDITS), min(rate, AUDITED * AUDITS / max(1, now.labels_above)))
    found = min(max(rate, 0.5), falling * max(1.0, now.suspicion) ** 2)
    return max(found, TRIAL) if rate and p < now.trusted else found


def threshold(
    evidence: Evidence, shipped: float, max_error: float = 0.01, *, tuned: bool = False, judge_error: float = 0.0
) -> Threshold:
    """The threshold to use now.

    Without labels it is where as many answers are expected to be wrong as may be, by the shipped calibration and by how
    likely this domain's lookups are right: not below the shipped threshold, or in a domain that repeats, not more than
    `WIDER` below it. Labels correct what is expected, and so tighten it, to `TAUGHT` of `max_error`. They loosen it to
    where the upper bound, over all lookups and over the recent ones, stays within `SPENT` of `max_error`.

    Args:
        evidence: What is known about the domain.
        shipped: The threshold of the shipped calibration, 0 to 1.
        max_error: Share of lookups that may be answered wrongly, 0 to 1.
        tuned: Whether `shipped` comes from the user's own pairs, which say more than what is expected elsewhere.
        judge_error: Share of right answers that the judge calls wrong, below 0.5: taken off what it called wrong.
    """
    near = max(1, bin_of(min(shipped, 0.95)) - NEAR)
    whole, recent = (_Judge(counts, near, judge_error) for counts in (evidence.all, evidence.recent))
    again = repeats(evidence) and not tuned
    lowest = 1 / (1 + (1 / shipped - 1) * math.exp(WIDER)) if again and 0 < shipped < 1 else shipped
    taught = evidence.all.labels() >= FEWEST_LABELS
    bounds = ((whole, CAUTION if taught else 0.0), (recent, 0.0))
    trusted = value = shipped
    if taught or not tuned:
        trusted = value = max(lowest, _affordable(bounds, TAUGHT * max_error if taught else max_error))
    if taught:
        value = min(value, _affordable(((whole, SURE), (recent, SURE / 2)), SPENT * max_error))
    at = bin_of(value) if value <= 1 else BINS
    known = evidence.all
    return Threshold(
        value=value,
        shipped=shipped,
        error_estimate=whole.error(at) if known.lookups else 0.0,
        error_bound=min(1.0, whole.error(at, SURE)) if known.lookups else 1.0,
        served_estimate=whole.served(0.0),
        served_bound=min(1.0, whole.served(SURE)),
        hit_share=sum(known.seen[at:]) / max(1, known.lookups),
        labels=known.labels(),
        labels_above=known.labels(at),
        lookups=known.lookups,
        suspicion=whole.factor,
        trusted=trusted,
        repeats=again,
    )


def _affordable(bounds: Sequence[tuple[_Judge, float]], limit: float) -> float:
    """The lowest probability from which on all judges find no more than `limit` wrong; above 1 when there is none.

    What is more often wrong than right is not served, even where so few lookups are that likely that it might be.
    """
    at, spent, more = BINS, 0.0, 0.0
    while at > 1:
        if any(judge.misses(at - 1) for judge, _ in bounds):
            return edge(at) if at < BINS else 2.0
        more = max(judge.error(at - 1, z) / (1 + START / judge.doubt / judge.lookups) for judge, z in bounds)
        if more > limit:
            break
        at, spent = at - 1, more
    if at in {1, BINS}:
        return edge(1) if at == 1 else 2.0
    share = (limit - spent) / (more - spent)  # of the bin below: its lookups are taken to be spread evenly
    return 1 / (1 + math.exp(-(LOWEST + (at - 1 - share) * STEP)))


def repeats(evidence: Evidence) -> bool:
    """Whether questions of the domain come again in other words, by what its recent lookups show.

    In a narrow domain (support, banking) many questions have several near ones, and two near ones differ in wording, or
    in several words, more often than in one word. Where thousands of questions are about everything, or a few are asked
    of every place, the nearest asks something else.
    """
    known, recent = evidence.all, evidence.recent
    # The more questions there are, the nearer the third is anywhere.
    crowded = CROWDED * min(3.0, max(1.0, known.lookups / FILLED))
    return (
        recent.dense >= max(10, crowded * recent.lookups)
        and known.reworded >= REWORDED * known.exchanged
        and known.varied >= VARIED * (known.exchanged + known.added)
    )


class _Judge:
    """The share of lookups answered wrongly, by some counts; what the comparison could not tell is left out.

    What a judge that errs calls wrong too often is taken off: of n labels, a share e of the right ones, so that w wrong
    ones mean (w - e n) / (1 - e). The variance stays that of what it called wrong.
    """

    def __init__(self, counts: Counts, near: int, judge_error: float = 0.0) -> None:
        self.lookups = max(1, counts.lookups)
        labels = [right + wrong for right, wrong in zip(counts.right, counts.wrong, strict=True)]
        expected = math.fsum(n * rate for n, rate in zip(labels[near:], EXPECTED[near:], strict=True))
        # How many times as wrong as the shipped calibration says, by the labels around and above the threshold.
        missed = _without(judge_error, sum(counts.wrong[near:]), sum(labels[near:]))
        factor = (missed + SHIPPED) / (expected + SHIPPED)
        above: list[_Strata] = [(0, 0.0, 0.0, 0.0)]
        served: _Strata = (0, 0.0, 0.0, 0.0)
        for i in reversed(range(BINS)):
            n, answered = counts.seen[i], counts.served[i]
            each = 1 / (labels[i] + PRIOR)
            prior = PRIOR * min(1.0, factor * EXPECTED[i])
            wrong = _without(judge_error, counts.wrong[i], labels[i])
            rate, said = (wrong + prior) * each, (counts.wrong[i] + prior) * each
            unlabelled = max(0, n - labels[i])
            weight = 1 + unlabelled * each
            above.append(_more(above[-1], n, wrong + unlabelled * rate, counts.wrong[i] + unlabelled * said, weight))
            served = _more(served, answered, answered * rate, answered * said, answered * each)
        self.above, self.answered, self.factor = above[::-1], served, factor
        self.doubt = max(1.0, factor)

    def misses(self, first: int) -> bool:
        """Whether serving from this bin on is more often wrong than right."""
        n, wrong, *_ = self.above[first]
        return 2 * wrong > n + 1  # one alone proves nothing

    def error(self, first: int, z: float = 0.0) -> float:
        """What serving from this bin on gives. With a normal quantile its upper bound, or its lower one."""
        return _score(self.above[first], self.lookups, z)

    def served(self, z: float = 0.0) -> float:
        """What has been served until now, likewise."""
        return _score(self.answered, self.lookups, z)


_Strata = tuple[int, float, float, float]
"""Sums over bins: lookups, wrong ones, ones called wrong times what a label stands for, lookups times the same."""


def _more(strata: _Strata, n: int, wrong: float, said: float, weight: float) -> _Strata:
    return strata[0] + n, strata[1] + wrong, strata[2] + said * weight, strata[3] + n * weight


def _without(judge_error: float, wrong: int, labels: int) -> float:
    return max(0.0, (wrong - judge_error * labels) / (1 - judge_error))


def _score(strata: _Strata, lookups: int, z: float) -> float:
    """The score bound of a weighted sum of Poisson counts, as a share of the lookups."""
    n, wrong, variance, weights = strata
    # A wrong answer not seen yet weighs as much as a lookup's label does on average.
    unseen = weights / n if weights else 1.0
    return (wrong + unseen * z * z / 2 + z * math.sqrt(variance + (unseen * z / 2) ** 2)) / lookups
