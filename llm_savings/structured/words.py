"""Limits in words, and what a word costs in tokens."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from math import ceil
from typing import TYPE_CHECKING, Any, Literal

from pydantic_core import PydanticCustomError
from pydantic_core.core_schema import no_info_after_validator_function

from llm_savings.structured.rules import data
from llm_savings.tokens import encoding_name

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic_core import CoreSchema

# Chinese and Japanese put no spaces between words; there every character counts.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\s\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")
_HANGUL = re.compile(r"[\u1100-\u11ff\u3130-\u318f\uac00-\ud7a3]")
_CODE = re.compile(r"```|\b(?:def|class|return|import|function|const|SELECT)\b.*[(){};:=]|[{};]\s*$", re.MULTILINE)
_telling: ContextVar[bool] = ContextVar("llm_savings_word_limits", default=False)


def count_words(text: str) -> int:
    """Words in a text, as people count them: what stands between spaces (in Korean an eojeol).

    Example:
        >>> count_words("정말 좋은 제품"), count_words("a well-made mug.")
        (3, 3)
    """
    return len(_WORD.findall(text))


Language = Literal["en", "ko", "code"]


def language(text: str) -> Language:
    """Which of the measured languages a text is nearest to; a tenth of Hangul makes it Korean.

    Example:
        >>> language("배송이 너무 늦었어요"), language("Delivery was late."), language("def f(x): return x")
        ('ko', 'en', 'code')
    """
    letters = sum(map(str.isalpha, text))
    if letters and len(_HANGUL.findall(text)) * 10 >= letters:
        return "ko"
    return "code" if _CODE.search(text) else "en"


def tokens_of_words(words: int, spoken: Language, *, model: str = "gpt-4o") -> int:
    """The tokens that 99 of 100 texts of so many words stay below.

    Example:
        >>> tokens_of_words(50, "en") < tokens_of_words(50, "ko")
        True
    """
    return ceil(words * data()["words"][spoken][encoding_name(model)]["most"])


@dataclass(frozen=True, slots=True)
class MaxWords:
    """A limit for a text field, such as `key_phrase: Annotated[str, MaxWords(5)]`.

    The model is told of it in the schema, and an answer above it does not validate.
    """

    limit: int

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return no_info_after_validator_function(self._checked, handler(source))

    def __get_pydantic_json_schema__(self, core: CoreSchema, handler: GetJsonSchemaHandler) -> dict[str, Any]:
        rule = dict(handler(core))
        if _telling.get():
            return {**rule, "maxWords": self.limit}
        # A provider's client that is given the model itself would pass an unknown keyword on, to be refused.
        return {"description": f"max {self.limit} words", **rule}

    def _checked(self, text: Any) -> Any:
        if isinstance(text, str) and (words := count_words(text)) > self.limit:
            raise PydanticCustomError(
                "too_many_words", "{words} words; at most {limit} are allowed", {"words": words, "limit": self.limit}
            )
        return text


@contextmanager
def telling() -> Generator[None]:
    """While open, schemas say word limits under `maxWords`."""
    token = _telling.set(True)
    try:
        yield
    finally:
        _telling.reset(token)
