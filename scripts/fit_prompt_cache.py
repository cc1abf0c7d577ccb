"""Fit what the planner believes before it has seen any traffic: `llm_savings/data/prompt_cache_odds.toml`.

    python scripts/fit_prompt_cache.py ../shared/data/traces/mooncake_*_first_half.jsonl.gz

The first half of each file is fitted: of the first halves of the traces, their first quarters.
"""

from __future__ import annotations

import gzip
import json
import sys
from collections import defaultdict
from unittest import mock

import numpy as np

from llm_savings.prompt_cache import simulate
from llm_savings.prompt_cache.odds import EDGES, FEATURES, Odds

PENALTY = 1.0
# No trace tells of tools, and how often a conversation's beginning was sent says another thing in other traffic: these
# are set by hand and learned in use.
KEPT = {"leaf": {"calls": 1.0, "sightings": 0.0}, "trunk": {"calls": 0.0}}
LATE = {"leaf": (-2.8, -3.8), "trunk": (-2.5, -3.5)}  # half an hour of traffic does not tell what comes later


def main() -> None:
    seen = defaultdict(list)
    learn = Odds._learn

    def noting(self, watch, piece, came):
        seen[watch.kind].append((watch.facts, piece, came))
        return learn(self, watch, piece, came)

    with mock.patch.object(Odds, "_learn", noting):
        for path in sys.argv[1:]:
            with gzip.open(path, "rt") as lines:
                rows = [json.loads(line) for line in lines]
            simulate(rows[: len(rows) // 2], "planner", ttls=("5m",))
    for kind, found in seen.items():
        known = [row for row in found if EDGES[row[1]] <= 300]
        pieces = np.eye(sum(end <= 300.0 for end in EDGES))[[piece for _, piece, _ in known]]
        free = np.array([name not in KEPT[kind] for name in FEATURES], float)
        inputs = np.hstack([np.array([facts for facts, _, _ in known]) * free, pieces])
        weights = fitted(inputs, np.array([came for _, _, came in known], float))
        for name, weight in KEPT[kind].items():
            weights[FEATURES.index(name)] = weight
        told, early = weights[: len(FEATURES)], weights[len(FEATURES) :]
        print(f"[{kind}]  # {len(known):,} pieces of time")
        print("facts =", [round(float(w), 3) for w in told])
        print("pieces =", [*(round(float(w), 3) for w in early), *LATE[kind]])


def fitted(inputs: np.ndarray, came: np.ndarray) -> np.ndarray:
    """Logistic regression with an L2 penalty, by Newton's method."""
    weights = np.zeros(inputs.shape[1])
    for _ in range(30):
        chance = 1 / (1 + np.exp(-inputs @ weights))
        slope = inputs.T @ (chance - came) + PENALTY * weights
        curve = (inputs * (chance * (1 - chance))[:, None]).T @ inputs + PENALTY * np.eye(len(weights))
        weights -= np.linalg.solve(curve, slope)
    return weights


if __name__ == "__main__":
    main()
