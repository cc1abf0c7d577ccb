"""Fitting the match model: a logistic regression whose features may only push the way they are known to."""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from llm_savings.semantic_cache.match.features import SIGNS

Floats = npt.NDArray[np.float64]
_SHRINK = 1e-3  # ridge penalty on the standardised coefficients


def fit(rows: Floats, right: Floats, *, weights: Floats | None = None, rounds: int = 3000) -> Floats:
    """Return the coefficients of `features.NAMES` and, last, the intercept: shape (features + 1,).

    Minimises the weighted logistic loss by accelerated projected gradient; a coefficient against its sign in
    `features.SIGNS` is set to zero, which is what keeps the model sane in a domain it never saw.

    Args:
        rows: Features, shape (pairs, features).
        right: 1 where the two questions share an answer, else 0, shape (pairs,).
        weights: Weight of each pair, shape (pairs,); equal when not given.
        rounds: Gradient steps.
    """
    share = np.full(len(rows), 1.0 / len(rows)) if weights is None else weights / weights.sum()
    center = share @ rows
    scale = np.sqrt(share @ (rows - center) ** 2) + 1e-6
    table = np.column_stack([(rows - center) / scale, np.ones(len(rows))])
    ridge = np.array([*[_SHRINK] * rows.shape[1], 0.0])
    low = np.array([0.0 if sign > 0 else -np.inf for sign in SIGNS] + [-np.inf])
    high = np.array([0.0 if sign < 0 else np.inf for sign in SIGNS] + [np.inf])
    rate = 1.0 / (0.25 * np.linalg.eigvalsh((table.T * share) @ table)[-1] + 2 * _SHRINK)
    point: Any = np.zeros(table.shape[1])
    ahead, speed = point, 1.0
    for _ in range(rounds):
        chance = 1.0 / (1.0 + np.exp(-np.clip(table @ ahead, -30, 30)))
        slope = table.T @ (share * (chance - right)) + 2 * ridge * ahead
        after = np.clip(ahead - rate * slope, low, high)
        if np.abs(after - point).max() < 1e-6:
            point = after
            break
        faster = (1 + (1 + 4 * speed**2) ** 0.5) / 2
        ahead, point, speed = after + (speed - 1) / faster * (after - point), after, faster
    coefficients = point[:-1] / scale
    return np.append(coefficients, point[-1] - coefficients @ center)
