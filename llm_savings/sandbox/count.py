"""The providers' token counts.

OpenAI's are tiktoken's. Anthropic's come from another tokenizer on purpose (an old public Claude one that LiteLLM's
package carries): code under test that counts Anthropic tokens with tiktoken does not agree with the bill by luck.
"""

from __future__ import annotations

import os
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING

from llm_savings.errors import ConfigError

if TYPE_CHECKING:
    import tiktoken
    import tokenizers

# Longer texts are rarely sent twice and would fill the memory.
_CACHED_LENGTH = 20_000


class OpenAITokens:
    """Counts as OpenAI does (`o200k_base` for chat, `cl100k_base` for embeddings)."""

    def __init__(self, encoding: str = "o200k_base") -> None:
        self._encoding = _tiktoken(encoding)
        self._count = lru_cache(maxsize=20_000)(self._length)

    def __call__(self, text: str) -> int:
        """Tokens in a text."""
        return self._count(text) if len(text) < _CACHED_LENGTH else self._length(text)

    def ids(self, text: str) -> list[int]:
        """The tokens themselves."""
        return self._encoding.encode_ordinary(text)

    def clip(self, text: str, limit: int) -> str:
        """The text of the first `limit` tokens."""
        ids = self._encoding.encode_ordinary(text)
        # A token may end inside a character; the provider holds such bytes back as well.
        return self._encoding.decode_bytes(ids[:limit]).decode("utf-8", "ignore")

    def decode(self, ids: list[int]) -> str:
        """The text of token ids, which the embeddings endpoint accepts in place of text.

        Raises:
            KeyError: An id is not one of the encoding's.
        """
        return self._encoding.decode_bytes(ids).decode("utf-8", "replace")

    def _length(self, text: str) -> int:
        return len(self._encoding.encode_ordinary(text))


class AnthropicTokens:
    """Counts with the tokenizer of `anthropic_tokenizer.json`."""

    def __init__(self) -> None:
        self._tokenizer = _claude()
        self._count = lru_cache(maxsize=20_000)(self._length)

    def __call__(self, text: str) -> int:
        """Tokens in a text."""
        return self._count(text) if len(text) < _CACHED_LENGTH else self._length(text)

    def clip(self, text: str, limit: int) -> str:
        """The text of the first `limit` tokens."""
        found = self._tokenizer.encode(text, add_special_tokens=False)
        return text if limit >= len(found.ids) else text[: found.offsets[limit][0]]

    def _length(self, text: str) -> int:
        return len(self._tokenizer.encode(text, add_special_tokens=False).ids)


@lru_cache(maxsize=1)
def openai_tokens() -> OpenAITokens:
    """The counter of OpenAI's chat models, loaded once."""
    return OpenAITokens("o200k_base")


@lru_cache(maxsize=1)
def embedding_tokens() -> OpenAITokens:
    """The counter of OpenAI's embedding models, loaded once."""
    return OpenAITokens("cl100k_base")


@lru_cache(maxsize=1)
def anthropic_tokens() -> AnthropicTokens:
    """The counter of Anthropic's models, loaded once."""
    return AnthropicTokens()


def _folder() -> Path:
    spec = find_spec("litellm")  # finds the package without importing it
    for root in (spec.submodule_search_locations or ()) if spec else ():
        folder = Path(root, "litellm_core_utils", "tokenizers")
        if folder.is_dir():
            return folder
    raise ConfigError("the sandbox needs the tokenizer files of litellm, which is not installed: pip install litellm")


def _tiktoken(name: str) -> tiktoken.Encoding:
    import tiktoken

    before = os.environ.get("TIKTOKEN_CACHE_DIR")
    os.environ["TIKTOKEN_CACHE_DIR"] = str(_folder())  # in tiktoken's cache format: no download
    try:
        return tiktoken.get_encoding(name)
    finally:
        if before is None:
            del os.environ["TIKTOKEN_CACHE_DIR"]
        else:
            os.environ["TIKTOKEN_CACHE_DIR"] = before


def _claude() -> tokenizers.Tokenizer:
    from tokenizers import Tokenizer

    return Tokenizer.from_file(str(_folder() / "anthropic_tokenizer.json"))
