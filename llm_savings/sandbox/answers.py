"""What a model says: deterministic, plausible, in the prompt's language.

A request in neither protocol's terms comes in (`Ask`), words and tool calls go out (`Answer`).
"""

from __future__ import annotations

import hashlib
import json
import random
import re
from dataclasses import dataclass
from typing import Literal, Protocol

from . import phrases
from .knowledge import Knowledge
from .shape import Shaper, as_columns
from .wire import JSON, dumps, is_object

_HANGUL = re.compile(r"[가-힣]")
_CODE = re.compile(
    r"```|\b(code|function|script|regex|sql|query|python|javascript|typescript|bash|algorithm|refactor|unit test)\b"
    r"|코드|함수|스크립트|정규식|정규표현식|파이썬|자바스크립트|쿼리|알고리즘|구현",
    re.IGNORECASE,
)
_TRANSLATE = re.compile(r"\btranslat|번역|\bin(to)? (korean|english)\b|(한국어|영어)로", re.IGNORECASE)
_TO_KOREAN = re.compile(r"\b(to|into|in) korean\b|한국어로|한글로", re.IGNORECASE)
_TO_ENGLISH = re.compile(r"\b(to|into|in) english\b|영어로|영문으로", re.IGNORECASE)
_ANALYSE = re.compile(
    r"\b(analy[sz]e|analysis|compare|summari[sz]e|evaluate|root cause)\b|분석|요약|비교|평가", re.IGNORECASE
)
_LIMIT = re.compile(r"\bat most (\d+) words\b|(\d+)단어 이내", re.IGNORECASE)
_COMMON = frozenset(
    re.findall(
        r"\w+",
        "a about an and are can code could do does explain for from function give has have help how i if in into is it "
        "me my of on or please python show tell text that the their there this to translate was we what when where "
        "which who why will with would write you your "
        "그리고 대해 무엇 방법 설명 어떻게 있나요 하나요 주세요 해주세요 합니다",
    )
)


@dataclass(frozen=True, slots=True)
class Tool:
    """A function that the model may call."""

    name: str
    description: str
    schema: JSON


@dataclass(frozen=True, slots=True)
class ToolCall:
    """A call of it; the arguments are JSON text."""

    name: str
    arguments: str


@dataclass(frozen=True, slots=True)
class Ask:
    """A request in neither protocol's terms.

    Attributes:
        prompt: The text of the last user turn.
        context: The whole conversation as text: an unknown prompt gets another answer in another conversation.
        small: Whether a small model is asked.
        tool_result: The result that a tool returned, when that is the last turn.
        choice: `auto`, `none`, `required`, or a tool's name. With `auto` the best-fitting tool is called, unless
            the last turn brings a tool's result.
        several: Whether several tools may be called at once; those named in the prompt are.
        schema: The JSON schema that the answer must fit.
    """

    prompt: str
    context: str
    small: bool
    tool_result: str | None = None
    tools: tuple[Tool, ...] = ()
    choice: str = "auto"
    several: bool = True
    schema: JSON | None = None


@dataclass(frozen=True, slots=True)
class Answer:
    """What the model says: words or tool calls."""

    text: str
    calls: tuple[ToolCall, ...] = ()
    ended: Literal["cut", "refused"] | None = None


class Replies(Protocol):
    """What answers requests."""

    def reply(self, ask: Ask, choice: int = 0) -> Answer:
        """The answer."""
        ...


class Answers:
    """Answers requests from a knowledge file, and plausibly when it has nothing.

    Args:
        knowledge: What the models know.
        seed: Another seed, other answers to unknown prompts.
    """

    def __init__(self, knowledge: Knowledge, seed: int = 0) -> None:
        self._knowledge, self._seed = knowledge, seed

    def reply(self, ask: Ask, choice: int = 0) -> Answer:
        """The answer; `choice` numbers the alternatives of OpenAI's `n`."""
        dice = self._dice(ask, choice)
        if ask.tools and ask.choice != "none" and not (ask.choice == "auto" and ask.tool_result is not None):
            return Answer("", tuple(self._call(tool, ask, dice) for tool in _chosen(ask)))
        words = self._words(ask, dice)
        if limit := _LIMIT.search(ask.prompt):
            words = " ".join(words.split()[: int(limit[1] or limit[2])])
        if ask.schema is None:
            return Answer(words)
        known = _json_object(words)
        value = known and (known if _fits_roughly(known, ask.schema) else as_columns(known, ask.schema))
        if value is None:
            value = Shaper(ask.schema, answer=words, prompt=ask.prompt, dice=dice).value()
        return Answer(dumps(value))

    def _dice(self, ask: Ask, choice: int) -> random.Random:
        digest = hashlib.blake2b(f"{self._seed}\0{choice}\0{ask.context}".encode("utf-8", "surrogatepass"))
        return random.Random(digest.digest())  # noqa: S311 - repeatable answers, no secret

    def _call(self, tool: Tool, ask: Ask, dice: random.Random) -> ToolCall:
        schema = tool.schema or {"type": "object", "properties": {}, "additionalProperties": False}
        schema = {"description": tool.description, **schema}  # hosts move it there
        answer = self._words(ask, dice)
        return ToolCall(tool.name, dumps(Shaper(schema, answer=answer, prompt=ask.prompt, dice=dice).value()))

    def _words(self, ask: Ask, dice: random.Random) -> str:
        if ask.tool_result is not None:
            result = " ".join(ask.tool_result.split())[:400]
            return phrases.TOOL_RESULT[_language(ask.prompt)].format(result=result)
        entry = self._knowledge.find(ask.prompt)
        if entry is not None:
            return entry.wrong if ask.small and entry.wrong is not None else entry.answer
        return _improvise(ask.prompt, dice)


def _language(prompt: str) -> str:
    return "ko" if _HANGUL.search(prompt) else "en"


def _topic(prompt: str, language: str) -> str:
    words = [word for word in re.findall(r"[\w-]+", prompt[:2000]) if word.casefold() not in _COMMON and len(word) > 1]
    return " ".join(words[: 2 if language == "ko" else 4]) or phrases.TOPIC[language]


def _improvise(prompt: str, dice: random.Random) -> str:
    """An answer to a prompt that nobody wrote one for."""
    language = _language(prompt)
    if _TRANSLATE.search(prompt):
        if _TO_KOREAN.search(prompt) or _TO_ENGLISH.search(prompt):
            language = "ko" if _TO_KOREAN.search(prompt) else "en"
        else:
            language = "en" if language == "ko" else "ko"
        bodies = dice.sample(phrases.BODIES[language], dice.randint(1, 3))
        return phrases.TRANSLATED[language].format(topic=_topic(prompt, language)) + " ".join(bodies)
    topic = _topic(prompt, language)
    if _CODE.search(prompt):
        return _code(prompt, language)
    opening = dice.choice(phrases.OPENINGS[language]).format(topic=topic)
    if _ANALYSE.search(prompt):
        bodies = dice.sample(phrases.BODIES[language], len(phrases.POINTS[language]))
        lines = (f"- {point}{body}" for point, body in zip(phrases.POINTS[language], bodies, strict=True))
        return "\n".join((opening, *lines))
    parts = (
        opening,
        *dice.sample(phrases.BODIES[language], dice.randint(1, 5)),
        dice.choice(phrases.CLOSINGS[language]),
    )
    return " ".join(part for part in parts if part)


def _code(prompt: str, language: str) -> str:
    lower = prompt.casefold()
    if "sql" in lower or "쿼리" in lower:
        dialect = "sql"
    elif "javascript" in lower or "typescript" in lower or "자바스크립트" in lower:
        dialect = "javascript"
    elif "bash" in lower or "shell" in lower or "스크립트" in lower:
        dialect = "bash"
    else:
        dialect = "python"
    words = [word for word in re.findall(r"[a-z]{3,}", lower) if word not in _COMMON]
    name = "_".join(words[:2]) or "unique_values"
    code = phrases.CODE[dialect].format(name=name)
    return f"{phrases.CODE_INTRO[language]}\n\n```{dialect}\n{code}```\n\n{phrases.CODE_OUTRO[language]}"


def _chosen(ask: Ask) -> list[Tool]:
    """The tools to call: the one asked for, all that the prompt names, or the one that fits its words best."""
    asked = [tool for tool in ask.tools if tool.name == ask.choice]
    if asked:
        return asked[:1]
    named = [tool for tool in ask.tools if tool.name.casefold() in ask.prompt.casefold()]
    if len(named) > 1:
        return named if ask.several else named[:1]
    words = set(re.findall(r"\w{3,}", ask.prompt.casefold()))

    def fit(tool: Tool) -> int:
        about = f"{tool.name.replace('_', ' ')} {tool.description}".casefold()
        return len(words & set(re.findall(r"\w{3,}", about)))

    return named or [max(ask.tools, key=fit)]


def _json_object(text: str) -> JSON | None:
    if not text.lstrip().startswith("{"):
        return None
    try:
        value = json.loads(text)
    except ValueError:
        return None
    return value if is_object(value) else None


def _fits_roughly(value: JSON, schema: JSON) -> bool:
    """Whether a known JSON answer has the members that the schema wants; its author saw to the rest."""
    return set(schema.get("required", ())) <= set(value) and set(value) <= set(schema.get("properties", value))
