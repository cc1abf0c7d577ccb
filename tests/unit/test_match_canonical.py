"""The exact tier's form folds how a text is written and never what it says."""

from __future__ import annotations

import re
import sys
import unicodedata

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_savings.semantic_cache.match import canonical

SAME = [
    ("What is RAG?", "what is RAG"),
    ("  what   is\tRAG ", "what is RAG"),
    ("What is RAG?", "Ｗhat is RAG？"),
    ("I lost my card.", "i lost my card"),
    ("What’s my balance?", "what's my balance"),
    ("배송 기간은 얼마나 걸리나요?", "배송 기간은 얼마나 걸리나요"),
    ("한글", "\u1112\u1161\u11ab\u1100\u1173\u11af"),
    ("caf\u00e9 hours", "cafe\u0301 hours"),
    ("hello\u200b there", "hello there"),
    ("Hello There", "hello there"),
]
APART = [
    ("C", "C++"),
    ("C++", "C#"),
    ("C", "c"),
    ("-5", "5"),
    ("1.5", "15"),
    ("1 5", "15"),
    ("a<b", "a>b"),
    ("a <= b", "a < b"),
    ("?", "!"),
    ("You did it?", "You did it!"),
    ("You did it?", "You did it"),
    ("10²", "102"),
    ("US", "us"),
    ("IT help", "it help"),
    ("x + y", "x - y"),
    ("x * y", "x / y"),
    ("not null", "notnull"),
    ("Foo.bar()", "foo.bar()"),
    ("${HOME}", "${home}"),
    ("if x:\n  y", "if x:\ny"),
    ("5!", "5"),
    ("résumé", "resume"),
    ("50%", "50"),
    ("a b", "ab"),
    ("$5", "€5"),
    ("~5", "5"),
    ("아버지가 방에", "아버지 가방에"),
    ("½", "1/2"),
    ("gpt-4o", "gpt-4O"),
    ("3:2", "32"),
    ("a & b", "a | b"),
]
_MEANING = re.compile(r"[\d+\-*/<>=%^&|~#@$!]")


@pytest.mark.parametrize(("one", "other"), SAME)
def test_ways_of_writing_share_a_form(one: str, other: str) -> None:
    assert canonical(one) == canonical(other)


@pytest.mark.parametrize(("one", "other"), APART)
def test_what_differs_in_meaning_stays_apart(one: str, other: str) -> None:
    assert canonical(one) != canonical(other)


TEXTS = st.one_of(st.text(), st.text(alphabet="aA bB?!.,+-*/<>=15%'\"()가나 \n\t$#_`{", max_size=20))


@given(TEXTS)
def test_a_form_is_its_own_form(text: str) -> None:
    assert canonical(canonical(text)) == canonical(text)


@given(st.text(alphabet="aA bB?!.+-*/<>=^&|~#@$%0123456789 ", max_size=20))
def test_digits_signs_and_operators_stay_in_their_order(text: str) -> None:
    assert _MEANING.findall(canonical(text)) == _MEANING.findall(text)


@given(TEXTS, st.integers(0, 999), st.integers(0, 999))
def test_two_numbers_never_merge(text: str, one: int, other: int) -> None:
    assert (canonical(f"{text} {one}") == canonical(f"{text} {other}")) == (one == other)


def test_every_character_of_another_width_is_folded() -> None:
    odd = [
        c for c in map(chr, range(sys.maxunicode)) if unicodedata.decomposition(c).startswith(("<wide>", "<narrow>"))
    ]
    assert len(odd) > 200
    assert [c for c in odd if canonical(f"a{c}b") == f"a{c}b"] == []
