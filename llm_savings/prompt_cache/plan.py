"""`plan_breakpoints`: where marks pay in a prompt, by the provider's rules, its prices and the odds of reuse."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import partial
from typing import Any

from llm_savings.pricing.amounts import rounded
from llm_savings.prompt_cache.lessons import Observed
from llm_savings.prompt_cache.memory import Known, Memory, Moment, seconds
from llm_savings.prompt_cache.placing import Counts, place
from llm_savings.prompt_cache.prompt import Place, Prompt, read_prompt
from llm_savings.prompt_cache.rules import Dialect, Life, Terms

_MILLIONTH = Decimal("0.000001")
_SECONDS_EACH = 4.0
_ENOUGH = 60  # sightings before a pace counts: a burst of a few is no traffic


@dataclass(frozen=True, slots=True)
class Mark:
    """A mark to be set, and what speaks for it.

    Attributes:
        place: Where it stands.
        ttl: "5m", "30m" or "1h".
        tokens: Estimated tokens of the whole prefix that ends here.
        why: The reason, for people.
        expected_usd: What the tokens since the mark before cost with it: this call, less what the next one is expected
            to save.
        unmarked_usd: What they cost without.
    """

    place: Place
    ttl: str
    tokens: int
    why: str
    expected_usd: Decimal
    unmarked_usd: Decimal


@dataclass(frozen=True, slots=True, eq=False)
class Plan:
    """What to mark in one prompt, and why.

    Attributes:
        model: The model, as asked for.
        dialect: How marks are written: "anthropic", "bedrock", "openai", "automatic" (none needed) or "none".
        marks: The marks to set, in the prompt's order; the caller's own are not among them.
        own: Where the caller's own marks are, and their times to live; they are kept.
        reasons: Why there are these marks and no others.
        expected_usd: What the prompt is expected to cost with the marks, what the next call saves taken off.
        unmarked_usd: What it costs with nothing cached.
        prefix: A hash that names the prompt's stable beginning (tools and system text), for reports.
        prompt_cache_key: The same as a request's `prompt_cache_key`, or None where the provider takes none.
        at: When it was planned, in seconds since 1970 (UTC).
        prompt: The blocks that were read.
        terms: The provider's rules and prices.
        written: The blocks that the provider holds from now on, and for how long.
        watched: Prefixes whose return is waited for, to learn from it.
        turns: How many requests of the conversation came before, as far as is known.
        end: The last block that a later prompt can share.
        held: Tokens that the provider is expected to hold, and so to read.
        account: What the marks cost beyond plain input, what they bring at once, and the prompt's tokens.
    """

    model: str
    dialect: Dialect
    marks: tuple[Mark, ...]
    own: tuple[tuple[Place, str], ...]
    reasons: tuple[str, ...]
    expected_usd: Decimal
    unmarked_usd: Decimal
    prefix: str
    prompt_cache_key: str | None
    at: float
    prompt: Prompt
    terms: Terms
    written: tuple[tuple[int, Life], ...] = ()
    watched: tuple[Observed, ...] = ()
    turns: int = 0
    end: int = -1
    account: tuple[float, float, float] = (0.0, 0.0, 0.0)
    held: float = 0.0

    def evidence(self) -> dict[str, Any]:
        """What the plan did, for the call's row in the ledger: hashes and numbers, no text."""
        return {
            "prefix": self.prefix,
            "held": int(self.held),
            "marks": [[mark.ttl, mark.tokens] for mark in self.marks],
            "expected_usd": format(self.expected_usd, "f"),
            "unmarked_usd": format(self.unmarked_usd, "f"),
        }


def plan_breakpoints(
    messages: Sequence[Any],
    tools: Sequence[Any] | None,
    model: str,
    *,
    memory: Memory,
    now: Moment | None = None,
    provider: str | None = None,
    system: Any = None,
    options: Mapping[str, Any] | None = None,
) -> Plan:
    """Plan the marks of one prompt. Reads the memory and changes nothing; the same arguments give the same plan.

    Args:
        messages: Chat messages in OpenAI's or LiteLLM's form, or with Anthropic's or Bedrock's content blocks.
        tools: Tool definitions, or None.
        model: The model's name, as sent to the provider.
        memory: What is known of prefixes; tell it afterwards what became of the call (`memory.record`).
        now: When the call is made; None is now.
        provider: LangChain's ls_provider or LiteLLM's custom_llm_provider, if known.
        system: System text given apart from the messages (Anthropic, Bedrock): a string or content blocks.
        options: The call's other parameters. Of them count those that make the provider forget the messages
            (`tool_choice`, `thinking`, ...) and `api_base` or `base_url`.

    Example:
        >>> memory = Memory()
        >>> question = [{"role": "user", "content": "What is a leap year?"}]
        >>> plan_breakpoints(question, None, "claude-sonnet-4-5", memory=memory).marks
        ()
    """
    given = options or {}
    terms = terms_for(memory, model, provider, given)
    prompt = read_prompt(messages, tools, system, seed=memory.seed(terms.model), options=given)
    return plan_prompt(prompt, terms, memory, now=memory.clock() if now is None else seconds(now), model=model)


def terms_for(memory: Memory, model: str, provider: str | None, options: Mapping[str, Any]) -> Terms:
    """What caching means for a call with these parameters."""
    return memory.terms(model, provider, options.get("api_base") or options.get("base_url"))


def plan_prompt(prompt: Prompt, terms: Terms, memory: Memory, *, now: float, model: str) -> Plan:
    """Plan the marks of a prompt that was read, at so many seconds since 1970."""
    scale = memory.scale(model)
    caution, allowed = memory.purse(model, terms, scale * prompt.tokens[-1] if prompt.tokens else 0.0)
    reached = partial(memory.reaches, prompt, terms.minimum)
    counts = Counts(scale, memory.floor(model, terms.minimum), memory.floor(model, 0), reached, caution, allowed)
    known = memory.known(prompt.keys)
    placed = place(prompt, terms, known, memory.odds, now=now, counts=counts)
    tokens = [count * scale for count in prompt.tokens]
    total = tokens[-1] if tokens else 0.0
    marks: list[Mark] = []
    before = paid = gained = saved = 0.0
    for spot in placed.spots:
        segment = tokens[spot.block] - before
        price = terms.read if spot.live else spot.life.write
        later = 0.0 if spot.live else spot.chance * (1.0 - terms.read)
        paid += max(0.0, price - 1.0) * segment
        gained += max(0.0, 1.0 - price) * segment
        saved += (1.0 - price + later) * segment
        cost = _usd((price - later) * segment, terms)
        why = Mark(
            prompt.places[spot.block], spot.life.name, int(tokens[spot.block]), spot.why, cost, _usd(segment, terms)
        )
        marks.append(why)
        before = tokens[spot.block]
    stable = format(prompt.keys[prompt.shared], "016x") if prompt.shared >= 0 else ""
    return Plan(
        model=model,
        dialect=terms.dialect,
        marks=tuple(marks),
        own=tuple((prompt.places[block], ttl) for block, ttl in sorted(prompt.own.items())),
        reasons=placed.reasons,
        expected_usd=_usd(total - saved, terms),
        unmarked_usd=_usd(total, terms),
        prefix=stable,
        prompt_cache_key=_cache_key(prompt, stable, known[prompt.shared]) if terms.key and stable else None,
        at=now,
        prompt=prompt,
        terms=terms,
        written=(*((spot.block, spot.life) for spot in placed.spots), *placed.own),
        watched=placed.watched,
        turns=placed.turns,
        end=placed.end,
        account=(paid, gained, total),
        held=max((tokens[spot.block] for spot in placed.spots if spot.live), default=0.0),
    )


def _cache_key(prompt: Prompt, stable: str, known: Known | None) -> str:
    """The stable beginning's hash; where more come than one machine serves, with a number for each conversation.

    About 15 requests a minute with one prefix and key stay together (OpenAI's guide to prompt caching).
    """
    shards = 1
    pace = known.pace if known is not None and known.sightings > _ENOUGH else _SECONDS_EACH
    while shards < 64 and pace * shards < _SECONDS_EACH:
        shards *= 2
    first = prompt.keys[min(prompt.shared + 1, len(prompt) - 1)]
    return f"ls-{stable}" + (f"-{first % shards}" if shards > 1 else "")


def _usd(tokens: float, terms: Terms) -> Decimal:
    return rounded(round(tokens), terms.usd, _MILLIONTH)
