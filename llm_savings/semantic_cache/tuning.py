"""Fitting the cache to a user's own questions: labelled pairs in, calibrated probabilities and a threshold out.

The match model's probability is corrected by a curve that only ever rises (Platt, "Probabilistic outputs for support
vector machines", 1999), one for each language. So the order of candidates stays, and what a guard blocks
(probability 0) stays blocked. The precision at a threshold does not depend on the curve and its interval is exact
(Clopper and Pearson, 1934).
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

from llm_savings.embedding import BundledEmbedder
from llm_savings.errors import ConfigError, LogFormatError
from llm_savings.semantic_cache.match import Candidate, MatchModel, language_of, prepare
from llm_savings.semantic_cache.match.bounds import at_least, at_most, safe_threshold
from llm_savings.storage.tables import rows_of, text_of

FEWEST = 30
"""Pairs of a language below which nothing is fitted."""

_STEPS = 20  # thresholds on a curve, at most about so many
_FIRST = ("a", "question1", "first", "질문1", "질문a", "질문 1")
_SECOND = ("b", "question2", "second", "질문2", "질문b", "질문 2")
_SAME = ("same", "duplicate", "is_duplicate", "label", "같음", "동일", "중복", "일치")
_YES = frozenset({"1", "true", "yes", "y", "same", "예", "네", "같음", "동일", "참", "o"})
_NO = frozenset({"0", "false", "no", "n", "different", "아니오", "아니요", "다름", "거짓", "x"})


class Pair(NamedTuple):
    """Two questions, and whether one answer serves both."""

    a: str
    b: str
    same: bool


@dataclass(frozen=True, slots=True)
class Step:
    """One threshold of the precision / hit-rate curve.

    Attributes:
        threshold: Calibrated probability from which on a stored answer is served, 0 to 1.
        hits: Share of the pairs served.
        precision: Share of those that are right.
        low: Lower 95% confidence limit of the precision.
        high: Upper one.
    """

    threshold: float
    hits: float
    precision: float
    low: float
    high: float


@dataclass(frozen=True, slots=True)
class Fit:
    """What the pairs of one language say.

    Attributes:
        pairs: How many there are.
        same: How many of them share an answer.
        slope: Of the calibrated log odds over the model's, above 0.
        shift: What is added to them.
        threshold: Calibrated probability from which on at most `max_error` of the lookups are wrong, with 95%
            confidence, if lookups are like these pairs; infinity when there are too few pairs to say so.
        curve: From the strictest threshold to the loosest.
    """

    pairs: int
    same: int
    slope: float
    shift: float
    threshold: float
    curve: tuple[Step, ...]

    def probability(self, p: float) -> float:
        """The calibrated probability for the model's. 0 stays 0: a blocked candidate stays blocked."""
        return _logistic(self.slope * _odds(p) + self.shift) if p > 0 else 0.0

    @property
    def served_from(self) -> float:
        """The threshold as a probability of the model's own, before calibration."""
        if self.threshold > 1:
            return math.inf
        return _logistic((_odds(self.threshold) - self.shift) / self.slope)


@dataclass(frozen=True, slots=True)
class Tuning:
    """What `tune` found, by language ("en", "ko").

    Attributes:
        max_error: Allowed share of lookups answered wrongly.
        fits: A fit for each language with enough pairs.
        skipped: Pairs of languages that have too few.
    """

    max_error: float
    fits: dict[str, Fit] = field(default_factory=dict[str, Fit])
    skipped: dict[str, int] = field(default_factory=dict[str, int])

    def save(self, path: str | Path) -> None:
        """Write what a cache needs of it, for the setting `tuned`; no question is in it.

        Raises:
            OSError: The file cannot be written.
        """
        thresholds = {name: fit.served_from for name, fit in self.fits.items() if fit.served_from <= 1}
        document = {"max_error": self.max_error, "thresholds": thresholds}
        Path(path).write_text(json.dumps(document, indent=2) + "\n", "utf-8")


def read_tuned(path: str | Path, max_error: float) -> dict[str, float]:
    """The thresholds that `Tuning.save` wrote, by language: probabilities of the match model's own.

    Args:
        path: The file.
        max_error: The cache's own. Thresholds that allow more are refused.

    Raises:
        ConfigError: The file cannot be read, holds something else, or allows more errors than the cache does.
    """
    try:
        document = json.loads(Path(path).read_text("utf-8"))
        allowed = float(document["max_error"])
        thresholds = {str(name): float(value) for name, value in document["thresholds"].items()}
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise ConfigError(f"tuned={str(path)!r} is no file of llm-savings cache tune: {error}") from error
    if not all(0 < value <= 1 for value in thresholds.values()):
        raise ConfigError(f"tuned={str(path)!r}: thresholds {thresholds} are no probabilities")
    if allowed > max_error:
        raise ConfigError(
            f"tuned={str(path)!r} allows {allowed:g} wrong, max_error only {max_error:g}; tune it for that"
        )
    return thresholds


def tuned_with(model: MatchModel, pairs: Iterable[Pair], *, max_error: float = 0.01) -> Tuning:
    """As `tune`, for a match model and the bundled embedder.

    Raises:
        ConfigError: As `tune`.
    """
    embedder = BundledEmbedder()

    def probability(asked: str, stored: str) -> float:
        one, other = embedder.embed([asked, stored])
        return model.judge(prepare(asked), [Candidate(prepare(stored), float(one @ other))]).probability

    return tune(pairs, probability=probability, language=language_of, max_error=max_error)


def tune(
    pairs: Iterable[Pair],
    *,
    probability: Callable[[str, str], float],
    language: Callable[[str], str],
    max_error: float = 0.01,
) -> Tuning:
    """Calibrate the match model's probability on a user's pairs, and find the threshold that they support.

    Args:
        pairs: Best taken as the cache meets them: a question with its nearest earlier one, same or not. Swapping the
            two changes nothing.
        probability: The match model's for (question asked, question stored), 0 when blocked.
        language: Of a question.
        max_error: Allowed share of lookups answered wrongly, above 0 and below 1.

    Raises:
        ConfigError: No language has enough pairs of both kinds, or `max_error` is out of range.

    Example:
        >>> pairs = [Pair("a" * n, "b", n > 20) for n in range(1, 41)]
        >>> found = tune(pairs, probability=lambda a, b: len(a) / 41, language=lambda _: "en")
        >>> found.fits["en"].pairs
        40
    """
    if not 0 < max_error < 1:
        raise ConfigError(f"max_error is {max_error!r}; it is a share of lookups, above 0 and below 1")
    scored: dict[str, list[tuple[float, bool]]] = {}
    for pair in pairs:
        scored.setdefault(language(pair.a), []).append((probability(pair.a, pair.b), pair.same))
    enough = {
        name: found
        for name, found in scored.items()
        if len(found) >= FEWEST and 0 < sum(same for p, same in found if p > 0) < sum(p > 0 for p, _ in found)
    }
    if not enough:
        counts = ", ".join(f"{len(found)} in {name}" for name, found in sorted(scored.items())) or "none"
        raise ConfigError(
            f"too few pairs to tune with ({counts}); {FEWEST} of a language are needed, same ones and different ones"
        )
    return Tuning(
        max_error,
        {name: _fit(found, max_error) for name, found in sorted(enough.items())},
        {name: len(found) for name, found in sorted(scored.items()) if name not in enough},
    )


def read_pairs(path: str | Path) -> list[Pair]:
    """Read a CSV file of pairs: columns a, b, same (or question1, question2, is_duplicate; 질문1, 질문2, 같음).

    Raises:
        ConfigError: The file cannot be read, or a column is missing.
        LogFormatError: A line is not a pair; says the line and the column.
    """
    rows = rows_of(text_of(path))
    _, first = next(rows, (0, list[str]()))
    header = [name.strip().casefold() for name in first]
    columns: list[int] = []
    for meant in (_FIRST, _SECOND, _SAME):
        place = next((header.index(name) for name in meant if name in header), None)
        if place is None:
            raise ConfigError(f"{path} has no column {meant[0]!r} (or {', '.join(meant[1:])}); it has {header}")
        columns.append(place)
    pairs: list[Pair] = []
    for line, row in rows:
        if not any(cell.strip() for cell in row):
            continue
        cells = [row[place].strip() if place < len(row) else "" for place in columns]
        for place, cell in zip(columns, cells, strict=True):
            if not cell:
                raise LogFormatError(f"column {header[place]!r} is empty", line)
        said = cells[2].casefold()
        if said not in _YES | _NO:
            raise LogFormatError(f"column {header[columns[2]]!r} is {cells[2]!r}, not yes or no", line)
        pairs.append(Pair(cells[0], cells[1], said in _YES))
    return pairs


def _fit(scored: Sequence[tuple[float, bool]], max_error: float) -> Fit:
    slope, shift = _platt([(p, same) for p, same in scored if p > 0])
    total = len(scored)
    served = sorted(((p, same) for p, same in scored if p > 0), reverse=True)

    def calibrated(p: float) -> float:
        return _logistic(slope * _odds(p) + shift)

    curve: list[Step] = []
    right = due = 0
    growth = len(served) ** (1 / _STEPS)  # the steps lie closest where few are served, and those are right
    for count, (p, same) in enumerate(served, 1):
        right += same
        follows = served[count][0] if count < len(served) else -1.0
        # Equal probabilities are served together or not at all.
        if p > follows and (count >= due or count == len(served)):
            due = count * growth
            low, high = at_least(right, count, confidence=0.975), at_most(right, count, confidence=0.975)
            curve.append(Step(calibrated(p), count / total, right / count, low, high))
    best = safe_threshold(served, lookups=total, max_error=max_error)
    threshold = calibrated(best) if best <= 1 else math.inf
    return Fit(total, sum(same for _, same in scored), slope, shift, threshold, tuple(curve))


def _platt(scored: Sequence[tuple[float, bool]]) -> tuple[float, float]:
    """Slope and shift of the log odds, by Newton steps, drawn towards the shipped calibration (1, 0).

    Targets are Platt's, a little inside 0 and 1, so that separable pairs do not make the curve a step.
    """
    right = sum(same for _, same in scored)
    high, low = (right + 1) / (right + 2), 1 / (len(scored) - right + 2)
    points = [(_odds(p), high if same else low) for p, same in scored]
    slope, shift = 1.0, 0.0
    for _ in range(50):
        ga, gb, haa, hab, hbb = slope - 1.0, shift, 1.0, 0.0, 1.0  # the pull towards (1, 0): worth a pair or so
        for x, y in points:
            chance = _logistic(slope * x + shift)
            curve = chance * (1 - chance)
            ga += (chance - y) * x
            gb += chance - y
            haa, hab, hbb = haa + curve * x * x, hab + curve * x, hbb + curve
        over = haa * hbb - hab * hab
        step, move = (hbb * ga - hab * gb) / over, (haa * gb - hab * ga) / over
        largest = max(1.0, abs(step), abs(move))
        slope, shift = max(slope - step / largest, 0.05), shift - move / largest
        if abs(step) + abs(move) < 1e-9:
            break
    return slope, shift


def _odds(p: float) -> float:
    p = min(max(p, 1e-6), 1 - 1e-6)
    return math.log(p / (1 - p))


def _logistic(x: float) -> float:
    return 1 / (1 + math.exp(-max(min(x, 700.0), -700.0)))


__all__ = ["FEWEST", "Fit", "Pair", "Step", "Tuning", "read_pairs", "read_tuned", "tune", "tuned_with"]
