"""All five strategies at once, in LangChain and in a LiteLLM Router, and all of them in shadow."""

from __future__ import annotations

import asyncio
import time
from collections import Counter
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import litellm
import pytest
import second_intents
from langchain_anthropic import ChatAnthropic
from langchain_core.globals import set_llm_cache
from langchain_openai import ChatOpenAI
from litellm import Router
from pydantic import BaseModel

from llm_savings import Budget, CostCallback, Ledger
from llm_savings.attribution import attribute
from llm_savings.batch import Options
from llm_savings.demo.show import compare
from llm_savings.foreseen import foresee
from llm_savings.langchain import (
    RoutedChatModel,
    SemanticCache,
    submit_batch,
    with_cached_streaming,
    with_compact_output,
    with_prompt_caching,
)
from llm_savings.ledger import Call
from llm_savings.litellm import ComplexityRouting, CostLogger, PromptCaching
from llm_savings.litellm import SemanticCache as LiteLLMCache
from llm_savings.prompt_cache import Memory
from llm_savings.sandbox import Sandbox

EASY = ("What is your return policy?", "Could you tell me what your return policy is?", "배송이 얼마나 걸려요?")
HARD = "RESTful API와 GraphQL을 상세히 비교하고 마이크로서비스 아키텍처를 설계해줘"
NOTE = "Sentiments of these reviews: 아주 좋아요. 별로예요. Works well."


class Review(BaseModel):
    sentiment: str
    confidence: float


@pytest.fixture(autouse=True)
def _hosts_as_they_were(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    lists = ("callbacks", "input_callback", "success_callback", "failure_callback")
    for name in (*lists, "_async_success_callback", "_async_failure_callback"):
        monkeypatch.setattr(litellm, name, [])
    monkeypatch.setattr(litellm, "cache", None)
    monkeypatch.setattr(litellm, "suppress_debug_info", True)
    yield
    set_llm_cache(None)


class Program:
    """A user's program; `on` is None without any strategy, else what `shadow` is."""

    def __init__(self, box: Sandbox, on: bool | None = False, *, budget: Budget | None = None) -> None:
        self.ledger, self.box, self.on = Ledger(":memory:"), box, on
        self.cost = CostCallback(self.ledger, budget=budget)
        self.logger = CostLogger(self.ledger, budget=budget)
        self.config: Any = {"callbacks": [self.cost]}
        self.reported = 0
        memory = Memory()
        litellm.callbacks = [self.logger]
        if on is not None:
            set_llm_cache(SemanticCache(shadow=on))
            litellm.cache = LiteLLMCache(shadow=on)
            litellm.callbacks += [PromptCaching(memory=memory, shadow=on, own_servers=[box.openai_url])]
        self.gpt = self._tiers(self._gpt("gpt-4o-mini"), self._gpt("gpt-4o"), memory)
        self.claude = self._tiers(self._claude("claude-haiku-4-5"), self._claude("claude-sonnet-4-5"), memory)
        self.router = self._router()
        self.auto = "big" if on is None else "auto"

    def _gpt(self, name: str) -> Any:
        return ChatOpenAI(
            model=name, base_url=self.box.openai_url, api_key="x", max_retries=0, max_tokens=300, stream_usage=True
        )

    def _claude(self, name: str) -> Any:
        return ChatAnthropic(model=name, base_url=self.box.anthropic_url, api_key="x", max_retries=0, max_tokens=300)

    def _tiers(self, small: Any, big: Any, memory: Memory) -> Any:
        if self.on is None:
            return big
        marked = [
            with_prompt_caching(model, memory=memory, shadow=self.on, own_servers=[self.box.openai_url])
            for model in (small, big)
        ]
        ready = [with_cached_streaming(model) for model in marked]
        return RoutedChatModel(tiers={"simple": ready[0], "complex": ready[1]}, shadow=self.on)

    def _router(self) -> Router:
        def params(model: str, url: str) -> dict[str, Any]:
            return {"model": model, "api_base": url, "api_key": "x", "max_tokens": 300}

        models = [
            {"model_name": "mini", "litellm_params": params("openai/gpt-4o-mini", self.box.openai_url)},
            {"model_name": "big", "litellm_params": params("openai/gpt-4o", self.box.openai_url)},
        ]
        router = Router(model_list=models, num_retries=0, cache_responses=self.on is not None)
        if self.on is not None:
            ComplexityRouting({"simple": "mini", "complex": "big"}, shadow=self.on).attach(router)
        return router

    def compact(self) -> Any:
        if self.on is None:
            return self._gpt("gpt-4o").with_structured_output(list_of(Review), method="json_schema")
        return with_compact_output(self._gpt("gpt-4o"), Review, many=True, shadow=self.on)

    def run(self) -> list[str]:
        """Everything once, sync; the answers."""
        said: list[str] = []
        for model in (self.gpt, self.claude):
            for text in (*EASY, HARD, EASY[0]):
                said.append(str(model.invoke(asked(text), self.config).text))
            said.append("".join(str(piece.text) for piece in model.stream(asked(EASY[0]), self.config)))
        for text in (*EASY, HARD, EASY[0]):
            self.reported += 1
            answer: Any = self.router.completion(model=self.auto, messages=asked(text))
            said.append(answer.choices[0].message.content)
        self.reports()
        return said

    async def arun(self) -> list[str]:
        """Some of it, async."""
        said: list[str] = []
        for text in (*EASY, HARD, EASY[0]):
            said.append(str((await self.gpt.ainvoke(asked(text), self.config)).text))
            self.reported += 1
            answer: Any = await self.router.acompletion(model=self.auto, messages=asked(text))
            said.append(answer.choices[0].message.content)
            await asyncio.sleep(0)
        for _ in range(2000):
            if self.logger.calls >= self.reported:
                break
            await asyncio.sleep(0.005)
        return said

    def reports(self) -> None:
        """Wait for LiteLLM, which reports from a thread of its own."""
        deadline = time.monotonic() + 20
        while self.logger.calls < self.reported and time.monotonic() < deadline:
            time.sleep(0.005)
        assert self.logger.calls == self.reported

    def rows(self) -> list[Call]:
        return list(self.ledger.calls())


def asked(text: str) -> list[Any]:
    return [{"role": "system", "content": second_intents.HANDBOOK}, {"role": "user", "content": text}]


def list_of(item: Any) -> Any:
    class Reviews(BaseModel):
        items: list[item]  # pyright: ignore[reportInvalidTypeForm]

    return Reviews


def check(program: Program) -> None:
    """The ledger is the bill; credits add up in every row and in the sum; and nobody has another's."""
    agreement = compare(program.ledger, program.box.bill())
    assert agreement.exact, agreement
    rows = program.rows()
    for row in rows:
        one = attribute([row])
        assert one.baseline - sum(one.credits.values(), Decimal(0)) + one.overhead == one.actual
        assert (one.unknown, one.unpriced) == (0, 0)
        if row.settled and row.settled.status == "hit":
            # It has what it saved at the price of the model that would have answered, and not the stronger one's.
            told = row.settled.strategies["semantic_cache"]
            assert one.actual == 0 and one.credits["semantic_cache"] == Decimal(told["saved_usd"])
            assert set(one.credits) <= {"routing", "prompt_cache", "semantic_cache"}
    whole = attribute(rows)
    assert whole.baseline - sum(whole.credits.values(), Decimal(0)) + whole.overhead == whole.actual
    assert whole.actual == program.box.bill().total
    for name, usd in whole.credits.items():
        assert usd == sum((attribute([row]).credits.get(name, Decimal(0)) for row in rows), Decimal(0))


def test_everything_on(box: Sandbox, tmp_path: Path) -> None:
    program = Program(box)
    program.run()
    reviews = program.compact().invoke(NOTE, program.config)
    assert reviews and all(isinstance(review, Review) for review in reviews)
    options = Options(patience=0.2)
    # A batch asks no cache: what the cache could answer is sent as well, at half the price, and is no hit.
    batch = submit_batch(
        program._gpt("gpt-4o"),
        [asked(EASY[0]), asked("제주도 추가 배송비가 있나요?")],
        config=program.config,
        journal=tmp_path / "batches.db",
        options=options,
    )
    assert len(list(batch.collect())) == 2
    batched = [row for row in program.rows() if row.settled and row.settled.mode == "batch"]
    assert len(batched) == 2 == sum(row.tier == "batch" for row in box.bill().rows)
    for row in batched:
        assert row.status == "ok" and set(attribute([row]).credits) <= {"batch", "prompt_cache"}
    check(program)
    credits = attribute(program.rows()).credits
    assert {"routing", "batch", "semantic_cache", "output"} <= {name for name, usd in credits.items() if usd > 0}
    hits = {row.sent.host for row in program.rows() if row.settled and row.settled.status == "hit"}
    assert hits == {"langchain", "litellm"}


async def test_everything_on_async(box: Sandbox) -> None:
    program = Program(box)
    await program.arun()
    check(program)
    assert {row.sent.host for row in program.rows() if row.status == "hit"} == {"langchain", "litellm"}


def test_hits_are_given_when_the_money_is_gone(box: Sandbox) -> None:
    program = Program(box, budget=Budget(total="0.02"))
    first = program.gpt.invoke(asked(EASY[0]), program.config).text
    program.reported += 1
    answer: Any = program.router.completion(model="auto", messages=asked(EASY[0]))
    program.reports()
    with pytest.raises(Exception, match=r"(?i)budget"):
        for number in range(200):
            program.gpt.invoke(asked(f"{HARD} {number}"), program.config)
    sent = box.requests()
    assert program.gpt.invoke(asked(EASY[0]), program.config).text == first
    program.reported += 1
    again: Any = program.router.completion(model="auto", messages=asked(EASY[0]))
    assert again.choices[0].message.content == answer.choices[0].message.content
    assert box.requests() == sent
    program.reports()


def test_a_conversation_stays_where_its_prompt_is_cached(box: Sandbox) -> None:
    program = Program(box)
    set_llm_cache(None)
    for number in range(4):  # others have asked before, so that the handbook is cached at the provider
        program.claude.invoke(asked(f"{HARD} {number}"), program.config)
    config = {**program.config, "metadata": {"thread_id": "a"}}
    talk = [*asked(HARD)]
    talk += [program.claude.invoke(talk, config), {"role": "user", "content": EASY[2]}]
    program.claude.invoke(talk, config)
    last = program.rows()[-1].settled
    assert last is not None and last.usage.cache_read > 1500
    assert "conversation" in last.strategies["routing"]["reasons"]
    assert {row.model for row in box.bill().rows} == {"claude-sonnet-4-5"}
    alone = program.claude.invoke(asked(EASY[2]), program.config)
    assert alone.response_metadata["model_name"].startswith("claude-haiku")
    check(program)


def test_in_shadow_nothing_changes_and_the_ledger_tells(box: Sandbox) -> None:
    plain = Program(box, None)
    answers, bill = plain.run(), box.bill()
    box.reset()
    shadow = Program(box, True)
    assert shadow.run() == answers
    assert billed(box.bill()) == billed(bill)
    check(shadow)
    rows = [row.settled.strategies for row in shadow.rows() if row.settled]
    for row in rows:
        assert row["routing"]["shadow"] and row["routing"]["tier"] == "complex"
    assert any(row["routing"]["chosen"] == "simple" for row in rows)
    assert all(row["prompt_cache"]["shadow"] for row in rows if "prompt_cache" in row)
    assert any(row.get("prompt_cache", {}).get("marks") for row in rows)
    would = [row["semantic_cache"]["would"] for row in rows if "would" in row["semantic_cache"]]
    assert len(would) >= 5 and all(Decimal(hit["saved_usd"]) > 0 for hit in would)
    assert not any(row.status == "hit" for row in shadow.rows())
    assert set(attribute(shadow.rows()).credits) <= {"prompt_cache"}  # what OpenAI caches by itself


def test_one_variable_puts_everything_in_shadow(box: Sandbox, monkeypatch: pytest.MonkeyPatch) -> None:
    plain = Program(box, None)
    answers, bill = plain.run(), box.bill()
    box.reset()
    monkeypatch.setenv("LLM_SAVINGS_SHADOW", "1")
    watching = Program(box, on=False)  # as if nobody had said anything of shadow
    assert watching.run() == answers
    assert billed(box.bill()) == billed(bill)
    told = [review.model_dump() for review in watching.compact().invoke(NOTE, watching.config)]
    assert told and watching.rows()[-1].settled.strategies["output"]["shadow"]


def test_what_shadow_foresees_is_what_is_saved_then(box: Sandbox) -> None:
    watching = Program(box, True)
    watching.run()
    foreseen = foresee(watching.rows())
    box.reset()
    saving = Program(box, False)
    saving.run()
    saved = attribute(saving.rows())
    paid = foreseen.actual - foreseen.saved
    assert abs(paid - saved.actual) <= saved.baseline * Decimal("0.05"), (foreseen, saved)
    assert foreseen.credits["routing"] > 0 < foreseen.credits["semantic_cache"]


def test_compact_output_in_shadow_pays_what_it_paid(box: Sandbox) -> None:
    plain, shadow = Program(box, None), Program(box, True)
    set_llm_cache(None)
    plain_answer = [review.model_dump() for review in plain.compact().invoke(NOTE, plain.config).items]
    before = box.bill()
    told = [review.model_dump() for review in shadow.compact().invoke(NOTE, shadow.config)]
    (row,) = shadow.rows()
    assert row.settled and row.settled.strategies["output"]["shadow"]
    assert "output" not in attribute([row]).credits
    assert len(told) == len(plain_answer) and len(before.rows) == 1 and len(box.bill().rows) == 2


def billed(bill: Any) -> Counter[Any]:
    return Counter((row.model, str(row.usage), row.usd, row.stream) for row in bill.rows)
