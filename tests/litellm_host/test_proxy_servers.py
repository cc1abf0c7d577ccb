"""The plug-in where workers of several machines would meet: PostgreSQL for all of it, or Redis for the answers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from decimal import Decimal
from uuid import uuid4

import httpx
import psutil
import pytest
from litellm_proxy import need_proxy
from proxy_plugin import EASY, Proxy, once, plugged, survives

from llm_savings.attribution import attribute

need_proxy()

OPTIONS = """
ledger: %s
budgets: [{total: "0.004", per: user}]
cache: {per: team, namespace: %s%s}
routing:
  tiers: {simple: mini, complex: big}
"""


@pytest.fixture(scope="module", params=["postgresql", "redis"])
def proxy(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Proxy]:
    """Two workers; each test file has a database or a namespace of its own."""
    folder, name = tmp_path_factory.mktemp("proxy"), f"n{uuid4().hex}"
    if request.param == "postgresql":
        url = request.getfixturevalue("postgres_url")
        import psycopg

        with psycopg.connect(url, autocommit=True) as db:
            db.execute(f"CREATE DATABASE {name}")
        ledger, store = _database(url, name), ""
    else:
        ledger, store = "costs.db", f", store: '{request.getfixturevalue('redis_url')}'"
    with plugged(folder, OPTIONS % (ledger, name, store), workers=2) as running:
        running.ledger = ledger if "://" in ledger else str(folder / ledger)
        yield running


def _database(url: str, name: str) -> str:
    before, _, after = url.partition("?")
    return f"{before.rpartition('/')[0]}/{name}?{after}"


def _workers() -> list[psutil.Process]:
    """The processes that serve."""
    children = psutil.Process().children(recursive=True)
    return [each for each in children if "spawn_main" in " ".join(each.cmdline())]


def _head(answer: httpx.Response, name: str) -> str | None:
    return answer.headers.get(f"x-llm-savings-{name}")


def test_workers_share_answers_budget_and_ledger(proxy: Proxy) -> None:
    fresh = proxy.post("ann.one.", EASY, "auto")
    assert (_head(fresh, "cache"), _head(fresh, "tier")) == ("miss", "simple")
    for _ in range(8):  # a connection each, for whichever worker takes it
        ask = {"model": "auto", "messages": [{"role": "user", "content": EASY}]}
        key = {"Authorization": "Bearer sk-bob.one."}

        def again(ask: dict[str, object] = ask, key: dict[str, str] = key) -> httpx.Response:
            return httpx.post(f"{proxy.url}/v1/chat/completions", json=ask, headers=key, timeout=30)

        hit = once(again, lambda answer: _head(answer, "cache") == "hit")
        assert hit.json()["choices"] == fresh.json()["choices"]
    other = proxy.post("cat.two.", EASY, "auto")
    assert _head(other, "cache") == "miss", "another team's answers are another team's"
    asked = [proxy.post("dan.one.", f"Question {number}: is it open?", "big", max_tokens=20) for number in range(40)]
    assert {answer.status_code for answer in asked} == {200, 422}
    for row in proxy.check_bill():
        found, settled = attribute([row]), row.settled
        if settled and settled.baseline is not None and settled.actual is not None:
            assert sum(found.credits.values(), Decimal(0)) == settled.baseline - settled.actual
    spent = sum((row.settled.actual or Decimal(0) for row in proxy.settled("dan") if row.settled), Decimal(0))
    assert Decimal("0.002") < spent <= Decimal("0.004")


def test_a_worker_killed_loses_no_settled_call(proxy: Proxy) -> None:
    """With a ledger in PostgreSQL: one in a file is killed in test_proxy_plugin.py."""
    if "://" not in proxy.ledger:
        pytest.skip("its ledger is a file")

    def ask(number: int) -> None:
        proxy.post(f"max{number}.{number}.", f"question {time.monotonic()}", max_tokens=5)

    assert survives(proxy, _workers()[0], ask, clients=3)
