"""Korean requests put together from slots: object, verb, time, place and speech act, each in many wordings.

Neighbours of a request differ in one slot (another time, object, verb, place) or in the act alone (do it, don't do it,
when, how, why, this or that): what a cache must not confuse.
"""

from __future__ import annotations

import random
from collections.abc import Iterator

from embedder.korean_questions import Cluster, fill

# verb stem:its -아/어 form, synonyms joined by "/" ; then the objects it goes with
_VERBS = """
지우:지워/삭제하:삭제해/없애:없애=메일|스팸 메일|읽은 메일|첨부 파일|사진|동영상|메모|일정|알람|연락처|댓글|게시글|로그|파일|폴더|캐시|대화 기록|검색 기록
보내:보내/전송하:전송해/발송하:발송해=메일|답장|문자|사진|보고서|견적서|청구서|초대장|위치|파일|링크|축하 메시지|회의록
읽:읽어/확인하:확인해/체크하:체크해=메일|새 메일|문자|공지|댓글|보고서|알림|일정|스케줄|재고|계좌 잔액|시험 결과|예약 내역
옮기:옮겨/이동하:이동해=메일|일정|회의|사진|파일|폴더|약속 장소|화분|책상
미루:미뤄/연기하:연기해/늦추:늦춰=회의|약속|일정|발표|출장|여행|면접|마감|결제일
당기:당겨/앞당기:앞당겨=회의|약속|일정|발표|마감|출발 시간
취소하:취소해=회의|약속|예약|주문|알람|항공권|출장|구독|모임|배달
잡:잡아/정하:정해/만들:만들어=약속|회의|일정|모임|저녁 식사|면접|발표 날짜
예약하:예약해/예매하:예매해=식당|호텔|비행기표|기차표|회의실|미용실|영화표|렌터카|병원 진료
켜:켜/틀:틀어/작동시키:작동시켜=에어컨|보일러|조명|거실 불|침실 등|선풍기|제습기|가습기|공기청정기|텔레비전|라디오|음악|오븐
끄:꺼/중지하:중지해/멈추:멈춰=에어컨|보일러|조명|거실 불|침실 등|선풍기|제습기|가습기|공기청정기|텔레비전|라디오|음악|알람|로봇 청소기
높이:높여/올리:올려/키우:키워=온도|실내 온도|볼륨|밝기|습도|화면 밝기|보일러 온도|글자 크기
낮추:낮춰/내리:내려/줄이:줄여=온도|실내 온도|볼륨|밝기|습도|화면 밝기|에어컨 세기|글자 크기|지출
열:열어=창문|문|현관문|커튼|차고|블라인드|파일|앱
닫:닫아=창문|문|현관문|커튼|차고|블라인드|앱
사:사/구매하:구매해/주문하:주문해=우유|휴지|세제|생수|선물|책|옷|운동화|노트북|커피|치킨|피자|꽃
고치:고쳐/수정하:수정해/바꾸:바꿔/변경하:변경해=비밀번호|일정|주소|문서|코드|제목|프로필|설정|예약 시간|회의 장소|배경 화면
추가하:추가해/넣:넣어/등록하:등록해=일정|연락처|장바구니|쇼핑 목록|할 일|즐겨찾기|카드|메모
번역하:번역해/옮겨 쓰:옮겨 써=문장|메일|논문|계약서|자막|문서
요약하:요약해/정리하:정리해=기사|논문|회의록|보고서|메일|책|강의|자료
찾:찾아/검색하:검색해/알아보:알아봐=맛집|카페|주차장|약국|병원|열쇠|사진|파일|가는 길|최저가|항공권|숙소|분실물
청소하:청소해/치우:치워/닦:닦아=거실|방|창문|화장실|부엌|책상|차|냉장고
준비하:준비해/챙기:챙겨=우산|점심|도시락|발표 자료|서류|여권|외투|마스크|선물|저녁
배우:배워/공부하:공부해=영어|파이썬|피아노|수영|요리|코딩|운전|회계|통계
쓰:써/작성하:작성해=보고서|메일|일기|이력서|자기소개서|코드|테스트|댓글|후기|블로그 글
""".strip().splitlines()  # fmt: skip
_TIMES = """오늘|내일|모레|어제|이번 주|다음 주|이번 주말|주말에|아침에|저녁에|밤에|오전에|오후에|퇴근하고|점심 먹고|월요일에|화요일에|수요일에|목요일에|금요일에|
토요일에|일요일에|세 시에|여섯 시에|열 시에|내일 아침|내일 저녁|오늘 밤|다음 달|이번 달|지금|나중에|출근 전에|자기 전에|매일|회의 끝나고""".replace("\n", "").split("|")  # fmt: skip
_PLACES = """서울|부산|대구|인천|광주|대전|제주|강릉|수원|울산|춘천|전주|도쿄|뉴욕|파리|런던|강남|홍대|여의도|회사|집|학교|공항|경주|속초|여수""".split("|")  # fmt: skip
_FACTS = """날씨|기온|최고 기온|최저 기온|강수 확률|미세먼지|습도|자외선 지수|바람 세기|교통 상황|일출 시간|일몰 시간|체감 온도|황사|적설량|파도 높이""".split("|")  # fmt: skip

_ACTS = {
    "do": "{t} {o} {a}줘|{t} {o} {a} 주세요|{t} {O}{을} {a}|{t} {O}{을} {j}도록 해|{t} {o} {a}줄래|{o} {t} {a} 줘|{t} {o} {a}야 해|{t} {O}{을} {a} 달라고|{t} {o} {a}라|{t} {o} {a} 주시겠어요|{t} {O}{을} {n} 게 좋겠어|{O}{을} {a}야겠어 {t}",
    "dont": "{t} {o} {j}지 마|{t} {O}{은} {j}지 말아줘|{t} {o} {m} 안 돼|{O}{을} {t} {j}지 마세요|{t} {o} {j}지 않도록 해|{t} {O}{을} {n} 건 하지 마|{t} {o} {j}지 말라고|{t} {O}{을} {m} 안 되니까 조심해",
    "when": "{o} 언제 {a}|{o} 언제 {l}까|{O}{을} 언제 {m} 돼|{o} {n} 게 언제가 좋아|언제 {o} {a}야 하는지 알려줘|{o} {l} 시간이 언제야|{O}{을} 몇 시에 {l}지 알려줘|{O}{은} 언제 {a}야 하나요|{o} 언제쯤 {n} 게 좋을까",
    "how": "{o} 어떻게 {a}|{o} {n} 방법 알려줘|{O}{을} {R} 어떻게 해야 돼|{o} {n} 법|{O}{은} 어떻게 {n} 거야|{o} {n} 방법이 뭐야|{O}{을} 어떻게 {m} 되나요|{o} {n} 방법 좀 가르쳐줘|어떻게 하면 {O}{을} {l} 수 있어",
    "why": "{O}{을} 왜 {a}야 해|{o} {n} 이유가 뭐야|왜 {o} {a}|{O}{을} {n} 이유 알려줘|무엇 때문에 {O}{을} {n} 거야|{o} {n} 까닭이 뭔가요|{O}{을} {a}야 하는 이유가 뭐죠",
    "can": "{t} {o} {a}도 돼|{t} {o} {l} 수 있어|{t} {O}{을} {a}도 되는지 알려줘|{t} {o} {n} 거 가능해|{t} {O}{을} {l} 수 있나요|{t} {o} {a}도 될까요|{t} {O}{을} {a}도 괜찮아",
    "did": "{t} {o} {p}어|{t} {O}{을} {p}나요|{t} {O}{을} {p}는지 확인해줘|{t} {o} {p}는지 알려줘|{t} {o} {p}습니까|내가 {t} {o} {p}니|{t} {O}{을} {p}던가",
    "who": "{o} 누가 {a}|{O}{을} 누가 {n}지 알려줘|{O}{은} 누가 {a}야 해|{o} {n} 사람이 누구야|누가 {O}{을} {n} 거야|{O}{을} {l} 사람이 누구지|{o} 담당이 누구야",
    "many": "{O}{을} 몇 개 {a}야 해|{o} 얼마나 {a}야 돼|{O}{은} 몇 개나 {l}까|{O}{을} 얼마나 {m} 되는지 알려줘|{o} 몇 개 {n} 게 좋아|얼마나 {o} {m} 될까",
    "or_verb": "{O}{을} {l}까 말까|{o} {n} 게 나아 아니면 안 {n} 게 나아|{O}{을} {l}지 말지 정해줘|{o} {a}야 할까 말아야 할까|{O}{을} {n} 게 좋을까 그냥 둘까",
}  # fmt: skip
_EITHER = "{o} {l}까 {x} {l}까|{o} 아니면 {x} 중에 뭘 {l}까|{O}{을} {n} 게 나아 {X}{을} {n} 게 나아|{O}{이랑} {x} 중에 뭘 {a}야 돼|{X}{을} {l}까 아니면 {O}{을} {l}까|{O}{과} {x} 중에 어느 걸 {n} 게 좋아|{x}하고 {o} 중 뭐부터 {a}"
_SOMETIME = "{O}{을} {t} {l}까 {u} {l}까|{t} {l}까 아니면 {u} {l}까 {o}|{o} {n} 거 {t} 할까 {u} 할까|{t}하고 {u} 중에 언제 {O}{을} {n} 게 좋아|{O}{은} {u} {n} 게 나아 {t} {n} 게 나아"
_REPORT = "{t} {p} {f} 어때|{t} {p} {f} 알려줘|{p} {t} {F}{이} 어떻게 돼|{f} 좀 알려줘 {t} {p}|{t} {P}{은} {F}{이} 어떨까|{p} {f} {t} 확인해줘|{t} {p} {f} 어떤지 말해줘|{p}의 {t} {f}|{t} {p} {f} 어떤가요|{t} {p} {f} 좀 봐줘"


def _final(text: str, jamo: int, joined: str) -> str:
    """`text` with a final consonant on its last syllable, or with `joined` where it has one already."""
    last = ord(text[-1]) - 0xAC00
    return text[:-1] + chr(0xAC00 + last + jamo) if last % 28 == 0 else text + joined


def _conjugated(template: str, verb: str) -> str:
    base, a = verb.split(":")
    closed, rieul = (ord(base[-1]) - 0xAC00) % 28 != 0, (ord(base[-1]) - 0xAC00) % 28 == 8
    without = base[:-1] + chr(ord(base[-1]) - 8) if rieul else base
    forms = {"a": a, "j": base, "l": base if rieul else _final(base, 8, "을"), "n": without + "는",
             "m": base + ("으면" if closed and not rieul else "면"), "p": _final(a, 20, "ㅆ"),
             "R": base + ("으려면" if closed and not rieul else "려면")}  # fmt: skip
    for key, form in forms.items():
        template = template.replace("{" + key + "}", form)
    return template


def _wordings(templates: str, verbs: list[str], rng: random.Random, **slots: str) -> tuple[str, ...]:
    chosen = templates.split("|")
    rng.shuffle(chosen)
    out: list[str] = []
    for template in chosen[:6]:
        text = _conjugated(template, rng.choice(verbs)) if verbs else template
        for key, value in slots.items():
            text = text.replace("{" + key + "}", value)
            text = fill(text, **{key.upper(): value}) if value else text
        out.append(" ".join(text.split()))
    return tuple(dict.fromkeys(out))


def requests(count: int, seed: int = 0) -> Iterator[list[Cluster]]:
    """`count` families: a request and three to five neighbours of it."""
    rng = random.Random(seed)
    kinds = [(verbs.split("/"), objects.split("|")) for verbs, objects in (line.split("=") for line in _VERBS)]
    for number in range(count):
        family: list[Cluster] = []
        if rng.random() < 0.2:
            t, u = rng.sample(_TIMES[:11], 2)
            (p, q), (f, g) = rng.sample(_PLACES, 2), rng.sample(_FACTS, 2)
            for i, (time, place, fact) in enumerate(((t, p, f), (u, p, f), (t, q, f), (t, p, g))):
                family.append(Cluster(f"{number}", f"fact{i}", _wordings(_REPORT, [], rng, t=time, p=place, f=fact)))
        else:
            (verbs, objects), (other_verbs, _) = rng.sample(kinds, 2)
            o, x = rng.sample(objects, 2)
            t, u = rng.sample(_TIMES, 2) if rng.random() < 0.6 else ("", rng.choice(_TIMES))
            act, other_act = rng.sample(sorted(_ACTS), 2)
            for i, (name, verb, obj, time) in enumerate(((act, verbs, o, t), (other_act, verbs, o, t), (act, verbs, x, t),
                                                         (act, verbs, o, u), (act, other_verbs, o, t))):  # fmt: skip
                if i != 3 or "{t}" in _ACTS[name]:
                    family.append(Cluster(f"{number}", f"{i}", _wordings(_ACTS[name], verb, rng, o=obj, t=time)))
            extra = _EITHER if rng.random() < 0.5 else _SOMETIME
            family.append(Cluster(f"{number}", "or", _wordings(extra, verbs, rng, o=o, x=x, t=t or "지금", u=u)))
        yield [cluster for cluster in family if len(cluster.wordings) > 1]
