"""Text that changes from call to call: clocks, dates, identifiers, folders and hosts, in English and Korean prompts."""

from __future__ import annotations

import re
from functools import lru_cache

_CLOCK = r"\d{1,2}:\d{2}(?::\d{2})?"
_MONTH = r"(?:Jan|Feb|Mar|Apr|May|Jun|Jul|Aug|Sep|Oct|Nov|Dec)[a-z]*\.?"
_NTH = r"\d{1,2}(?:st|nd|rd|th)?"
_DAY = (
    r"(?:\d{4}[-/.]\s?\d{1,2}[-/.]\s?\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.]\d{4}|(?:\d{4}년\s*)?\d{1,2}월\s*\d{1,2}일"
    rf"|{_NTH}(?: of)? {_MONTH}(?:,?\s+\d{{4}})?|{_MONTH}\s+{_NTH}(?:,?\s+\d{{4}})?)"
)
_WEEKDAY = r"(?:(?:Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day,?\s+|[월화수목금토일]요일,?\s*)?"
_NOW = (  # words that say that the time or day of this very call follows
    r"(?:\btoday(?:'s date)?\b|\bcurrent(?:ly)?[ _-]?(?:date|time|datetime|day)?\b|\bnow[\"']?(?: is|:|=)|\btime now\b"
    r"|\bit is now\b|\bthe (?:time|date) (?:is|now)\b|\b(?:server|local|system)[ _-]time\b|\btimestamp\b|\bclock\s*[:=]"
    r"|\bgenerated (?:at|on)\b|^(?:date|time|datetime)\s*[:=]|오늘|현재|지금|서버\s*시[각간]|^(?:날짜|시각|일시)\s*:)"
)
_LABEL = rf"(?:{_NOW}|\b(?:time|date|datetime|started|since|as of)\b|시각|시간|날짜|일시)"
_CALL = (
    r"(?:\b(?:req(?:uest)?|session|trace|correlation|conversation|run|thread|message|transaction|invocation|call|build"
    r"|ticket)(?:[ _-]token)?[ _-]?(?:id|no|number|key)?\b|\bnonce\b|(?:요청|세션|추적|대화)\s*(?:ID|아이디|번호))"
)

_PATTERNS: dict[str, re.Pattern[str]] = {
    kind: re.compile(pattern, re.IGNORECASE | re.MULTILINE)
    for kind, pattern in {
        "uuid": r"\b[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}\b",
        "id": rf"{_CALL}[\"']?\s*(?:is|[:=#])\s*[\"'<\[]?(?=[\w-]*\d)[\w-]{{6,}}"
        r"|\b(?:request|session|trace)\s+(?=[\w-]*\d)[0-9a-f-]{8,}\b",
        "clock": rf"(?:\A[^\n]{{0,60}}?|{_LABEL}[^\n]{{0,30}}?){_DAY}[T ,]+(?:at\s+)?{_CLOCK}"
        rf"|^\W{{0,3}}{_DAY}[T ,]+{_CLOCK}(?:[\])]|[.\d]*\W*(?:UTC|GMT|KST|Z)?\W*$)"
        rf"|(?:{_NOW}[^\n.\d]{{0,24}}|\bit(?:'s| is) ){_CLOCK}(?:\s?(?:am|pm|UTC|KST|GMT))?"
        r"|(?:오전|오후)\s*\d{1,2}시(?:\s*\d{1,2}분)?"
        r"|\b(?:timestamp|epoch|unix time|ts|time)\b[^\n\d]{0,12}1[5-9]\d{8}(?:\d{3})?\b",
        "date": rf"{_NOW}[^\n.\d]{{0,24}}?{_WEEKDAY}{_DAY}",
        "place": r"\b(?:cwd|pwd|(?:working|current|home) dir(?:ectory)?|workspace|project root)\b"
        r"[^\n/~\\:]{0,12}[:=]?\s*[\"'`]?(?:[~/]|[A-Z]:\\)[^\s\"'`]*"
        r"|작업\s*(?:디렉터리|디렉토리|폴더)[^\n/~\\]{0,8}[~/][^\s]*"
        r"|(?:/home/|/Users/|[A-Z]:\\Users\\)[\w.-]+|\brunning (?:in|from) [\"'`]?(?:[~/]|[A-Z]:\\)[\w.-]+"
        r"|\b(?:hostname|host name|machine(?: name)?|pod|node name|server name)\b[\"']?\s*(?:is|[:=])\s*[\"']?[\w.-]+"
        r"|\b(?:host\s*[:=]|on host)\s*[\"']?(?=[\w.-]*[\d-])[\w.-]+|호스트(?:명|\s*이름)?\s*[:=]\s*[\w.-]+",
    }.items()
}
_EXAMPLE = re.compile(
    r"\be\.?g\.|\b(?:example|such as|like this|format(?:ted)?|pattern)\b|예:|예를 들|예시|형식|형태", re.IGNORECASE
)


@lru_cache(maxsize=512)
def volatile(text: str) -> tuple[tuple[str, int, int], ...]:
    """Kind, start and end of everything in a text that looks as if it changed from call to call.

    What stands as an example ("a date such as 2024-05-01") does not.

    Example:
        >>> volatile("Session ID: 00918273")
        (('id', 0, 20),)
    """
    found: list[tuple[str, int, int]] = []
    for kind, pattern in _PATTERNS.items():
        for match in pattern.finditer(text):
            start, end = match.span()
            example = _EXAMPLE.search(text, max(0, start - 40), end)
            if not example and not any(a < end and start < b for _, a, b in found):
                found.append((kind, start, end))
    return tuple(found)
