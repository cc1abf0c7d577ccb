"""Judging a small model's answer, so that a stronger one is asked only where that is needed."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

_TRUNCATED = frozenset(("length", "max_tokens", "MAX_TOKENS", "max_output_tokens"))
_BLOCKED = frozenset(("content_filter", "refusal", "SAFETY"))
_REFUSAL = re.compile(
    r"^\W*(?:(?:i'm|i am|we're|we are) (?:very |really |so |truly )?(?:sorry|afraid)|sorry|unfortunately|apologies"
    r"|i apologi[sz]e|as an ai\b"
    r"|i (?:can(?:'|no)t|can not|could(?:n't| not)|am unable|am not able|do(?:n't| not) (?:know|have))\b)"
    r"|^\W*(?:죄송|미안|유감|아쉽지만|안타깝지만|저는 (?:AI|인공지능)"
    r"|제가 (?:직접 )?(?:할|알|도와|답변).{0,12}(?:없|못))",
    re.IGNORECASE,
)
_UNSURE = re.compile(
    r"\bi(?:'m| am) not (?:sure|certain)\b|\bi do(?:n't| not) (?:really )?know\b|\bcannot be determined\b"
    r"|\bnot able to (?:help|answer)\b"
    r"|잘 모르겠|확실하지 않|정확히 알 수 없|답변(?:해 ?드리기|하기) 어렵|도와드릴 수 없|알 수 없습니다",
    re.IGNORECASE,
)
_LEAST = 0.5  # the confidence from which on an answer will do
_HEAD = 400  # characters in which a refusal is looked for; a long answer that regrets something late is an answer


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether an answer will do.

    Attributes:
        ok: It will.
        reasons: Why not: "empty", "truncated", "refusal", "unsure", "schema", "confidence", "judge".
        confidence: What the caller's judge said, or the mean probability of the tokens, from 0 to 1; None if unknown.
    """

    ok: bool
    reasons: tuple[str, ...] = ()
    confidence: float | None = None


def suffices(
    answer: str,
    *,
    finish_reason: str | None = None,
    schema: Mapping[str, Any] | None = None,
    confidence: Callable[[str], float] | None = None,
    logprobs: Sequence[float] | None = None,
) -> Verdict:
    """Judge an answer without asking anybody. An answer that only calls tools is none for this: do not ask.

    Args:
        answer: Its text.
        finish_reason: As the provider said it.
        schema: The JSON schema that was asked for.
        confidence: The caller's own judge: from an answer to the probability that it will do. If it fails, the answer
            does not do ("judge").
        logprobs: Natural logarithms of the probabilities of its tokens.

    Example:
        >>> suffices('{"city": "Seoul"}', schema={"type": "object", "required": ["city"]}).ok
        True
        >>> suffices("죄송하지만 답변해 드리기 어렵습니다.").reasons
        ('refusal',)
    """
    reasons: list[str] = []
    if not answer.strip():
        reasons.append("empty")
    if finish_reason in _TRUNCATED:
        reasons.append("truncated")
    if schema is not None:
        if not _fits(answer, schema):
            reasons.append("schema")
    elif finish_reason in _BLOCKED or _REFUSAL.search(answer[:_HEAD]):
        reasons.append("refusal")
    elif len(answer) <= _HEAD and _UNSURE.search(answer):
        reasons.append("unsure")
    sure: float | None = None
    if logprobs:
        sure = math.exp(sum(logprobs) / len(logprobs))
    if confidence is not None:
        try:
            sure = float(confidence(answer))
        except Exception:  # noqa: BLE001  # the caller's own code; an answer that nobody could judge is not trusted
            return Verdict(False, (*reasons, "judge"))
    if sure is not None and not sure >= _LEAST:  # not a number is no confidence
        reasons.append("confidence")
    return Verdict(not reasons, tuple(reasons), sure)


def _fits(answer: str, schema: Mapping[str, Any]) -> bool:
    from jsonschema import SchemaError, ValidationError, validate  # slow to import

    try:
        validate(json.loads(answer), cast("dict[str, Any]", schema))
    except ValidationError:
        return False
    except (ValueError, RecursionError):  # no JSON
        return False
    except SchemaError:  # the schema is the caller's mistake, and no fault of the answer
        return True
    return True
