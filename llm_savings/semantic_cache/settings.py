"""What a user may set on a semantic cache, checked once."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, fields
from datetime import timedelta
from pathlib import Path
from typing import Any, TypedDict

from llm_savings.errors import ConfigError
from llm_savings.ledger import Ledger
from llm_savings.semantic_cache.comparing import Judge
from llm_savings.semantic_cache.embedders import Embeddings
from llm_savings.semantic_cache.found import Lookup


class Options(TypedDict, total=False):
    """The keywords of a semantic cache; see `Settings`."""

    embeddings: Embeddings | None
    max_error: float
    similarity_threshold: float | None
    ttl: timedelta | float | None
    sliding: bool
    namespace: str
    max_entries: int | None
    max_bytes: int | None
    max_temperature: float
    tools: bool
    longest: int
    tuned: str | Path | None
    audit_rate: float
    judge: Judge | None
    judge_error: float
    redact: Callable[[str], str] | None
    shadow: bool
    wait: float
    embed_timeout: float
    on_lookup: Callable[[Lookup], None] | None
    ledger: Ledger | str | Path | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Settings:
    """How a semantic cache behaves.

    Attributes:
        embeddings: LangChain `Embeddings`, a function from texts to vectors, the name of a LiteLLM model, or None for
            the bundled embedder, which needs no network. A name and a function, ("bge-m3", model.encode), where the
            store outlives the program and nothing else says whose vectors these are.
        max_error: The share of lookups that may be answered wrongly. 0 serves nothing but the same question.
        similarity_threshold: Serve what is at least so close (cosine), instead of by `max_error`. Differing numbers,
            negations and the like still block.
        ttl: How long an answer is one: a timedelta or seconds; None for ever.
        sliding: Whether a hit gives an answer its whole time again.
        namespace: Whose answers these are; nothing crosses it.
        max_entries: At most so many answers are kept; those that save least per byte go first. None for no limit.
        max_bytes: The same in bytes.
        max_temperature: Requests with a higher one are not cached.
        tools: Whether answers that call tools, and the turns that follow, are cached.
        longest: Characters of a question up to which its meaning is looked for; longer ones hit only word for word.
        tuned: A file of `llm-savings cache tune`: the thresholds that your own labelled pairs support.
        audit_rate: Share of hits by meaning that are answered by the model after all, to learn whether they are right.
            More of them (0.5) teach faster what more may be served; the rate falls to 0.02 by itself. 0 for none.
        judge: Compares a stored and a fresh answer, in place of comparing their words.
        judge_error: Share of right answers that the judge calls wrong, as you measured it on answers that you know. Too
            high a share lets wrong answers pass.
        redact: What a question or an answer goes through before anything is done with it, such as removing names.
        shadow: Look up and record what would have been served, and serve nothing.
        wait: Seconds that a call waits for another one with the same question; 0 to never wait.
        embed_timeout: Seconds after which a foreign embedder is not waited for.
        on_lookup: Called with each `Hit` or `Miss`.
        ledger: Where the calls of the user's own embedder are recorded, as an overhead. LiteLLM's are by `CostLogger`.
    """

    embeddings: Embeddings | None = None
    max_error: float = 0.01
    similarity_threshold: float | None = None
    ttl: timedelta | float | None = timedelta(hours=24)
    sliding: bool = False
    namespace: str = ""
    max_entries: int | None = 100_000
    max_bytes: int | None = None
    max_temperature: float = 1.0
    tools: bool = False
    longest: int = 1_000
    tuned: str | Path | None = None
    audit_rate: float = 0.02
    judge: Judge | None = None
    judge_error: float = 0.0
    redact: Callable[[str], str] | None = None
    shadow: bool = False
    wait: float = 30.0
    embed_timeout: float = 1.0
    on_lookup: Callable[[Lookup], None] | None = None
    ledger: Ledger | str | Path | None = None

    def __post_init__(self) -> None:
        _within("max_error", self.max_error, 0, 0.5)
        if self.similarity_threshold is not None:
            _within("similarity_threshold", self.similarity_threshold, 0, 1)
        _within("audit_rate", self.audit_rate, 0, 1)
        _within("judge_error", self.judge_error, 0, 0.25)
        _within("max_temperature", self.max_temperature, 0, 100)
        _within("wait", self.wait, 0, 3600)
        _within("embed_timeout", self.embed_timeout, 0.001, 3600)
        _within("longest", self.longest, 0, float("inf"))
        for name in ("max_entries", "max_bytes"):
            if getattr(self, name) is not None:
                _within(name, getattr(self, name), 1, float("inf"))
        if self.ttl is not None:
            seconds(self.ttl)

    @classmethod
    def of(cls, options: Options) -> Settings:
        """From keywords.

        Raises:
            ConfigError: One is not known, or its value makes no sense.
        """
        known = {field.name for field in fields(cls)}
        if unknown := sorted(set(options) - known):
            raise ConfigError(f"{unknown[0]}: no such option of a semantic cache; there are {', '.join(sorted(known))}")
        return cls(**options)


def seconds(ttl: timedelta | float, name: str = "ttl") -> float:
    """A time to live in seconds.

    Raises:
        ConfigError: It is not above 0.
    """
    found: Any = ttl.total_seconds() if isinstance(ttl, timedelta) else ttl
    if isinstance(found, bool) or not isinstance(found, int | float) or not 0 < found < 1e10:
        raise ConfigError(f"{name}={ttl!r} is no time to live; pass a timedelta or seconds above 0, or None for ever")
    return float(found)


def _within(name: str, value: Any, low: float, high: float) -> None:
    if isinstance(value, bool) or not isinstance(value, int | float) or not low <= value <= high:
        raise ConfigError(f"{name}={value!r} is out of range; expected a number from {low:g} to {high:g}")
