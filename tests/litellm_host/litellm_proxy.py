"""LiteLLM's proxy as a process of its own."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import httpx
import psutil
import pytest

KEY = "sk-a-proxy-of-these-tests-alone"


def need_proxy() -> None:
    """Skip the module where the proxy is not installed."""
    for name in ("backoff", "apscheduler", "fastapi_sso", "email_validator", "uvloop"):
        pytest.importorskip(name, reason=f"the proxy needs {name}, of litellm[proxy]")


@contextmanager
def running(
    folder: Path, config: str, modules: dict[str, str], *, workers: int = 1, **env: str
) -> Iterator[httpx.Client]:
    """A client of a proxy with this config, which can import these modules."""
    (folder / "code").mkdir()
    for name, code in modules.items():
        (folder / "code" / f"{name}.py").write_text(code)
    (folder / "proxy.yaml").write_text(config)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    path = os.pathsep.join([str(folder / "code"), str(Path(__file__).parents[2]), os.environ.get("PYTHONPATH", "")])
    command = [sys.executable, "-m", "litellm.proxy.proxy_cli", "--config", str(folder / "proxy.yaml")]
    # On a busy machine a worker that is still importing is taken for a dead one after five seconds.
    several = ["--num_workers", str(workers), "--timeout_worker_healthcheck", "120"] if workers > 1 else []
    with (folder / "proxy.log").open("wb") as log:
        process = subprocess.Popen(
            [*command, "--host", "127.0.0.1", "--port", str(port), *several],
            env={**os.environ, "PYTHONPATH": path, **env},
            stdout=log,
            stderr=log,
        )
    try:
        headers = {"Authorization": f"Bearer {KEY}"}
        with httpx.Client(base_url=f"http://127.0.0.1:{port}", headers=headers, timeout=30) as client:
            deadline = time.monotonic() + 300
            while True:
                try:
                    if client.get("/health/liveliness").status_code == 200:
                        break
                except httpx.TransportError:
                    pass
                assert time.monotonic() < deadline and process.poll() is None, (folder / "proxy.log").read_text()
                time.sleep(0.1)
            yield client
    finally:
        workers_too = [psutil.Process(process.pid), *psutil.Process(process.pid).children(recursive=True)]
        process.terminate()
        _, left = psutil.wait_procs(workers_too, timeout=60)  # one that is still importing does not listen
        for each in left:
            each.kill()
        process.wait(30)
