"""Where the marks of a prompt go: a pure function of its blocks, what is known of them, prices and the time.

The deepest prefix that the provider holds is always marked again: that is a mere read, and it lives on. Beyond it, a
mark on a block costs the write premium for every token since the mark before it, and brings the price of a later read
with the chance that the next request has that prefix too. The best set of at most four is found by dynamic programming
over the few blocks that can be worth it: where the prompt leaves what was sent before, where earlier ones parted, the
end of tools and system text, and the last blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from llm_savings.prompt_cache.lessons import Observed
from llm_savings.prompt_cache.odds import OFFSETS, Odds, facts
from llm_savings.prompt_cache.prompt import Prompt
from llm_savings.prompt_cache.rules import SECONDS, Life, Terms

if TYPE_CHECKING:
    from llm_savings.prompt_cache.memory import Known

_SLACK = 3.0
"""Seconds that a request may be under way: what ends sooner is taken as gone."""
_WRITTEN_THEN = 0.25
"""How often a prefix that comes again unwritten would be written then, so that a write now only comes earlier."""
_RECORD = 12.0
_BRANCHES = 3
# What a set of marks brings, what its writes cost beyond plain input (both in tokens of input), and its marks.
_Best = tuple[float, float, tuple[tuple[int, int], ...]]


@dataclass(frozen=True, slots=True)
class Spot:
    """A mark to be set.

    Attributes:
        block: On which block.
        life: For how long.
        live: The provider holds it already.
        chance: That the next request has it in time.
        why: The reason, for people.
    """

    block: int
    life: Life
    live: bool
    chance: float
    why: str


@dataclass(frozen=True, slots=True)
class Placed:
    """The marks, the caller's own with their lives, the reasons, and what is to be watched to learn from it.

    Attributes:
        spots: The marks to set, in order.
        own: The caller's marks.
        reasons: Why there are no others.
        watched: Prefixes whose return tells something.
        turns: How many requests of the conversation came before.
        end: The last block that a later prompt can share.
    """

    spots: tuple[Spot, ...]
    own: tuple[tuple[int, Life], ...]
    reasons: tuple[str, ...]
    watched: tuple[Observed, ...] = ()
    turns: int = 0
    end: int = -1


@dataclass(frozen=True, slots=True)
class _Candidate:
    """A block that a mark may be set on.

    Attributes:
        block: Which.
        tokens: Tokens up to its end.
        chances: For each life, the chance that the next request has it in time.
        lasting: For each life, the chance that this goes on so, by its own record.
        why: What speaks for it.
    """

    block: int
    tokens: float
    chances: tuple[float, ...]
    lasting: tuple[float, ...]
    why: str


@dataclass(frozen=True, slots=True)
class Counts:
    """How our tokens compare with the provider's, and what may be spent on marks.

    Attributes:
        scale: The provider's tokens for one of ours.
        floor: Tokens that a prefix must have to be marked,
        refused: and one that the provider itself has counted: more than the longest that it refused.
        reached: Whether the prefix up to a block has them by a real count.
        caution: What a mark must bring beyond its price, relative to it.
        allowed: What writes may cost beyond plain input, in tokens of input.
    """

    scale: float
    floor: float
    refused: float
    reached: Callable[[int], bool]
    caution: float
    allowed: float


def place(
    prompt: Prompt, terms: Terms, known: Sequence[Known | None], odds: Odds, *, now: float, counts: Counts
) -> Placed:
    """Choose the marks of a prompt.

    Args:
        prompt: Its blocks.
        terms: The provider's rules and prices.
        known: What is known of each prefix.
        odds: The chances of return.
        now: When it is sent, in seconds.
        counts: How our tokens compare with the provider's, and what may be spent.
    """
    own = tuple((block, _life(terms, ttl)) for block, ttl in sorted(prompt.own.items())) if terms.lives else ()
    if not terms.marked or not terms.lives:
        return Placed((), own, (terms.why or "no time to live is allowed",))
    long = next((block for block, k in enumerate(known) if k and k.long), len(prompt))
    allowed = [
        block
        for block, tokens in enumerate(prompt.tokens)
        if tokens * counts.scale >= (counts.floor if block < long else counts.refused)
        and prompt.markable[block]
        and _stands(prompt, block, terms)
    ]
    scene = _Scene(prompt, terms, known, odds, now=now, counts=counts)
    while allowed:
        placed = scene.placed(own, allowed)
        if not placed.spots or placed.spots[0].block >= long or counts.reached(placed.spots[0].block):
            return placed
        # Shorter than it looks: once more without what is too short.
        allowed = [block for block in allowed if block >= long or counts.reached(block)]
    return Placed((), own, (f"no prefix is surely as long as the {terms.minimum} tokens that are cached",))


def _stands(prompt: Prompt, block: int, terms: Terms) -> bool:
    """Whether the provider takes a mark there. Nova takes none on tools, and none behind their calls and results."""
    if terms.dialect == "bedrock" and "tools" not in terms.parts and prompt.kinds[block] not in ("system", "user"):
        return False
    return prompt.places[block].part in terms.parts


class _Scene:
    """One prompt and what is known of it."""

    def __init__(
        self, prompt: Prompt, terms: Terms, known: Sequence[Known | None], odds: Odds, *, now: float, counts: Counts
    ) -> None:
        self.prompt, self.terms, self.known, self.odds, self.now = prompt, terms, known, odds, now
        self.tokens = [count * counts.scale for count in prompt.tokens]
        self.watched: list[Observed] = []
        # Everything up to the deepest block that was sent before was sent before.
        self.seen = next((block for block, k in enumerate(known) if k is None), len(prompt)) - 1
        self.deepest = known[self.seen] if self.seen >= 0 else None
        self.grows = self.seen > prompt.shared
        self.turns = self.deepest.turns + 1 if self.deepest and self.grows else 0
        self.caution, self.allowance = counts.caution, counts.allowed
        self.halted = False
        self.allowed: list[int] = []
        self.live: list[int] = []
        self.base = -1

    def placed(self, own: tuple[tuple[int, Life], ...], allowed: list[int]) -> Placed:
        """The best marks beside the caller's own, on blocks where they may stand."""
        soon = self.now + _SLACK
        self.allowed, self.watched = allowed, []
        # What is said to end later than a life from now was written by a clock that was wrong.
        self.live = [
            block
            for block in allowed
            if block <= self.seen and (k := self.known[block]) and soon < k.ends <= soon + k.life
        ]
        self.base = max(self.live[-1] if self.live else -1, max(self.prompt.own, default=-1))
        candidates = self.candidates()
        room = self.terms.marks - len(own) - self.prompt.automatic
        spots: list[Spot] = []
        reasons: tuple[str, ...] = ()
        if room > 0:
            spots += self.held(room)
            spots += self.best(candidates, room - len(spots))
            spots += self.kept(room - len(spots), spots)
            reasons = () if spots else (self.too_rare(candidates),)
        else:
            reasons = ("the caller has set all the marks that a request takes",)
        spots.sort(key=lambda spot: spot.block)
        return Placed(tuple(spots), own, reasons, tuple(self.watched), self.turns, self.allowed[-1])

    def held(self, room: int) -> list[Spot]:
        """The deepest prefix that the provider holds."""
        if not self.live or self.live[-1] in self.prompt.own or room <= 0 or not self._fits(self.live[-1]):
            return []
        block = self.live[-1]
        return [self._again(block, "the provider holds it: a read, and it lives on")]

    def kept(self, room: int, spots: list[Spot]) -> list[Spot]:
        """Shorter prefixes that others share, marked again at no price so that they live on."""
        held = self.known[spots[0].block] if spots and spots[0].live and room > 0 else None
        shared = [
            block
            for block in (self._branches(spots[0].block) if held else ())
            # Beyond what this conversation alone has sent.
            if held and (k := self.known[block]) and k.sightings > self.turns + 1 and k.life >= held.life
        ]
        return [self._again(block, "others share it: it lives on") for block in shared[:room] if self._fits(block)]

    def candidates(self) -> list[_Candidate]:
        """The blocks that may be worth a mark, in order; what is to be watched is noted on the way."""
        found: dict[int, _Candidate] = {}
        lives = self.terms.lives
        seconds = [life.seconds for life in lives]
        for block in self._trunks():
            known = self.known[block]
            if known is None:
                continue
            beyond = block > self.prompt.shared
            traits = facts(
                grows=beyond,
                ended=known.ended,
                tokens=self.tokens[block],
                turns=known.turns + 1 if beyond else 0,
                gap=self.now - known.seen,
                new=self.tokens[-1] - self.tokens[self.seen],
                sightings=known.sightings,
                calls=float(self.prompt.kinds[block] == "tool"),
            )
            idle = self.now - known.seen
            chances = tuple(
                self.odds.chance("trunk", traits, life.seconds, known.in_time(life.seconds), idle) for life in lives
            )
            lasting = tuple(in_time / (returns + _RECORD) for returns, in_time in map(known.in_time, seconds))
            why = f"sent {known.sightings} times before: it comes again"
            found[block] = _Candidate(block, self.tokens[block], chances, lasting, why)
            size = self.tokens[block] - (self.tokens[self.base] if self.base >= 0 else 0.0)
            self.watched.append(("trunk", traits, (block,), None, size))
        last = [block for block in self.allowed if block > self.seen]
        if last:
            self._leaves(last, found)
        return [found[block] for block in sorted(found) if block > self.base and block not in self.prompt.own]

    def _leaves(self, last: list[int], found: dict[int, _Candidate]) -> None:
        deepest = self.deepest
        calls = 1.0 if self.prompt.kinds[last[-1]] == "tool" else 0.6 * self.prompt.agentic
        traits = facts(
            grows=self.grows,
            ended=bool(deepest and deepest.ended),
            tokens=self.tokens[last[-1]],
            turns=self.turns,
            gap=self.now - deepest.seen if deepest and self.grows else 0.0,
            new=self.tokens[-1] - (self.tokens[self.seen] if self.grows else 0.0),
            sightings=deepest.sightings if deepest and self.grows else 1,
            calls=calls,
        )
        livelier = deepest.liveliness if deepest else 1.0
        chances = [min(0.99, livelier * self.odds.chance("leaf", traits, life.seconds)) for life in self.terms.lives]
        blocks = [last[-1 - offset] for offset in OFFSETS if offset < len(last)]
        why = "the conversation goes on" if self.grows else "prompts like it are built upon"
        unknown = (0.0,) * len(self.terms.lives)
        for block, share in zip(blocks, self.odds.reaching(), strict=False):
            these = tuple(chance * share for chance in chances)
            found[block] = _Candidate(block, self.tokens[block], these, unknown, why)
        shared = self.prompt.shared
        if shared in last and shared not in found:
            found[shared] = _Candidate(shared, self.tokens[shared], tuple(chances), unknown, "system text")
        parent = self.seen if self.seen >= 0 else None
        size = self.tokens[blocks[0]] - (self.tokens[self.seen] if self.seen >= 0 else 0.0)
        self.watched.append(("leaf", traits, tuple(blocks), parent, size))

    def best(self, candidates: list[_Candidate], room: int) -> list[Spot]:
        """The set of marks that brings the most, by dynamic programming over the candidates in order."""
        lives = self.terms.lives
        start = self.tokens[self.base] if self.base >= 0 else 0.0
        # (what it brings, the marks) of the best set that ends at a candidate with a life, for each number of marks
        ends: dict[tuple[int, int, int], _Best] = {}
        best: _Best = (0.0, 0.0, ())
        for at, candidate in enumerate(candidates):
            for kind, life in enumerate(lives):
                if not self._fits(candidate.block, life):
                    continue
                gain = self._gain(life, candidate.lasting[kind])
                rate = candidate.chances[kind] * gain - (life.write - 1.0) * (1.0 + self.caution)
                if rate <= 0:  # the next mark would do better with its tokens, and without one it loses
                    continue
                for count in range(1, room + 1):
                    options: list[_Best] = []
                    steps: list[tuple[float, _Best]] = [(start, (0.0, 0.0, ()))] if count == 1 else []
                    for before in range(at):
                        for longer in range(kind, len(lives)):
                            if found := ends.get((before, longer, count - 1)):
                                steps.append((candidates[before].tokens, found))
                    for before, (brings, costs, marks) in steps:
                        size = candidate.tokens - before
                        costs += (life.write - 1.0) * size
                        if costs <= self.allowance:
                            options.append((brings + rate * size, costs, (*marks, (at, kind))))
                        else:
                            self.halted = True
                    if options:
                        ends[at, kind, count] = top = max(options)
                        best = max(best, top)
        return [self._spot(candidates[at], kind) for at, kind in best[2]]

    def too_rare(self, candidates: list[_Candidate]) -> str:
        """Why no mark is worth it."""
        life = self.terms.lives[0]
        if not candidates:
            return "it was never sent before, and little is known yet of what comes again"
        if self.halted:
            return "marks have brought less than they cost lately; new ones are tried again little by little"
        chance = max(candidate.chances[0] for candidate in candidates)
        return (
            f"it comes again within {life.name} with a chance of {chance:.0%}; "
            f"a mark pays from {(life.write - 1) * (1 + self.caution) / self._gain(life):.0%}"
        )

    def _gain(self, life: Life, lasting: float = 0.0) -> float:
        """What a read in time brings, in prices of input: the read itself, and that nothing is written again then.

        A prefix that comes again unwritten would be written then, if it goes on to come; so a write now only comes
        earlier. That much is believed of a prefix with a long record of its own.
        """
        read = 1.0 - self.terms.read
        return read + max(_WRITTEN_THEN * (life.write - 1.0) / life.write, min(life.write - 1.0, lasting * read))

    def _spot(self, candidate: _Candidate, kind: int) -> Spot:
        life, chance = self.terms.lives[kind], candidate.chances[kind]
        why = (
            f"{candidate.why}, within {life.name} with a chance of {chance:.0%}; "
            f"a mark pays from {(life.write - 1) / self._gain(life, candidate.lasting[kind]):.0%}"
        )
        return Spot(candidate.block, life, False, chance, why)

    def _again(self, block: int, why: str) -> Spot:
        known = self.known[block]
        lives = self.terms.lives
        life = next((life for life in lives if known and life.seconds == known.life), lives[0])
        return Spot(block, life, True, 1.0, why)

    def _trunks(self) -> Iterator[int]:
        """Where the prompt leaves what was sent before, and where earlier prompts parted, deepest first."""
        top = [block for block in self.allowed if self.base < block <= self.seen]
        if top:
            yield top[-1]
            yield from self._branches(top[-1], self.base)

    def _branches(self, deepest: int, base: int = -1) -> list[int]:
        """Blocks before a block at which other prompts parted from this one, deepest first."""
        found: list[int] = []
        below = self.known[deepest] if deepest >= 0 else None
        for block in reversed([block for block in self.allowed if base < block < deepest]):
            known = self.known[block]
            if known and below and known.sightings > below.sightings:
                found.append(block)
                if len(found) == _BRANCHES:
                    break
            below = known
        return found

    def _fits(self, block: int, life: Life | None = None) -> bool:
        """Whether a mark may stand there beside the others: longer lives come first."""
        wanted = life or self._again(block, "").life
        for other, ttl in self.prompt.own.items():
            # The caller may have asked for a life that this model does not sell; what stands there counts.
            theirs = SECONDS.get(ttl) or _life(self.terms, ttl).seconds
            if other == block or (theirs < wanted.seconds if other < block else theirs > wanted.seconds):
                return False
        if life is not None and self.live and self.live[-1] not in self.prompt.own:
            return life.seconds <= self._again(self.live[-1], "").life.seconds
        return True


def _life(terms: Terms, ttl: str) -> Life:
    return next((life for life in terms.lives if life.name == ttl), terms.lives[0])
