"""Two answers compared: the same, another, or no telling."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_savings.semantic_cache.comparing import compare


@pytest.mark.parametrize(
    ("stored", "fresh", "same"),
    [
        ("It takes 5 days.", "it takes **5 days**", True),
        ("It takes 5 days.", "It takes five days!", True),
        (
            "You can return it within 30 days.",
            "Sure! You can return it within 30 days. Let me know if I can help!",
            True,
        ),
        ("배송은 보통 3일 걸립니다.", "네, 배송은 보통 3일 걸립니다. 추가 문의가 있으시면 말씀해 주세요.", True),
        ("It takes 5 days.", "It takes 7 days.", False),
        ("The limit is 1,000 dollars.", "The limit is 1000 dollars.", True),
        ("배송은 보통 3일 걸립니다.", "배송은 보통 5일 걸립니다.", False),
        ("You can cancel at any time.", "You cannot cancel at any time.", False),
        ("환불이 가능합니다.", "환불이 불가능합니다.", False),
        ("Yes, it ships to Korea.", "No, it does not ship to Korea.", False),
        (
            "Open the settings and choose a new password there.",
            "Our shop in Busan closes early before holidays.",
            False,
        ),
        ("It is open on Monday.", "It is open on Friday.", None),
        ("Canberra.", "Of course: it is Paris.", None),
        ("", "Anything.", None),
        ("...", "?!", None),
    ],
)
def test_text_alone(stored: str, fresh: str, same: bool | None) -> None:
    assert compare(stored, fresh) is same
    assert compare(fresh, stored) is same


def test_vectors_tell_wordings_apart_that_text_cannot() -> None:
    one, other = "Orders come within a week.", "Expect your parcel in seven days at most."
    assert compare(one, other) is None
    assert compare(one, other, embed=lambda _: (1.0, 0.0)) is None  # the numbers still differ
    one, other = "Press the round button twice.", "Push that circular switch two times quickly."
    assert compare("Press the round button.", "Push that circular switch.", embed=lambda _: (1.0, 0.0)) is True
    assert (
        compare(one, "Our office lies beside the river.", embed=lambda t: (1.0, 0.0) if t == one else (0.0, 1.0))
        is False
    )


@given(st.text(), st.text())
def test_comparing_takes_any_text_and_does_not_mind_the_order(stored: str, fresh: str) -> None:
    assert compare(stored, fresh) is compare(fresh, stored)


@given(st.text(min_size=1))
def test_an_answer_never_differs_from_itself(text: str) -> None:
    assert compare(text, text) is not False
