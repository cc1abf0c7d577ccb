"""Guards name what tells two questions apart for certain, and leave paraphrases alone."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_savings.semantic_cache.match import prepare
from llm_savings.semantic_cache.match.guards import blocks

BLOCKED = [
    ("number", "transfer 50 dollars to savings", "transfer 500 dollars to savings"),
    ("number", "what is 1.5 plus 2", "what is 15 plus 2"),
    ("number", "is -5 degrees cold", "is 5 degrees cold"),
    ("number", "set a timer for five minutes", "set a timer for six minutes"),
    ("number", "book a table for 4", "book a table"),
    ("unit", "how much is 5 kg", "how much is 5 lb"),
    ("unit", "how much is 5kg", "how much is 5lb"),
    ("currency", "what is $100 worth", "what is €100 worth"),
    ("currency", "price in dollars", "price in euros"),
    ("date", "what happened on 1999-12-31", "what happened on 1999-12-30"),
    ("month", "remind me in june", "remind me in july"),
    ("weekday", "is it open on Monday?", "is it open on Friday?"),
    ("day", "what is the weather tomorrow", "what is the weather yesterday"),
    ("version", "what changed in v1.2.3", "what changed in v1.3.2"),
    ("number", "install python 3.11", "install python 3.12"),
    ("code", "how do I use gpt-4o", "how do I use gpt-5"),
    ("code", "compile C++ on windows", "compile C# on windows"),
    ("code", "is a < b", "is a > b"),
    ("antonym", "turn on the light", "turn off the light"),
    ("antonym", "how do I enable backups", "how do I disable backups"),
    ("antonym", "increase my limit", "decrease my limit"),
    ("negation", "am I able to pay", "am I unable to pay"),
    ("antonym", "is my plan active", "is my plan inactive"),
    ("antonym", "is it legal to park here", "is it illegal to park here"),
    ("direction", "flights from seoul to busan", "flights from busan to seoul"),
    ("direction", "translate this from french into german", "translate this from german into french"),
    ("order", "does the cat chase the dog", "does the dog chase the cat"),
    ("direction", "was Clinton a better president than Obama", "was Obama a better president than Clinton"),
    ("question", "when did Hitler die", "why did Hitler die"),
    ("negation", "can I get a refund", "can't I get a refund"),
    ("negation", "which cards are accepted", "which cards are not accepted"),
    ("number", "3명 예약 가능한가요?", "5명 예약 가능한가요?"),
    ("number", "커피 두 잔 주문해줘", "커피 세 잔 주문해줘"),
    ("unit", "30분 뒤에 알려줘", "30초 뒤에 알려줘"),
    ("day", "월요일에 영업하나요?", "일요일에 영업하나요?"),
    ("day", "내일 날씨 알려줘", "모레 날씨 알려줘"),
    ("number", "3월 5일 일정 알려줘", "4월 5일 일정 알려줘"),
    ("code", "gpt-4o 요금이 얼마야?", "gpt-5 요금이 얼마야?"),
    ("antonym", "불 켜줘", "불 꺼줘"),
    ("antonym", "환불이 가능한가요?", "환불이 불가능한가요?"),
    ("antonym", "최대 한도가 얼마예요?", "최소 한도가 얼마예요?"),
    ("antonym", "이번 주말 강수량은?", "지난 주말 강수량은?"),
    ("direction", "서울에서 부산까지 얼마나 걸려?", "부산에서 서울까지 얼마나 걸려?"),
    ("direction", "고양이가 개를 물었어?", "개가 고양이를 물었어?"),
    ("direction", "커피 말고 홍차 추천해줘", "홍차 말고 커피 추천해줘"),
    ("negation", "메일 삭제해줘", "메일 삭제하지 마"),
    ("negation", "환불 되나요?", "환불 안 되나요?"),
    ("unit", "is 5 gb enough", "is 5 tb enough"),  # the lists' lines end where a group does
    ("unit", "how long is 5 mm", "how long is 5 miles"),
    ("negation", "창문 열어줘", "창문은 열면 안 돼"),
    ("direction", "민수가 나한테 보낸 메일 찾아줘", "내가 민수한테 보낸 메일 찾아줘"),
    ("antonym", "남자친구 선물 추천해줘", "여자친구 선물 추천해줘"),
]
FREE = [
    ("How do I reset my password?", "how can i reset my password"),
    ("What is the weather?", "what's the weather like today"),
    ("transfer 1,000 dollars", "transfer 1000 dollars"),
    ("set a timer for 5 minutes", "set a timer for five minutes"),
    ("call v2 of the api", "calling v2 of the api"),
    ("turn on the light on the porch", "turn on the porch light"),
    ("difference between cats and dogs", "what is the difference between cats and dogs"),
    ("the first of May", "the 1st of May"),
    ("배송 기간은 얼마나 걸리나요?", "배송이 얼마나 걸려요?"),
    ("RAG가 뭐야?", "RAG에 대해 설명해줘"),
    ("서울 날씨 알려줘", "서울의 날씨를 알려주세요"),
    ("서울에서 부산까지 얼마나 걸려?", "부산까지 서울에서 얼마나 걸려?"),
    ("에어컨 켜줘", "에어컨을 켜 주세요"),
    ("커피 2잔 주문해줘", "커피 두 잔 주문해줘"),
    ("배송 조회 방법이 궁금합니다", "배송 조회 방법 알려줘"),  # not 금합니다, which forbids
    ("조건을 충족한 사람 알려줘", "조건을 충족하는 사람들 알려줘"),  # not one person
    ("여기서 사진 찍지 마세요", "여기서 사진 찍으면 안 돼요"),
    ("우산 쓰지 말고 비옷 입어", "우산 대신 비옷 입어"),
    ("주말엔 몇 시에 열어요?", "주말에는 몇 시에 열어요?"),
]
ALIKE = [
    ("메일을 지우는 방법", "이메일 삭제하는 방법"),
    ("추운 날 입을 옷", "날이 추울 때 입는 옷"),
    ("노트북을 사려면", "랩톱 구매하려면"),
    ("다음 달에 보낼까", "다음 달에 보내겠습니다"),
]


@pytest.mark.parametrize(("name", "one", "other"), BLOCKED)
def test_a_difference_is_named_from_both_sides(name: str, one: str, other: str) -> None:
    assert name in blocks(prepare(one), prepare(other))
    assert blocks(prepare(one), prepare(other)) == blocks(prepare(other), prepare(one))


@pytest.mark.parametrize(("one", "other"), FREE)
def test_a_paraphrase_is_not_blocked(one: str, other: str) -> None:
    assert blocks(prepare(one), prepare(other)) == ()


@pytest.mark.parametrize(("one", "other"), ALIKE)
def test_forms_of_a_verb_and_synonyms_are_one_word(one: str, other: str) -> None:
    assert prepare(one).word_set == prepare(other).word_set


def test_a_long_text_matches_nothing_but_itself() -> None:
    text = "please summarise this page for me " * 50
    assert blocks(prepare(text), prepare(text)) == ()
    assert blocks(prepare(text), prepare(text + "in Korean")) == ("text",)


PIECES = (
    """not on off from to 서울에서 부산으로 가 3 5kg monday C++ 안 what why cards card's 켜줘 꺼줘 RAG 😀 é 中文 <"""
)
QUESTIONS = st.lists(st.sampled_from(str.split(PIECES)), max_size=8).map(" ".join)


@given(QUESTIONS, QUESTIONS)
def test_blocks_are_symmetric_and_spare_equals(one: str, other: str) -> None:
    first, second = prepare(one), prepare(other)
    assert blocks(first, first) == ()
    if first.language == second.language:
        assert blocks(first, second) == blocks(second, first)


@given(st.text(max_size=60))
def test_reading_never_raises_and_is_deterministic(text: str) -> None:
    assert prepare(text) == prepare(text)
