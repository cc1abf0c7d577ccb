"""The cheap bound on a prompt's tokens is never too low, whichever tokenizer the provider uses."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_savings import tokens

texts = st.text(max_size=400)
# Without what JSON has to escape: providers read a message's text, not its JSON.
plain = st.text(st.characters(exclude_categories=("Cc", "Cs"), exclude_characters='"\\'), max_size=100)
json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | plain,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(plain, inner, max_size=4),
    max_leaves=12,
)


@given(texts)
def test_no_encoding_makes_more_tokens_than_bytes(text: str) -> None:
    for name in ("o200k_base", "cl100k_base"):
        assert len(tokens.encoding(name).encode_ordinary(text)) <= tokens.upper_bound(text)


@given(json_values)
def test_a_structure_is_bounded_by_its_json(value: Any) -> None:
    bound = tokens.upper_bound(value)
    assert tokens.count(json.dumps(value, ensure_ascii=False)) <= bound + 4


@pytest.mark.parametrize(
    ("model", "name"),
    [
        ("gpt-4o", "o200k_base"),
        ("openai/gpt-4o-mini", "o200k_base"),
        ("gpt-4", "cl100k_base"),
        ("gpt-4-turbo", "cl100k_base"),
        ("azure/gpt-35-turbo", "cl100k_base"),
        ("claude-sonnet-4-5", "o200k_base"),
    ],
)
def test_encodings(model: str, name: str) -> None:
    assert tokens.encoding_name(model) == name


def test_images_count_as_images_not_as_their_bytes() -> None:
    inline = {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 1_000_000}}
    assert tokens.upper_bound(inline) < 100_000
    paper = {"type": "file", "file": {"file_data": "data:application/pdf;base64," + "A" * 1_000_000}}
    assert tokens.upper_bound(paper) > 1_000_000
    assert tokens.upper_bound({"type": "image_url", "image_url": {"url": "https://x/y.png"}}) >= tokens.IMAGE_BOUND
    assert tokens.upper_bound("lone \ud800 surrogate") > 0
