"""The cache's stores: one suite over memory, a file, PostgreSQL and Redis, each a real one."""

from __future__ import annotations

import os
import sqlite3
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import closing, suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_savings.errors import CacheError, ConfigError
from llm_savings.semantic_cache.entries import counters_of
from llm_savings.semantic_cache.stores import Distant, Entry, Store, Which, open_store
from llm_savings.semantic_cache.stores.memory import MemoryStore
from llm_savings.semantic_cache.stores.nearby import Nearby
from llm_savings.semantic_cache.stores.rows import small
from llm_savings.semantic_cache.stores.sqlite import packed, unpacked

D = 32
NOW = datetime.now(UTC).replace(microsecond=123456)  # Redis removes by its own clock
HOUR = timedelta(hours=1)
RANDOM = [np.random.default_rng(7)]
Opener = Callable[[], Store]


def entry(name: str, scope: str = "s", **more: Any) -> Entry:
    given = {"namespace": "default", "model": "m", "text": f"question {name}", "answer": '{"a": 1}', "created_at": NOW}
    return Entry(id=name, scope=scope, **(given | {"used_at": NOW} | more))


def vectors(count: int, dimensions: int = D) -> Any:
    made = RANDOM[0].standard_normal((count, dimensions)).astype(np.float32)
    return made / np.linalg.norm(made, axis=1, keepdims=True)


@pytest.fixture(autouse=True)
def _same_vectors_each_time() -> None:
    RANDOM[0] = np.random.default_rng(7)


@pytest.fixture(params=["memory", "file", "postgres", "redis"])
def opener(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Opener]:
    """Opens the same store again and again; memory is another one each time."""
    fixture = {"postgres": "postgres_url", "redis": "redis_url"}.get(request.param)
    target = request.getfixturevalue(fixture) if fixture else str(tmp_path / "cache.db")
    if request.param == "memory":
        target = ":memory:"
    opened: list[Store] = []

    def open_one() -> Store:
        opened.append(open_store(target, dimensions=D))
        return opened[-1]

    if fixture:
        open_one().remove(Which())
        forget_counters(request.param, target)
    yield open_one
    for store in opened:
        store.close()


def forget_counters(kind: str, target: str) -> None:
    if kind == "postgres":
        import psycopg

        with psycopg.connect(target) as db:
            db.execute("DELETE FROM llm_savings_cache_counters")
    else:
        import redis

        server = redis.Redis.from_url(target)
        for key in server.scan_iter("llm-savings:cache:2:counters:*"):
            server.delete(key)


@pytest.fixture
def store(opener: Opener) -> Store:
    return opener()


@pytest.fixture
def shared(opener: Opener) -> Opener:
    """Stores that several processes share."""
    if getattr(opener(), "path", "") == ":memory:":
        pytest.skip("memory is nobody else's")
    return opener


# What is kept comes back


def test_a_scope_without_entries_is_told_without_a_vector(store: Store, opener: Opener) -> None:
    assert not store.holds("s")
    store.put(entry("one"), vectors(1)[0])
    assert store.holds("s") and not store.holds("other")
    if getattr(store, "path", "") != ":memory:":
        assert opener().holds("s")
    store.nearest("s", vectors(1)[0], 1, NOW)
    store.remove(Which(scope="s"))
    assert not store.holds("s")


def test_an_entry_comes_back_as_it_was(store: Store) -> None:
    full = entry(
        "full", expires_at=NOW + HOUR, sliding=True, tags=("a,b", "source:FAQ {1}", "한글"), user="u", hits=3,
        cost=Decimal("0.012345678901"), latency=1.25,
    )  # fmt: skip
    bare = entry("bare", used_at=None)
    store.put(full, vectors(1)[0])
    store.put(bare, None)
    assert store.get("full", NOW) == full
    assert store.get("bare", NOW) == bare
    assert store.get("other", NOW) is None
    assert list(store.entries(Which())) == [full, bare]


@pytest.mark.parametrize(
    "text", ["nul \0 in it", "half \ud800 a pair", "'; DROP TABLE cache_entries; --", '") @scope:{*} | -x:[0 inf]=>',
             "back\\slash %s ? $1 {0}", "esc \x1b0041", "*", "", "a\u202eb\uffff", "🜁" * 50],
)  # fmt: skip
def test_hostile_text_is_only_text(store: Store, text: str) -> None:
    hostile = entry(f"i{text}", f"s{text}", namespace=text, model=text, text=text, answer=text, tags=(text,), user=text)
    other = entry("other", f"s{text}x", namespace=f"{text}x", tags=("t",), user="v")
    v = vectors(1)[0]
    store.put(other, v)
    store.put(hostile, v)
    assert store.get(hostile.id, NOW) == hostile
    assert [near.entry for near in store.nearest(hostile.scope, v, 5, NOW)] == [hostile]
    store.add(text, {text: 2})
    assert store.counts(text) == {text: 2}
    assert store.owners(text) == [text]
    for key in ("tag", "namespace", "model", "user"):
        assert list(store.entries(Which(**{key: text}))) == [hostile]
    assert list(store.entries(Which(ids=(hostile.id,)))) == [hostile]
    assert store.remove(Which(tag=text, scope=hostile.scope)) == 1
    assert list(store.entries(Which())) == [other]


@pytest.mark.parametrize(
    "bad",
    [np.zeros(D), np.full(D, np.nan), np.array([np.inf] * D), np.ones(D - 1), np.ones((1, D)), np.full(D, 1e-30)],
    ids=["zero", "nan", "inf", "short", "matrix", "tiny"],
)  # fmt: skip
def test_a_vector_that_points_nowhere_is_refused(store: Store, bad: Any) -> None:
    with pytest.raises(CacheError, match="a vector has"):
        store.put(entry("bad"), bad.astype(np.float32))
    with pytest.raises(CacheError, match="a vector has"):
        store.nearest("s", bad.astype(np.float32), 5, NOW)
    assert store.get("bad", NOW) is None


def test_a_time_without_zone_is_refused(store: Store) -> None:
    with pytest.raises(CacheError, match="no time zone"):
        store.put(entry("naive", created_at=NOW.replace(tzinfo=None)), None)


# Nearest


@pytest.mark.parametrize("scopes", [1, 10, 200])
def test_the_nearest_are_the_scopes_own_nearest(store: Store, scopes: int) -> None:
    made, asked = vectors(400), vectors(25)
    for i, v in enumerate(made):
        store.put(entry(f"{i}", f"s{i % scopes}"), v)
    found = right = 0
    for j, q in enumerate(asked):
        own = np.arange(j % scopes, len(made), scopes)
        cosines = dict(zip(own.tolist(), (made[own] @ q).tolist(), strict=True))
        best = sorted(cosines, key=lambda i: -cosines[i])[:5]
        got = store.nearest(f"s{j % scopes}", q, 5, NOW)
        assert [near.cosine for near in got] == sorted((near.cosine for near in got), reverse=True)
        assert all(abs(near.cosine - cosines[int(near.entry.id)]) < 0.01 for near in got)
        assert len(got) == len(best)
        right += len({int(near.entry.id) for near in got} & set(best))
        found += len(best)
    assert right / found >= 0.99


def test_entries_without_vectors_and_other_scopes_are_not_near(store: Store) -> None:
    v = vectors(1)[0]
    store.put(entry("here"), v)
    store.put(entry("there", "t"), v)
    store.put(entry("exact"), None)
    assert [near.entry.id for near in store.nearest("s", v, 5, NOW)] == ["here"]
    assert store.nearest("nowhere", v, 5, NOW) == []


def test_what_has_expired_is_no_answer(store: Store) -> None:
    made = vectors(60)
    for i, v in enumerate(made[:50]):  # the nearest ones of all, and all but a few
        store.put(entry(f"{i}", expires_at=NOW + HOUR), made[59] + 0.001 * v)
    for i in range(50, 57):
        store.put(entry(f"{i}", expires_at=NOW + 3 * HOUR if i % 2 else None), made[i])
    assert {int(near.entry.id) for near in store.nearest("s", made[59], 5, NOW)} < set(range(50))
    late = {int(near.entry.id) for near in store.nearest("s", made[59], 7, NOW + HOUR)}
    assert late == set(range(50, 57))
    assert store.get("3", NOW + HOUR) is None
    assert store.get("3", NOW + HOUR - timedelta(microseconds=1)) is not None
    assert {int(near.entry.id) for near in store.nearest("s", made[59], 5, NOW)} < set(range(50))
    assert store.remove(Which(expired_at=NOW + HOUR)) == 50
    assert store.size()[0] == 7


def test_a_replacement_takes_the_place_of_the_old_one(store: Store) -> None:
    old, new = vectors(2)
    store.put(entry("a"), old)
    store.put(entry("b"), None)
    assert len(store.nearest("s", old, 5, NOW)) == 1
    store.add("entry:a", {"right": 1})
    store.put(entry("a", text="new", scope="s"), new)
    (near,) = store.nearest("s", new, 5, NOW)
    assert near.entry.text == "new"
    assert near.cosine > 0.999
    assert [kept.id for kept in store.entries(Which())] == ["b", "a"]
    assert store.counts("entry:a") == {"right": 1}
    store.put(entry("a"), None)
    assert store.nearest("s", new, 5, NOW) == []
    store.put(entry("a", "t"), new)
    assert store.nearest("s", new, 5, NOW) == []
    assert len(store.nearest("t", new, 5, NOW)) == 1
    assert store.size()[0] == 2


# Uses, sizes, counters, removal


def test_uses_add_up_and_slide(store: Store) -> None:
    store.put(entry("a", expires_at=NOW + HOUR, sliding=True), None)
    store.put(entry("b"), None)
    store.used({"a": (2, NOW + HOUR / 2, NOW + 2 * HOUR), "b": (1, NOW + HOUR, None), "gone": (1, NOW, None)})
    store.used({"a": (1, NOW, NOW + HOUR)})  # written late: time does not go back
    a, b = store.get("a", NOW + HOUR), store.get("b", NOW)
    assert a is not None and b is not None
    assert (a.hits, a.used_at, a.expires_at) == (3, NOW + HOUR / 2, NOW + 2 * HOUR)
    assert (b.hits, b.used_at, b.expires_at) == (1, NOW + HOUR, None)
    assert store.get("gone", NOW) is None


def test_weights_and_sizes(store: Store) -> None:
    assert store.size() == (0, 0)
    a = entry("a", cost=Decimal("0.5"), hits=4)
    store.put(a, vectors(1)[0])
    store.put(entry("b", used_at=None), None)
    weights = {weight.id: weight for weight in store.weights()}
    assert weights["a"].cost == 500_000_000_000
    assert weights["a"].hits == 4
    assert weights["a"].size > a.size == weights["b"].size
    assert weights["a"].used_us == weights["b"].used_us == int(NOW.timestamp()) * 1_000_000 + 123456
    assert store.size() == (2, weights["a"].size + weights["b"].size)
    store.put(replace(a, text="x" * 1000), None)
    store.remove(Which(ids=("b",)))
    assert store.size() == (1, a.size - len(a.text) + 1000)


def test_counters_of_several_stores_add_up(shared: Opener) -> None:
    stores = [shared() for _ in range(4)]

    def count(one: Store) -> None:
        for _ in range(20):
            one.add("stats:a", {"hits": 1, "misses": 2})

    threads = [threading.Thread(target=count, args=(one,)) for one in stores]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    stores[0].add("stats:b", {"hits": -1})
    assert shared().counts("stats:a") == {"hits": 80, "misses": 160}
    assert stores[1].owners("stats:") == ["stats:a", "stats:b"]
    assert stores[1].owners("x") == []


def test_what_is_meant_is_removed_with_its_counters(store: Store) -> None:
    made = vectors(6)
    given: list[dict[str, Any]] = [
        {"tags": ("source:a", "x")}, {"tags": ("source:b",)}, {"user": "u"}, {"model": "n"}, {"namespace": "o"},
        {"created_at": NOW - HOUR},
    ]  # fmt: skip
    for i, more in enumerate(given):
        store.put(entry(f"{i}", **more), made[i])
        store.add(f"entry:{i}", {"right": 1})
    store.add("stats:default", {"hits": 1})
    wanted = (
        Which(tag="source:a"), Which(tag="source:b", model="m"), Which(user="u"), Which(model="n"),
        Which(namespace="o"), Which(before=NOW, scope="s"),
    )  # fmt: skip
    assert store.remove(Which(tag="source:a", model="n")) == 0
    assert store.remove(Which(ids=())) == 0
    for i, which in enumerate(wanted):
        assert [kept.id for kept in store.entries(which)] == [f"{i}"]
        assert store.remove(which) == 1
        assert store.get(f"{i}", NOW) is None
        assert f"{i}" not in [near.entry.id for near in store.nearest("s", made[i], 6, NOW)]
    assert store.owners() == ["stats:default"]
    assert store.size() == (0, 0)


def test_many_are_removed_by_their_ids(store: Store) -> None:
    for i in range(1_100):
        store.put(entry(f"{i}"), None)
    assert [kept.id for kept in store.entries(Which())] == [f"{i}" for i in range(1_100)]
    assert store.remove(Which(ids=tuple(f"{i}" for i in range(50, 1_200)))) == 1_050
    assert len(store.weights()) == 50


# Several at once


def test_a_restart_keeps_everything(shared: Opener) -> None:
    first, made = shared(), vectors(50)
    for i, v in enumerate(made):
        first.put(entry(f"{i}"), v)
    first.add("stats:x", {"n": 5})
    first.close()
    second = shared()
    assert second.size()[0] == 50
    assert second.nearest("s", made[7], 1, NOW)[0].entry.id == "7"
    assert second.counts("stats:x") == {"n": 5}
    assert first.get("7", NOW) is not None  # one that was closed opens again


def test_others_writes_are_seen_at_the_next_lookup(shared: Opener) -> None:
    mine, theirs, made = shared(), shared(), vectors(60)
    for i, v in enumerate(made[:50]):
        mine.put(entry(f"{i}"), v)
    assert mine.nearest("s", made[50], 1, NOW)[0].entry.id != "50"
    theirs.put(entry("50"), made[50])
    assert mine.nearest("s", made[50], 1, NOW)[0].entry.id == "50"
    theirs.put(entry("50", text="again"), made[51])
    assert mine.nearest("s", made[51], 1, NOW)[0].entry.text == "again"
    assert mine.nearest("s", made[50], 1, NOW)[0].entry.id != "50"
    theirs.remove(Which(ids=("50", "3")))
    assert mine.nearest("s", made[3], 1, NOW)[0].entry.id != "3"
    theirs.remove(Which())
    assert mine.nearest("s", made[3], 5, NOW) == []


def test_threads_share_a_store(store: Store) -> None:
    made, wrong = vectors(80), []

    def work(part: int) -> None:
        for i in range(part, 80, 4):
            store.put(entry(f"{i}"), made[i])
            if store.nearest("s", made[i], 1, NOW)[0].entry.id != f"{i}":
                wrong.append(i)

    threads = [threading.Thread(target=work, args=(part,)) for part in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []
    assert store.size()[0] == 80


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_child_goes_on_with_the_store(store: Store) -> None:
    made = vectors(41)
    for i, v in enumerate(made[:40]):
        store.put(entry(f"{i}"), v)
    assert store.nearest("s", made[3], 1, NOW)[0].entry.id == "3"
    child = os.fork()
    if not child:
        code = 1
        try:
            store.put(entry("40"), made[40])
            found = [store.nearest("s", made[i], 1, NOW)[0].entry.id for i in (3, 40)]
            code = 0 if found == ["3", "40"] else 2
        finally:
            os._exit(code)
    for i in range(40):
        store.put(entry(f"{i}", text="new"), made[i])
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert store.nearest("s", made[3], 1, NOW)[0].entry.text == "new"
    assert (store.get("40", NOW) is None) == (getattr(store, "path", "") == ":memory:")


# On a server


def test_a_server_says_in_one_journey_what_it_says_in_two(store: Store) -> None:
    assert isinstance(store, Distant) is not store.local
    if not isinstance(store, Distant):
        return
    v, others = vectors(1)[0], vectors(8)
    assert store.look("a", "s", v, 5, NOW) == []
    store.put(entry("a", expires_at=NOW + HOUR), v)
    for i, near in enumerate(others):
        store.put(entry(f"{i}", expires_at=NOW + HOUR if i < 6 else None), near)
    store.put(entry("there", "t"), v)
    store.add(counters_of("a"), {"wrong": 1})
    assert store.look("a", "s", v, 5, NOW) == store.get("a", NOW)

    def told(found: Any) -> list[Any]:
        return [(near.entry, near.cosine, near.counts) for near in found]

    assert told(store.look("new", "s", v, 5, NOW)) == told(store.nearest("s", v, 5, NOW)) != []
    later = NOW + HOUR  # the same one is over, and so are most of those that are near
    assert told(store.look("a", "s", v, 5, later)) == told(store.nearest("s", v, 5, later))
    assert {near.entry.id for near in store.look("a", "s", v, 5, later)} == {"6", "7"}
    with pytest.raises(CacheError, match="a vector has"):
        store.look("a", "s", np.full(D, np.nan, np.float32), 5, NOW)


def test_many_entries_of_redis_go_into_a_graph_that_all_look_in(
    redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """From another vector length on, so that no other test sees it."""
    import redis

    stores = "llm_savings.semantic_cache.stores.redis."
    for name, value in (("_MANY", 400), ("_LOOK", 100), ("_DEAR", 40)):
        monkeypatch.setattr(stores + name, value)
    mine, theirs = (open_store(redis_url, dimensions=2 * D) for _ in range(2))
    server, made = redis.Redis.from_url(redis_url, protocol=2), vectors(900, 2 * D)

    def recall(store: Store, count: int) -> float:
        right = 0
        for asked in made[:count:30] + 0.1 * vectors(count // 30, 2 * D):
            best = set(np.argsort(-(made[:count:3] @ asked))[:5] * 3)
            right += len(best & {int(near.entry.id) for near in store.nearest("s0", asked, 5, NOW)})
        return right / (5 * (count // 30))

    name = f"llm-savings:cache:2:{2 * D}"

    def told(index: str, what: bytes) -> Any:
        found = server.execute_command("FT.INFO", index)
        return dict(zip(found[::2], found[1::2], strict=True))[what]

    def forget_indexes() -> None:
        for command in (("FT.ALIASDEL", name), ("FT.DROPINDEX", f"{name}:flat"), ("FT.DROPINDEX", f"{name}:graph")):
            with suppress(redis.ResponseError):
                server.execute_command(*command)

    forget_indexes()
    mine.remove(Which())
    for i in range(450):
        mine.put(entry(f"{i}", f"s{i % 3}"), made[i])
    assert told(name, b"index_name").endswith(b":flat")
    assert recall(mine, 450) == recall(theirs, 450) == 1
    for i in range(450, 900):
        if i == 700:  # the server builds it on the side
            until = time.monotonic() + 20
            while int(told(f"{name}:graph", b"indexing")) and time.monotonic() < until:
                time.sleep(0.02)
        theirs.put(entry(f"{i}", f"s{i % 3}"), made[i])
    assert told(name, b"index_name").endswith(b":graph")
    for fresh in (mine, theirs, open_store(redis_url, dimensions=2 * D)):
        assert recall(fresh, 900) >= 0.97
    assert f"{name}:flat".encode() not in server.execute_command("FT._LIST"), "nobody makes it anew"
    assert {near.entry.scope for near in theirs.nearest("s1", made[0], 400, NOW)} == {"s1"}
    assert mine.remove(Which(scope="s1")) == 300
    assert theirs.nearest("s1", made[1], 5, NOW) == []
    assert mine.remove(Which()) == 600
    forget_indexes()
    with pytest.raises(CacheError):
        theirs.nearest("s0", made[0], 5, NOW)
    theirs.put(entry("new", "s0"), made[0])  # an emptied server is prepared anew
    assert [near.entry.id for near in mine.nearest("s0", made[0], 5, NOW)] == ["new"]
    assert told(name, b"index_name").endswith(b":flat")
    theirs.remove(Which())


def test_postgres_moves_what_is_new_soon_where_the_graph_is_in_use(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    import psycopg

    for name, value in (("_EXACT", 10), ("_LOOK", 25)):
        monkeypatch.setattr(f"llm_savings.semantic_cache.stores.postgres.{name}", value)
    store, made = open_store(postgres_url, dimensions=5 * D), vectors(300, 5 * D)

    def fresh() -> int:
        store.settle()  # pyright: ignore[reportAttributeAccessIssue]
        with psycopg.connect(postgres_url) as db:
            found = db.execute(f"SELECT COUNT(fresh) FROM llm_savings_cache3_{5 * D}").fetchone()
        return found[0] if found else -1

    for i in range(100):
        store.put(entry(f"{i}", "large"), made[i])
    assert fresh() < 100
    monkeypatch.setattr("llm_savings.semantic_cache.stores.postgres._LOOK", 10**12)  # no other scope is looked at
    for i in range(100, 300):
        store.put(entry(f"{i}", "large"), made[i])
        store.put(entry(f"other {i}", "other"), made[i])
    assert 200 <= fresh() < 300  # all of the other scope, and less than half of this one's
    assert [near.entry.id for near in store.nearest("large", made[150], 1, NOW)] == ["150"]
    store.remove(Which())
    store.close()


def test_postgres_counts_a_growing_scope_anew_however_much_is_moved(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from llm_savings.semantic_cache.stores import postgres

    now, counted = [0.0], list[float]()
    for name, value in (("_EXACT", 10), ("_LOOK", 1), ("_AT_ONCE", 1), ("monotonic", lambda: now[0])):
        monkeypatch.setattr(postgres, name, value)
    store, made = postgres.PostgresStore(postgres_url, dimensions=6 * D), vectors(150, 6 * D)
    worth = store._worth  # pyright: ignore[reportPrivateUsage]

    def counting(*asked: Any) -> int:
        counted.append(now[0])
        return worth(*asked)

    for i in range(20):
        store.put(entry(f"{i}", "large"), made[i])
        store.settle()
    monkeypatch.setattr(store, "_worth", counting)
    for second in range(20, 150):
        now[0] += 1.0
        store.put(entry(f"{second}", "large"), made[second])  # one more that is moved
        store.settle()
        store.nearest("large", made[second], 1, NOW)
    assert counted == [61.0, 122.0]  # a minute after it was known, and again
    store.remove(Which())
    store.close()


def test_a_large_scope_of_postgres_goes_into_graphs_that_all_look_in(
    postgres_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Questions of two scripts, then others of both, by vectors of a length that no other test has."""
    import psycopg

    stores, table = "llm_savings.semantic_cache.stores.postgres.", f"llm_savings_cache3_{4 * D}"
    for name, value in (("_EXACT", 40), ("_LOOK", 20), ("_REMEMBERED", 0.0)):
        monkeypatch.setattr(stores + name, value)
    mine, theirs = (open_store(postgres_url, dimensions=4 * D) for _ in range(2))
    made = vectors(600, 4 * D)
    for i, vector in enumerate(made[:500]):
        vector[2 * D :] *= i % 2
        vector[: 2 * D] *= 1 - i % 2
    mine.put(entry("0", "large"), made[0])
    db = psycopg.connect(postgres_url, autocommit=True)

    def fresh(scope: str) -> int:
        found = db.execute(f"SELECT COUNT(fresh) FROM {table} WHERE scope = %s", (scope,)).fetchone()
        return found[0] if found else -1

    def recall(store: Store) -> float:
        right = 0
        for asked in made[3:500:12] + np.where(made[3:500:12] == 0, 0, 0.1 * vectors(42, 4 * D)):
            best = set(np.argsort(-(made[:500] @ asked) / np.linalg.norm(made[:500], axis=1))[:5])
            right += len(best & {int(near.entry.id) for near in store.nearest("large", asked, 5, NOW)})
        return right / 210

    def use() -> None:
        while putting.is_alive():
            theirs.used({f"{i}": (1, NOW, None) for i in range(100)})

    putting = threading.Thread(target=lambda: [mine.put(entry(f"{i}", "large"), made[i]) for i in range(1, 400)])
    putting.start()
    use()  # the rows that are moved meanwhile
    for i in range(400, 500):
        mine.put(entry(f"{i}", "large"), made[i])
        theirs.put(entry(f"small {i}", f"small {i % 5}"), made[i])
    mine.settle()  # pyright: ignore[reportAttributeAccessIssue]
    assert fresh("large") < 200
    assert fresh("small 0") == 20
    for store in (mine, theirs):
        assert recall(store) >= 0.98
        assert [near.entry.id for near in store.nearest("small 1", made[401], 1, NOW)] == ["small 401"]
    assert theirs.size()[0] == 600
    mine.put(entry("7", "large"), made[599])  # what is in the graph is replaced by what is not
    assert [near.entry.id for near in theirs.nearest("large", made[599], 1, NOW)] == ["7"]
    assert "7" not in {near.entry.id for near in theirs.nearest("large", made[7], 5, NOW)}
    assert mine.remove(Which(scope="large")) == 500
    assert theirs.nearest("large", made[1], 5, NOW) == []
    mine.remove(Which())
    for store in (mine, theirs):
        store.close()
    db.close()


def test_an_entry_that_somebody_has_spoilt_in_redis_is_no_answer_and_can_be_removed(redis_url: str) -> None:
    import redis

    store, v = open_store(redis_url, dimensions=D), vectors(1)[0]
    store.remove(Which())
    for name in "ab":
        store.put(entry(name, user="u"), v)
    redis.Redis.from_url(redis_url).hset(f"llm-savings:cache:2:{D}:a", "row", b"\xff no row")
    assert store.get("a", NOW) is None
    assert [near.entry.id for near in store.nearest("s", v, 5, NOW)] == ["b"]
    assert [kept.id for kept in store.entries(Which())] == [weight.id for weight in store.weights()] == ["b"]
    assert store.remove(Which(user="u")) == 2
    assert store.size() == (0, 0)


def test_a_connection_that_redis_has_closed_is_opened_again(redis_url: str) -> None:
    import redis

    store, v = open_store(redis_url, dimensions=D), vectors(1)[0]
    store.remove(Which())
    store.put(entry("a"), v)
    redis.Redis.from_url(redis_url).client_kill_filter(_type="normal", skipme=True)
    assert store.get("a", NOW) is not None
    redis.Redis.from_url(redis_url).script_flush()
    store.put(entry("b"), v)
    assert {near.entry.id for near in store.nearest("s", v, 5, NOW)} == {"a", "b"}
    store.remove(Which())


# Addresses


@pytest.mark.parametrize(
    ("target", "words"),
    [("mysql://me:secret@db/x", "unknown kind of URL"), ("/no/such/folder/cache.db", "does not exist")],
)
def test_a_target_that_cannot_be_is_refused(target: str, words: str) -> None:
    with pytest.raises(ConfigError, match=words) as raised:
        open_store(target, dimensions=D)
    assert "secret" not in str(raised.value)


@pytest.mark.parametrize(("target", "extra"), [("redis://h", "redis"), ("postgresql://h/d", "postgres")])
def test_a_missing_extra_is_named(target: str, extra: str) -> None:
    module = {"redis": "redis", "postgres": "psycopg"}[extra]
    code = (
        f"import sys; sys.modules[{module!r}] = None\n"
        "from llm_savings.semantic_cache.stores import open_store\n"
        f"open_store({target!r}, dimensions=8)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert f'cache {target} needs {module}; install it with: pip install "llm-savings[{extra}]"' in done.stderr


@pytest.mark.parametrize("target", ["postgresql://me:secret@127.0.0.1:9/db", "redis://me:secret@127.0.0.1:9/0"])
def test_a_server_that_is_not_there_is_an_error_without_its_password(target: str) -> None:
    pytest.importorskip("psycopg")
    pytest.importorskip("redis")
    store = open_store(target, dimensions=D)
    for call in (lambda: store.get("a", NOW), lambda: store.put(entry("a"), vectors(1)[0])):
        with pytest.raises(CacheError, match=r"\*\*\*") as raised:
            call()
        assert "secret" not in str(raised.value)
    store.close()


# Files


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return tmp_path / "cache.db"


def filled(path: Path, count: int = 50) -> Any:
    store, made = open_store(str(path), dimensions=D), vectors(count)
    for i, v in enumerate(made):
        store.put(entry(f"{i}"), v)
    store.close()
    return made


def test_a_file_and_its_logs_are_the_owners_alone(path: Path) -> None:
    store = open_store(str(path), dimensions=D)
    store.put(entry("a"), vectors(1)[0])
    modes = {found.name: found.stat().st_mode & 0o777 for found in path.parent.glob("cache.db*")}
    assert len(modes) == 3
    assert set(modes.values()) == {0o600}
    store.close()


def test_what_is_removed_is_gone_from_the_files(path: Path) -> None:
    store = open_store(str(path), dimensions=D)
    store.put(entry("a", text="very private question", user="u"), vectors(1)[0])
    store.put(entry("b"), None)
    assert any(b"very private" in found.read_bytes() for found in path.parent.glob("cache.db*"))
    assert store.remove(Which(user="u")) == 1
    assert not any(b"very private" in found.read_bytes() for found in path.parent.glob("cache.db*"))
    store.close()


@pytest.mark.parametrize("harm", ["all", "header", "middle"])
def test_a_corrupt_file_is_moved_aside_and_a_new_one_begun(
    path: Path, caplog: pytest.LogCaptureFixture, harm: str
) -> None:
    made = filled(path, 400)
    data = bytearray(path.read_bytes())
    start, end = {"all": (0, len(data)), "header": (0, 100), "middle": (4096, len(data))}[harm]
    data[start:end] = b"\xa5" * (end - start)
    path.write_bytes(data)
    store = open_store(str(path), dimensions=D)
    for _ in range(5):  # a call or two may fail, and the next ones go on
        try:
            store.put(entry("new"), made[0])
            found = store.nearest("s", made[0], 5, NOW)
        except CacheError:
            continue
    assert [near.entry.id for near in found] == ["new"]
    assert store.size()[0] == 1
    (aside,) = path.parent.glob("cache.db.corrupt-*")
    assert aside.read_bytes()[-16:] == b"\xa5" * 16 or harm == "header"
    assert len([record for record in caplog.records if "corrupt" in record.message]) == 1
    store.close()


def test_anothers_file_is_left_alone(path: Path) -> None:
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE theirs (x)")
    db.close()
    before = path.read_bytes()
    with pytest.raises(CacheError, match="belongs to another program"):
        open_store(str(path), dimensions=D).put(entry("a"), None)
    assert path.read_bytes() == before
    assert [found.name for found in path.parent.glob("cache.db*")] == ["cache.db"]


def test_a_ledger_is_no_cache(path: Path) -> None:
    from llm_savings.ledger.sqlite import SqliteStore as LedgerStore

    ledger = LedgerStore(str(path))
    ledger.fetch("SELECT 1")
    ledger.close()
    with pytest.raises(CacheError, match="belongs to another program"):
        open_store(str(path), dimensions=D).get("a", NOW)


def test_a_newer_file_is_left_alone(path: Path) -> None:
    filled(path, 1)
    with sqlite3.connect(path) as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(CacheError, match="schema version 99, this llm-savings knows 1; upgrade"):
        open_store(str(path), dimensions=D).get("a", NOW)
    assert not list(path.parent.glob("*corrupt*"))


def test_a_locked_file_is_waited_for_and_left_alone(path: Path) -> None:
    made = filled(path)
    holder = sqlite3.connect(path, isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    store = open_store(str(path), dimensions=D)
    assert store.nearest("s", made[3], 1, NOW)[0].entry.id == "3"  # readers do not wait
    with pytest.raises(CacheError, match="locked"):
        store.put(entry("a"), None)
    holder.execute("ROLLBACK")
    holder.close()
    store.put(entry("a"), None)
    assert store.size()[0] == 51
    assert not list(path.parent.glob("*corrupt*"))
    store.close()


_WRITER = """
import sys, numpy as np
from datetime import UTC, datetime
from llm_savings.semantic_cache.entries import counters_of
from llm_savings.semantic_cache.stores import Entry, open_store
store = open_store(sys.argv[1], dimensions=32)
made = np.eye(32, dtype=np.float32)
for i in range(100_000):
    name = f"{sys.argv[2]}-{i}"
    store.put(Entry(id=name, scope=sys.argv[2], namespace="n", model="m", text=name, answer="{}",
                    created_at=datetime.now(UTC)), made[i % 32])
    print(name, flush=True)
"""


def test_kill_9_in_the_middle_loses_nothing(path: Path) -> None:
    writers = [
        subprocess.Popen([sys.executable, "-c", _WRITER, path, f"w{i}"], stdout=subprocess.PIPE, text=True)
        for i in range(2)
    ]
    told: list[str] = []
    for i, writer in enumerate(writers):
        assert writer.stdout is not None
        told += [writer.stdout.readline().strip() for _ in range(40 + 13 * i)]
    for writer in writers:
        writer.kill()
        told += writer.communicate()[0].split("\n")[:-1]  # the last line may be half of one
    store = open_store(str(path), dimensions=D)
    assert [name for name in told if store.get(name, NOW) is None] == []
    with sqlite3.connect(path) as db:
        assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        entries, found = db.execute(
            "SELECT (SELECT COUNT(*) FROM cache_entries), COUNT(*) FROM cache_vectors"
        ).fetchone()
    db.close()
    assert entries == found == store.size()[0]
    store.close()


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="no device that is always full")
def test_a_full_disk_is_an_error_and_harms_nothing(path: Path) -> None:
    filled(path)
    code = (
        "import resource, signal, sys; signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\n"
        "from llm_savings.errors import CacheError\n"
        "from llm_savings.semantic_cache.stores import Entry, open_store\n"
        "from datetime import UTC, datetime\n"
        "store = open_store(sys.argv[1], dimensions=32); size = store.size()\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))\n"
        "e = Entry(id='x', scope='s', namespace='n', model='m', text='t' * 500_000, answer='', "
        "created_at=datetime.now(UTC))\n"
        "try: store.put(e, None)\n"
        "except CacheError as error: print('CacheError', store.size() == size)\n"
    )
    done = subprocess.run([sys.executable, "-c", code, path], capture_output=True, text=True, check=False)
    assert done.stdout.split() == ["CacheError", "True"], done.stderr
    store = open_store(str(path), dimensions=D)
    assert store.size()[0] == 50
    store.close()


def test_counters_that_come_with_what_is_near_are_the_entrys(store: Store) -> None:
    made = vectors(2)
    for i, v in enumerate(made):
        store.put(entry(f"{i}"), v)
    store.add(counters_of("1"), {"right": 2, "wrong": 1})
    store.add(counters_of("gone"), {"right": 1})

    def told() -> dict[str, Any]:
        return {near.entry.id: near.counts for near in store.nearest("s", made[1], 5, NOW)}

    first = told()
    assert first in ({"0": None, "1": None}, {"0": {}, "1": {"right": 2, "wrong": 1}})
    assert (None in first.values()) == store.local  # a server says it in the same breath
    assert store.counts(counters_of("1")) == {"right": 2, "wrong": 1}
    store.put(entry("1", text="again"), made[0])
    store.add(counters_of("1"), {"wrong": 4})
    assert told()["1"] in (None, {"right": 2, "wrong": 5})
    store.remove(Which(ids=("1",)))
    assert store.counts(counters_of("1")) == {}
    store.put(entry("1"), made[1])
    assert told()["1"] in (None, {})


# Large scopes


def test_vectors_of_two_parts_are_found_by_the_part_that_says_something() -> None:
    store, made = MemoryStore(dimensions=4 * D), np.zeros((4_000, 4 * D), np.float32)
    made[0::2, : 2 * D], made[1::2, 2 * D :] = vectors(2_000, 2 * D), vectors(2_000, 2 * D)
    for i, v in enumerate(made):
        store.put(entry(f"{i}"), v)
    store.remove(Which(ids=tuple(f"{i}" for i in range(0, 1_000, 3))))
    alive = [i for i in range(4_000) if i >= 1_000 or i % 3]
    right = 0
    for q in made[alive[::80]] + np.where(made[alive[::80]], 0.05, 0).astype(np.float32):
        best = {alive[at] for at in np.argsort(-(made[alive] @ q))[:5]}
        near = [int(one.entry.id) for one in store.nearest("s", q, 5, NOW)]
        assert set(near) <= set(alive)
        right += len(best & set(near))
    assert right / (5 * len(alive[::80])) >= 0.97
    store.close()


def test_a_large_scope_is_found_while_its_entries_come_and_go(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("llm_savings.semantic_cache.stores.nearby.FEW", 200)
    monkeypatch.setattr("llm_savings.semantic_cache.stores.matrix._WORTH", 0)
    store, made = MemoryStore(dimensions=D), vectors(1_500)
    alive: dict[int, Any] = {}

    def put(some: Iterable[int], given: Any) -> None:
        for i, v in zip(some, given, strict=True):
            store.put(entry(f"{i}"), v)
            alive[i] = v

    def remove(some: range) -> None:
        store.remove(Which(ids=tuple(f"{i}" for i in some)))
        for i in some:
            del alive[i]

    def recall() -> float:
        keys, whole = list(alive), np.stack(list(alive.values()))
        right = 0
        for q in vectors(40):
            best = {keys[at] for at in np.argsort(-(whole @ q))[:5]}
            right += len(best & {int(near.entry.id) for near in store.nearest("s", q, 5, NOW)})
        return right / 200

    put(range(1_000), made[:1_000])
    assert recall() >= 0.97
    put(range(1_000, 1_500), made[1_000:])  # added, removed and replaced later
    remove(range(300))
    put(range(300, 400), vectors(100))
    assert recall() >= 0.97
    remove(range(300, 1_400))  # most of it
    assert recall() >= 0.97
    put(range(2_000, 2_300), vectors(300))
    assert recall() >= 0.97
    store.close()


def test_what_was_removed_is_let_go_of() -> None:
    index, made = Nearby(D), np.stack([small(v) for v in vectors(6_000)])
    index.add(list(range(6_000)), made)
    for key in range(5_000):
        index.remove(key)
    assert len(index) == 1_000
    assert sum(each.count for each in index._matrices.values()) <= 3_000  # pyright: ignore[reportPrivateUsage]
    assert index.search(made[5_500] / np.linalg.norm(made[5_500]), 1)[0] == [5_500]


@given(st.integers(0, 300), st.binary(min_size=1, max_size=80), st.integers(0, 300))
def test_a_vector_comes_back_with_its_zeros(before: int, body: bytes, after: int) -> None:
    vector = bytes(before) + b"\1" + body + bytes(after)
    assert unpacked(packed(vector), len(vector)) == vector
    assert len(packed(vector)) <= min(len(vector), len(body) + 3)


def test_vectors_written_whole_are_found_too(tmp_path: Path) -> None:
    """As earlier versions wrote them."""
    path, asked = str(tmp_path / "cache.db"), np.eye(8, dtype=np.float32)[2]
    with closing(open_store(path, dimensions=8)) as store:
        store.put(Entry(id="a", scope="s", namespace="", model="m", text="q", answer="x", created_at=NOW), asked)
    with sqlite3.connect(path) as db:
        (short,) = db.execute("SELECT vector FROM cache_vectors").fetchone()
        assert len(short) == 3
        db.execute("UPDATE cache_vectors SET vector = ?", (unpacked(short, 8),))
    with closing(open_store(path, dimensions=8)) as store:
        assert [round(near.cosine, 3) for near in store.nearest("s", asked, 5, NOW)] == [1.0]


def test_a_child_of_a_fork_knows_what_its_parent_had_in_memory() -> None:
    store = open_store(":memory:", dimensions=D)
    made = vectors(50)
    for i in range(50):
        store.put(entry(str(i)), made[i])
    assert store.nearest("s", made[7], 1, NOW)[0].entry.id == "7"
    child = os.fork()
    if not child:
        try:
            found = store.nearest("s", made[9], 1, NOW)[0].entry.id
            store.put(entry("new"), made[9] * -1)
            os._exit(0 if (found, store.nearest("s", -made[9], 1, NOW)[0].entry.id) == ("9", "new") else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert store.size()[0] == 50
