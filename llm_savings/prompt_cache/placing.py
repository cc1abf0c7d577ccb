"""Where the marks of a prompt go: a pure function of its blocks, what is known of them, prices and the time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from llm_savings.prompt_cache.memory import Known
from llm_savings.prompt_cache.prompt import Prompt
from llm_savings.prompt_cache.rules import Life, Terms

_UNSURE = 1.15
"""How far a count of ours may be above the provider's before anything was learned from a usage."""


@dataclass(frozen=True, slots=True)
class Spot:
    """A mark to be set: on which block, how long it lives, whether the provider holds it already, and why."""

    block: int
    life: Life
    live: bool
    saves: float
    why: str


@dataclass(frozen=True, slots=True)
class Placed:
    """The marks, those of the caller with their lives, and the reasons."""

    spots: tuple[Spot, ...]
    own: tuple[tuple[int, Life], ...]
    reasons: tuple[str, ...]


def place(prompt: Prompt, terms: Terms, known: Sequence[Known | None], now: float, scale: float, calls: int) -> Placed:
    """Choose the marks of a prompt."""
    own = tuple((block, _life(terms, ttl)) for block, ttl in sorted(prompt.own.items()) if terms.lives)
    if not terms.marked or not terms.lives:
        return Placed((), own, (terms.why,))
    room = terms.marks - len(prompt.own)
    if room <= 0:
        return Placed((), own, ("the caller has set all the marks that a request takes",))
    floor = terms.minimum * (_UNSURE if not calls else 1.05)
    allowed = [
        block
        for block in range(len(prompt))
        if prompt.markable[block]
        and prompt.tokens[block] * scale >= floor
        and prompt.places[block].part in terms.parts
        and block not in prompt.own
    ]
    if not allowed:
        return Placed((), own, (f"nothing is as long as the {terms.minimum} tokens that {terms.model} caches",))
    life = terms.lives[0]
    live = [block for block in allowed if (k := known[block]) is not None and k.ends > now]
    spots: dict[int, Spot] = {}
    if live:
        spots[live[-1]] = Spot(live[-1], life, True, 0.0, "the provider holds it: a read, and it lives on")
    seen = [block for block in allowed if known[block] is not None and block not in spots]
    if seen and seen[-1] > (live[-1] if live else -1) and len(spots) < room:
        spots[seen[-1]] = Spot(seen[-1], life, False, 1 - terms.read, "it was sent before: a shared beginning")
    growing = any(k is not None and k.ended for k in known)
    tail = allowed[-1]
    if growing and tail not in spots and len(spots) < room:
        spots[tail] = Spot(tail, life, False, 1 - terms.read, "the conversation goes on")
    reasons = () if spots else ("it was never sent before, and most prompts are sent once",)
    return Placed(tuple(spots[block] for block in sorted(spots)), own, reasons)


def _life(terms: Terms, ttl: str) -> Life:
    return next((life for life in terms.lives if life.name == ttl), terms.lives[0])
