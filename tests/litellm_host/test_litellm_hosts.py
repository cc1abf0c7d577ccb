"""A call that LangChain's callback meters already is not metered again; with another ledger it is."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import litellm
import pytest
from langchain_litellm import ChatLiteLLM
from litellm_checks import CLAUDE, GPT, Metered, called, failing

from llm_savings import CostCallback
from llm_savings.errors import ConfigError
from llm_savings.litellm import CostLogger
from llm_savings.sandbox import Sandbox

QUESTION = "What is your return policy?"


def model(metered: Metered, name: str, **given: Any) -> ChatLiteLLM:
    return ChatLiteLLM(**metered.to(name) | {"max_retries": 0} | given)


@pytest.fixture
def both(box: Sandbox, tmp_path: Path) -> tuple[Metered, CostCallback]:
    """Both hosts' parts on one ledger, each with a handle of its own."""
    path = tmp_path / "costs.db"
    costs = CostLogger(path)
    litellm.callbacks = [costs]
    return Metered(costs, box), CostCallback(path)


@pytest.mark.parametrize("way", ["invoke", "ainvoke", "stream", "astream", "batch", "abatch"])
@pytest.mark.parametrize("name", [GPT, CLAUDE])
async def test_one_row_through_both_hosts(both: tuple[Metered, CostCallback], way: str, name: str) -> None:
    metered, cost = both
    chat, config = model(metered, name, streaming="stream" in way), {"callbacks": [cost]}
    many = "batch" in way
    asked: Any = [QUESTION, "Do you ship abroad?"] if many else QUESTION
    match way:
        case "stream":
            list(chat.stream(asked, config=config))
        case "astream":
            _ = [piece async for piece in chat.astream(asked, config=config)]
        case _ if way.startswith("a"):
            await getattr(chat, way)(asked, config=config)
        case _:
            getattr(chat, way)(asked, config=config)
    metered.complete()  # not LangChain's: comes after all its reports
    rows = await metered.rows(3 if many else 2)
    assert [row.sent.host for row in rows] == ["langchain"] * (len(rows) - 1) + ["litellm"]
    assert cost.calls == len(rows) - 1
    assert metered.costs.calls == 1
    assert len(metered.box.bill().rows) == len(rows)


async def test_a_failure_through_both_hosts(both: tuple[Metered, CostCallback]) -> None:
    metered, cost = both
    metered.box.fail("429", times=None, retry_after=0)
    await failing(lambda: model(metered, GPT).invoke(QUESTION, config={"callbacks": [cost]}))
    metered.box.reset()
    metered.complete()
    rows = await metered.rows(2)
    assert [(row.sent.host, row.status) for row in rows] == [("langchain", "error"), ("litellm", "ok")]


@pytest.mark.parametrize("way", ["complete", "acomplete"])
async def test_a_retry_inside_the_openai_sdk_is_seen_once(both: tuple[Metered, CostCallback], way: str) -> None:
    metered, cost = both
    metered.box.fail("500-after")
    await called(lambda: getattr(metered, way)())
    assert [(row.sent.host, row.status) for row in await metered.rows(2)] == [("litellm", "ok"), ("litellm", "error")]
    metered.box.fail("500-after")
    model(metered, GPT, max_retries=2).invoke(QUESTION, config={"callbacks": [cost]})
    rows = await metered.rows(4)
    assert sorted((row.sent.host, row.status) for row in rows[2:]) == [("langchain", "error"), ("langchain", "ok")]
    assert len(metered.box.bill().rows) == 4
    assert cost.spent == metered.costs.spent == metered.box.bill().rows[-1].usd


async def test_two_ledgers_keep_two_accounts(metered: Metered, tmp_path: Path) -> None:
    cost = CostCallback(tmp_path / "costs.db")
    model(metered, GPT).invoke(QUESTION, config={"callbacks": [cost]})
    metered.check_bill([await metered.row()])
    assert metered.costs.spent == cost.spent > 0


async def test_calls_beside_a_chain_are_metered(both: tuple[Metered, CostCallback]) -> None:
    metered, cost = both
    await asyncio.gather(
        *(model(metered, GPT).ainvoke(QUESTION, config={"callbacks": [cost]}) for _ in range(4)),
        *(metered.acomplete() for _ in range(4)),
    )
    rows = await metered.rows(8)
    assert sorted(row.sent.host for row in rows) == ["langchain"] * 4 + ["litellm"] * 4
    assert cost.calls == metered.costs.calls == 4


async def test_two_loggers_of_one_ledger_are_one(box: Sandbox, tmp_path: Path) -> None:
    path = tmp_path / "costs.db"
    first, second = CostLogger(path), CostLogger(path)
    elsewhere = CostLogger(":memory:")
    litellm.callbacks = [first, second, elsewhere]
    metered = Metered(first, box)
    await metered.acomplete()
    metered.stream()
    box.fail("429", retry_after=0)
    await failing(lambda: metered.acomplete(max_retries=0))
    assert [row.status for row in await metered.rows(3)] == ["ok", "ok", "error"]
    assert [row.status for row in await Metered(elsewhere, box).rows(3)] == ["ok", "ok", "error"]
    assert (first.calls, second.calls, elsewhere.calls) == (3, 0, 3)
    assert first.spent == elsewhere.spent == box.bill().total


async def test_a_logger_made_again_takes_over(box: Sandbox, tmp_path: Path) -> None:
    # As when a cell of a notebook is run again: LiteLLM goes on calling the logger it has once seen.
    loggers = [CostLogger(tmp_path / "costs.db") for _ in range(3)]
    for logger in loggers:
        litellm.callbacks = [logger]
        Metered(logger, box).complete()
        await Metered(logger, box).acomplete()
    await Metered(loggers[0], box).rows(6)
    assert [logger.calls for logger in loggers] == [2, 2, 2]
    assert sum(logger.spent for logger in loggers) == box.bill().total


def test_as_a_langchain_callback_it_names_the_right_one(costs: CostLogger, box: Sandbox) -> None:
    with pytest.raises(ConfigError, match="CostCallback"):
        model(Metered(costs, box), GPT).invoke(QUESTION, config={"callbacks": [costs]})  # type: ignore[list-item]
