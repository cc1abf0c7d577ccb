"""What a lookup finds: a `Hit` with its answer, or a `Miss` with its reason."""

from __future__ import annotations

from collections.abc import Mapping
from contextvars import ContextVar
from dataclasses import dataclass
from decimal import Decimal
from typing import Any, Literal, NamedTuple, cast

from llm_savings.semantic_cache.entries import Entry, Vector
from llm_savings.semantic_cache.match import Question as Words
from llm_savings.semantic_cache.scope import Question


class Reading(NamedTuple):
    """What is read of a question's text when its meaning is looked up.

    Attributes:
        vector: Shape (dimensions,); all zero where its meaning cannot be told.
        words: Its words and facts.
    """

    vector: Vector
    words: Words


Tier = Literal["exact", "canonical", "semantic"]
"""How a hit was found: the same text; the same but for case, spacing and punctuation; the same meaning."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Hit:
    """A stored answer that is given.

    Attributes:
        question: What was asked.
        entry: The stored answer. Its `text` is what somebody else asked: not for the one who asks now.
        tier: How it was found.
        probability: That the answer is right, as the match model and what was learned since have it; 1 if exact.
        cosine: Of the two questions, or None where meaning was not looked at.
        age: Seconds since it was stored.
        took: Seconds that the lookup took.
        waited: Whether another call was under way for it, whose answer this is.
    """

    question: Question
    entry: Entry
    tier: Tier
    probability: float
    cosine: float | None
    age: float
    took: float
    waited: bool = False

    @property
    def saved(self) -> Decimal | None:
        """USD that the model would have taken, or None when unknown."""
        return self.entry.cost

    @property
    def saved_seconds(self) -> float | None:
        """Seconds that the model took when it was asked, less those of the lookup; None when unknown."""
        return None if self.entry.latency is None else max(0.0, self.entry.latency - self.took)

    def evidence(self) -> dict[str, Any]:
        """What may travel with the answer: plain values, and nothing of what others asked."""
        saved, seconds = self.saved, self.saved_seconds
        return {
            "cache": "hit",
            "tier": self.tier,
            "probability": round(self.probability, 4),
            "similarity": None if self.cosine is None else round(self.cosine, 4),
            "entry": self.entry.id,
            "age_seconds": round(self.age, 3),
            "saved_usd": None if saved is None else f"{saved:f}",
            "saved_ms": None if seconds is None else round(seconds * 1000, 1),
            "lookup_ms": round(self.took * 1000, 3),
        }


@dataclass(frozen=True, slots=True, kw_only=True)
class Miss:
    """No stored answer is given.

    Attributes:
        reason: Why, in few words: "new", "unlike", "empty scope", "guard: number", "audit", "shadow", ...
        question: What was asked; None where it is not to be cached.
        nearest: The closest stored answer, for the operator.
        probability: That it would have been right.
        cosine: Of the two questions.
        would: In shadow and at a deliberate miss, the hit that was not given.
        judged: Whether it hung on the probability alone, so that a fresh answer says something about it.
        took: Seconds that the lookup took.
    """

    reason: str
    question: Question | None = None
    nearest: Entry | None = None
    probability: float | None = None
    cosine: float | None = None
    would: Hit | None = None
    judged: bool = False
    took: float = 0.0

    def evidence(self) -> dict[str, Any]:
        """What may travel with the answer: plain values, and nothing of what others asked."""
        found: dict[str, Any] = {"cache": "miss", "reason": self.reason, "lookup_ms": round(self.took * 1000, 3)}
        if self.probability is not None:
            found["probability"] = round(self.probability, 4)
        if self.cosine is not None:
            found["similarity"] = round(self.cosine, 4)
        if self.would is not None:
            found["would"] = self.would.evidence()
        return found


Lookup = Hit | Miss

last_lookup: ContextVar[Lookup | None] = ContextVar("llm_savings_last_lookup", default=None)
"""What the last lookup in this context found."""


def evidence_of(metadata: Mapping[str, Any]) -> Mapping[str, Any] | None:
    """The evidence in an answer's metadata, if a semantic cache had a part in it."""
    found = metadata.get("llm_savings")
    return cast("Mapping[str, Any]", found) if isinstance(found, Mapping) and "cache" in found else None
