"""The bundled knowledge and workload: well formed, consistent with each other, and shaped as the demo says."""

from __future__ import annotations

import json
import re
import unicodedata
from collections import Counter
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest

import llm_savings
from llm_savings.sandbox.count import anthropic_tokens

PACKAGE = Path(llm_savings.__file__).parent
KNOWLEDGE_FILE = PACKAGE / "sandbox" / "knowledge.jsonl"
WORKLOAD_FILE = PACKAGE / "demo" / "workload.jsonl"

KIND_OF = {"support": "faq", "translation": "translation", "coding": "code", "analysis": "analysis"}
HANGUL = re.compile(r"[가-힣]")
SHORT_SYSTEMS = {"translate", "coding", "analysis", "extract"}

# Alike in words, different in answer: what a semantic cache must keep apart.
NEAR_MISSES = [
    ("배송 전에 주문을 취소하고 싶어요", "배송이 시작된 후에도 취소할 수 있나요?"),
    ("카드로 결제했는데 환불은 언제 되나요?", "무통장 입금한 건 환불이 언제 되나요?"),
    ("배송 기간은 얼마나 걸리나요?", "해외배송은 얼마나 걸리나요?"),
    ("배송 기간은 얼마나 걸리나요?", "배송비는 얼마예요?"),
    ("배송비는 얼마예요?", "제주도 추가 배송비가 있나요?"),
    ("단순 변심 반품은 며칠 안에 해야 하나요?", "보름 등급은 반품을 며칠까지 할 수 있나요?"),
    ("단순 변심 반품은 며칠 안에 해야 하나요?", "불량품은 언제까지 반품할 수 있나요?"),
    ("포인트 유효 기간이 얼마나 되나요?", "이벤트 포인트는 언제까지 쓸 수 있어요?"),
    ("사이즈 교환하고 싶어요", "색상만 교환할 수 있나요?"),
    ("환불 정책이 어떻게 되나요?", "반품하려면 어떻게 해야 하나요?"),
    ("Python 3.11 출시일이 언제야?", "Python 3.12 출시일이 언제야?"),
    ("리뷰 감성 분석: 배송이 너무 늦었어요", "리뷰 감성 분석: 배송이 하나도 안 늦었어요"),
    ("Can I cancel my order before it ships?", "Can I cancel my order after it has shipped?"),
    ("Can I change my address before the order ships?", "Can I change my address after the order has shipped?"),
    ("How long does delivery take?", "How long does international delivery take?"),
    ("I paid by credit card, when do I get my refund?", "I paid by debit card, how long does the refund take?"),
    ("When do my points expire?", "When do event points expire?"),
    ("How do I debounce a function in JavaScript?", "How do I throttle a function in JavaScript?"),
]

# The questions that the article behind this project uses as its examples.
EXAMPLES = [
    "배송 기간은 얼마나 걸리나요?",
    "배송이 얼마나 걸려요?",
    "환불 정책이 어떻게 되나요?",
    "반품하려면 어떻게 해야 하나요?",
    "제품 보증 기간은?",
    "회원 가입 방법이 뭐예요?",
    "파이썬이 뭐야?",
    "Python 3.11 출시일이 언제야?",
    "오늘 날씨 어때?",
    "RAG가 뭐야?",
    "RAG에 대해 설명해줘",
    "마이크로서비스 아키텍처를 설계해줘",
    "RESTful API와 GraphQL을 상세히 비교해줘",
]


def read_lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


KNOWLEDGE = read_lines(KNOWLEDGE_FILE)
HEADER, *ALL = read_lines(WORKLOAD_FILE)
REQUESTS = [request for request in ALL if request["feature"] != "extraction"]
EXTRACTIONS = [request for request in ALL if request["feature"] == "extraction"]
BY_ID = {entry["id"]: entry for entry in KNOWLEDGE}
BY_PROMPT = {prompt: entry for entry in KNOWLEDGE for prompt in entry["prompts"]}


def normalised(text: str) -> str:
    folded = unicodedata.normalize("NFKC", text).casefold()
    return re.sub(r"[\W_]+", "", folded)


def tokens(text: str) -> int:
    """o200k tokens where the package can count them, else a cautious guess from the length."""
    try:
        from llm_savings.tokens import count
    except ImportError:
        return int(len(text) * 0.5) if HANGUL.search(text) else len(text) // 5
    return count(text)


def share(flags: list[bool]) -> float:
    return sum(flags) / len(flags)


@pytest.mark.parametrize("path", [KNOWLEDGE_FILE, WORKLOAD_FILE], ids=lambda path: path.name)
def test_the_files_are_plain_utf8_lines(path: Path) -> None:
    data = path.read_bytes()
    assert len(data) < 400_000
    assert data.endswith(b"\n") and b"\r" not in data and not data.startswith(b"\xef\xbb\xbf")
    text = data.decode("utf-8")
    assert "\\u" not in text.replace("\\\\", ""), "Korean is written as itself, not escaped"
    # One composed form of Hangul, or equal texts would not compare equal.
    assert unicodedata.is_normalized("NFC", text)


@pytest.mark.parametrize("entry", KNOWLEDGE, ids=lambda entry: entry["id"])
def test_every_entry_has_the_declared_shape(entry: dict[str, Any]) -> None:
    expected = {"id", "kind", "lang", "prompts", "answer", "hard"} | ({"wrong"} if entry["hard"] is True else set())
    assert set(entry) == expected
    assert re.fullmatch(rf"{entry['kind']}-{entry['lang']}-\d{{3}}", entry["id"])
    assert entry["kind"] in KIND_OF.values() and entry["lang"] in ("en", "ko") and isinstance(entry["hard"], bool)
    assert 2 <= len(entry["prompts"]) <= 5
    for text in [*entry["prompts"], entry["answer"], entry.get("wrong", "-")]:
        assert isinstance(text, str) and text and text == text.strip()
        assert text.count("```") % 2 == 0
    if entry["hard"]:
        assert entry["kind"] in ("code", "analysis")
        assert normalised(entry["wrong"]) != normalised(entry["answer"])


def test_ids_answers_and_prompts_are_distinct() -> None:
    assert len(BY_ID) == len(KNOWLEDGE) >= 220
    assert len({normalised(entry["answer"]) for entry in KNOWLEDGE}) == len(KNOWLEDGE)
    prompts = Counter(normalised(prompt) for entry in KNOWLEDGE for prompt in entry["prompts"])
    assert [prompt for prompt, times in prompts.items() if times > 1] == []


def test_the_languages_are_what_they_say() -> None:
    for entry in KNOWLEDGE:
        korean = entry["lang"] == "ko"
        if entry["kind"] == "translation":
            assert bool(HANGUL.search(entry["answer"])) is not korean
        elif not entry["answer"].startswith("{"):
            assert bool(HANGUL.search(entry["answer"])) is korean
        assert all(bool(HANGUL.search(prompt)) is korean for prompt in entry["prompts"])


def test_about_a_quarter_of_code_and_analysis_is_hard() -> None:
    demanding = [entry for entry in KNOWLEDGE if entry["kind"] in ("code", "analysis")]
    assert 0.2 <= share([entry["hard"] for entry in demanding]) <= 0.35
    for kind in ("code", "analysis"):
        for lang in ("en", "ko"):
            assert any(e["hard"] for e in demanding if (e["kind"], e["lang"]) == (kind, lang))


@pytest.mark.parametrize(("one", "other"), NEAR_MISSES)
def test_near_misses_have_answers_of_their_own(one: str, other: str) -> None:
    assert BY_PROMPT[one]["answer"] != BY_PROMPT[other]["answer"]


def test_the_examples_of_the_article_are_asked() -> None:
    asked = {request["prompt"] for request in REQUESTS}
    assert set(EXAMPLES) <= asked
    assert BY_PROMPT["배송 기간은 얼마나 걸리나요?"] is BY_PROMPT["배송이 얼마나 걸려요?"]
    assert BY_PROMPT["RAG가 뭐야?"] is BY_PROMPT["RAG에 대해 설명해줘"]


def test_json_answers_parse() -> None:
    structured = [entry for entry in KNOWLEDGE if entry["answer"].startswith("{")]
    assert len(structured) >= 10
    for entry in structured:
        answer = json.loads(entry["answer"])
        assert "category" in answer or answer["sentiment"] in ("positive", "negative", "neutral")
        if "key_phrase" in answer:
            assert all(answer["key_phrase"] in prompt for prompt in entry["prompts"])
            assert 0 <= answer["confidence"] <= 1
        if entry["hard"]:
            assert json.loads(entry["wrong"])["sentiment"] != answer["sentiment"]


def test_the_header_names_the_system_prompts() -> None:
    assert set(HEADER) == {"workload", "version", "license", "systems"}
    assert (HEADER["workload"], HEADER["version"], HEADER["license"]) == ("shop", 2, "MIT")
    assert set(HEADER["systems"]) == {"support-ko", "support-en", *SHORT_SYSTEMS}
    for name in ("support-ko", "support-en"):
        assert tokens(HEADER["systems"][name]) >= 1_400, "long enough for prompt caching to matter"
    handbook = anthropic_tokens()(HEADER["systems"]["support-ko"])
    assert 4_600 <= handbook <= 5_200, "clearly over the 4,096 tokens from which Claude Haiku caches"
    for name in SHORT_SYSTEMS:
        assert tokens(HEADER["systems"][name]) < 100


@pytest.mark.parametrize("lang", ["ko", "en"])
def test_the_policies_and_the_answers_agree_on_money_and_periods(lang: str) -> None:
    """Every amount and period in a support answer stands in the policy that the model is given."""
    unit = {
        "ko": r"[\d,]+(?:만 )?(?:원|포인트|%)|[\d~]+(?:영업일|개월|년|시간|개국)|[\d~]+일(?= 안| 동안|까지| 이내)",
        "en": r"₩[\d,]+|\d+%|[\d,]+ points|(?:\d+ to )?\d+ (?:business days|months|years?|hours|countries)",
    }[lang]
    policy = re.sub(r"\s", "", HEADER["systems"][f"support-{lang}"])
    explained = {"ko": {"27,000원", "1원"}, "en": {"₩27,000"}}[lang]  # a worked example; "off by even one won"
    missing: list[tuple[str, str]] = []
    found = 0
    for entry in KNOWLEDGE:
        if entry["kind"] == "faq" and entry["lang"] == lang:
            answer = re.sub(r"영업일 기준 ([\d~]+)일", r"\1영업일", entry["answer"])
            for figure in re.findall(unit, answer):
                found += 1
                bare = re.sub(r"\s|포인트|points", "", figure)
                if bare not in explained and not re.search(rf"(?<![\d~])(?<!\d,){re.escape(bare)}(?!\d)", policy):
                    missing.append((entry["id"], figure))
    assert missing == []
    assert found > 50


@pytest.mark.parametrize("request_", REQUESTS, ids=lambda request: request["id"])
def test_every_request_has_the_declared_shape(request_: dict[str, Any]) -> None:
    keys = "id at feature lang user system prompt expects max_tokens stream batchable"
    assert set(request_) == set(keys.split())
    entry = BY_ID[request_["expects"]]
    assert request_["prompt"] in entry["prompts"]
    assert request_["lang"] == entry["lang"] and KIND_OF[request_["feature"]] == entry["kind"]
    support = f"support-{entry['lang']}"
    system = {"support": support, "translation": "translate"}.get(request_["feature"], request_["feature"])
    assert request_["system"] == system and system in HEADER["systems"]
    assert re.fullmatch(r"u(0[1-9]|[123]\d|40)", request_["user"])
    assert type(request_["stream"]) is bool and type(request_["batchable"]) is bool
    assert not (request_["stream"] and request_["batchable"]), "nobody watches a batch arrive"
    # No answer is cut off by its own limit, so that quality can be judged.
    assert type(request_["max_tokens"]) is int
    longest = max(tokens(entry["answer"]), tokens(entry.get("wrong", "")))
    assert longest < request_["max_tokens"] <= 4_096


@pytest.mark.parametrize("request_", EXTRACTIONS, ids=lambda request: request["id"])
def test_every_extraction_finds_what_its_note_says(request_: dict[str, Any]) -> None:
    orders = json.loads(request_["answer"])["orders"]
    assert 8 <= len(orders) <= 14
    for order in orders:
        assert list(order) == ["product", "quantity", "price_krw", "city", "status"]
        assert all(order[name] in request_["prompt"] for name in ("product", "city", "status"))
        assert f"{order['price_krw']:,}" in request_["prompt"]
    assert tokens(request_["answer"]) < request_["max_tokens"] and request_["system"] == "extract"


def test_people_ask_in_sessions() -> None:
    of_a_day: dict[tuple[str, int], list[int]] = {}
    for request in REQUESTS:
        if not request["batchable"]:
            of_a_day.setdefault((request["user"], request["at"] // 86_400), []).append(request["at"])
    assert all(after - before <= 200 for times in of_a_day.values() for before, after in pairwise(times))


def test_requests_come_in_time_order_over_three_days() -> None:
    assert [request["id"] for request in ALL] == [f"w{n:04d}" for n in range(1, len(ALL) + 1)]
    times = [request["at"] for request in ALL]
    assert all(type(at) is int for at in times)
    assert all(before < after for before, after in pairwise(times))
    assert times[0] >= 0 and times[-1] < 3 * 86_400
    days = Counter(at // 86_400 for at in times)
    assert set(days) == {0, 1, 2} and min(days.values()) >= 60
    hours = Counter(request["at"] % 86_400 // 3600 for request in REQUESTS if not request["batchable"])
    busy, quiet = sum(hours[h] for h in range(9, 18)), sum(hours[h] for h in range(9))
    assert busy > 2 * quiet, "people ask by day; what can wait runs at night"


def test_the_mix_is_as_described() -> None:
    assert 300 <= len(REQUESTS) <= 340
    assert 0.40 <= share([request["lang"] == "ko" for request in REQUESTS]) <= 0.50
    assert 0.15 <= share([request["stream"] for request in REQUESTS]) <= 0.25
    assert 0.15 <= share([request["batchable"] for request in REQUESTS]) <= 0.25
    assert len({request["user"] for request in REQUESTS}) == 40
    features = Counter(request["feature"] for request in REQUESTS)
    assert features.most_common(1)[0][0] == "support" and min(features.values()) >= 30
    assert sum(BY_ID[request["expects"]]["hard"] for request in REQUESTS) >= 15


def test_support_questions_repeat_and_the_others_hardly_do() -> None:
    seen: set[str] = set()
    repeats: dict[bool, list[bool]] = {True: [], False: []}
    paraphrased = False
    asked: set[str] = set()
    for request in REQUESTS:
        again = request["expects"] in seen
        repeats[request["feature"] == "support"].append(again)
        paraphrased |= again and request["prompt"] not in asked
        seen.add(request["expects"])
        asked.add(request["prompt"])
    assert 0.45 <= share(repeats[True]) <= 0.62
    assert share(repeats[False]) <= 0.25
    assert paraphrased
    support = Counter(request["expects"] for request in REQUESTS if request["feature"] == "support")
    top = sum(times for _, times in support.most_common(len(support) // 5))
    assert top >= 0.4 * support.total(), "a fifth of the questions makes a large part of the traffic"
