"""What the tests of the semantic cache share."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from typing import Any

import litellm
import pytest
from litellm_checks import Metered, called

WAYS = ("complete", "acomplete", "stream", "astream")
PARAPHRASES = ("What is your return policy?", "Could you tell me what your return policy is?")


def with_cache(*given: Any, **options: Any) -> Any:
    """A semantic cache, switched on."""
    for name in ("fastapi", "orjson", "soundfile"):
        pytest.importorskip(name, reason=f"litellm.cache needs {name}")
    from llm_savings.litellm import SemanticCache

    litellm.cache = SemanticCache(*given, **options)
    return litellm.cache


def alike(texts: list[str]) -> list[list[float]]:
    """An embedder for which everything about returns is the same."""
    return [[1.0, 0.0] if "return" in text else [0.0, 1.0] for text in texts]


def user(text: Any, *before: Any) -> list[dict[str, Any]]:
    """Messages that end in this question."""
    return [*before, {"role": "user", "content": text}]


async def stored(metered: Metered, count: int = 1) -> None:
    """Once so many answers are in the cache."""
    for _ in range(2000):
        if litellm.cache.answers.stats().entries >= count:
            return
        await asyncio.sleep(0.005)
    raise AssertionError(f"{litellm.cache.answers.stats()}")


async def settle() -> None:
    """Let LiteLLM write what it has begun to write to its cache, in tasks of this loop."""
    for _ in range(5):
        await asyncio.sleep(0)


async def requests(metered: Metered, *calls: Callable[[], Any]) -> int:
    """How many requests these calls make of the provider, one after the other."""
    before = metered.box.requests()
    for call in calls:
        await called(call)
        await settle()
    return metered.box.requests() - before


def said(answer: Any) -> str:
    """The text of an answer or of a stream's chunks."""
    if isinstance(answer, list):
        return "".join(chunk.choices[0].delta.content or "" for chunk in answer if chunk.choices)
    return answer.choices[0].message.content
