"""A lock that another thread holds while a process forks is free in the child: calls there go on."""

from __future__ import annotations

import ast
import os
import signal
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from llm_savings import resends
from llm_savings.langchain import costs, current, litellm_hits, only_hits, tracking
from llm_savings.litellm import attempts, cache_calls, stops
from llm_savings.semantic_cache.cache import AnswerCache
from llm_savings.semantic_cache.embedders import Foreign
from llm_savings.semantic_cache.trouble import Trouble

PACKAGE = Path(resends.__file__).parent

pytestmark = [
    pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here"),
    pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning"),
]


def in_a_child(check: Callable[[], bool]) -> bool:
    """Whether a forked child finds so within five seconds."""
    if (child := os.fork()) == 0:
        signal.alarm(5)
        try:
            os._exit(0 if check() else 1)
        finally:
            os._exit(2)
    return os.waitpid(child, 0)[1] == 0


def _cache() -> AnswerCache:
    return AnswerCache(None, text_of=str)


LOCKS: dict[str, Callable[[], Any]] = {
    "resends": lambda: resends._lock,
    "stops": lambda: stops._lock,
    "attempts": lambda: attempts._claiming,
    "cache calls": lambda: cache_calls._watching,
    "only hits": lambda: only_hits._lock,
    "current": lambda: current._lock,
    "litellm hits": lambda: litellm_hits._lock,
    "tracking": lambda: tracking._lock,
    "once": lambda: costs._once._lock,
    "cache": lambda: _cache()._lock,
    "errors": lambda: _cache()._errors,
    "trouble": lambda: Trouble("it")._lock,
    "embedder": lambda: Foreign(lambda texts: [], "it"),
}


@pytest.mark.parametrize("name", LOCKS)
def test_a_lock_that_is_held_elsewhere_does_not_cross_a_fork(name: str) -> None:
    holder = LOCKS[name]()
    held, free = threading.Event(), threading.Event()

    def hold() -> None:
        with getattr(holder, "_lock", holder):
            held.set()
            free.wait(0.1)

    def taken() -> bool:
        with getattr(holder, "_lock", holder):
            return True

    thread = threading.Thread(target=hold)
    thread.start()
    held.wait()
    assert in_a_child(taken)
    thread.join()
    assert taken()


def test_questions_that_a_childs_parent_was_embedding_do_not_count_there() -> None:
    waiting, go_on = threading.Semaphore(0), threading.Event()

    def slow(texts: list[str]) -> list[list[float]]:
        waiting.release()
        go_on.wait(20)
        return [[1.0] for _ in texts]

    foreign = Foreign(slow, "slow", timeout=20)
    asking = [threading.Thread(target=foreign.embed, args=([str(n)],)) for n in range(8)]
    for thread in asking:
        thread.start()
        waiting.acquire()

    def answered() -> bool:
        go_on.set()
        return foreign.embed(["from a child"]).tolist() == [[1.0]]

    assert in_a_child(answered)
    go_on.set()
    for thread in asking:
        thread.join()


PLAIN = {
    # Held while a memory is made, which forks are told of: what they waited for could be waiting for them.
    "marked.py": 1,
    "batch/job.py": 1,  # of one call of a method
    "langchain/costs.py": 1,  # of the runs of one request
}


def test_every_other_lock_is_one_that_forks_know_of() -> None:
    """A lock is a `Latch`, or its class says what a fork does to it."""
    found: dict[str, int] = {}
    for path in PACKAGE.rglob("*.py"):
        tree = ast.parse(path.read_text("utf-8"))
        knowing = [
            node
            for node in ast.walk(tree)
            if isinstance(node, ast.ClassDef)
            and any(isinstance(part, ast.FunctionDef) and part.name == "after_fork" for part in node.body)
        ]
        known = {id(inner) for node in knowing for inner in ast.walk(node)}
        plain = sum(
            isinstance(node, ast.Call)
            and isinstance(node.func, ast.Attribute)
            and node.func.attr in ("Lock", "RLock")
            and id(node) not in known
            for node in ast.walk(tree)
        )
        if plain:
            found[path.relative_to(PACKAGE).as_posix()] = plain
    found.pop("storage/forks.py")
    assert found == PLAIN
