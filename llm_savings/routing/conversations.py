"""Conversations: which turns ask for a stronger model, and when a switch of models is worth a cold prompt cache."""

from __future__ import annotations

import re
import time
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from decimal import Decimal
from hashlib import blake2b

from llm_savings.errors import SavingsError
from llm_savings.pricing import PriceBook
from llm_savings.routing.requests import Asked
from llm_savings.storage.forks import Guarded
from llm_savings.usage import Usage

FAILURES = 2
"""Failures in a row after which a conversation moves up a tier."""

CHEAPER_TURNS = 2
"""Turns in a row for which a cheaper tier would do, before a conversation may move down."""

WARM = 300.0
"""Seconds that a provider keeps a prompt prefix without being asked (Anthropic's and OpenAI's shortest)."""

CACHEABLE = 1_024
"""Tokens below which a prefix is not cached (OpenAI; Anthropic's smallest minimum)."""

USUAL_OUTPUT = 300
"""Tokens of answer that a turn is reckoned with when the caller sets no limit."""

_COMPLAINT = re.compile(
    r"\b(?:that(?:'s| is| was)|this is|you(?:'re| are)|it(?:'s| is)|still) "
    r"(?:just |simply |completely |totally |still )?"
    r"(?:wrong|incorrect|not (?:right|correct|what i (?:asked|meant|wanted))|mistaken|a mistake)\b"
    r"|\b(?:try|do it|think) again\b|\bwrong answer\b|\bdoes(?:n't| not) (?:work|answer|help)\b"
    r"|\bnot (?:correct|helpful)\b"
    r"|틀렸|틀린 (?:것|거|답)|잘못(?:됐|되었|했|된|이야|인 것)|아닌데|아니잖|그게 아니"
    r"|다시 (?:해|생각|풀|확인|답|써|작성|시도|계산)"
    r"|안 ?(?:되는데|돼요|됩니다|돌아가)|이상(?:한데|해요|하잖)|오류가 (?:나|있)|제대로 (?:해|다시)",
    re.IGNORECASE,
)
_REQUEST = re.compile(
    r"\b(?:use|switch to|try|give me|with|ask) (?:a |the |an |your )?(?:better|stronger|smarter|bigger|best|larger) "
    r"(?:model|ai|one)\b|\bthink (?:harder|more carefully|deeper)\b"
    r"|(?:더|제일|가장) (?:좋은|똑똑한|강한|큰|나은) (?:모델|AI|인공지능)|더 깊(?:이|게) 생각",
    re.IGNORECASE,
)
_FOLLOW_UP = re.compile(
    r"\W*(?:and\b|but\b|so\b|why\b|how so|continue|go on|more\b|another\b|elaborate|what about|how about"
    r"|explain|same\b|now\b"
    r"|계속|이어서|더 |왜|그럼|그러면|그리고|그런데|자세히|예를 들|다른 |하나 더|이번엔|그건|그게)",
    re.IGNORECASE,
)
_LONGEST = 300  # characters of a turn that complains; a long one is a new question


def escalation(asked: Asked) -> str | None:
    """Why the last user turn asks for a stronger model ("requested", "complaint"), or None.

    Example:
        >>> escalation(Asked(text="다시 해봐, 틀렸어", answered=True))
        'complaint'
    """
    if not asked.answered or asked.length > _LONGEST:
        return None
    if _REQUEST.search(asked.text):
        return "requested"
    return "complaint" if _COMPLAINT.search(asked.text) else None


def leans_back(asked: Asked) -> bool:
    """Whether the last user turn says little without the one before it, such as "and why?" or "계속해줘"."""
    return asked.answered and bool(asked.before) and asked.length <= 60 and _FOLLOW_UP.match(asked.text) is not None


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a conversation stands.

    Attributes:
        place: The place of its tier, from 0 for the cheapest.
        floor: The place below which it does not go any more.
        cheaper: Turns in a row for which a cheaper tier would have done.
        failures: Failures in a row.
        rises: How often it has moved up.
        turn: What its last user turn was, as a number; an agent asks several times for one.
        at: When its last turn was sent, in seconds of a clock that only goes forward.
    """

    place: int
    floor: int = 0
    cheaper: int = 0
    failures: int = 0
    rises: int = 0
    turn: int = 0
    at: float = 0.0


def stick(standing: Standing | None, proposed: int, *, raised: bool = False, worth: Callable[[], bool]) -> Standing:
    """Where a conversation stands after a turn for which the router proposes a tier.

    It moves up when the turn needs it. It moves down only when a cheaper tier would have done for two turns in a row
    and the move is `worth` a cold prompt cache; and not any more once it has moved up twice. So with two tiers it moves
    four times at most, whatever is asked.

    Args:
        standing: Where it stood, or None for its first turn.
        proposed: The place of the proposed tier.
        raised: The user asked for a stronger model: it does not go below `proposed` any more.
        worth: Whether moving down to the proposed tier saves more than it costs; asked only where it matters.
    """
    if standing is None:
        return Standing(proposed, floor=proposed if raised else 0, rises=int(raised))
    wanted = max(proposed, standing.floor, standing.place if raised else 0)
    if wanted > standing.place:
        rises = standing.rises + 1
        return replace(
            standing, place=wanted, floor=wanted if raised or rises > 1 else standing.floor, cheaper=0, rises=rises
        )
    if wanted == standing.place:
        return replace(standing, cheaper=0, floor=wanted if raised else standing.floor)
    cheaper = standing.cheaper + 1
    if cheaper < CHEAPER_TURNS or not worth():
        return replace(standing, cheaper=cheaper)
    return replace(standing, place=wanted, cheaper=0)


def worth_a_cold_cache(current: str, target: str, asked: Asked, prices: PriceBook, *, warm: bool = True) -> bool:
    """Whether this turn on another model costs less than on the current one, whose prompt cache is warm.

    The current model reads what stands before the last user turn from its cache; the other one pays it in full, and
    the write where writing has a price. What cannot be priced is not worth it.

    Args:
        current: The model that the conversation is at.
        target: The model that it would move to.
        asked: The request.
        prices: The price book.
        warm: Whether the current model's cache still has the prefix.
    """
    prefix = asked.prefix if asked.prefix >= CACHEABLE else 0
    fresh, output = asked.tokens - prefix, asked.output or USUAL_OUTPUT
    stay = Usage(input=fresh, cache_read=prefix, output=output)
    move = Usage(input=fresh, cache_write_5m=prefix, output=output)
    try:
        staying: Decimal = prices.price(stay if warm else move, current)
        return prices.price(move, target) < staying
    except SavingsError:
        return False


class Conversations(Guarded):
    """Where conversations stand, the last few thousand of them; for many threads.

    Args:
        most: How many are remembered; the one that was silent longest is forgotten first.
    """

    def __init__(self, most: int = 10_000) -> None:
        super().__init__()
        self._most = most
        self._known: OrderedDict[bytes, Standing] = OrderedDict()

    def get(self, name: str) -> Standing | None:
        """Where a conversation stands, or None for one that is not known."""
        with self._lock:
            return self._known.get(_digest(name))

    def put(self, name: str, standing: Standing) -> None:
        """Note where a conversation stands now."""
        key = _digest(name)
        with self._lock:
            self._known[key] = replace(standing, at=time.monotonic())
            self._known.move_to_end(key)
            if len(self._known) > self._most:
                self._known.popitem(last=False)

    def answered(self, name: str) -> None:
        """Note that an answer in a conversation was good: failures are not in a row any more."""
        standing = self.get(name)
        if standing is not None and standing.failures:
            self.put(name, replace(standing, failures=0))

    def failed(self, name: str, strongest: int) -> None:
        """Note that an answer in a conversation was no good: after two in a row it moves up a tier."""
        standing = self.get(name)
        if standing is None:
            return
        if standing.failures + 1 < FAILURES:
            self.put(name, replace(standing, failures=standing.failures + 1))
        else:
            self.put(name, replace(standing, failures=0, floor=min(standing.place + 1, strongest)))

    def __len__(self) -> int:
        return len(self._known)


def _digest(name: str) -> bytes:
    return blake2b(name.encode("utf-8", "surrogatepass"), digest_size=16).digest()
