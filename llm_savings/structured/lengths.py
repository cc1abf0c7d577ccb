"""How long answers get: what limits are set by, and what is saved is measured by."""

from __future__ import annotations

from collections import deque
from typing import Any

from llm_savings.history import usual
from llm_savings.storage.forks import Guarded

_REMEMBERED = 500
_HELD_ENOUGH = 20  # answers without the saving before their mean length is taken for what answers would be


class Lengths(Guarded):
    """How many tokens answers took, by model, with the saving and without. Safe for threads.

    Args:
        schema: What the answers are called.
        ledger: Where past answers are, if anywhere.
    """

    def __init__(self, schema: str, ledger: Any) -> None:
        super().__init__()
        self._schema, self._ledger = schema, getattr(ledger, "ledger", ledger)
        self._known: dict[str, tuple[deque[int], deque[int]]] = {}

    def learn(self, model: str, output: int, *, held: bool) -> None:
        """Remember an answer; `held`: it was made without the saving."""
        found = self._of(model)
        with self._lock:
            found[held].append(output)

    def usual(self, model: str) -> int | None:
        """Tokens that 99 of 100 answers stayed below, or None before there are enough."""
        found = self._of(model)
        with self._lock:
            return usual(found[False])

    def mean_held(self, model: str) -> int | None:
        """The mean of the answers without the saving, or None before there are enough."""
        found = self._of(model)
        with self._lock:
            held = found[True]
            return round(sum(held) / len(held)) if len(held) >= _HELD_ENOUGH else None

    def _of(self, model: str) -> tuple[deque[int], deque[int]]:
        if (found := self._known.get(model)) is not None:
            return found
        fresh: tuple[deque[int], deque[int]] = (deque(maxlen=_REMEMBERED), deque(maxlen=_REMEMBERED))
        if self._ledger is not None:
            past: list[tuple[int, bool]] = self._ledger.answers(model, self._schema)
            for output, held in past:
                fresh[held].append(output)
        with self._lock:
            return self._known.setdefault(model, fresh)
