"""A proxy with the plug-in: its config, its keys, and the clients that people use."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import anthropic
import httpx
import openai
import psutil
from litellm_checks import EMBED, GPT, Metered, until
from litellm_proxy import KEY, running

from llm_savings.ledger import Call, Settled
from llm_savings.litellm import CostLogger
from llm_savings.sandbox import Sandbox

EASY, HARD = "파이썬이 뭐야?", "RESTful API와 GraphQL을 상세히 비교하고 마이크로서비스 아키텍처를 설계해줘"
_AUTH = """
from litellm.proxy._types import UserAPIKeyAuth

async def auth(request, api_key):  # sk-WHO.TEAM.MODEL+MODEL
    who, team, models = api_key.removeprefix("sk-").split(".", 2)
    return UserAPIKeyAuth(api_key=api_key, user_id=who, team_id=team, models=[m for m in models.split("+") if m])
"""
_CONFIG = """
model_list:
  - model_name: mini
    litellm_params: {model: %(gpt)s, api_base: "%(openai)s", api_key: sk-test}
  - model_name: big
    litellm_params: {model: openai/gpt-4o, api_base: "%(openai)s", api_key: sk-test}
  - model_name: claude
    litellm_params: {model: anthropic/claude-sonnet-4-5, api_base: "%(anthropic)s", api_key: sk-test}
  - model_name: embed
    litellm_params: {model: %(embed)s, api_base: "%(openai)s", api_key: sk-test}
litellm_settings:
  callbacks: [llm_savings.litellm.proxy.plugin]
  enable_post_custom_auth_checks: true
general_settings: {master_key: %(key)s, custom_auth: shop_auth.auth, custom_auth_run_common_checks: true}
"""


@dataclass
class Proxy:
    """A running proxy, its ledger and the provider behind it.

    Attributes:
        lost: How many calls nobody will ever settle.
        ledger: Where it writes, if not in its folder.
    """

    client: httpx.Client
    folder: Path
    box: Sandbox
    lost: int = 0
    ledger: str = ""

    @property
    def url(self) -> str:
        return str(self.client.base_url).rstrip("/")

    @property
    def costs(self) -> CostLogger:
        return CostLogger(self.ledger or self.folder / "costs.db")

    def post(self, key: str, text: str, model: str = "mini", path: str = "/v1/chat/completions", **more: Any) -> Any:
        body = {"model": model, "messages": [{"role": "user", "content": text}]} | more
        return self.client.post(path, json=body, headers={"Authorization": f"Bearer sk-{key}"})

    def openai(self, key: str) -> openai.OpenAI:
        return openai.OpenAI(base_url=f"{self.url}/v1", api_key=f"sk-{key}", max_retries=0)

    def anthropic(self, key: str) -> anthropic.Anthropic:
        return anthropic.Anthropic(base_url=self.url, api_key=f"sk-{key}", max_retries=0)

    def settled(self, user: str | None = None, fewest: int = 0) -> list[Call]:
        """The rows, or a user's, once there are so many and all are settled, in the order in which they were sent."""
        costs, rows = self.costs, []
        for _ in until(20):
            rows = [row for row in costs.ledger.calls() if user in (None, row.sent.user)]
            if len(rows) >= fewest and sum(row.settled is None for row in rows) <= self.lost:
                break
            time.sleep(0.02)
        assert sum(row.settled is None for row in rows) <= self.lost, rows
        return sorted(rows, key=lambda row: row.sent.started_at)

    def rows(self, user: str, count: int) -> list[Call]:
        """A user's rows, of which there are so many."""
        rows = self.settled(user, count)
        assert len(rows) == count, rows
        return rows

    def check_bill(self) -> list[Call]:
        """Everything the ledger measured is what the provider billed."""
        rows = self.settled()
        Metered(self.costs, self.box).check_bill(rows)
        return rows


@contextmanager
def plugged(folder: Path, options: str, *, workers: int = 1, **env: str) -> Iterator[Proxy]:
    with Sandbox() as box:
        to = {"gpt": GPT, "embed": EMBED, "openai": box.openai_url, "anthropic": box.anthropic_url, "key": KEY}
        (folder / "llm_savings.yaml").write_text(options)
        home = {name: str(folder / name.lower()) for name in ("XDG_DATA_HOME", "XDG_STATE_HOME", "XDG_CACHE_HOME")}
        with running(folder, _CONFIG % to, {"shop_auth": _AUTH}, workers=workers, **(home | env)) as client:
            yield Proxy(client, folder, box)
        if os.environ.get("SHOW_PROXY_LOG"):
            print((folder / "proxy.log").read_text()[-20000:])


def once(call: Callable[[], Any], done: Callable[[Any], bool]) -> Any:
    """The answer of a call as soon as it is one like this."""
    answer = None
    for _ in until(10):
        if done(answer := call()):
            return answer
        time.sleep(0.05)
    raise AssertionError(answer)


def survives(proxy: Proxy, worker: psutil.Process, ask: Callable[[int], object], *, clients: int) -> int:
    """Kill a worker while clients ask: no settled call is lost, and what is in flight has a bound.

    Returns:
        How many calls were settled by then.
    """
    stop = threading.Event()

    def load(number: int) -> None:
        while not stop.is_set():
            try:
                ask(number)
            except Exception:  # the connection of the one that was killed
                time.sleep(0.05)

    threads = [threading.Thread(target=load, args=(number,)) for number in range(clients)]
    for thread in threads:
        thread.start()
    time.sleep(1)
    known: dict[str, Settled] = {}
    for _ in until(30):  # the first answers of a busy machine take their time
        known = {row.sent.call_id: row.settled for row in proxy.costs.ledger.calls() if row.settled}
        if known:
            break
        time.sleep(0.05)
    killed = datetime.now(UTC)
    worker.send_signal(signal.SIGKILL)
    time.sleep(1)
    stop.set()
    for thread in threads:
        thread.join()
    rows: list[Call] = []
    for _ in until(20):  # what the other worker has under way is settled by and by; the rest is nobody's any more
        rows = list(proxy.costs.ledger.calls())
        unsettled = [row.sent.started_at for row in rows if row.settled is None]
        proxy.lost = len(unsettled)
        if proxy.lost <= clients and all(started < killed for started in unsettled):
            break
        time.sleep(0.05)
    # More than one of a client's: LiteLLM tells of an answer a moment after it has sent it, on a busy machine later.
    lost = [row.sent for row in rows if row.settled is None]
    assert all(killed - timedelta(seconds=5) < sent.started_at < killed and sent.bound is not None for sent in lost), (
        f"killed at {killed}: {[(sent.call_id, sent.started_at, sent.bound) for sent in lost]}"
    )
    now = {row.sent.call_id: row.settled for row in rows}
    assert known
    changed = {call_id: (settled, now[call_id]) for call_id, settled in known.items() if now[call_id] != settled}
    assert not changed, changed
    assert proxy.post("max.after.", "still there?").status_code == 200
    return len(known)
