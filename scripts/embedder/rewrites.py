"""Rewrites of a Korean sentence that keep its meaning (paraphrases) or change one word of it (near misses)."""

from __future__ import annotations

import random
import re

from llm_savings.embedding.text import stem

# Each line: endings or words that can stand for one another. Longest first when matching.
_ENDINGS = [group.split("|") for group in """
해줘|해 줘|해 주세요|해주세요|해줄래|해 줄래|해주십시오|해 줘요|해라|해 주라|하도록 해|해 주실래요|해 주시겠어요|부탁해|해
해줘|해 주세요|해야 해|해야 돼|해야 합니다|하는 게 좋아|하도록
하나요|해요|하니|하냐|합니까|하는지 알려줘|하는지 궁금해요|하죠|할까|할까요|하는 거야|하는 건가요
되나요|돼요|되니|되냐|됩니까|되는지 알려줘|될까요|돼|되죠|되는 거야|되는지 궁금해
있나요|있어요|있니|있냐|있습니까|있을까|있을까요|있어|있는지 알려줘|있죠|있는지 궁금해
인가요|이에요|이야|입니까|일까|일까요|인지 알려줘|이죠|인지 궁금해
뭐야|뭔가요|뭐예요|무엇인가요|뭐니|뭡니까|뭐지|뭘까|뭐에요|무엇입니까|뭔지 알려줘|뭐냐|무엇일까요|뭔지 말해줘
어때|어떤가요|어때요|어떠니|어떻습니까|어떤지 알려줘|어떨까|어떤지 말해줘
얼마야|얼마예요|얼마인가요|얼마지|얼마니|얼마입니까|얼마인지 알려줘|얼마죠
언제야|언제예요|언제인가요|언제지|언제니|언제입니까|언제인지 알려줘|언제죠|언제더라
어디야|어디예요|어디인가요|어디지|어디니|어디입니까|어디인지 알려줘|어딘지 말해줘|어디더라
누구야|누구예요|누구인가요|누구지|누구니|누구입니까|누군지 알려줘|누구더라
하지 마|하지마|하지 말아줘|하지 마세요|하면 안 돼|하면 안돼|하지 말라고|하지 말아 주세요|하지 마라|하지 않도록 해|하면 안 됩니다|하지 말 것
싶어|싶어요|싶다|싶습니다|싶은데|싶네|싶은데요
걸려|걸려요|걸리나요|걸립니까|걸리니|걸리는지 알려줘|걸릴까|걸릴까요|걸리죠
알려줘|알려 줘|알려주세요|알려 주세요|말해줘|말해 줘|가르쳐줘|가르쳐 주세요|알려줄래|알려 주실 수 있나요|좀 알려줘|궁금해|궁금해요|알고 싶어
찾아줘|찾아 줘|찾아 주세요|검색해줘|찾아봐|찾아줄래|찾아 봐 줘
보여줘|보여 줘|보여 주세요|보여줄래|띄워줘|보여 주실래요
바꿔줘|바꿔 주세요|변경해줘|변경해 주세요|수정해줘|바꿔라|바꾸도록 해
지워줘|지워 주세요|삭제해줘|삭제해 주세요|지워|삭제해|지우도록 해
보내줘|보내 주세요|전송해줘|보내|전송해 주세요|보내도록 해
켜줘|켜 주세요|틀어줘|켜|켜라|켜 줘|켜도록 해
꺼줘|꺼 주세요|꺼|꺼라|꺼 줘|끄도록 해
잖아|잖아요|는데|는데요|네|네요|다|거든|거든요
""".strip().splitlines()]  # fmt: skip
_WORDS = [group.split("|") for group in """
아니면|혹은|또는|그게 아니면
왜|어째서|무슨 이유로|무엇 때문에
지금|현재|이 시간에
이메일|메일|전자우편
핸드폰|휴대폰|스마트폰|휴대전화
조명|전등|불
텔레비전|티비|TV
알람|알림
빨리|얼른|어서|서둘러
확인|체크
시작|개시
구매|구입
가격|금액|값
비용|요금
기간|시간
방법|법
조회|확인
사진|이미지
동영상|영상|비디오
직원|담당자
너무|정말|진짜|매우|아주
많이|엄청
오전|아침
오후|낮
저녁|밤
어떻게|어떤 식으로|어떠한 방법으로
언제|몇 시에|어느 때
사용|이용
추천|권유
문제|이슈
오류|에러
로그인|접속
컴퓨터|PC|피씨
노트북|랩톱
자동차|차|차량
약속|스케줄
일정|스케줄
회의|미팅
식당|음식점|레스토랑
장소|곳
모두|전부|다|모조리
먼저|우선
나중에|이따가|다음에
계속|쭉
항상|늘|언제나
가끔|때때로
친구|벗
남자친구|남친
여자친구|여친
""".strip().splitlines()]  # fmt: skip
_FILLERS = "좀|혹시|그|저기|음|그런데|근데|이제|한번|그러면|제발|자|아|저|일단".split("|")
_ENDING = {form: group for group in _ENDINGS for form in group}
_ENDING_FORMS = sorted(_ENDING, key=len, reverse=True)
_WORD = {form: group for group in _WORDS for form in group}
_PARTICLES = ("은", "는", "이", "가", "을", "를", "도", "만", "")
_TYPO = str.maketrans("애에외왜돼되않안낳낫게개네내", "에애왜외되돼안않낫낳개게내네")


def _particle(words: list[str], rng: random.Random) -> None:
    at = rng.randrange(len(words))
    base = stem(words[at])
    if len(base) >= 2:
        closed = "가" <= base[-1] <= "힣" and (ord(base[-1]) - 0xAC00) % 28 != 0
        words[at] = base + rng.choice(("", "은", "이", "을", "도") if closed else ("", "는", "가", "를", "도"))


def _ending(text: str, rng: random.Random) -> str:
    mark = re.search(r"[?!.~]*$", text)
    body, tail = (text[: mark.start()], mark.group()) if mark else (text, "")
    for form in _ENDING_FORMS:
        if body.endswith(form) and (len(form) > 1 or body.endswith(" " + form)):
            body = body[: -len(form)] + rng.choice(_ENDING[form])
            break
    return body + rng.choice(("", "?", tail, tail))


def _synonym(words: list[str], rng: random.Random) -> None:
    known = [at for at, word in enumerate(words) if stem(word) in _WORD]
    if known:
        at = rng.choice(known)
        base = stem(words[at])
        words[at] = rng.choice(_WORD[base]) + words[at][len(base) :]


def paraphrase(text: str, rng: random.Random) -> str:
    """The sentence with one to four small changes that keep its meaning."""
    if rng.random() < 0.6:
        text = _ending(text, rng)
    words = text.split() or [text]
    for _ in range(rng.choice((1, 1, 2, 3))):
        kind = rng.random()
        if kind < 0.25:
            _particle(words, rng)
        elif kind < 0.45:
            _synonym(words, rng)
        elif kind < 0.58 and len(words) > 2:
            at = rng.randrange(len(words) - 1)
            words[at : at + 2] = [words[at] + words[at + 1]]
        elif kind < 0.72 and len(words) > 2:
            a, b = rng.sample(range(len(words)), 2)
            words[a], words[b] = words[b], words[a]
        elif kind < 0.82:
            words.insert(rng.randrange(len(words)), rng.choice(_FILLERS))
        elif kind < 0.90:
            at = rng.randrange(len(words))
            words[at] = words[at].translate(_TYPO)
        elif len(words) > 3:
            words = [word for word in words if word not in _FILLERS] or words
            longest = max(range(len(words)), key=lambda at: len(words[at]))
            drop = rng.randrange(len(words))
            if drop != longest and len(words) > 4:
                del words[drop]
        else:
            at = rng.randrange(len(words))
            if len(words[at]) >= 4:
                cut = rng.randrange(2, len(words[at]) - 1)
                words[at : at + 1] = [words[at][:cut], words[at][cut:]]
    return " ".join(words)


def near_miss(text: str, others: list[str], rng: random.Random) -> str:
    """The sentence with its most telling word replaced by a word of another sentence, its particle kept."""
    words = text.split()
    content = [at for at, word in enumerate(words) if len(stem(word)) >= 2 and stem(word) not in _ENDING]
    if not content:
        return rng.choice(others)
    at = rng.choice(content[: max(1, len(content) - 1)])
    base = stem(words[at])
    for _ in range(5):
        other = rng.choice(rng.choice(others).split() or [""])
        if len(stem(other)) >= 2 and stem(other) != base:
            words[at] = stem(other) + words[at][len(base) :]
            return " ".join(words)
    return rng.choice(others)
