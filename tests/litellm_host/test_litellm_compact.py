"""Compact answers through the real LiteLLM, against the sandbox's bill."""

from __future__ import annotations

from typing import Any

import litellm
import pytest
from compact_invoices import Invoice, Loose, check
from litellm import Router
from litellm_checks import CLAUDE, GPT, Metered

from llm_savings.attribution import attribute
from llm_savings.errors import ConfigError, StructuredOutputError
from llm_savings.litellm import acompact_completion, compact_completion
from llm_savings.structured import count_words
from llm_savings.structured.compact import Compact, Options
from llm_savings.structured.rules import traits

ASKED = [{"role": "user", "content": "List the invoices of order 12 for Hanbit"}]
KOREAN = [{"role": "user", "content": "주문 12번의 송장을 모두 나열해 주세요"}]
MODELS = (GPT, "openai/gpt-5-mini", CLAUDE)


async def asked(metered: Metered, way: str, model: str, schema: Any = Invoice, **given: Any) -> Any:
    to = metered.to(model)
    given = {"messages": ASKED, "many": schema is not str} | given
    call = {"model": to.pop("model"), "schema": schema, **to, **given}
    return await acompact_completion(**call) if way == "async" else compact_completion(**call)


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("way", ["sync", "async"])
async def test_every_model_gives_records_from_columns(metered: Metered, model: str, way: str) -> None:
    check(await asked(metered, way, model))
    row = await metered.row()
    metered.check_bill([row])
    assert row.settled is not None and row.settled.response_id
    done = row.settled.strategies["output"]
    assert (done["form"], done["strict"], done["basis"]) == ("columns", True, "modelled")
    assert done["baseline_output"] > row.settled.usage.output
    assert attribute([row]).credits["output"] == metered.costs.saved > 0


@pytest.mark.parametrize("model", MODELS)
@pytest.mark.parametrize("fault", ["truncated", "half", "interleaved", "unequal", "wrong-type", "refused"])
async def test_an_answer_that_is_no_good_is_an_error_or_asked_for_again(
    metered: Metered, model: str, fault: str
) -> None:
    metered.box.fail(fault)
    if fault == "refused":
        with pytest.raises(StructuredOutputError, match="refused"):
            await asked(metered, "async", model)
        await metered.rows(1)
    else:
        check(await asked(metered, "async", model))
        first, again = await metered.rows(2)
        assert (first.sent.tags, again.sent.tags) == ({}, {"overhead": "output"})
        assert attribute([first, again]).overhead == (again.settled.actual if again.settled else None)
    assert metered.costs.spent == metered.box.bill().total, "every attempt is in the ledger"


async def test_no_good_twice_is_an_error_with_its_text(metered: Metered) -> None:
    metered.box.fail("half", times=4)
    with pytest.raises(StructuredOutputError) as caught:
        await asked(metered, "sync", GPT)
    assert caught.value.raw.startswith("{")
    given = await asked(metered, "async", GPT, include_raw=True)
    assert given["parsed"] is None and isinstance(given["parsing_error"], StructuredOutputError)
    assert given["raw"].choices[0].message.content == given["parsing_error"].raw


@pytest.mark.parametrize("limit", ["max_tokens", "max_completion_tokens"])
async def test_the_callers_limit_is_raised_when_it_cuts(metered: Metered, limit: str) -> None:
    check(await asked(metered, "sync", GPT, **{limit: 60}))
    first, again = await metered.rows(2)
    assert first.settled and again.settled and first.settled.usage.output == 60
    assert again.settled.strategies["output"] == {"again": "cut"}


async def test_a_router_and_what_the_caller_says_of_the_call(metered: Metered) -> None:
    router = Router(model_list=[metered.deployment("mine", GPT), metered.deployment("other", CLAUDE)])
    metadata = {"tags": ["feature:invoices"], "customer": "c-7"}
    for name in ("mine", "other"):
        call: dict[str, Any] = {"model": name, "messages": ASKED, "schema": Invoice, "many": True, "metadata": metadata}
        check(compact_completion(**call, completion=router.completion))
        check(await acompact_completion(**call, completion=router.acompletion))
    assert metadata == {"tags": ["feature:invoices"], "customer": "c-7"}
    rows = await metered.rows(4)
    metered.check_bill(rows)
    assert all(row.sent.tags == {"feature": "invoices", "customer": "c-7"} for row in rows)
    assert all(row.settled and row.settled.strategies["output"]["baseline_output"] for row in rows)


@pytest.mark.parametrize("model", MODELS)
async def test_texts_and_open_schemas(metered: Metered, model: str) -> None:
    text = await asked(metered, "sync", model, str, messages=KOREAN, max_words=6)
    assert 0 < count_words(text) <= 6
    blocks = [{"role": "user", "content": [{"type": "text", "text": "How long does delivery take?"}]}]
    assert count_words(await asked(metered, "async", model, str, messages=blocks, max_words=6)) <= 6
    assert "content" in blocks[0] and len(blocks[0]["content"]) == 1
    found = await asked(metered, "async", model, Loose)
    assert found and all(one.counts for one in found)


@pytest.mark.parametrize("model", ["gpt-4o", "gpt-4.1-mini", "gpt-5", "gpt-5-mini", "o3"])
async def test_no_parameter_is_refused(metered: Metered, model: str) -> None:
    wanted = {"verbosity": "low", "reasoning_effort": "low", "max_words": 200, "stop": ("\n\n\n",)}
    for schema in (Invoice, str):
        await asked(metered, "async", f"openai/{model}", schema, options=wanted)
    metered.check_bill(await metered.rows(2))


async def test_a_prepared_compact_remembers_between_calls(metered: Metered) -> None:
    compact = Compact(Invoice, Options(many=True, max_tokens=600, sample=[]))
    for _ in range(2):
        check(await asked(metered, "sync", GPT, compact, many=False))
    await metered.rows(2)


def test_what_it_sets_itself_cannot_be_given() -> None:
    for name in ("response_format", "tools", "stream", "n"):
        with pytest.raises(ConfigError, match=name):
            compact_completion(GPT, ASKED, Invoice, **{name: 1})
    with pytest.raises(ConfigError, match="max_words"):
        compact_completion(GPT, ASKED, Invoice, max_words=0)


async def test_a_model_that_takes_neither_schema_nor_tools_is_told_in_words(monkeypatch: pytest.MonkeyPatch) -> None:
    sent: list[Any] = []

    def answer(**given: Any) -> Any:
        sent.append(given)
        columns = '"lines.sku":[],"lines.quantity":[],"lines.unit_price":[]'
        return litellm.completion(**given, mock_response=f'{{"number":"7",{columns},"paid":null,"note":""}}')

    monkeypatch.setattr("llm_savings.litellm.compact._taken", lambda *_: frozenset({"max_tokens"}))
    found = compact_completion(GPT, ASKED, Invoice, completion=answer, options={"verbosity": "low", "max_tokens": 900})
    assert found == Invoice(number="7", lines=[], paid=None, note="")
    assert set(sent[0]) == {"model", "messages", "metadata", "max_tokens"}
    assert '"lines.sku":{"type":"array"' in sent[0]["messages"][-1]["content"]


def test_what_the_rules_say_of_a_model_litellm_lets_pass() -> None:
    """Every chat model of OpenAI, Azure and Anthropic in the price map."""
    asked_of = 0
    for name, entry in litellm.model_cost.items():
        provider = entry.get("litellm_provider")
        if provider not in ("openai", "azure", "anthropic") or entry.get("mode") != "chat":
            continue
        bare = name.removeprefix(f"{provider}/")
        taken = litellm.get_supported_openai_params(model=bare, custom_llm_provider=provider)
        known, asked_of = traits(name, provider), asked_of + 1
        assert taken is not None
        sent = {"verbosity": known.verbosity, "reasoning_effort": bool(known.efforts), "stop": known.stops}
        assert not {param for param, is_sent in sent.items() if is_sent and param not in taken}, name
        assert "response_format" in taken or not known.structured, name
    assert asked_of > 100
