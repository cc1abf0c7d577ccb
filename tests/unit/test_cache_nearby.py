"""Vectors of one scope: whatever their zeros, the nearest are those that plain arithmetic finds."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from llm_savings.semantic_cache.stores import matrix, nearby
from llm_savings.semantic_cache.stores.matrix import span_of
from llm_savings.semantic_cache.stores.nearby import Nearby
from llm_savings.semantic_cache.stores.rows import small

spans_of = st.tuples(st.integers(0, 5), st.integers(1, 6)).filter(lambda span: span[0] < span[1])


def made(seed: int, kinds: list[tuple[int, int]], dimensions: int) -> Any:
    """A vector of each span, in words of 64 numbers."""
    dice = np.random.default_rng(seed)
    rows = np.zeros((len(kinds), dimensions), np.float32)
    for row, (first, last) in zip(rows, kinds, strict=True):
        row[64 * first : 64 * last] = dice.standard_normal(len(row[64 * first : 64 * last]))
    return rows / np.linalg.norm(rows, axis=1, keepdims=True)


@pytest.fixture(params=[(8, 0), (1_500, 3 << 20)])
def few(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Vectors that share one matrix, more go apart; bytes from which the likely ones are looked for by their signs."""
    few, worth = request.param
    monkeypatch.setattr(nearby, "FEW", few)
    monkeypatch.setattr(matrix, "_WORTH", worth)


@pytest.mark.usefixtures("few")
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 2**32), st.lists(spans_of, min_size=2, max_size=40), st.sampled_from([384, 370]), st.data())
def test_the_nearest_are_the_nearest(seed: int, kinds: list[tuple[int, int]], dimensions: int, data: Any) -> None:
    *stored, asked = made(seed, kinds, dimensions)
    index = Nearby(dimensions)
    rows = np.stack([small(vector) for vector in stored])
    for start in range(0, len(rows), 7):
        some = rows[start : start + 7]
        index.add(list(range(start + 1, start + 1 + len(some))), some)
    gone = set(data.draw(st.lists(st.sampled_from(range(1, len(rows) + 1)), max_size=5)))
    for key in gone:
        index.remove(key)
    whole = rows.astype(np.float32)
    cosines = whole @ asked / np.linalg.norm(whole, axis=1)
    best = sorted(((float(cosines[key - 1]), key) for key in range(1, len(rows) + 1) if key not in gone), reverse=True)
    assert len(index) == len(best)
    keys, found = index.search(asked, 5)
    assert len(keys) == len(set(keys)) == min(5, len(best)) and not gone & set(keys)
    assert found == pytest.approx([float(cosines[key - 1]) for key in keys], abs=1e-5)
    # Picked by small numbers, which tell cosines apart to about 0.002.
    assert found == pytest.approx([cosine for cosine, _ in best[:5]], abs=2e-3)


@pytest.mark.parametrize("count", [159, 160, 2_003])
def test_of_many_the_nearest_are_found_exactly(count: int) -> None:
    stored = made(5, [(0, 4)] * count, 256)
    stored[7::50] = stored[7]  # as near as each other
    rows = np.stack([small(vector) for vector in stored])
    index = Nearby(256)
    index.add(list(range(1, count + 1)), rows)
    for asked in stored[:40]:
        cosines = rows @ asked / np.linalg.norm(rows.astype(np.float32), axis=1)
        _, found = index.search(asked, 10)
        # Picked by small numbers of both: what is as near but for 0.002 may stand for another.
        assert found == pytest.approx(np.sort(cosines)[::-1][:10].tolist(), abs=2e-3)


@pytest.mark.parametrize("count", [1_500, 1_501, 1_536, 1_600])
def test_short_vectors_are_found_by_their_signs_too(count: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(matrix, "_WORTH", 0)
    stored = made(3, [(0, 1)] * count, 64)
    index = Nearby(64)
    index.add(list(range(1, count + 1)), np.stack([small(vector) for vector in stored]))
    keys, cosines = index.search(stored[700], 5)
    assert keys[0] == 701 and cosines[0] == pytest.approx(1, abs=1e-3)


def test_what_comes_after_most_were_removed_is_found_too() -> None:
    stored = made(4, [(0, 4)] * 3_101, 256)
    rows = np.stack([small(vector) for vector in stored])
    index = Nearby(256)
    index.add(list(range(1, 3_101)), rows[:3_100])
    for key in range(1, 3_000):
        index.remove(key)
    index.add([3_101], rows[3_100:])
    assert len(index) == 102
    for key in (3_050, 3_101):
        keys, cosines = index.search(stored[key - 1], 5)
        assert keys[0] == key and cosines[0] == pytest.approx(1, abs=1e-3)


def test_a_scope_of_another_script_has_candidates_all_the_same() -> None:
    index = Nearby(384)
    stored = made(1, [(4, 6)] * 3, 384)
    index.add([1, 2, 3], np.stack([small(vector) for vector in stored]))
    keys, cosines = index.search(made(2, [(0, 4)], 384)[0], 2)
    assert len(keys) == 2 and cosines == [0.0, 0.0]


@given(st.integers(0, 2**32), st.lists(spans_of, min_size=1, max_size=9))
def test_a_span_holds_all_that_is_not_zero(seed: int, kinds: list[tuple[int, int]]) -> None:
    rows = np.stack([small(vector) for vector in made(seed, kinds, 384)])
    for row, (first, last) in zip(rows, map(span_of, rows), strict=True):
        assert not row[: 64 * first].any() and not row[64 * last :].any()
        assert row[64 * first : 64 * (first + 1)].any() and row[64 * (last - 1) : 64 * last].any()
