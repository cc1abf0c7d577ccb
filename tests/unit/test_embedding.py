"""The bundled embedder: its vectors, scripts, hostile text, threads and forks, the article's pairs."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import llm_savings.embedding
from llm_savings.embedding import BundledEmbedder, Embedder, Script
from llm_savings.embedding.text import normalised, split, stem

WEIGHTS = Path(llm_savings.embedding.__file__).parent / "weights"
EMBEDDER = BundledEmbedder()


def cosine(a: str, b: str) -> float:
    left, right = EMBEDDER.embed([a, b])
    return float(left @ right)


def test_is_an_embedder_of_at_most_384_dimensions():
    assert isinstance(EMBEDDER, Embedder)
    assert EMBEDDER.dimensions <= 384
    out = EMBEDDER.embed(["배송이 얼마나 걸려요?", "How long is shipping?", ""])
    assert out.shape == (3, EMBEDDER.dimensions)
    assert out.dtype == np.float32
    assert EMBEDDER.embed([]).shape == (0, EMBEDDER.dimensions)


@pytest.mark.parametrize(
    "text", ["배송이 얼마나 걸려요?", "How long is shipping?", "RAG가 뭐야?", "3", "C++", "x", "ㅋㅋㅋ", "café"]
)
def test_rows_are_unit_vectors(text: str):
    assert np.linalg.norm(EMBEDDER.embed([text])[0]) == pytest.approx(1, abs=1e-5)


@pytest.mark.parametrize(
    "text",
    [
        "",
        " \n\t",
        "🤖🔥",
        "?!...",
        "日本語の質問です",
        "مرحبا كيف حالك",
        "привет как дела x",
        "\ud800\udfff",
        "x" * 90 + "qzj" * 9,
    ],
)
def test_a_text_that_is_not_known_is_a_zero_row(text: str):
    assert not EMBEDDER.embed([text]).any()


def test_each_script_has_its_own_part_and_mixed_text_has_both():
    english, korean, mixed = EMBEDDER.embed(["what is retrieval", "검색이 뭐야", "retrieval이 뭐야"]) != 0
    assert not (english & korean).any()
    assert (mixed & english).any()
    assert (mixed & korean).any()
    assert cosine("what is retrieval", "검색이 뭐야") == 0


def test_spacing_of_unicode_forms_and_case_change_nothing():
    import unicodedata

    for text in ("배송이 얼마나 걸려요?", "What is RAG?", "RAG가 뭐야"):
        same = EMBEDDER.embed([text, unicodedata.normalize("NFD", text), text.upper(), f"\u200b{text}\u200d\ufe0f"])
        assert np.allclose(same, same[0], atol=1e-6)
    assert normalised("z̷a̷l̷g̷o̷") == "zalgo"


def test_a_batch_equals_its_items():
    texts = ["배송이 얼마나 걸려요?", "How long is shipping?", "", "RAG가 뭐야?"] * 5
    assert np.array_equal(EMBEDDER.embed(texts), np.concatenate([EMBEDDER.embed([text]) for text in texts]))


@settings(max_examples=300, deadline=None)
@given(st.text(alphabet=st.characters(), max_size=300))
def test_any_text_gives_a_unit_or_zero_row(text: str):
    row = EMBEDDER.embed([text])[0]
    assert np.isfinite(row).all()
    norm = float(np.linalg.norm(row))
    assert norm == 0 or norm == pytest.approx(1, abs=1e-4)
    for word in EMBEDDER.words(text):
        assert np.isfinite(word.vector).all()
        assert 0 < word.idf <= EMBEDDER.highest_idf + 1e-9


@pytest.mark.parametrize(
    "text", ["가" * 1_000_000, "a" * 1_000_000, "가a1 " * 250_000, "\u0301" * 1_000_000, "\ud800" * 1_000_000]
)
def test_a_megabyte_is_read_only_in_part(text: str):
    assert len(EMBEDDER.words(text)) <= 4_001
    assert np.isfinite(EMBEDDER.embed([text])).all()


def test_a_long_prompt_is_read_at_both_ends():
    filler = "lorem ipsum " * 2_000
    row, head, tail = EMBEDDER.embed([filler, "refund please " * 100 + filler, filler + "refund please " * 50])
    assert float(row @ head) < 0.99
    assert float(row @ tail) < 0.99


def test_words_carry_span_form_vector_and_weight():
    text = "RAG가 뭐야? the 환불 정책"
    words = EMBEDDER.words(text)
    assert [word.form for word in words] == ["rag", "뭐야", "the", "환불", "정책"]
    assert [normalised(text)[word.start : word.end] for word in words] == [word.form for word in words]
    assert [word.script for word in words] == [Script.LATIN, Script.HANGUL, Script.LATIN, Script.HANGUL, Script.HANGUL]
    for word in words:
        assert np.linalg.norm(word.vector) == pytest.approx(1, abs=1e-5)
    by_form = {word.form: word.idf for word in words}
    assert by_form["the"] < by_form["rag"]
    unheard = EMBEDDER.words("쀍쒧 뷁뾼 쩗쩗 zzqx qwxz zxzq")  # one may share its slot with a known word
    assert sum(word.idf == pytest.approx(EMBEDDER.highest_idf) for word in unheard) >= 5
    assert EMBEDDER.words("🤖") == []


def test_particles_are_kept_off_the_stem_and_the_weight():
    assert [stem(word) for word in ("배송이", "배송에서는", "배송", "나이", "shipping")] == [
        "배송",
        "배송",
        "배송",
        "나이",
        "shipping",
    ]
    a, b = EMBEDDER.words("배송이 배송은")
    assert a.idf == b.idf
    assert [match[match.lastindex or 0] for match in split("c++와 c#의 차이")] == ["c++", "c#", "차이"]


PARAPHRASES = [
    ("배송 기간은 얼마나 걸리나요?", "배송이 얼마나 걸려요?"),
    ("RAG가 뭐야?", "RAG에 대해 설명해줘"),
    ("비밀번호 변경은 어떻게 하나요?", "비밀번호를 변경하려면 어떻게 해야 해?"),
    ("What is RAG?", "Can you explain RAG?"),
    ("How do I reset my password?", "I want to reset my password, how?"),
]
OTHERS = ["오늘 서울 날씨 어때", "파이썬에서 리스트를 정렬하는 법", "play some jazz music", "LLM의 장점이 뭐야"]


@pytest.mark.parametrize(("a", "b"), PARAPHRASES)
def test_paraphrases_are_much_closer_than_unrelated_questions(a: str, b: str):
    unrelated = max(cosine(text, other) for text in (a, b) for other in OTHERS)
    assert cosine(a, b) > 0.7
    assert cosine(a, b) > unrelated + 0.2


def test_another_subject_is_farther_than_another_wording():
    assert cosine("RAG가 뭐야?", "RAG에 대해 설명해줘") > cosine("RAG가 뭐야?", "LLM이 뭐야?") + 0.1
    shipping = "배송 기간은 얼마나 걸리나요?"
    assert cosine(shipping, "배송이 얼마나 걸려요?") > cosine(shipping, "환불 기간은 얼마나 걸리나요?") + 0.1


def test_the_name_says_which_weights_these_are():
    code = "from llm_savings.embedding import BundledEmbedder; print(BundledEmbedder().name)"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert out.stdout.strip() == EMBEDDER.name
    assert EMBEDDER.name in (WEIGHTS / "name.txt").read_text(encoding="utf-8")


def test_weights_are_small_plain_arrays_with_their_sources_named():
    files = [path for path in WEIGHTS.iterdir() if path.is_file()]
    assert sum(path.stat().st_size for path in files) < 20e6
    for path in WEIGHTS.glob("*.npy"):
        assert not np.load(path, allow_pickle=False, mmap_mode="r").dtype.hasobject
    notice = (WEIGHTS / "NOTICE").read_text(encoding="utf-8")
    for source in (
        "all-MiniLM-L6-v2",
        "multilingual-e5-small",
        "songys/Question_pair",
        "songys/Chatbot_data",
        "CLINC150",
    ):
        assert source in notice


def test_threads_that_come_first_together_agree():
    code = (
        "from concurrent.futures import ThreadPoolExecutor; from llm_savings.embedding import BundledEmbedder\n"
        "one = BundledEmbedder(); texts = [f'배송 {i % 7} how long' for i in range(400)]\n"
        "rows = list(ThreadPoolExecutor(8).map(lambda t: one.embed([t])[0].tobytes(), texts))\n"
        "assert rows == [BundledEmbedder().embed([t])[0].tobytes() for t in texts]"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=60)


def _child(queue: multiprocessing.Queue[bytes]) -> None:
    queue.put(EMBEDDER.embed(["배송 how long"]).tobytes())


@pytest.mark.skipif("fork" not in multiprocessing.get_all_start_methods(), reason="no fork on this system")
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_a_forked_child_embeds_while_parent_threads_do():
    with ThreadPoolExecutor(2) as pool:
        busy = [pool.submit(EMBEDDER.embed, [f"질문 {i}" for i in range(500)]) for _ in range(2)]
        context = multiprocessing.get_context("fork")
        queue = context.Queue()
        child = context.Process(target=_child, args=(queue,))
        child.start()
        assert queue.get(timeout=30) == EMBEDDER.embed(["배송 how long"]).tobytes()
        child.join(30)
        assert all(len(future.result()) == 500 for future in busy)


def test_memory_of_words_is_bounded(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr("llm_savings.embedding.bundled._MOST_WORDS_KEPT", 50)
    fresh = BundledEmbedder()
    before = fresh.embed(["배송 조회"])
    fresh.embed([f"word{i} 단어{i}" for i in range(300)])
    assert len(fresh._known) <= 50
    assert np.array_equal(fresh.embed(["배송 조회"]), before)


def test_import_is_light():
    heavy = "{'litellm', 'torch', 'tokenizers', 'langchain_core'}"
    code = f"import sys, llm_savings.embedding; print(sorted({heavy} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert out.stdout.strip() == "[]"
