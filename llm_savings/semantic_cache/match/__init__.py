"""Stand-in: plain cosine."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Words:
    text: str
    language: str = "en"


@dataclass(frozen=True)
class Candidate:
    question: Words
    cosine: float


@dataclass(frozen=True)
class Judgement:
    best: int | None
    probability: float
    blocks: tuple[str, ...] = ()


def canonical(text: str) -> str:
    return " ".join(text.casefold().split()).rstrip("?!. ")


def prepare(text: str) -> Words:
    return Words(text)


def threshold_for(max_error: float, language: str, space: str) -> float:
    return 0.9


class MatchModel:
    @classmethod
    def load(cls) -> MatchModel:
        return cls()

    def judge(self, asked: Words, candidates: Sequence[Candidate]) -> Judgement:
        return Judgement(0, candidates[0].cosine)


def language_of(text: str) -> str:
    return "ko" if any("가" <= char <= "힣" for char in text) else "en"
