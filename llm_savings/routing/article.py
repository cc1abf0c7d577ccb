"""The source article's rules: patterns of simple and of complex requests in English and Korean, and length."""

from __future__ import annotations

import re
from typing import Literal

_SIMPLE = re.compile(
    r"^(what is|what are|define|who is|when was|where is)|^(번역|translate|어떻게 말해)|^(yes/no|맞나요|맞아요\?)"
)
_COMPLEX = re.compile(
    r"analyze|분석|compare|비교|design|설계|step.by.step|단계별|detailed|자세히|code|코드|implement|구현|architecture|아키텍처"
    r"|explain why|왜|reason|이유|pros.cons|장단점"
)


def article_class(text: str) -> Literal["simple", "medium", "complex"]:
    """What the article's `classify_query` says of a request.

    Example:
        >>> article_class("What is Python?"), article_class("마이크로서비스 아키텍처를 설계해줘")
        ('simple', 'complex')
    """
    lowered = text.lower()
    if _COMPLEX.search(lowered):
        return "complex"
    if len(text.split()) < 15 and _SIMPLE.search(lowered):
        return "simple"
    return "complex" if len(text) > 500 else "medium"
