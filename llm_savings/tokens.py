"""Counting tokens on this machine: exactly enough to estimate, and a cheap bound that is never too low.

tiktoken downloads its encodings at first use. LiteLLM's package carries o200k_base and cl100k_base in tiktoken's
cache format, so they are read from there and the network is never touched.
"""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import lru_cache
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

if TYPE_CHECKING:
    import tiktoken

# Chat wire formats wrap every message and tool in a few tokens of their own (OpenAI's cookbook counts 3 a message
# and 3 to prime the answer; providers add hidden tool preambles of up to about 350). These are generous.
MESSAGE_OVERHEAD = 16
TOOLS_OVERHEAD = 700
# What OpenAI's own chat models count (the same cookbook): 3 and a role for a message, 3 to prime the answer.
PER_MESSAGE, PER_ANSWER = 4, 3
# An image that is named by reference cannot be measured here. The dearest by far is gpt-4o-mini's, at 2,833 tokens and
# 5,667 for each of at most 8 tiles (OpenAI's guide to images and vision, read in November 2026).
IMAGE_BOUND = 2_833 + 8 * 5_667

_CL100K = ("gpt-4-", "gpt-3.5", "gpt-35", "text-embedding-3", "text-embedding-ada")


@lru_cache(maxsize=4)
def encoding(name: str = "o200k_base") -> tiktoken.Encoding:
    """The tiktoken encoding of that name (`o200k_base` or `cl100k_base`), loaded without the network."""
    import tiktoken

    spec = find_spec("litellm")  # finds the package without importing it
    roots = list(spec.submodule_search_locations or ()) if spec else []
    folder = Path(roots[0], "litellm_core_utils", "tokenizers") if roots else None
    if folder is None or not folder.is_dir():
        return tiktoken.get_encoding(name)
    before = os.environ.get("TIKTOKEN_CACHE_DIR")
    os.environ["TIKTOKEN_CACHE_DIR"] = str(folder)
    try:
        return tiktoken.get_encoding(name)
    finally:
        if before is None:
            del os.environ["TIKTOKEN_CACHE_DIR"]
        else:
            os.environ["TIKTOKEN_CACHE_DIR"] = before


def encoding_name(model: str) -> str:
    """The encoding that counts this model best; models of other makers are estimated with `o200k_base`."""
    bare = model.rsplit("/", 1)[-1].lower()
    return "cl100k_base" if bare == "gpt-4" or bare.startswith(_CL100K) else "o200k_base"


def count(text: str, model: str = "gpt-4o") -> int:
    """Tokens in a text, exactly for OpenAI's text models and as an estimate for the others.

    Example:
        >>> count("Hello, world", "gpt-4o")
        3
    """
    name = encoding_name(model)
    return _count(text, name) if len(text) <= _REPEATED else len(encoding(name).encode_ordinary(text))


# System prompts and earlier turns come again with every call. Texts up to this length are remembered: 4 MB at most.
_REPEATED = 4_000


@lru_cache(maxsize=1_000)
def _count(text: str, name: str) -> int:
    return len(encoding(name).encode_ordinary(text))


def upper_bound(value: Any) -> int:
    """A number of tokens that no tokenizer in use exceeds for this text, message or tool structure.

    Byte-level tokenizers never make more tokens than there are bytes of UTF-8, so bytes are counted: no
    tokenizing, about a microsecond a message. Keys and punctuation of nested structures count as well.
    """
    if isinstance(value, str):
        if value.startswith("data:image/") and ";base64," in value[:100]:  # a PDF may have any number of pages
            return IMAGE_BOUND
        # ASCII text, by far the commonest, needs no encoding to be measured.
        return len(value) if value.isascii() else len(value.encode("utf-8", "surrogatepass"))
    if isinstance(value, Mapping):
        pairs = cast("Mapping[Any, Any]", value)
        extra = IMAGE_BOUND if "image_url" in pairs or pairs.get("type") in ("image", "file", "input_image") else 0
        return extra + sum(6 + upper_bound(str(key)) + upper_bound(item) for key, item in pairs.items())
    if isinstance(value, Sequence) and not isinstance(value, bytes | bytearray):
        return sum(2 + upper_bound(item) for item in cast("Sequence[Any]", value))
    return 0 if value is None else len(str(value))
