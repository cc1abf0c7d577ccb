"""Choosing thresholds on a user's own judged prompts, with a bound on the quality that routing loses.

Loss is relative: 1 - (mean quality with routing) / (mean quality of the strongest tier). A threshold's loss is a
paired mean over prompts; its bounds are those of a mean with one made-up prompt of the worst (or best) outcome added,
so that no loss seen in a few prompts is not taken for none (after Agresti and Coull, 1998). Thresholds are tried from
"everything to the strongest" on, in an order fixed beforehand, and the first that may lose too much ends the search:
so the confidence holds for the threshold chosen (fixed-sequence testing; Angelopoulos and others, "Learn then Test",
2021).
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import NormalDist
from typing import TYPE_CHECKING, Any

import numpy as np

from llm_savings.errors import ConfigError

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Floats = NDArray[np.float64]

_STEPS = 200
_ROUNDS = 200  # of the bootstrap
_UNSURE = 0.02  # either way, of the loss: beyond it more prompts should be judged
_SHRINKAGE, _FLATTEST = 1e-2, 1e-3  # of a probability over a score


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """Thresholds and what they are expected to do to traffic like the prompts that they were chosen on.

    Attributes:
        cuts: For each tier but the strongest, the probability of sufficing from which on it is used.
        share: Tier -> share of the requests.
        rows: How many prompts this rests on.
        saving: Share of the cost of "always the strongest" that is saved, or None where that is free or not known.
        loss: Relative loss of quality, or None where nothing was judged.
        loss_bounds: Its 95% confidence interval.
        order: Mean share of the gap between the cheapest and the strongest tier that is recovered when ever more
            requests go to the strongest (APGR; a coin gives 0.5), or None where nothing was judged.
        order_bounds: Its 95% confidence interval.
        warnings: What to know before using it, in plain words.
    """

    cuts: tuple[float, ...]
    share: Mapping[str, float]
    rows: int
    saving: float | None = None
    loss: float | None = None
    loss_bounds: tuple[float, float] | None = None
    order: float | None = None
    order_bounds: tuple[float, float] | None = None
    warnings: tuple[str, ...] = ()

    @property
    def routable(self) -> bool:
        """Whether choosing between these models by prompt is any better than by coin."""
        return self.order_bounds is None or self.order_bounds[0] > 0.5


def chosen_places(sufficiency: Floats, cuts: Sequence[float]) -> NDArray[np.intp]:
    """The place of the first tier whose probability of sufficing reaches its cut; the last where none does."""
    enough: NDArray[np.bool_] = sufficiency >= np.asarray(cuts)
    places = enough.argmax(1)
    places[~enough.any(1)] = sufficiency.shape[1]
    return places


def for_loss(sufficiency: Floats, quality: Floats, max_loss: float, confidence: float) -> tuple[float, ...]:
    """The loosest cut, the same for all tiers, with which the loss stays within `max_loss`.

    Args:
        sufficiency: Prompts x tiers but the strongest.
        quality: Prompts x tiers.
        max_loss: Allowed relative loss, 0 to 1.
        confidence: That the real loss is within it.
    """
    tried = np.unique(np.quantile(sufficiency.max(1), np.linspace(1, 0, _STEPS)))[::-1]
    cut = math.inf
    for candidate in tried:
        gained = _taken(quality, chosen_places(sufficiency, [candidate] * sufficiency.shape[1]))
        if loss_bounds(gained, quality[:, -1], 2 * confidence - 1)[1] > max_loss:
            break
        cut = float(candidate)
    return (cut,) * sufficiency.shape[1]


def for_share(sufficiency: Floats, share: Mapping[str, float], names: Sequence[str]) -> tuple[float, ...]:
    """The cuts with which each tier gets its share; what is not named is shared equally by the other tiers.

    Raises:
        ConfigError: A share is no tier's, or they do not add up.
    """
    for name, part in share.items():
        if name not in names or not 0 <= part <= 1:
            raise ConfigError(f"share[{name!r}]={part!r}; give shares from 0 to 1 of {', '.join(map(repr, names))}")
    rest = 1 - sum(share.values())
    others = [name for name in names if name not in share]
    if rest < -1e-9 or (not others and rest > 1e-9):
        raise ConfigError(f"share={dict(share)!r}: the shares add up to {1 - rest:g}; they must make 1")
    wanted = {name: share.get(name, rest / max(len(others), 1)) for name in names}
    left = np.arange(len(sufficiency))
    cuts: list[float] = []
    for place, name in enumerate(names[:-1]):
        count = round(wanted[name] * len(sufficiency))
        order = left[np.argsort(-sufficiency[left, place], kind="stable")]
        # Between the last that belongs to the tier and the first that does not.
        inside, outside = order[:count], order[count:]
        edges = [sufficiency[inside[-1], place]] if len(inside) else [math.inf]
        cuts.append(float(edges[0] if not len(outside) else (edges[0] + sufficiency[outside[0], place]) / 2))
        left = outside
    return tuple(cuts)


def loss_bounds(routed: Floats, strongest: Floats, confidence: float = 0.95) -> tuple[float, float]:
    """A confidence interval of the relative loss of quality."""
    mean = float(strongest.mean())
    if mean <= 0:
        return (0.0, 1.0)
    lost = 1 - float(routed.mean()) / mean
    terms = (strongest - routed) - lost * strongest
    n, z = len(terms), NormalDist().inv_cdf((1 + confidence) / 2)
    low, high = (
        (float((strongest - routed).sum()) + made_up) / (mean * (n + 1))
        + sign * z * math.sqrt((float(terms @ terms) + 1) / (n + 1) / (n + 1)) / mean
        for made_up, sign in ((-1.0, -1), (1.0, 1))
    )
    return low, high


def recovered(order: Floats, weak: Floats, strong: Floats) -> float:
    """APGR: the mean, over the share of requests that go to the strong model, of the share of the gap recovered.

    Args:
        order: How much each request asks for the strong model; the highest go first.
        weak: Quality of the weak model's answers.
        strong: Quality of the strong model's answers.
    """
    gain = strong - weak
    if abs(float(gain.sum())) < 1e-12:
        return 0.5
    curve = np.concatenate(([0.0], np.cumsum(gain[np.argsort(-order, kind="stable")]))) / gain.sum()
    return float((curve[1:] + curve[:-1]).mean() / 2)


def summed_up(
    sufficiency: Floats, quality: Floats | None, cuts: Sequence[float], names: Sequence[str], cost: Floats | None
) -> Calibration:
    """What these cuts do to these prompts.

    Args:
        sufficiency: Prompts x tiers but the strongest.
        quality: Prompts x tiers, or None.
        cuts: One for each tier but the strongest.
        names: Of the tiers.
        cost: Prompts x tiers in USD, or None.
    """
    places = chosen_places(sufficiency, cuts)
    share = {name: float((places == place).mean()) for place, name in enumerate(names)}
    known: dict[str, Any] = {"cuts": tuple(cuts), "share": share, "rows": len(sufficiency)}
    if cost is not None and (most := float(cost[:, -1].sum())):
        known["saving"] = 1 - float(_taken(cost, places).sum()) / most
    if quality is None:
        return Calibration(**known)
    weak, strong, routed = quality[:, 0], quality[:, -1], _taken(quality, places)
    random = np.random.default_rng(0)
    draws = random.integers(0, len(weak), (_ROUNDS, len(weak)))
    orders = [recovered(-sufficiency[pick, 0], weak[pick], strong[pick]) for pick in draws]
    bounds = (float(np.quantile(orders, 0.025)), float(np.quantile(orders, 0.975)))
    gap = strong - weak
    sure = 1.96 * float(gap.std()) / math.sqrt(len(gap))
    warnings: list[str] = []
    if gap.mean() - sure <= 0:
        warnings.append(
            f"the strongest tier is not measurably better than the cheapest ({gap.mean():+.1%} +- {sure:.1%}): "
            "use the cheapest for everything"
        )
    elif bounds[0] <= 0.5:
        warnings.append(
            f"this pair of models is unroutable on these prompts: choosing by prompt recovers {np.mean(orders):.2f} of "
            f"the gap [{bounds[0]:.2f}, {bounds[1]:.2f}], and a coin 0.50; judge more prompts, or do not route"
        )
    if math.isinf(cuts[-1]) or share[names[-1]] == 1:
        warnings.append(
            f"no threshold keeps within the allowed loss with confidence on {len(weak)} judged prompts: "
            "everything goes to the strongest"
        )
    low, high = loss_bounds(routed, strong)
    if high - low > 2 * _UNSURE:
        warnings.append(
            f"{len(weak)} judged prompts are few: the loss may be {(high - low) / 2:.1%} more or less; "
            "four times as many would halve that"
        )
    return Calibration(
        **known,
        loss=1 - float(routed.mean() / strong.mean()) if strong.mean() > 0 else 0.0,
        loss_bounds=(low, high),
        order=recovered(-sufficiency[:, 0], weak, strong),
        order_bounds=bounds,
        warnings=tuple(warnings),
    )


def logistic(score: Floats, label: Floats) -> tuple[float, float]:
    """Slope (not negative) and shift of a probability over a score (Platt, 1999), with a little shrinkage.

    By Newton's steps, halved until they lead down: where scores are far from 0 a whole one leads away for ever.
    """

    def loss(slope: float, shift: float) -> float:
        odds = slope * score + shift
        return float((np.logaddexp(0, odds) - label * odds).sum()) + _SHRINKAGE / 2 * (slope**2 + shift**2)

    def newton(slope: float, shift: float) -> tuple[Floats, float]:
        """A step of both, and one of the shift alone."""
        chance = 1 / (1 + np.exp(-np.clip(slope * score + shift, -30, 30)))
        weight, rest = np.maximum(chance * (1 - chance), 1e-6), label - chance
        g = np.array([float(rest @ score) - _SHRINKAGE * slope, float(rest.sum()) - _SHRINKAGE * shift])
        cross = float(weight @ score)
        h = np.array([[float(weight @ score**2) + _SHRINKAGE, cross], [cross, float(weight.sum()) + _SHRINKAGE]])
        return np.linalg.solve(h, g), float(g[1] / h[1, 1])

    slope, shift = 1.0, -float(score.mean()) if len(score) else 0.0
    for _ in range(100):
        step, alone = newton(slope, shift)
        if slope + float(step[0]) <= _FLATTEST and slope <= _FLATTEST:  # it would be negative: only the shift is free
            step = np.array([0.0, alone])
        before, part = loss(slope, shift), 1.0
        while loss(max(slope + part * float(step[0]), _FLATTEST), shift + part * float(step[1])) > before:
            part /= 2
            if part < 1e-9:
                return slope, shift
        slope, shift = max(slope + part * float(step[0]), _FLATTEST), shift + part * float(step[1])
        if float(np.abs(part * step).max()) < 1e-6:
            break
    return slope, shift


@dataclass(frozen=True)
class Drift:
    """Whether live traffic still looks like the prompts that a router was calibrated on.

    Attributes:
        requests: How many live requests this rests on.
        index: Population stability index of the probability that the cheapest tier suffices, over tenths of the
            calibration, less what chance alone gives; above 0.1 it has shifted, above 0.25 much so.
        drifted: It has shifted, and that is no chance.
        message: The same in plain words.
    """

    requests: int
    index: float
    drifted: bool
    message: str


def drift_between(before: Sequence[float], now: Sequence[int], *, rows: int) -> Drift:
    """Compare live counts with the shares of the calibration.

    Args:
        before: Share of the calibration's prompts in each bin.
        now: Live requests in each bin.
        rows: How many prompts the calibration had.
    """
    total = sum(now)
    if not rows or total < 100:
        why = "the router was not calibrated" if not rows else f"{total} requests are too few; 100 are the least"
        return Drift(total, 0.0, False, f"nothing can be said: {why}")
    a = (np.asarray(before) * rows + 0.5) / (rows + len(before) / 2)
    b = (np.asarray(now) + 0.5) / (total + len(now) / 2)
    index = float(((b - a) * np.log(b / a)).sum()) - (len(now) - 1) * (1 / rows + 1 / total)
    drifted = index > 0.1
    verdict = "has left the calibration: calibrate again on fresh prompts" if drifted else "looks like the calibration"
    return Drift(total, index, drifted, f"traffic of {total} requests {verdict} (index {index:.2f}, limit 0.10)")


def _taken(values: Floats, places: NDArray[np.intp]) -> Floats:
    return values[np.arange(len(values)), places]
