"""One rule for labels, whichever host the tags and metadata come from."""

from __future__ import annotations

from typing import Any
from uuid import UUID

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_savings.labels import SESSION_KEYS, USER_KEYS, labels, text


def test_tags_win_over_metadata_and_later_metadata_over_earlier() -> None:
    tags = ["feature:faq", " team : support ", "url:http://x"]
    first, second = {"feature": "a", "team": "a", "app": "a", "run": "r"}, {"app": "b", "customer": 7}
    assert labels(tags, first, second) == {
        "feature": "faq",
        "team": "support",
        "app": "b",
        "customer": "7",
        "url": "http://x",
    }


def test_plain_tags_are_one_label() -> None:
    assert labels(("nightly", "beta", " beta ", "", "half:", ":half")) == {"tags": ":half,beta,half:,nightly"}


@pytest.mark.parametrize(
    "tag",
    [
        "seq:step:1",
        "graph:step:-1",
        "map:key:context",
        "condition:2",
        "branch:1",
        "branch:default",
        "retry:attempt:2",
        "langsmith:hidden",
        "nostream",
        "User-Agent: curl/7.68.0",
        "Credential: main",
    ],
)
def test_what_a_host_adds_by_itself_is_no_label(tag: str) -> None:
    assert labels([tag]) == {}


@pytest.mark.parametrize("tag", ["branch:seoul", "map:world", "condition:new", "graph:sales", "retry:no", "seq:a"])
def test_what_only_begins_like_it_is_one(tag: str) -> None:
    name, _, value = tag.partition(":")
    assert labels([tag]) == {name: value}


def test_the_first_plain_value_names_the_user() -> None:
    assert text({"user": "bob", "user_id": UUID(int=7)}, USER_KEYS) == str(UUID(int=7))
    assert text({"user_id": "", "user": {"name": "bob"}}, USER_KEYS) is None
    assert text({"session_id": None, "thread_id": 0, "trace_id": "t"}, SESSION_KEYS) == "0"


@given(
    st.dictionaries(
        st.text(max_size=5) | st.sampled_from(["team", "app"]),
        st.one_of(st.none(), st.integers(), st.text(), st.lists(st.text())),
        max_size=5,
    )
)
def test_anything_makes_labels_of_text(metadata: dict[str, Any]) -> None:
    for tags in (list(metadata.values()), metadata.get("team")):
        found = labels(tags, metadata)
        assert all(isinstance(key, str) and isinstance(value, str) and value for key, value in found.items())
