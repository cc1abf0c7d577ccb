"""What goes when there is no room."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from llm_savings.semantic_cache.entries import Weight
from llm_savings.semantic_cache.eviction import victims

DAY = 24 * 3600 * 1_000_000
weights = st.lists(
    st.builds(
        Weight,
        id=st.uuids().map(str),
        size=st.integers(1, 10_000),
        hits=st.integers(0, 100),
        cost=st.integers(0, 10**10),
        used_us=st.integers(0, 10 * DAY),
    ),
    max_size=60,
    unique_by=lambda weight: weight.id,
)


@given(weights, st.none() | st.integers(1, 80), st.none() | st.integers(1, 200_000))
def test_what_stays_is_within_the_limits(given: list[Weight], entries: int | None, size: int | None) -> None:
    going = set(victims(given, entries=entries, size=size, now_us=10 * DAY))
    stay = [weight for weight in given if weight.id not in going]
    assert entries is None or len(stay) <= entries
    assert size is None or sum(weight.size for weight in stay) <= size
    if (entries is None or len(given) <= entries) and (size is None or sum(w.size for w in given) <= size):
        assert not going


def _one(name: str, **given: int) -> Weight:
    return Weight(**{"id": name, "size": 100, "hits": 1, "cost": 1000, "used_us": 10 * DAY, **given})  # type: ignore[arg-type]


def _first(*given: Weight) -> str:
    return victims(given, entries=1, size=None, now_us=10 * DAY)[0]


def test_what_saves_least_goes_first() -> None:
    assert _first(_one("dear", cost=9000), _one("cheap")) == "cheap"
    assert _first(_one("asked", hits=9), _one("not")) == "not"
    assert _first(_one("small"), _one("large", size=900)) == "large"
    assert _first(_one("new"), _one("old", used_us=0)) == "old"


def test_an_unknown_cost_counts_as_the_usual_one() -> None:
    assert _first(_one("unknown", cost=0), _one("cheap", cost=1), _one("a"), _one("b")) == "cheap"


def test_a_few_more_go_so_that_the_next_ones_need_not_look() -> None:
    given = [_one(str(number)) for number in range(101)]
    assert len(victims(given, entries=100, size=None, now_us=10 * DAY)) == 6
