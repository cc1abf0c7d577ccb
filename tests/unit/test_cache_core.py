"""The cache itself: what it serves, what it does not, what it learns, and that it is never in the way."""

from __future__ import annotations

import asyncio
import logging
import threading
import time
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from llm_savings.errors import CacheError, ConfigError
from llm_savings.ledger import Ledger
from llm_savings.semantic_cache.cache import AnswerCache
from llm_savings.semantic_cache.entries import Which
from llm_savings.semantic_cache.found import Hit, Lookup, Miss, last_lookup
from llm_savings.semantic_cache.scope import Question, Request
from llm_savings.semantic_cache.settings import Options, Settings
from llm_savings.usage import Usage

FIRST, ALIKE = "How do I reset my password?", "How can I reset my password?"
UNLIKE = "Where is the nearest branch?"


class Topics:
    """An embedder that knows what a question is about: 0.97 alike on one topic, 0 otherwise."""

    name, dimensions = "topics", 16

    def embed(self, texts: Sequence[str]) -> Any:
        found = np.zeros((len(texts), 16), np.float32)
        for row, text in zip(found, texts, strict=True):
            row[0 if "password" in text.lower() else 1] = 0.985
            row[2 + len(text) % 14] = 0.1726
        return found


def asking(text: str, **changed: Any) -> Request:
    given: dict[str, Any] = {"model": "gpt-4o", "messages": [{"role": "user", "content": text}], "parameters": {}}
    return Request(**(given | changed))


def make(target: str | Path | None = None, *, chance: float = 1.0, **options: Any) -> AnswerCache:
    given: Options = {"embeddings": Topics(), "similarity_threshold": 0.9, "audit_rate": 0.0, **options}  # type: ignore[typeddict-item]
    return AnswerCache(target, Settings.of(given), text_of=str, chance=lambda: chance)


def keep(cache: AnswerCache, text: str, answer: str = "Like this.", **kept: Any) -> None:
    miss = cache.lookup(asking(text))
    assert isinstance(miss, Miss) and miss.question is not None
    cache.keep(miss.question, answer, **kept)


def served(cache: AnswerCache, text: str, **changed: Any) -> Hit:
    found = cache.lookup(asking(text, **changed))
    assert isinstance(found, Hit), found
    return found


def missed(cache: AnswerCache, text: str, **changed: Any) -> Miss:
    found = cache.lookup(asking(text, **changed))
    assert isinstance(found, Miss), found
    if found.question is not None:
        cache.gave_up(found.question)
    return found


def test_the_same_words_the_same_but_for_case_and_the_same_meaning() -> None:
    cache = make()
    keep(cache, FIRST, cost=Decimal("0.002"), latency=1.5)
    assert served(cache, FIRST).tier == "exact"
    assert served(cache, "  how do i reset my Password").tier == "canonical"
    hit = served(cache, ALIKE)
    assert hit.tier == "semantic"
    assert hit.cosine == pytest.approx(0.97, abs=0.01)
    assert hit.entry.answer == "Like this."
    assert hit.saved == Decimal("0.002")
    assert hit.saved_seconds == pytest.approx(1.5 - hit.took)
    assert missed(cache, UNLIKE).reason == "unlike"


@pytest.mark.parametrize("server", ["redis", "postgres"])
def test_a_lookup_reaches_a_server_once(
    server: str, request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("llm_savings.semantic_cache.tally._DELAY", 60.0)
    cache = make(request.getfixturevalue(f"{server}_url"), embeddings=None, similarity_threshold=0.7)
    cache.forget(Which())
    keep(cache, FIRST)
    missed(cache, UNLIKE)  # its domain's counters are read once
    cache.flush()
    cache._errors.refresh = float("inf")
    store: Any = cache._store
    journeys: list[str] = []
    for name in ("get", "nearest", "look", "counts", "add", "used"):

        def counting(*given: Any, name: str = name) -> Any:
            journeys.append(name)
            return getattr(type(store), name)(store, *given)

        monkeypatch.setattr(store, name, counting)
    for tier, text in (("exact", FIRST), ("canonical", "  how do i reset my Password"), ("semantic", ALIKE)):
        for found in (served(cache, text), asyncio.run(cache.alookup(asking(text)))):
            assert isinstance(found, Hit)
            assert found.tier == tier
    missed(cache, UNLIKE)
    assert journeys == ["look"] * 7
    cache.forget(Which())
    cache.close()


def test_evidence_holds_nothing_of_what_others_asked() -> None:
    cache = make()
    keep(cache, FIRST, cost=Decimal("0.002"), latency=1.5)
    hit = served(cache, ALIKE)
    miss = missed(cache, UNLIKE)
    for found in (hit, miss):
        assert "reset" not in str(found.evidence())
    assert Decimal(hit.evidence()["saved_usd"]) == Decimal("0.002")
    assert miss.evidence()["reason"] == "unlike"


def test_a_threshold_of_the_users_own_still_respects_the_guards() -> None:
    cache = make()
    keep(cache, "How do I reset password number 3?")
    assert missed(cache, "How do I reset password number 4?").reason.startswith("guard")


def test_another_embedder_is_another_space() -> None:
    class Others(Topics):
        name = "others"

    cache = make()
    keep(cache, FIRST)
    other = make(embeddings=Others())
    question = cache.question(asking(FIRST))
    assert question != other.question(asking(FIRST))


def embed(texts: list[str], *, at: int = 0) -> Any:
    return np.eye(4, dtype=np.float32)[[at] * len(texts)]


class Encoder:
    def __init__(self, model_name: str = "") -> None:
        self.model_name = model_name

    def encode(self, texts: list[str]) -> Any:
        return embed(texts)


@pytest.mark.parametrize("one", [lambda texts: embed(texts), partial(embed, at=1), Encoder().encode])
def test_two_that_could_have_one_name_are_refused_where_vectors_are_kept(tmp_path: Path, one: Any) -> None:
    with pytest.raises(ConfigError, match=r"another one could have its name.*embeddings=\(\"bge-m3\", function\)"):
        make(tmp_path / "cache.db", embeddings=one)
    keep(make(embeddings=one), FIRST)  # in memory nobody else's are there
    named = [make(tmp_path / "cache.db", embeddings=(name, one)) for name in ("bge-m3", "other")]
    keep(named[0], FIRST)
    served(make(tmp_path / "cache.db", embeddings=("bge-m3", one)), ALIKE)
    assert missed(named[1], ALIKE).reason == "new scope"


def test_what_says_whose_vectors_it_makes_needs_no_name(tmp_path: Path) -> None:
    ones = [embed, Encoder("a").encode, Encoder("b").encode]
    asked = [make(tmp_path / "cache.db", embeddings=one).question(asking(FIRST)) for one in ones]
    assert len({question.scope for question in asked if isinstance(question, Question)}) == len(ones)
    for wrong in (("", 3), ("a", 3), ("a", embed, 1), (1, embed)):
        with pytest.raises(ConfigError, match="is no embedder"):
            make(embeddings=wrong)


def test_a_vector_of_zeros_is_never_alike() -> None:
    cache = make(embeddings=lambda texts: [[0.0 if text == ALIKE else 1.0] * 4 for text in texts])
    keep(cache, FIRST)
    assert missed(cache, ALIKE).reason == "no vector"
    assert served(cache, FIRST).tier == "exact"


def test_long_questions_hit_word_for_word_only() -> None:
    cache = make(longest=10)
    keep(cache, FIRST)
    assert missed(cache, ALIKE).reason == "long"
    assert served(cache, FIRST).tier == "exact"


def test_answers_expire() -> None:
    cache = make(ttl=0.05)
    keep(cache, FIRST)
    keep(cache, UNLIKE, ttl=timedelta(hours=1))
    served(cache, FIRST)
    time.sleep(0.06)
    assert missed(cache, FIRST).reason != "exact"
    served(cache, UNLIKE)


def test_a_sliding_answer_lives_as_long_as_it_is_asked_for() -> None:
    cache = make(ttl=0.4, sliding=True)
    keep(cache, FIRST)
    for _ in range(4):
        time.sleep(0.2)
        served(cache, FIRST)
        cache.flush()
    time.sleep(0.5)
    missed(cache, FIRST)


def test_a_sliding_answer_gets_its_own_time_again_not_the_caches() -> None:
    now = [datetime(2026, 11, 2, tzinfo=UTC)]
    cache = AnswerCache(None, Settings(ttl=3600, sliding=True), text_of=str, clock=lambda: now[0])
    keep(cache, FIRST, ttl=10)
    for _ in range(3):
        now[0] += timedelta(seconds=8)
        assert served(cache, FIRST).tier == "exact"
        cache.flush()
    now[0] += timedelta(seconds=12)
    assert missed(cache, FIRST).reason == "new scope"


def test_shadow_serves_nothing_and_says_what_it_would_have() -> None:
    cache = make(shadow=True)
    keep(cache, FIRST)
    miss = missed(cache, ALIKE)
    assert miss.reason == "shadow" and miss.would is not None and miss.would.tier == "semantic"
    assert "reset" not in str(miss.evidence())
    assert cache.stats().misses == {"new scope": 1, "shadow": 1}


def test_some_hits_are_audited_and_say_whether_they_were_right() -> None:
    asked: list[tuple[str, ...]] = []

    def judge(*texts: str) -> bool:
        asked.append(texts)
        return True

    cache = make(chance=0.0, audit_rate=0.5, judge=judge)
    keep(cache, FIRST)
    miss = cache.lookup(asking(ALIKE))
    assert isinstance(miss, Miss) and miss.reason == "audit" and miss.question is not None
    cache.keep(miss.question, "Like that.")
    assert asked == [(ALIKE, FIRST, "Like this.", "Like that.")]
    assert served(cache, FIRST).tier == "exact"  # the same words are not audited
    cache.flush()
    assert [threshold.labels for threshold in cache.stats().errors.values()] in ([1], [0], [])


def test_a_judge_that_fails_is_said_once_and_harms_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def judge(*_: str) -> bool:
        raise RuntimeError("no key")

    cache = make(chance=0.0, audit_rate=1.0, judge=judge)
    keep(cache, FIRST)
    for text in (ALIKE, "How might I reset my password?"):
        keep(cache, text)
    assert caplog.text.count("judge failed") == 1
    assert FIRST not in caplog.text


def test_what_is_not_cached_is_counted_with_its_reason() -> None:
    cache = make()
    assert missed(cache, FIRST, parameters={"temperature": 1.5}).reason == "temperature"
    tool = [*asking(FIRST).messages, {"role": "tool", "content": "3", "tool_call_id": "a"}]
    assert cache.lookup(asking(FIRST, messages=tool)).reason == "tool turn"  # type: ignore[union-attr]
    assert missed(cache, "").reason == "no text"
    assert missed(cache, FIRST, parameters={"schema": object()}).reason == "opaque schema"
    assert cache.stats().misses == {"temperature": 1, "tool turn": 1, "no text": 1, "opaque schema": 1}


def test_words_are_redacted_before_anything_is_done_with_them() -> None:
    cache = make(redact=lambda text: text.replace("Kim", "NAME"))
    keep(cache, "Hello, I am Kim", "Hello Kim")
    (entry,) = cache.entries(Which())
    assert "Kim" not in entry.text and "Kim" not in entry.answer
    assert served(cache, "Hello, I am Kim").tier == "exact"


def test_a_redaction_that_fails_harms_nothing(caplog: pytest.LogCaptureFixture) -> None:
    def redact(text: str) -> str:
        if text == "secret":
            raise ValueError(text)
        return text

    cache = make(redact=redact)
    keep(cache, FIRST, "secret")
    assert missed(cache, FIRST).reason == "new scope" and missed(cache, "secret").reason == "error"
    assert "keep failed (ValueError)" in caplog.text and "secret" not in caplog.text


def test_a_judge_is_shown_what_was_redacted() -> None:
    shown: list[tuple[str, ...]] = []
    cache = make(
        redact=lambda text: text.replace("Kim", "NAME"),
        judge=lambda *told: shown.append(told),
        chance=0.0,
        audit_rate=1.0,
    )
    keep(cache, FIRST, "Kim knows.")
    keep(cache, ALIKE, "Ask Kim.")
    assert shown == [(ALIKE, FIRST, "NAME knows.", "Ask NAME.")]


def test_answers_are_forgotten_by_tag_user_and_model() -> None:
    cache = make()
    keep(cache, FIRST, tags=["source:manual.pdf"])
    keep(cache, UNLIKE)
    assert cache.forget(Which(tag="source:manual.pdf")) == 1
    missed(cache, FIRST)
    served(cache, UNLIKE)
    asked = cache.lookup(asking("Who am I?", user="u1"))
    assert asked.question is not None
    cache.keep(asked.question, "You.")
    assert cache.forget(Which(user="u1")) == 1
    assert cache.forget(Which(model="gpt-4o")) == 1
    assert cache.stats().entries == 0


def test_there_are_never_many_more_answers_than_allowed() -> None:
    cache = make(max_entries=20)
    for number in range(100):
        keep(cache, f"password question number {number}")
    assert cache.stats().entries <= 22


def test_stats_survive_and_add_up(tmp_path: Path) -> None:
    path = tmp_path / "cache.db"
    cache = make(path)
    keep(cache, FIRST, cost=Decimal("0.002"), latency=1.0)
    for text in (FIRST, ALIKE, FIRST):
        served(cache, text)
    cache.close()
    stats = make(path).stats()
    assert stats.lookups == 4
    assert dict(stats.hits) == {"exact": 2, "semantic": 1}
    assert stats.saved == Decimal("0.006")
    assert stats.hit_rate == 0.75


def test_instructions_that_never_come_again_leave_nothing_behind() -> None:
    """A document in the system prompt, as in many a RAG chain: each call is a domain of its own."""
    cache = make()
    cache._errors.refresh = 0

    def asked(number: int) -> Request:
        system = {"role": "system", "content": f"Answer from this document: {number}"}
        return asking(FIRST, messages=[system, {"role": "user", "content": FIRST}])

    for number in range(50):
        cache.lookup(asked(number))
    assert not cache.stats().errors and cache.stats().lookups == 50
    cache.lookup(asked(0))
    (threshold,) = cache.stats().errors.values()
    assert threshold.lookups == 2


def test_each_lookup_is_shown_to_whoever_looks(caplog: pytest.LogCaptureFixture) -> None:
    shown: list[Lookup] = []
    cache = make(on_lookup=shown.append)
    keep(cache, FIRST)
    assert shown == [last_lookup.get()]

    def fails(_: Lookup) -> None:
        raise RuntimeError

    cache = make(on_lookup=fails)
    keep(cache, FIRST)
    keep(cache, UNLIKE)
    assert caplog.text.count("on_lookup failed") == 1


def test_disabled_it_does_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = make()
    keep(cache, FIRST)
    monkeypatch.setenv("LLM_SAVINGS_DISABLED", "1")
    assert missed(cache, FIRST).reason == "disabled"


class Broken:
    """A store that is away."""

    local = True

    def __init__(self) -> None:
        self.asked = 0

    def __getattr__(self, name: str) -> Any:
        def fail(*_: Any, **__: Any) -> Any:
            self.asked += 1
            raise CacheError("the database is away")

        return fail


def test_a_store_that_fails_is_said_once_and_left_alone(caplog: pytest.LogCaptureFixture) -> None:
    cache = make()
    cache._store = broken = Broken()  # type: ignore[assignment]
    with caplog.at_level(logging.WARNING):
        for _ in range(50):
            found = cache.lookup(asking(FIRST))
            assert isinstance(found, Miss) and found.reason == "unavailable" and found.question is not None
            cache.keep(found.question, "Like this.")
    assert caplog.text.count("the database is away") == 1
    assert broken.asked < 10


def test_what_does_not_reach_the_store_does_not_say_that_it_is_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now, tried = [1000.0], list[float]()
    monkeypatch.setattr("llm_savings.semantic_cache.trouble.time.monotonic", lambda: now[0])
    cache = make(wait=0)

    def away(*_: object) -> None:
        tried.append(now[0] - 1000.0)
        raise CacheError("away")

    for name in ("get", "nearest", "put", "counts"):
        monkeypatch.setattr(cache._store, name, away)
    for _ in range(100):
        missed(cache, FIRST)
        missed(cache, FIRST, parameters={"temperature": 1.5})  # is never looked up
        now[0] += 0.25
    assert tried == [0.0, 1.0, 3.0, 7.0, 15.0]
    assert caplog.text.count("failed") == 1


def test_a_remembered_vector_does_not_say_that_the_embedder_is_back(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    now, dead = [1000.0], [False]
    monkeypatch.setattr("llm_savings.semantic_cache.trouble.time.monotonic", lambda: now[0])

    def embed(texts: list[str]) -> list[list[float]]:
        if dead[0]:
            raise RuntimeError
        return [[1.0, 0.0]] * len(texts)

    cache = make(embeddings=embed, wait=0)
    keep(cache, FIRST)
    dead[0] = True
    for number in range(40):
        missed(cache, FIRST, model="gpt-4o-mini")
        missed(cache, f"Another question {number}?")
        now[0] += 0.5
    assert caplog.text.count("failed") == 1


def test_a_slow_embedder_is_a_miss_and_does_not_hold_up(caplog: pytest.LogCaptureFixture) -> None:
    going = threading.Event()

    def slow(texts: list[str]) -> Any:
        if texts != [FIRST]:
            going.wait(5)
        return [[1.0, 0.0] for _ in texts]

    cache = make(embeddings=slow, embed_timeout=0.05)
    keep(cache, FIRST)
    began = time.monotonic()
    for number in range(3):
        assert missed(cache, f"{FIRST} {number}").reason == "embedder"
    assert time.monotonic() - began < 3
    going.set()
    assert caplog.text.count("took more than 0.05 s") == 1


def test_no_vector_is_made_to_look_where_there_is_nothing(tmp_path: Path) -> None:
    """An embedder over the network would hold up each turn of a conversation: each has a scope of its own."""
    asked: list[str] = []

    def embed(texts: list[str]) -> Any:
        asked.extend(texts)
        return [[1.0, 0.0] for _ in texts]

    for target in (None, tmp_path / "cache.db"):
        cache = make(target, embeddings=("mine", embed))
        assert missed(cache, FIRST).reason == "new scope"
        assert not asked
        keep(cache, FIRST)
        assert missed(cache, UNLIKE, parameters={"seed": 1}).reason == "new scope"
        assert asked == [FIRST]
        served(cache, ALIKE)
        assert asked == [FIRST, ALIKE]
        asked.clear()


def test_an_embedder_is_asked_once_for_a_question() -> None:
    asked: list[str] = []

    def embed(texts: list[str]) -> Any:
        asked.extend(texts)
        return [[1.0, 0.0] for _ in texts]

    cache = make(embeddings=embed)
    keep(cache, FIRST)
    missed(cache, ALIKE, parameters={"seed": 1})
    keep_again = [text for text in asked if text == FIRST]
    assert len(keep_again) <= 1


@pytest.mark.parametrize("vectors", [[[float("nan"), 1.0]], [1.0, 2.0], [[1.0], [2.0]], "no", [["a"]]])
def test_vectors_that_are_none_are_a_miss(vectors: Any) -> None:
    cache = make(embeddings=lambda texts: [[1.0, 0.0]] if texts == [FIRST] else vectors)
    keep(cache, FIRST)
    assert missed(cache, ALIKE).reason == "embedder"
    served(cache, FIRST)


def test_calls_of_a_foreign_embedder_are_an_overhead_in_the_ledger(tmp_path: Path) -> None:
    class Small:
        model = "text-embedding-3-small"

        def embed_query(self, text: str) -> list[float]:
            return [1.0, 0.0]

        def embed_documents(self, texts: list[str]) -> list[list[float]]:
            if "fail" in texts[0]:
                raise RuntimeError
            return [[1.0, 0.0] for _ in texts]

    ledger = Ledger(tmp_path / "costs.db")
    cache = make(embeddings=Small(), ledger=ledger, embed_timeout=30)
    keep(cache, FIRST)
    missed(cache, "Will it fail?")
    ok, failed = ledger.calls()
    assert ok.sent.tags == {"overhead": "semantic_cache"}
    assert ok.settled is not None and ok.basis == "estimated"
    assert ok.settled.usage == Usage(input=7) and ok.settled.actual == Decimal("0.00000014")
    assert failed.status == "error"


def test_what_does_not_embed_is_refused() -> None:
    with pytest.raises(ConfigError, match="embeddings=3"):
        make(embeddings=3)


def test_a_hundred_threads_ask_the_model_once() -> None:
    cache, asked, barrier = make(), [], threading.Barrier(100)

    def ask() -> None:
        barrier.wait()
        found = cache.lookup(asking(FIRST))
        if isinstance(found, Miss):
            assert found.question is not None
            asked.append(1)
            time.sleep(0.2)
            cache.keep(found.question, "Like this.")

    threads = [threading.Thread(target=ask) for _ in range(100)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
    assert len(asked) == 1
    stats = cache.stats()
    assert stats.lookups == 100 and stats.hits["exact"] == 99 and stats.waited == 99


async def test_a_failure_is_not_shared() -> None:
    cache, asked = make(), 0

    async def ask() -> bool:
        nonlocal asked
        found = await cache.alookup(asking(FIRST))
        if isinstance(found, Hit):
            return True
        asked += 1
        fails = asked == 1
        await asyncio.sleep(0.02)
        assert found.question is not None
        if fails:
            cache.gave_up(found.question)
            return False
        await cache.akeep(found.question, "Like this.")
        return True

    assert sorted(await asyncio.gather(*[ask() for _ in range(20)])) == [False] + [True] * 19
    assert asked == 2


async def test_many_failures_do_not_queue_up() -> None:
    cache = make()

    async def ask() -> None:
        found = await cache.alookup(asking(FIRST))
        await asyncio.sleep(0.1)
        assert found.question is not None
        cache.gave_up(found.question)

    began = time.monotonic()
    await asyncio.gather(*[ask() for _ in range(100)])
    assert time.monotonic() - began < 5  # one after the other would be ten


def test_waiting_can_be_turned_off() -> None:
    cache = make(wait=0)
    found = cache.lookup(asking(FIRST))
    assert isinstance(found, Miss)
    other: list[Lookup] = []
    thread = threading.Thread(target=lambda: other.append(cache.lookup(asking(FIRST))), daemon=True)
    thread.start()
    thread.join(5)
    assert isinstance(other[0], Miss)


def test_times_are_aware() -> None:
    cache = make()
    keep(cache, FIRST)
    assert served(cache, FIRST).entry.created_at <= datetime.now(UTC)


def test_a_call_says_how_old_an_answer_may_be(monkeypatch: pytest.MonkeyPatch) -> None:
    cache = make()
    keep(cache, FIRST)
    now = datetime.now(UTC)

    class Later(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return now + timedelta(seconds=100)

    monkeypatch.setattr("llm_savings.semantic_cache.cache.datetime", Later)
    for text in (FIRST, ALIKE):
        assert served(cache, text, max_age=200).age >= 99
        assert missed(cache, text, max_age=50).reason == "too old"
        assert missed(cache, text, max_age=0).reason == "too old"
    assert cache.question(asking(FIRST, max_age=1)).scope == cache.question(asking(FIRST)).scope  # type: ignore[union-attr]
