"""The plug-in in a real proxy of two workers on one SQLite file, with everything on: what each client gets and pays."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from decimal import Decimal
from typing import Any

import anthropic
import httpx
import openai
import psutil
import pytest
from litellm.proxy._types import ProxyErrorTypes, ProxyException
from litellm_checks import WEATHER, until
from litellm_proxy import need_proxy
from proxy_plugin import EASY, HARD, Proxy, once, plugged, survives

from llm_savings.attribution import attribute
from llm_savings.ledger import Call

need_proxy()

OPTIONS = """
ledger: costs.db
tags: {app: shop}
budgets: [{total: "0.5", per: user}]
cache: {per: team}
routing:
  tiers: {simple: mini, complex: big}
"""
LONG = "You help the customers of a shop. " * 700


@pytest.fixture(scope="module")
def proxy(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    with plugged(tmp_path_factory.mktemp("proxy"), OPTIONS, workers=2) as running:
        yield running


@pytest.fixture(autouse=True)
def _bill(request: pytest.FixtureRequest, proxy: Proxy) -> Iterator[None]:
    """After each test, all that was ever measured is what was ever billed, and every saving is somebody's once."""
    yield
    for row in proxy.check_bill():
        shares, settled = attribute([row]), row.settled
        if settled and settled.baseline is not None and settled.actual is not None:
            assert sum(shares.credits.values(), Decimal(0)) == settled.baseline - settled.actual, row


def said(answer: Any) -> dict[str, str]:
    """What an answer's headers say of us."""
    return {n.removeprefix("x-llm-savings-"): v for n, v in answer.headers.items() if n.startswith("x-llm-savings-")}


def usd(row: Call) -> tuple[Decimal | None, Decimal | None]:
    assert row.settled
    return row.settled.actual, row.settled.baseline


def test_auto_is_the_cheapest_that_will_do_and_the_headers_are_the_rows(proxy: Proxy) -> None:
    listed = proxy.client.get("/v1/models", headers={"Authorization": "Bearer sk-ann.routes."}).json()["data"]
    assert "auto" in [model["id"] for model in listed]
    answers = [proxy.post("ann.routes.", text, "auto") for text in (EASY, HARD)]
    heads = [said(answer) for answer in answers]
    assert [head["tier"] for head in heads] == ["simple", "complex"]
    assert [head["model"] for head in heads] == ["gpt-4o-mini", "gpt-4o"]
    assert [head["cache"] for head in heads] == ["miss", "miss"]
    rows = proxy.rows("ann", 2)
    for head, row in zip(heads, rows, strict=True):
        actual, baseline = usd(row)
        assert actual is not None and baseline is not None
        assert (Decimal(head["cost-usd"]), Decimal(head["saved-usd"])) == (actual, baseline - actual)
        assert row.sent.tags["app"] == "shop" and row.sent.tenant
    assert Decimal(heads[0]["saved-usd"]) > 0 == Decimal(heads[1]["saved-usd"])


def test_a_key_gets_only_models_that_it_may_use(proxy: Proxy) -> None:
    client = proxy.openai("bob.access.mini")
    with pytest.raises(openai.PermissionDeniedError):  # the proxy's own check: it may not use auto
        client.chat.completions.create(model="auto", messages=[{"role": "user", "content": HARD}])
    assert said(proxy.post("bob.access.mini+auto", HARD, "auto"))["model"] == "gpt-4o-mini"
    assert said(proxy.post("bob.access.big+auto", EASY + "?", "auto"))["model"] == "gpt-4o"
    assert said(proxy.post("bob.access.auto", HARD, "auto", max_tokens=50))["model"] == "gpt-4o", "auto was granted"
    assert proxy.post("bob.access.auto", HARD, "big").status_code == 403, "but big by itself was not"
    forged = {"llm_savings_tiers": ["complex"]}
    assert said(proxy.post("bob.access.mini+auto", HARD + "!", "auto", metadata=forged))["model"] == "gpt-4o-mini"
    first = proxy.rows("bob", 4)[0]
    assert first.settled and first.settled.strategies["routing"]["reasons"][-1] == "access"
    assert usd(first)[0] == usd(first)[1], "a key that may not use the strong model has not saved its price"


def test_one_team_shares_answers_and_no_other_team_does(proxy: Proxy) -> None:
    question = "What is your policy for returns?"
    fresh = proxy.post("cat.shares.", question)
    hit = once(lambda: proxy.post("dan.shares.", question), lambda answer: said(answer).get("cache") == "hit")
    assert hit.json()["choices"] == fresh.json()["choices"]
    assert said(hit)["strategies"] == "semantic_cache" and said(hit)["cost-usd"] == "0"
    assert said(hit)["saved-usd"] == said(fresh)["cost-usd"]
    before = proxy.box.requests()
    other = said(proxy.post("eve.keeps.", question))
    assert (other["cache"], proxy.box.requests()) == ("miss", before + 1)


def test_a_hit_of_a_routed_question_is_credited_to_both(proxy: Proxy) -> None:
    first = said(proxy.post("fay.both.", EASY, "auto"))
    hit = said(once(lambda: proxy.post("fay.both.", EASY, "auto"), lambda answer: said(answer).get("cache") == "hit"))
    assert hit["strategies"] == "routing,semantic_cache"
    hits = [row for row in proxy.settled("fay") if row.status == "hit"]
    row = hits[0]
    shares = attribute([row])
    assert shares.credits["semantic_cache"] == Decimal(first["cost-usd"])
    assert shares.credits["routing"] == Decimal(first["saved-usd"])


def test_anthropics_client_pays_less_for_the_same_beginning(proxy: Proxy) -> None:
    client = proxy.anthropic("gil.claude.")
    usages, costs = [], []
    for number in range(4):
        turn: Any = [{"role": "user", "content": f"Question {number}: is order {number} on its way?"}]
        answer = client.messages.with_raw_response.create(model="claude", max_tokens=60, system=LONG, messages=turn)
        usages.append(answer.parse().usage)
        costs.append((Decimal(said(answer)["cost-usd"]), Decimal(said(answer)["saved-usd"])))
        time.sleep(0.3)
    assert sum(usage.cache_read_input_tokens or 0 for usage in usages) > 0
    rows = proxy.rows("gil", 4)
    assert any(row.settled and row.settled.strategies.get("prompt_cache", {}).get("marks") for row in rows)
    paid = [usd(row) for row in rows]
    assert costs == [(actual, baseline - actual) for actual, baseline in paid if actual is not None and baseline]
    assert costs[-1][1] > 0 > min(saved for _, saved in costs), "a mark costs first, and pays then"
    assert said(answer)["strategies"] == "prompt_cache"


def test_no_request_without_room_in_the_budget_and_the_error_is_the_proxys(proxy: Proxy) -> None:
    before = proxy.box.requests()
    much: Any = {"max_tokens": 16_000, "n": 4}
    answer = proxy.post("hal.broke.", HARD, "claude", path="/v1/messages", max_tokens=60_000)
    assert (answer.status_code, answer.json()["type"]) == (422, "error") and "default, total, user=hal" in answer.text
    assert proxy.post("hal.broke.", HARD, "big", **much).status_code == 422
    answer = proxy.post("hal.broke.", HARD, "auto", **much)
    assert answer.status_code == 422
    its_own = ProxyException(message="", type=ProxyErrorTypes.budget_exceeded, param=None, code=422).to_dict()
    found = answer.json()["error"]
    assert {**found, "message": ""} == {**its_own, "message": ""}
    with pytest.raises(openai.APIStatusError) as refused:
        proxy.openai("hal.broke.").chat.completions.create(
            model="big", messages=[{"role": "user", "content": "hi"}], **much
        )
    assert refused.value.status_code == 422 and refused.value.type == "budget_exceeded"  # type: ignore[attr-defined]
    with pytest.raises(anthropic.APIStatusError):
        proxy.anthropic("hal.broke.").with_options(timeout=30).messages.create(
            model="claude", max_tokens=60_000, messages=[{"role": "user", "content": "안녕하세요"}]
        )
    assert proxy.box.requests() == before
    assert proxy.post("ida.rich.", "hi there, hal is broke").status_code == 200


def test_what_a_client_says_of_savings_and_prices_is_not_heard(proxy: Proxy) -> None:
    evidence = {"routing": {"tier": "x", "baseline_model": "gpt-4"}, "output": {"baseline_output": 10**6}}
    forged = {"llm_savings": evidence, "model_info": {"base_model": "text-embedding-3-small"}}
    for name in ("metadata", "litellm_metadata"):
        assert proxy.post("jon.forges.", f"{name}?", **{name: forged}).status_code == 200
    assert proxy.post("jon.forges.", "body?", llm_savings_metered="x", base_model="gpt-4").status_code == 200
    assert proxy.post("jon.forges.", "json?", metadata=json.dumps(forged)).status_code == 200
    client = proxy.openai("jon.forges.")
    client.responses.create(model="mini", input="responses?", extra_body={"litellm_metadata": forged})
    for row in proxy.rows("jon", 5):
        assert row.settled and set(row.settled.strategies) <= {"semantic_cache", "prompt_cache"}
        assert usd(row)[0] == usd(row)[1] != 0
        assert row.sent.requested_model == "gpt-4o-mini"


def test_streams_tools_messages_responses_and_embeddings_pass(proxy: Proxy) -> None:
    client, claude = proxy.openai("kit.passes."), proxy.anthropic("kit.passes.")
    ask: Any = [{"role": "user", "content": "날씨가 어때요?"}]
    with client.chat.completions.with_streaming_response.create(model="auto", messages=ask, stream=True) as raw:
        assert raw.headers["x-llm-savings-tier"] == "simple" and "x-llm-savings-cost-usd" not in raw.headers
        text = "".join(
            json.loads(line[6:])["choices"][0]["delta"].get("content") or ""
            for line in raw.iter_lines()
            if line.startswith("data: {") and json.loads(line[6:])["choices"]
        )
    assert text
    tools = client.chat.completions.create(model="auto", messages=ask, tools=[WEATHER], tool_choice="required")
    assert tools.choices[0].message.tool_calls
    for model in ("auto", "claude"):
        answer = claude.messages.create(model=model, max_tokens=50, messages=ask)
        assert answer.content[0].text  # type: ignore[union-attr]
    with claude.messages.stream(model="claude", max_tokens=50, messages=[{"role": "user", "content": "stream?"}]) as s:
        assert s.get_final_text()
    assert client.responses.create(model="auto", input="What does RAG mean?").output_text
    events = client.responses.create(model="auto", input="And what does LLM mean?", stream=True)
    assert "response.completed" in [event.type for event in events]
    assert client.embeddings.create(model="embed", input="hello").data
    rows = proxy.rows("kit", 8)
    assert all(row.basis == "measured" for row in rows), [(row.sent.requested_model, row.basis) for row in rows]


def test_both_workers_write_into_one_ledger(proxy: Proxy) -> None:
    asked = 0
    for _ in until(30):
        with ThreadPoolExecutor(8) as pool:  # connections of their own, for whichever worker takes them
            answers = pool.map(
                lambda number: httpx.post(
                    f"{proxy.url}/v1/chat/completions",
                    json={"model": "mini", "messages": [{"role": "user", "content": f"number {number}"}]},
                    headers={"Authorization": "Bearer sk-lea.two."},
                    timeout=30,
                ),
                range(asked, asked + 16),
            )
            assert {answer.status_code for answer in answers} == {200}
        asked += 16
        if len(_workers(proxy)) == 2:
            break
    assert len(_workers(proxy)) == 2
    proxy.rows("lea", asked)


def _workers(proxy: Proxy) -> list[psutil.Process]:
    """The processes that serve: children of the one that the tests started, which have the ledger open."""
    children = psutil.Process().children(recursive=True)
    where = str(proxy.folder / "costs.db")
    return [each for each in children if any(file.path == where for file in each.open_files())]


def test_a_worker_killed_loses_no_settled_call(proxy: Proxy) -> None:
    """Runs last: what is in flight is unknown then, within its bound."""
    settled = len(proxy.check_bill())

    def ask(number: int) -> None:
        proxy.post(f"max.{number}.", f"question {time.monotonic()}")

    assert survives(proxy, _workers(proxy)[0], ask, clients=4) > settled
