"""Limits in words, and what a word costs in tokens."""

from __future__ import annotations

import re
from collections.abc import Generator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from pydantic_core import PydanticCustomError
from pydantic_core.core_schema import no_info_after_validator_function

if TYPE_CHECKING:
    from pydantic import GetCoreSchemaHandler, GetJsonSchemaHandler
    from pydantic_core import CoreSchema

# Chinese and Japanese put no spaces between words; there every character counts.
_WORD = re.compile(r"[\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]|[^\s\u3040-\u30ff\u3400-\u9fff\uf900-\ufaff]+")
_telling: ContextVar[bool] = ContextVar("llm_savings_word_limits", default=False)


def count_words(text: str) -> int:
    """Words in a text, as people count them: what stands between spaces (in Korean an eojeol).

    Example:
        >>> count_words("정말 좋은 제품"), count_words("a well-made mug.")
        (3, 3)
    """
    return len(_WORD.findall(text))


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
        return {"description": f"at most {self.limit} words", **rule}

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
