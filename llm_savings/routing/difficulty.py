"""How hard a request is."""

from __future__ import annotations

import math
import re

_HARD = re.compile(
    r"design|architect|analy[sz]e|compare|prove|derive|implement|optimi[sz]e|step.by.step|in detail"
    r"|trade-?offs?|refactor|debug"
    r"|설계|분석|비교|증명|유도|구현|최적화|단계별|상세|자세히|장단점|리팩터링|디버그|작성해",
    re.IGNORECASE,
)


def difficulty(text: str) -> float:
    """The log odds that a small model fails."""
    hits = len(_HARD.findall(text))
    return min(hits, 3) * 1.5 + math.log1p(len(text)) * 0.4 - 3.0
