"""What a router knows: the probability that each tier suffices, the thresholds, and one file that keeps both."""

from __future__ import annotations

import json
import math
import os
from bisect import bisect_right
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from io import BytesIO
from pathlib import Path
from typing import Any
from zipfile import BadZipFile

import numpy as np

from llm_savings.errors import ConfigError
from llm_savings.routing.calibration import logistic
from llm_savings.routing.difficulty import Difficulty
from llm_savings.routing.fitting import Example, Learned, digest
from llm_savings.routing.places import Space
from llm_savings.routing.requests import bounded
from llm_savings.routing.tiers import Capabilities, Rule, Tier

VERSION = 2
BINS = 10
_SPREAD = 8.0  # a difference of quality of one eighth is one unit of log odds, until the prompts say otherwise


@dataclass(frozen=True, slots=True)
class Estimate:
    """Frozen, so that a router takes up a new one at once for all threads.

    Attributes:
        cuts: For each tier but the strongest, the probability of sufficing from which on it is used.
        odds: For each of them slope and shift from the score to log odds.
        learned: What was learned from the user's prompts, or None for the shipped difficulty model.
        edges: The tenths of the calibration's probabilities.
        rows: How many prompts it had, or 0.
    """

    cuts: tuple[float, ...]
    odds: tuple[tuple[float, float], ...]
    learned: Learned | None = None
    edges: tuple[float, ...] = ()
    rows: int = 0

    def sufficiency(self, text: str, *, unseen: bool = False) -> tuple[float, ...]:
        """Probability that each tier but the strongest does as well as the strongest.

        Args:
            text: The prompt.
            unseen: Estimate as if it had not been learned from, where it was.
        """
        scores = self._scores(text, unseen=unseen)
        return tuple(_chance(slope * score + shift) for score, (slope, shift) in zip(scores, self.odds, strict=True))

    def all(self, prompts: Sequence[str]) -> Any:
        """The same for prompts that may have been learned from: prompts x tiers but the strongest."""
        return np.array([self.sufficiency(prompt, unseen=True) for prompt in prompts])

    def adjusted(self, rows: Sequence[Example]) -> Estimate:
        """An estimate whose probabilities are those with which the tiers did suffice on judged prompts."""
        quality = np.array([row.scores for row in rows])
        scores = np.array([self._scores(row.prompt, unseen=True) for row in rows])
        enough = (quality[:, :-1] >= quality[:, -1:]).astype(float)
        odds = tuple(logistic(scores[:, k], enough[:, k]) for k in range(scores.shape[1]))
        return replace(self, odds=odds)

    def watched(self, sufficiency: Any) -> Estimate:
        """An estimate that remembers what the cheapest tier's probabilities were, to notice when they change."""
        edges = np.quantile(sufficiency[:, 0], np.linspace(0, 1, BINS + 1)[1:-1])
        return replace(self, edges=tuple(map(float, edges)), rows=len(sufficiency))

    def bin_of(self, text: str, probability: float) -> int:
        """The tenth of the calibration that a prompt with this probability is in.

        The calibration's own are those of models that had not seen its prompts; so is that of a prompt among them.
        """
        if self.learned is not None and digest(text) in self.learned.held_out:
            probability = self.sufficiency(text, unseen=True)[0]
        return bisect_right(self.edges, probability)

    def _scores(self, text: str, *, unseen: bool) -> Sequence[float]:
        if self.learned is None:
            return [-Difficulty.load().raw(bounded(text))] * len(self.cuts)
        quality = self.learned.quality(text, unseen=unseen)
        return [_SPREAD * float(each - quality[-1]) for each in quality[:-1]]


def save(path: str | Path, tiers: Mapping[str, Tier], rules: Sequence[Rule], estimate: Estimate) -> None:
    """Write one file (0600) that `load` reads: no code in it, and no text of a prompt.

    Raises:
        ConfigError: A tier has a parameter that JSON cannot hold.
        OSError: The file cannot be written.
    """
    learned = estimate.learned
    head = {
        "llm_savings_router": VERSION,
        "tiers": {
            name: {"model": tier.model, "params": dict(tier.params), "capabilities": asdict(tier.capabilities)}
            for name, tier in tiers.items()
        },
        "rules": [asdict(rule) for rule in rules],
        "cuts": [min(cut, 2.0) for cut in estimate.cuts],  # no request ever reaches 2, and JSON has no infinity
        "odds": estimate.odds,
        "edges": estimate.edges,
        "rows": estimate.rows,
    }
    try:
        arrays: dict[str, Any] = {"head": np.frombuffer(json.dumps(head).encode(), np.uint8)}
    except TypeError as error:
        raise ConfigError(f"tiers: a parameter cannot be saved ({error}); give plain values") from error
    if learned is not None:
        arrays |= {name: getattr(learned.space, name) for name in _OF_SPACE}
        arrays |= {name: getattr(learned, name) for name in _OF_LEARNED}
        arrays["held_keys"] = np.array(list(learned.held_out), np.int64)
        arrays["held_out"] = np.array(list(learned.held_out.values()), np.float32)
    packed = BytesIO()
    np.savez_compressed(packed, **arrays)
    target = Path(path)
    fresh = target.with_name(f"{target.name}.{os.getpid()}.tmp")
    fresh.touch(mode=0o600)
    try:
        fresh.write_bytes(packed.getvalue())
        fresh.replace(target)
    finally:
        fresh.unlink(missing_ok=True)


def load(path: str | Path) -> tuple[dict[str, Tier], list[Rule], Estimate]:
    """Read what `save` wrote.

    Raises:
        ConfigError: It is no such file, or one of another version.
        OSError: The file cannot be read.
    """
    data = Path(path).read_bytes()
    try:
        with np.load(BytesIO(data), allow_pickle=False) as file:
            arrays = dict(file)
        head = json.loads(arrays["head"].tobytes())
        version = head["llm_savings_router"]
        if version != VERSION:
            raise ConfigError(f"{path}: a router's file of version {version}; this is for version {VERSION}: fit again")
        tiers = {
            name: Tier(said["model"], capabilities=Capabilities(**said["capabilities"]), **said["params"])
            for name, said in head["tiers"].items()
        }
        rules = [Rule(**rule) for rule in head["rules"]]
        learned = None
        if "marks" in arrays:
            held = dict(zip(map(int, arrays["held_keys"]), arrays["held_out"], strict=True))
            vectors = arrays["vectors"]
            if len(vectors) == len(arrays["known"]):  # before words had weights, and unknown ones a row
                arrays["vectors"] = np.pad(vectors, ((0, 1), (0, len(tiers) + 1)))
            space = Space(**{name: arrays[name] for name in _OF_SPACE})
            learned = Learned(space, **{name: arrays[name] for name in _OF_LEARNED}, held_out=held)
        odds = tuple((float(slope), float(shift)) for slope, shift in head["odds"])
        return tiers, rules, Estimate(tuple(head["cuts"]), odds, learned, tuple(head["edges"]), head["rows"])
    except ConfigError:
        raise
    except (KeyError, TypeError, ValueError, BadZipFile, EOFError) as error:
        raise ConfigError(
            f"{path} is no router's file ({type(error).__name__}); make one with `fit` and `save`"
        ) from error


_OF_SPACE = ("known", "vectors", "centre", "scale", "limit")
_OF_LEARNED = ("marks", "weights", "base")


def _chance(odds: float) -> float:
    return 1 / (1 + math.exp(-max(min(odds, 30.0), -30.0)))
