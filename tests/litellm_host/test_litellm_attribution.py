"""Who caused a call, and for what: tags, users, sessions, tenants."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import litellm
import pytest
from hypothesis import given
from hypothesis import strategies as st
from litellm import Router
from litellm_checks import FAQ, GPT, Metered, called, failing

from llm_savings import PriceBook
from llm_savings.attribution import attribute
from llm_savings.evidence import AT_END, noted
from llm_savings.ledger import tenant_hash
from llm_savings.litellm import CostLogger
from llm_savings.litellm.calls import CallIds, asked_limits, call_sent, output_limit, prompt_bound
from llm_savings.sandbox import Sandbox
from llm_savings.tokens import count


@pytest.mark.parametrize("way", ["complete", "acomplete", "stream", "astream"])
async def test_a_calls_own_labels(metered: Metered, way: str) -> None:
    metered.costs.meter.tags = {"app": "shop", "feature": "none"}
    tags = ["feature:faq", "team: support", "nightly", "beta", "Credential: main"]
    metadata = {"tags": tags, "customer": "c-7", "session_id": "chat-1"}
    await called(lambda: getattr(metered, way)(user="bob", metadata=metadata))
    row = await metered.row()
    assert row.sent.tags == {
        "app": "shop",
        "feature": "faq",
        "team": "support",
        "customer": "c-7",
        "tags": "beta,nightly",
    }
    assert (row.sent.user, row.sent.session, row.sent.tenant) == ("bob", "chat-1", None)
    by_team = {line.key: line.actual for line in metered.costs.ledger.summary("tag:team")}
    assert by_team == {"support": metered.box.bill().total}


@pytest.mark.parametrize("way", ["complete", "acomplete", "stream", "astream"])
async def test_what_a_strategy_did_is_kept(metered: Metered, way: str) -> None:
    metadata = noted({"customer": "c-7"}, "routing", {"tier": "simple", "baseline_model": "gpt-4"})
    await called(lambda: getattr(metered, way)(metadata=metadata))
    row = await metered.row()
    assert row.settled is not None and row.settled.strategies["routing"]["tier"] == "simple"
    assert metered.costs.saved == attribute([row]).credits["routing"] > Decimal(0)


@pytest.mark.parametrize("way", ["complete", "acomplete", "stream", "astream"])
async def test_the_answer_tells_the_rest(metered: Metered, way: str) -> None:
    heard: list[str] = []

    def longer(text: str, output: int) -> dict[str, int]:
        heard.append(text)
        return {"baseline_output": 2 * output}

    await called(lambda: getattr(metered, way)(metadata=noted(None, "output", {AT_END: longer})))
    row = await metered.row()
    assert row.settled is not None and heard[0]
    output = row.settled.usage.output
    assert row.settled.strategies == {"output": {"baseline_output": 2 * output}}
    assert metered.costs.saved == attribute([row]).credits["output"] == output * Decimal("0.0000006")


@pytest.mark.parametrize(
    ("named", "session"),
    [
        ({"litellm_session_id": "s"}, "s"),
        ({"metadata": {"session_id": "s"}}, "s"),
        ({"metadata": {"trace_id": "s"}}, "s"),
        ({"litellm_trace_id": "s"}, "s"),
        ({}, None),
    ],
)
async def test_sessions(metered: Metered, named: dict[str, Any], session: str | None) -> None:
    metered.complete(**named)
    assert (await metered.row()).sent.session == session


@pytest.mark.parametrize("way", ["completion", "acompletion"])
async def test_a_routers_own_metadata_is_no_label(metered: Metered, way: str) -> None:
    routing = Router(model_list=[metered.deployment("chat", GPT, tags=["tier:free"])], num_retries=0)
    await called(lambda: getattr(routing, way)("chat", FAQ, user="bob", metadata={"project": "p"}))
    row = await metered.row()
    assert row.sent.tags == {"project": "p", "tier": "free"}
    assert row.sent.user == "bob"
    assert row.sent.requested_model == "gpt-4o-mini"


def test_the_proxys_tenant_and_users() -> None:
    metadata = {
        "user_api_key": "hash-of-key",
        "user_api_key_hash": "hash-of-key",
        "user_api_key_team_id": "team-a",
        "user_api_key_user_id": "employee",
        "user_api_key_end_user_id": "customer",
        "requester_metadata": {"feature": "faq"},
        "headers": {"authorization": "secret"},
    }
    details = {"model": "gpt-4o", "litellm_params": {"metadata": metadata}}
    sent = call_sent(details, "1", tags={})
    assert (sent.user, sent.tags) == ("customer", {"feature": "faq"})
    assert sent.tenant == tenant_hash("team-a") != tenant_hash("hash-of-key")
    assert "team-a" not in repr(sent)
    assert "secret" not in repr(sent)


async def test_keys_and_prompts_stay_out_of_the_ledger(box: Sandbox, tmp_path: Any) -> None:
    path = tmp_path / "costs.db"
    costs = CostLogger(path)
    litellm.callbacks = [costs]
    metered = Metered(costs, box)
    metered.complete(api_key="sk-very-secret", messages=[{"role": "user", "content": "my-private-words"}])
    box.fail("garbage")
    asked = [{"role": "user", "content": "my-private-words"}]
    await failing(lambda: metered.complete(api_key="sk-very-secret", messages=asked))
    await metered.rows(2)
    costs.ledger.close()
    stored = path.read_bytes()
    assert b"gpt-4o-mini" in stored
    assert b"very-secret" not in stored
    assert b"private" not in stored


async def test_prices_of_the_users_own(box: Sandbox) -> None:
    book = PriceBook().with_overrides({"hosted_vllm/gpt-4o-mini": {"input": "1", "output": "2"}})
    costs = CostLogger(":memory:", prices=book, tags={"app": "shop"})
    litellm.callbacks = [costs]
    metered = Metered(costs, box)
    metered.complete("hosted_vllm/gpt-4o-mini")
    row = await metered.row()
    usage = row.settled.usage if row.settled else None
    assert row.sent.tags == {"app": "shop"}
    assert usage is not None
    assert costs.spent == Decimal(usage.input + 2 * usage.output) / 1_000_000 > 0


async def test_a_deployments_base_model_is_its_model(metered: Metered) -> None:
    models = [metered.deployment("chat", GPT) | {"model_info": {"base_model": "azure/gpt-4o"}}]
    Router(model_list=models, num_retries=0).completion("chat", FAQ)
    row = await metered.row()
    assert row.sent.requested_model == "azure/gpt-4o"
    assert row.settled and row.settled.model == "azure/gpt-4o"


TEXT = st.text(max_size=60)


@given(st.lists(st.tuples(st.sampled_from(["system", "user", "assistant"]), TEXT), min_size=1, max_size=6))
def test_a_prompt_never_has_more_tokens_than_its_bound(turns: list[tuple[str, str]]) -> None:
    messages = [{"role": role, "content": text} for role, text in turns]
    bound = prompt_bound({"messages": messages, "optional_params": {}})
    assert bound is not None
    assert bound >= 3 + sum(4 + count(text) for _, text in turns)
    parts = [{"role": role, "content": [{"type": "text", "text": text}]} for role, text in turns]
    in_parts = prompt_bound({"messages": parts, "optional_params": {}})
    assert in_parts is not None
    assert in_parts >= bound


@pytest.mark.parametrize(
    "asked",
    [
        {"previous_response_id": "resp_1"},
        {"web_search_options": {}, "conversation": "c"},
        {"web_search_options": {}},
        {"extra_body": {"plugins": [{"id": "web"}]}},
        {"tools": [{"type": "web_search"}]},
        {"tools": [{"googleSearch": {}}]},
    ],
)
def test_what_the_provider_adds_has_no_bound(asked: dict[str, Any]) -> None:
    assert prompt_bound({"messages": FAQ, "optional_params": asked}) is None


@pytest.mark.parametrize("place", ["messages", "input"])
def test_a_file_or_a_model_that_searches_has_no_bound(place: str) -> None:
    asked = [{"role": "user", "content": [{"type": "text", "text": "Read this"}, {"type": "file", "file": {}}]}]
    assert prompt_bound({"model": "gpt-4o", place: asked, "optional_params": {}}) is None
    assert prompt_bound({"model": "gpt-4o-search-preview", place: FAQ, "optional_params": {}}) is None
    assert prompt_bound({"model": "gpt-4o", place: FAQ, "optional_params": {}})


@pytest.mark.parametrize(
    ("details", "limit"),
    [
        ({"call_type": "completion", "optional_params": {"max_tokens": 5, "max_completion_tokens": 7}}, 7),
        ({"call_type": "completion", "optional_params": {"max_tokens": -1}}, None),
        ({"call_type": "completion", "additional_args": {"complete_input_dict": {"max_tokens": 9}}}, 9),
        ({"call_type": "completion", "additional_args": {"complete_input_dict": "signed"}}, None),
        ({"call_type": "aembedding"}, 0),
    ],
)
def test_output_limits(details: dict[str, Any], limit: int | None) -> None:
    assert output_limit(details) == limit


def test_how_many_answers() -> None:
    assert asked_limits({"call_type": "completion", "optional_params": {"n": 3}, "input": FAQ})[1] == 3
    assert (
        asked_limits({"call_type": "atext_completion", "optional_params": {"best_of": 2}, "input": ["a", "b"]})[1] == 4
    )
    assert asked_limits({"call_type": "completion", "optional_params": {"n": None}})[1] == 1


@given(st.lists(st.sampled_from(["a", "b", "c", None]), max_size=50))
def test_row_ids_are_never_given_twice(used: list[str | None]) -> None:
    ids = CallIds()
    given_out = [ids.take(call_id) for call_id in used]
    assert len(set(given_out)) == len(given_out)


def test_row_ids_take_little_memory() -> None:
    ids = CallIds(remembered=100)
    for number in range(1_000):
        ids.take(str(number))
    assert len(ids._uses) == 100
    assert ids.take("999") == "999#2"
