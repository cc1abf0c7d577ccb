"""Several processes or machines share what they learn of prefixes; and nobody waits for it or fails by it."""

from __future__ import annotations

import logging
import os
import signal
import sqlite3
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_savings import Usage
from llm_savings.errors import ConfigError
from llm_savings.marked import Marking
from llm_savings.prompt_cache import Memory, Plan, logs, plan_breakpoints
from llm_savings.prompt_cache.lessons import Lesson, packed, unpacked
from llm_savings.prompt_cache.odds import FEATURES

MODEL = "claude-sonnet-4-5"
LONG = "Orders above ten euros are checked by hand; tell the customer so, and never promise a day. " * 90
LONG_KO = "주문 금액이 만 원을 넘으면 담당자가 확인합니다. 고객에게 친절하게 안내하고 날짜는 약속하지 마세요. " * 60
WORKER = Path(__file__).parents[1] / "end_to_end" / "prefix_worker.py"


@pytest.fixture(params=["file", "postgres", "redis"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    if request.param == "file":
        return str(tmp_path / "prefixes.db")
    if request.param == "redis":
        url = str(request.getfixturevalue("redis_url"))
        import redis

        with redis.Redis.from_url(url) as server:
            server.delete("llm-savings:prefixes:1")
        return url
    import psycopg

    url = str(request.getfixturevalue("postgres_url"))
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("DROP TABLE IF EXISTS llm_savings_prefixes")
    return url


def ask(memory: Memory, question: str, at: float, system: str = LONG, model: str = MODEL) -> Plan:
    talk = [{"role": "system", "content": system}, {"role": "user", "content": question}]
    plan = plan_breakpoints(talk, None, model, memory=memory, now=at)
    held, total = int(plan.held), plan.prompt.tokens[-1]
    written = max((mark.tokens for mark in plan.marks), default=held) - held
    memory.record(plan, Usage(total - held - written, held, cache_write_5m=written), at)
    return plan


# --- lessons --------------------------------------------------------------------------------------------------------

numbers = st.floats(0, 1e9)


@st.composite
def lessons(draw: st.DrawFn) -> Lesson:
    keys = tuple(draw(st.lists(st.integers(0, 2**64 - 1), min_size=1, max_size=40)))
    block = st.integers(0, len(keys) - 1)
    facts = st.tuples(*[st.floats(-10, 10)] * len(FEATURES))
    blocks = st.lists(block, min_size=1, max_size=6).map(tuple)
    watched = st.tuples(st.sampled_from(["leaf", "trunk"]), facts, blocks, st.none() | block, numbers)
    return Lesson(
        draw(st.text(max_size=20)),
        draw(numbers),
        keys,
        draw(st.just(-1) | block),
        draw(st.integers(0, 99)),
        tuple(draw(st.lists(watched, max_size=4))),  # pyright: ignore[reportArgumentType]
        tuple(draw(st.lists(st.tuples(block, st.sampled_from([0.0, 300.0, 3600.0])), max_size=4))),
        draw(st.none() | numbers),
        draw(numbers),
        draw(numbers),
        draw(numbers),
        draw(st.none() | st.floats(0.01, 100)),
        draw(st.just(-1) | block),
    )


@given(lesson=lessons())
def test_a_lesson_comes_out_as_it_went_in(lesson: Lesson) -> None:
    assert unpacked(packed(lesson)) == lesson


@given(lesson=lessons(), junk=st.binary(max_size=60), at=st.integers(0, 400))
def test_what_is_no_lesson_is_told(lesson: Lesson, junk: bytes, at: int) -> None:
    whole = packed(lesson)
    for raw in (junk, whole[:at] + junk + whole[at + 1 :]):
        try:
            found = unpacked(raw)
        except ValueError:
            continue
        Memory().learn(found)  # what passes does no harm


# --- sharing --------------------------------------------------------------------------------------------------------


def test_what_one_learned_the_other_knows(store: str) -> None:
    first, second = Memory(store=store), Memory(store=store)
    assert ask(first, "Where is my order?", 0).marks == ()
    assert first.flush() and second.flush()
    assert ask(second, "Can I send it back?", 20).marks  # its first call, and the second of all
    assert second.flush() and first.flush()
    plan = ask(first, "And the other one?", 40)
    assert "holds it" in plan.marks[0].why and plan.held > 1500
    assert first.flush() and second.flush()
    key = plan.prompt.keys[plan.prompt.shared]
    assert [memory.known([key])[0] for memory in (first, second)] == [first.known([key])[0]] * 2
    assert first.scale(MODEL) == second.scale(MODEL)
    third = Memory(store=store)  # after a restart
    assert ask(third, "A third?", 60).held == plan.held
    for memory in (first, second, third):
        memory.close()


def test_returns_that_others_see_are_learned_from(tmp_path: Path) -> None:
    """Turns of a conversation that go round the workers are no reason to believe that nothing ever returns."""

    def learned(memories: list[Memory]) -> list[float]:
        for turn in range(80):
            talk = [{"role": "user", "content": f"{n // 8}.{n} {LONG}"} for n in range(turn // 8 * 8, turn + 1)]
            plan = plan_breakpoints(talk, None, MODEL, memory=memories[turn % 2], now=20.0 * turn)
            memories[turn % 2].record(plan, None, sent=False)
            assert all(memory.flush() for memory in memories * 2)
        facts = (1.0, 1.0, 0.0, 0.0, 1.0, 1.0, 0.0, 0.0, 0.0)
        return [memory.odds.chance("leaf", facts, 300.0) for memory in memories]

    alone, apart = learned([Memory()] * 2), learned([Memory(), Memory()])
    shared = learned([Memory(store=str(tmp_path / "prefixes.db")) for _ in range(2)])
    assert max(apart) < alone[0]
    assert shared == pytest.approx(alone)


class Worker:
    """A process of `prefix_worker.py`."""

    def __init__(self, store: str) -> None:
        command = [sys.executable, str(WORKER), store]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)

    def hear(self) -> str:
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def tell(self, line: object) -> str:
        assert self.process.stdin is not None
        self.process.stdin.write(f"{line}\n")
        self.process.stdin.flush()
        return self.hear()

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


def test_processes_share_a_conversation_and_survive_kills(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LITELLM_LOCAL_MODEL_COST_MAP", "true")
    workers = [Worker(store) for _ in range(3)]
    try:
        assert [worker.hear() for worker in workers] == ["ready"] * 3
        held = [int(workers[turn % 3].tell(turn)) for turn in range(4)]
        assert workers[1].tell("flood") == "flooding"
        held.append(int(workers[2].tell(4)))
        workers[1].kill()  # in the middle of its writing
        held += [int(workers[turn % 2 * 2].tell(turn)) for turn in range(5, 8)]
        assert [worker.process.communicate(timeout=60)[0] for worker in workers[::2]] == ["", ""]
    finally:
        for worker in workers:
            worker.kill()
    assert [worker.process.returncode for worker in workers] == [0, -signal.SIGKILL, 0]
    assert held[:2] == [0, 0] and held[2] > 1500  # what the second wrote the third reads
    assert held[2:] == sorted(held[2:]) and held[-1] > held[2] + 300  # and so on, turn by turn
    after = Memory(store=store)
    assert after.flush() and len(after) >= 9
    after.close()
    if "://" not in store:
        with sqlite3.connect(store) as db:
            assert db.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        assert (Path(store).stat().st_mode & 0o777) == 0o600


def test_many_writers_lose_nothing(store: str) -> None:
    memories = [Memory(store=store) for _ in range(4)]

    def work(number: int) -> None:
        for n in range(40):
            ask(memories[number], "Hi", float(n), system=f"{number}.{n} {LONG}")
            if n % 7 == 0:
                memories[number].flush()

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert all(memory.flush() for memory in memories * 2)
    assert [len(memory) for memory in memories] == [320] * 4
    for memory in memories:
        memory.close()


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_fork_goes_on_by_itself(store: str) -> None:
    memory = Memory(store=store)
    ask(memory, "Where is my order?", 0)
    if (child := os.fork()) == 0:
        try:
            plan = ask(memory, "From a child?", 10)
            os._exit(0 if plan.marks and memory.flush() else 1)
        finally:
            os._exit(2)
    assert os.waitpid(child, 0)[1] == 0
    assert memory.flush()
    assert ask(memory, "Where is my other order?", 20).held > 1500
    assert memory.flush()
    other = Memory(store=store)
    assert other.flush()
    key = plan_breakpoints([{"role": "system", "content": LONG}], None, MODEL, memory=other, now=30).prompt.keys[0]
    assert [known and known.sightings for known in other.known([key])] == [3]
    memory.close()
    other.close()


# --- bounds and trouble ---------------------------------------------------------------------------------------------


def test_the_store_is_bounded_and_has_no_text_in_it(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(logs, "MOST_BYTES", 20_000)
    memory = Memory(store=store)
    for n in range(300):
        ask(memory, f"질문 {n}", float(n), system=f"{n} {LONG_KO}")
        if n % 50 == 49:
            assert memory.flush()
    memory.close()
    found = logs.open_log(store)
    rows = found.since(0)
    assert 0 < sum(len(raw) for _, _, raw in rows) <= 20_000 + max(len(raw) for _, _, raw in rows)
    everything = b"".join(raw for _, _, raw in rows)
    assert "주문".encode() not in everything and "질문".encode() not in everything
    after = Memory(store=store)
    assert after.flush() and 0 < len(after) < 600
    if "://" not in store:
        assert Path(store).stat().st_size < 200_000
        assert "주문".encode() not in Path(store).read_bytes()


@pytest.mark.parametrize("trouble", ["foreign", "folder", "corrupt", "unreachable", "no redis"])
def test_a_lost_store_is_one_warning_and_calls_go_on(
    trouble: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "prefixes.db"
    if trouble == "foreign":
        with sqlite3.connect(path) as db:
            db.execute("CREATE TABLE theirs (a)")
    elif trouble == "folder":
        path.mkdir()
    elif trouble == "corrupt":
        path.write_bytes(b"no database at all" * 500)
    away = {"unreachable": "postgresql://me:secret@127.0.0.1:9/db", "no redis": "redis://me:secret@127.0.0.1:9/0"}
    store = away.get(trouble, str(path))
    with caplog.at_level(logging.INFO, "llm_savings"):
        memory = Memory(store=store)
        held: list[float] = []
        for n in range(3):
            held.append(ask(memory, f"Question {n}?", 10.0 * n).held)
            assert not memory.flush()
    assert held[2] > 1500
    assert [record.levelname for record in caplog.records] == ["WARNING"]
    assert "secret" not in caplog.text
    memory.close()
    if trouble == "foreign":
        with sqlite3.connect(path) as db:
            assert db.execute("SELECT name FROM sqlite_master").fetchall() == [("theirs",)]


def test_what_could_not_be_written_is_when_the_store_is_back(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = str(tmp_path / "prefixes.db")
    away = threading.Event()
    write = logs.SqliteLog.add

    def add(self: logs.SqliteLog, worker: bytes, lessons: list[bytes]) -> None:
        if away.is_set():
            raise OSError("disk full")
        write(self, worker, lessons)

    monkeypatch.setattr(logs.SqliteLog, "add", add)
    memory = Memory(store=store)
    away.set()
    with caplog.at_level(logging.INFO, "llm_savings"):
        for n in range(5):
            ask(memory, f"Question {n}?", 10.0 * n)
            assert not memory.flush()
        away.clear()
        assert memory.flush()
    assert [record.levelname for record in caplog.records] == ["WARNING", "INFO"]
    other = Memory(store=store)
    assert other.flush() and len(other) == 6
    memory.close()
    other.close()


def test_a_file_that_is_removed_is_begun_anew(tmp_path: Path) -> None:
    path = tmp_path / "prefixes.db"
    memory = Memory(store=str(path))
    ask(memory, "One?", 0)
    assert memory.flush()
    for name in (path, *tmp_path.glob("prefixes.db-*")):
        name.unlink()
    ask(memory, "Two?", 1)
    assert memory.flush() and memory.flush()
    other = Memory(store=str(path))
    assert other.flush() and len(other) == 2
    assert ask(other, "Three?", 2).held == 0 or other.flush()
    assert other.flush() and memory.flush() and len(memory) == 4
    memory.close()
    other.close()


def test_another_key_is_told_once_and_nothing_is_shared(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    store = str(tmp_path / "prefixes.db")
    first = Memory(store=store)
    for n in range(3):
        ask(first, f"Question {n}?", n)
    assert first.flush()
    monkeypatch.setenv("LLM_SAVINGS_HASH_KEY", "another")
    second = Memory(store=store)
    assert second.flush() and len(second) == 0
    assert caplog.text.count("LLM_SAVINGS_HASH_KEY") == 1
    first.close()
    second.close()


def test_nobody_waits_for_the_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    stuck, going = threading.Event(), threading.Event()

    def blocked(self: object, place: int) -> list[Any]:
        stuck.set()
        going.wait(30)
        return []

    monkeypatch.setattr(logs.SqliteLog, "since", blocked)
    memory = Memory(store=str(tmp_path / "prefixes.db"))
    assert stuck.wait(10)
    plans = [ask(memory, f"Question {n}?", n) for n in range(50)]  # all while the log stands still
    assert plans[-1].held > 1500 and not going.is_set()
    going.set()
    memory.close()


def test_a_clock_that_is_ahead_ends_nobodys_wait(tmp_path: Path) -> None:
    store = str(tmp_path / "prefixes.db")
    first, second = Memory(store=store), Memory(store=store)
    keys = ask(first, "Hi", 4e9).prompt.keys  # in 2096
    assert first.flush() and second.flush()
    (known,) = second.known(keys[:1])
    assert known is not None and known.seen < 3e9
    first.close()
    second.close()


@pytest.mark.parametrize("target", ["", ":memory:", "mysql://x/y", "redis://h:port", "/no/such/folder/prefixes.db"])
def test_what_cannot_be_a_store_is_told_at_once(target: str) -> None:
    with pytest.raises(ConfigError, match="memory"):
        Memory(store=target)


def test_models_of_one_program_have_one_memory_of_a_store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    first = Marking("prefixes.db")
    assert Marking(str(tmp_path / "prefixes.db")).memory is first.memory
    assert Marking("other.db").memory is not first.memory
    with pytest.raises(ConfigError, match="memory is int"):
        Marking(3)  # pyright: ignore[reportArgumentType]
