"""Questions whose meaning was changed in one place, by rules and word lists apart from the guards' and the fit's own.

Each rule yields (kind, question, changed question); none of the pairs may share an answer.
"""

# fmt: off
# ruff: noqa: E501, SIM905  (tables that are read a row at a time)
from __future__ import annotations

import itertools
import re
from collections.abc import Iterator, Sequence

import numpy as np

EN_WORDS = {
    "place": "london paris tokyo chicago boston denver seattle texas france japan germany italy spain india canada mexico "
    "australia dallas miami houston atlanta portland vietnam thailand brazil kenya".split(),
    "person": "john mary david sarah michael emma james linda robert susan kevin anna peter laura brian alice".split(),
    "product": "laptop phone tablet camera printer monitor keyboard headphones charger router television fridge oven "
    "toaster blender vacuum bicycle scooter helmet backpack".split(),
    "role": "doctor teacher engineer lawyer nurse manager plumber chef pilot accountant designer architect farmer "
    "dentist journalist electrician".split(),
}
EN_FRAMES = {
    "place": [
        "what is the weather in {} tomorrow", "how long is a flight to {}", "best restaurants in {}", "do I need a visa for {}",
        "what time is it in {}", "how do I get a parking permit in {}", "is it safe to travel to {} right now",
    ],
    "person": [
        "send a message to {}", "what is the phone number of {}", "when is {} coming back from holiday", "call {} on speaker",
        "has {} approved my expense report", "add {} to the meeting invitation",
    ],
    "product": [
        "how do I reset my {}", "what is the warranty on the {}", "can I return a {} without a receipt",
        "my {} is not turning on", "how much does the {} weigh", "which {} do you recommend for a student",
    ],
    "role": [
        "how much does a {} earn", "how do I become a {}", "what does a {} do all day", "find me a {} near my house",
        "what should I ask a {} at an interview",
    ],
}
KO_WORDS = {
    "place": "서울 부산 대구 인천 광주 대전 울산 제주 강릉 전주 수원 춘천 포항 여수 일본 중국 미국 영국 프랑스 베트남".split(),
    "person": "민수 지영 철수 영희 준호 수진 현우 미경 동현 은지 성민 혜진".split(),
    "product": "노트북 냉장고 세탁기 청소기 모니터 키보드 카메라 프린터 이어폰 태블릿 에어컨 전자레인지 자전거".split(),
    "role": "의사 교사 변호사 간호사 요리사 건축가 회계사 경찰관 소방관 디자이너 농부 기자".split(),
}
KO_FRAMES = {
    "place": ["내일 {} 날씨 어때?", "{} 가는 기차표 얼마야?", "{} 맛집 추천해줘", "{} 여행 준비물 알려주세요", "{}에서 제일 가까운 공항이 어디야?"],
    "person": ["{}에게 전화해줘", "{} 생일이 언제야?", "{}한테 온 메일 보여줘", "{} 전화번호 알려줘", "오늘 {} 회의에 참석하나요?"],
    "product": ["{} 보증 기간이 어떻게 되나요?", "{} 환불하고 싶어요", "{} 전원이 안 켜져요", "{} 가격 알려줘", "{} 설치는 어떻게 신청하나요?"],
    "role": ["{} 연봉이 얼마나 되나요?", "{} 되려면 어떻게 해야 해?", "{} 하는 일이 뭐야?", "유명한 {} 추천해줘"],
}
EN_OPPOSITES = """
increase/decrease enable/disable buy/sell open/close start/stop accept/reject upload/download lock/unlock cheapest/priciest
maximum/minimum before/after import/export encrypt/decrypt import/export ascending/descending incoming/outgoing arrive/depart
oldest/newest best/worst fastest/slowest hide/show install/uninstall subscribe/unsubscribe mute/unmute safe/dangerous
left/right legal/illegal deposit/withdraw earlier/later hot/cold employer/employee landlord/tenant connect/disconnect
""".split()
EN_OPPOSITE_FRAMES = ["how do I {} it in my account", "what is the {} option here", "can you {} this for me", "tell me about the {} one"]
KO_OPPOSITES = """
켜줘/꺼줘 열어줘/닫아줘 올려줘/내려줘 늘리는/줄이는 가입하는/탈퇴하는 입금하는/출금하는 설치하는/삭제하는 보내는/받는 사는/파는 출발하는/도착하는
가장빠른/가장느린 최대/최소 유료/무료 합법/불법 왼쪽/오른쪽 오전/오후 국내/해외 수입/수출 장점/단점 입학/졸업 높은/낮은 비싼/저렴한 시작/종료 허용/금지
""".split()
KO_OPPOSITE_FRAMES = ["{} 방법 알려줘", "{} 쪽은 어떻게 되나요?", "지금 {} 거 설명해줘"]


def words(seed: int = 0) -> Iterator[tuple[str, str, str, str]]:
    """(kind, language, question, changed) with one place, person, product or role put for another."""
    for language, lists, frames in (("en", EN_WORDS, EN_FRAMES), ("ko", KO_WORDS, KO_FRAMES)):
        for kind in lists:
            pairs = list(itertools.permutations(lists[kind], 2))
            chosen = np.random.default_rng(seed).permutation(len(pairs))[:60]
            for frame, place in itertools.product(frames[kind], chosen):
                one, other = pairs[place]
                yield kind, language, frame.format(one), frame.format(other)


EN_NUMBERS = [
    ("number", "how do I cook rice for {} people", ["4", "6", "12"]), ("number", "transfer {} dollars to savings", ["50", "500", "15"]),
    ("number", "is a fever of {} degrees dangerous", ["38.5", "39.5", "40"]), ("number", "what is {} percent of 240", ["15", "25", "5"]),
    ("number", "set a timer for {} minutes", ["five", "ten", "twenty"]), ("version", "is python {} still supported", ["3.8", "3.9", "3.12"]),
    ("version", "what changed in v{} of the api", ["1.2.3", "1.3.2", "2.0.0"]), ("version", "install node {} on ubuntu", ["18", "20", "22"]),
    ("version", "how do I use {} from the command line", ["gpt-4o", "gpt-4.1", "gpt-5"]), ("date", "what happened on {}", ["1999-12-31", "1999-12-30", "2001-12-31"]),
    ("date", "book a table for {}", ["may 5th", "june 5th", "may 6th"]), ("date", "is the office open on {}", ["monday", "friday", "sunday"]),
    ("date", "remind me {} at noon", ["tomorrow", "today", "tuesday"]), ("unit", "how much is 5 {} in stones", ["kg", "lb", "ounces"]),
    ("unit", "is 30 {} enough for a break", ["minutes", "seconds", "hours"]),
]
KO_NUMBERS = [
    ("number", "{}명 예약 가능한가요?", ["3", "5", "30"]), ("number", "{}만원 송금해줘", ["10", "100", "15"]), ("number", "{}번 문제 답이 뭐야?", ["7", "17", "70"]),
    ("number", "커피 {} 잔 주문해줘", ["두", "세", "다섯"]), ("version", "파이썬 {} 설치 방법 알려줘", ["3.8", "3.11", "3.12"]),
    ("version", "{} 요금이 얼마야?", ["gpt-4o", "gpt-4.1", "gpt-5"]), ("version", "안드로이드 {} 업데이트 언제 나와?", ["13", "14", "15"]),
    ("date", "{} 영업하나요?", ["월요일", "일요일", "토요일"]), ("date", "{} 회의 일정 알려줘", ["3월 5일", "4월 5일", "3월 6일"]),
    ("date", "{} 날씨 알려줘", ["내일", "어제", "모레"]), ("date", "{} 매출이 얼마야?", ["2023년", "2024년", "2025년"]),
    ("unit", "5{}은 얼마나 무거워?", ["킬로그램", "그램", "톤"]), ("unit", "30{} 뒤에 알려줘", ["분", "초", "시간"]),
]
EN_TURNS = [
    ("flights from {} to {}", [("boston", "denver"), ("paris", "tokyo"), ("miami", "dallas")]), ("convert {} to {}", [("euros", "pesos"), ("celsius", "kelvin"), ("json", "xml")]),
    ("translate this from {} into {}", [("french", "german"), ("thai", "dutch")]), ("is {} bigger than {}", [("mars", "venus"), ("texas", "france")]),
    ("does {} come before {}", [("lunch", "training"), ("chapter", "appendix")]), ("why did {} sue {}", [("apple", "samsung"), ("oracle", "google")]),
    ("should I take {} after {}", [("aspirin", "coffee"), ("calculus", "algebra")]), ("move the file in {} over to {}", [("archive", "inbox"), ("staging", "production")]),
    ("did {} beat {} in the final", [("brazil", "italy"), ("chelsea", "arsenal")]),
]
KO_TURNS = [
    ("{}에서 {}까지 얼마나 걸려?", [("서울", "부산"), ("집", "회사"), ("공항", "호텔")]), ("{}을 {}으로 바꿔줘", [("달러", "원"), ("음성", "글"), ("사진", "그림")]),
    ("{}가 {}를 이겼어?", [("한국", "독일"), ("토끼", "거북이")]), ("{}보다 {}이 더 커?", [("금성", "화성"), ("세종", "대전")]),
    ("{}한테서 {}에게 온 메일 찾아줘", [("민수", "지영"), ("팀장", "부장")]), ("{}에서 {}로 송금하는 방법", [("국민은행", "신한은행"), ("토스", "카카오뱅크")]),
    ("{} 말고 {} 추천해줘", [("커피", "홍차"), ("등산", "수영")]),
]


def facts() -> Iterator[tuple[str, str, str, str]]:
    """(kind, language, question, changed) with another number, version, date or unit, or two words turned round."""
    for language, table in (("en", EN_NUMBERS), ("ko", KO_NUMBERS)):
        for kind, frame, values in table:
            for one, other in itertools.permutations(values, 2):
                yield kind, language, frame.format(one), frame.format(other)
    for language, turns in (("en", EN_TURNS), ("ko", KO_TURNS)):
        for frame, pairs in turns:
            for one, other in pairs:
                yield "order", language, frame.format(one, other), frame.format(other, one)
                yield "order", language, frame.format(other, one), frame.format(one, other)


def opposites() -> Iterator[tuple[str, str, str, str]]:
    for language, table, frames in (("en", EN_OPPOSITES, EN_OPPOSITE_FRAMES), ("ko", KO_OPPOSITES, KO_OPPOSITE_FRAMES)):
        for pair, frame in itertools.product(table, frames):
            one, other = pair.split("/")
            yield "antonym", language, frame.format(one), frame.format(other)


_DENY_EN = [(r"\bcan i\b", "can't i"), (r"\bi can\b", "i can't"), (r"\bis\b", "isn't"), (r"\bare\b", "aren't"), (r"\bdo i\b", "don't i"),
            (r"\bwas\b", "was never"), (r"\bplease\b", "please don't"), (r"\bi want\b", "i do not want"), (r"\bdoes\b", "doesn't")]
_DENY_KO = [(r"해줘", "하지 마"), (r"되나요", "안 되나요"), (r"돼\?", "안 돼?"), (r"할까", "하지 말까"), (r"하자", "하지 말자"), (r"가능한", "가능하지 않은"), (r"하면", "하지 않으면")]


def denials(texts: Sequence[str], language: str) -> Iterator[tuple[str, str, str, str]]:
    """Real questions with their first verb denied."""
    for text in texts:
        for pattern, denied in _DENY_EN if language == "en" else _DENY_KO:
            changed = re.sub(pattern, denied, text.lower(), count=1)
            if changed != text.lower() and not re.search(r"n't|\bnot\b|never|않|말|안 ", text.lower()):
                yield "negation", language, text.lower(), changed
                break


def digits(texts: Sequence[str], language: str) -> Iterator[tuple[str, str, str, str]]:
    """Real questions with a number in them, the number another."""
    for text in texts:
        match = re.search(r"\d+", text)
        if match:
            yield "number", language, text, f"{text[: match.start()]}{int(match[0]) + 3}{text[match.end() :]}"


def listed(texts: Sequence[str], language: str) -> Iterator[tuple[str, str, str, str]]:
    """Real questions with a listed place, person, product or role in them, exchanged for the next of its list."""
    for text in texts:
        for kind, names in (EN_WORDS if language == "en" else KO_WORDS).items():
            for place, name in enumerate(names):
                found = re.search(rf"\b{name}\b" if language == "en" else rf"(?<![가-힣]){name}", text.lower())
                if found:
                    other = names[(place + 1) % len(names)]
                    yield kind, language, text.lower(), text.lower()[: found.start()] + other + text.lower()[found.end() :]
