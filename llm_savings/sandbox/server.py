"""Starting and stopping: the server in a thread, in a process of its own, or in the foreground."""

from __future__ import annotations

import asyncio
import json
import os
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

from llm_savings.errors import ConfigError

if TYPE_CHECKING:
    import uvicorn

    from .service import Service

_NEEDED = ("starlette", "uvicorn", "python_multipart", "tiktoken", "tokenizers")
_START_SECONDS = 60.0


@dataclass(frozen=True, slots=True)
class Options:
    """How a sandbox behaves; see `Sandbox`."""

    port: int = 0
    seed: int = 0
    latency: float = 0.0
    pause: float = 0.0
    knowledge: str | None = None


def serve(
    host: str = "127.0.0.1",
    port: int = 8787,
    *,
    seed: int = 0,
    latency: float = 0.0,
    knowledge: str | Path | None = None,
    bill: str | Path | None = None,
    on_ready: Callable[[str], None] = lambda url: None,
) -> None:
    """Serve in the foreground until interrupted; prints nothing.

    Args:
        host: The address to listen on.
        port: The port; 0 for a free one.
        seed: Another seed, other answers to unknown prompts and other dice for faults.
        latency: Seconds before an answer begins.
        knowledge: A JSON lines file of prompts and answers in place of the bundled one.
        bill: A file for the bill when it ends; see `Sandbox.save`.
        on_ready: Called once with the URL when requests can come.

    Raises:
        ConfigError: Something is not installed, the port is taken, or the knowledge file cannot be read.
    """
    options = Options(port, seed, latency, knowledge=None if knowledge is None else str(knowledge))
    _serve(host, options, on_ready, bill)


class ThreadServer:
    """A server on a thread of this process."""

    def __init__(self, options: Options) -> None:
        self._server, _, listener = prepare("127.0.0.1", options)
        self.url = _url(listener)
        self._thread = threading.Thread(
            target=self._server.run, kwargs={"sockets": [listener]}, name="llm-savings-sandbox", daemon=True
        )
        self._thread.start()
        deadline = time.monotonic() + _START_SECONDS
        while not self._server.started:
            if not self._thread.is_alive() or time.monotonic() > deadline:
                raise ConfigError("the sandbox did not start")
            time.sleep(0.005)

    def stop(self) -> None:
        """Stop and wait for the thread."""
        # From Python 3.12 on a server would wait for its connections all the same, were it not for this.
        self._server.config.timeout_graceful_shutdown = 0
        self._server.should_exit = self._server.force_exit = True
        self._thread.join(10)


class ProcessServer:
    """A server in a process of its own, which ends when this one does."""

    def __init__(self, options: Options) -> None:
        check_installed()
        code = "from llm_savings.sandbox.server import child; child()"
        self._process = subprocess.Popen(  # noqa: S603 - our own interpreter, our own code
            [sys.executable, "-c", code, json.dumps(asdict(options))],
            stdin=subprocess.PIPE,  # never written to: its end tells the child that we are gone
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            text=True,
            start_new_session=True,  # an interrupt at the terminal must not take the bill with it
        )
        assert self._process.stdout is not None  # noqa: S101 - a pipe was asked for
        answer: dict[str, Any] = json.loads(self._process.stdout.readline() or '{"error": "it ended at once"}')
        if "error" in answer:
            self.stop()
            raise ConfigError(f"the sandbox did not start: {answer['error']}")
        self.url = str(answer["url"])

    @property
    def pid(self) -> int:
        """The process id."""
        return self._process.pid

    def stop(self) -> None:
        """End it at once: it holds nothing that outlives it."""
        self._process.kill()
        self._process.wait()
        for pipe in (self._process.stdin, self._process.stdout):
            if pipe is not None:
                pipe.close()


def child() -> None:
    """What `ProcessServer` runs: serves, says where, and ends with its parent."""
    parent = os.getppid()

    def follow() -> None:
        # A sibling may hold the other end of our stdin open, so that it does not end with the parent.
        ended = threading.Event()
        threading.Thread(target=lambda: (sys.stdin.read(), ended.set()), daemon=True).start()
        while not ended.wait(0.5) and os.getppid() == parent:
            pass
        os._exit(0)

    threading.Thread(target=follow, daemon=True).start()
    try:
        _serve("127.0.0.1", Options(**json.loads(sys.argv[1])), lambda url: _say({"url": url}))
    except ConfigError as error:
        _say({"error": str(error)})


def check_installed() -> None:
    """Say what to install.

    Raises:
        ConfigError: Something is missing.
    """
    missing = [name for name in _NEEDED if find_spec(name) is None]
    if missing:
        raise ConfigError(f'the sandbox needs {", ".join(missing)}: pip install "llm-savings[demo]"')


def prepare(host: str, options: Options) -> tuple[uvicorn.Server, Service, socket.socket]:
    """A server with all it needs in memory, what it serves, and the socket it shall listen on."""
    check_installed()
    import uvicorn
    from uvicorn.protocols.http.h11_impl import H11Protocol

    from .answers import Answers
    from .app import build
    from .count import anthropic_tokens, openai_tokens
    from .knowledge import BUNDLED, Knowledge
    from .service import Service

    class Protocol(H11Protocol):
        """HTTP that can be hung up on."""

        def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
            super().connection_made(transport)
            inner = self.app

            async def app(scope: Any, receive: Any, send: Any) -> None:
                await inner({**scope, "sandbox.hang_up": transport.abort}, receive, send)

            self.app = app

    knowledge = Knowledge(Path(options.knowledge) if options.knowledge else BUNDLED)
    service = Service(Answers(knowledge, options.seed), seed=options.seed, latency=options.latency, pause=options.pause)
    for load in (openai_tokens, anthropic_tokens):  # half a second that no first request shall wait for
        load()
    config = uvicorn.Config(
        build(service),
        http=Protocol,
        ws="none",
        lifespan="off",
        log_level="critical",
        access_log=False,
        timeout_keep_alive=600,  # longer than clients keep a connection: none is closed as one sends
    )
    # Only with the protocol named does asyncio switch Nagle's algorithm off, which costs 40 ms a request.
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
    if os.name == "posix":  # elsewhere this would let two servers share a port
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listener.bind((host, options.port))
    except OSError as error:
        listener.close()
        raise ConfigError(f"the sandbox cannot listen on {host}:{options.port}: {error.strerror}") from error
    return uvicorn.Server(config), service, listener


def _serve(host: str, options: Options, on_ready: Callable[[str], None], bill: str | Path | None = None) -> None:
    server, service, listener = prepare(host, options)
    listener.listen(128)  # from here on requests wait their turn, so that ready is true
    on_ready(_url(listener))
    try:
        server.run(sockets=[listener])
    finally:
        if bill is not None:
            save(bill, service.export())


def save(path: str | Path, text: str) -> None:
    """Write a file that only its owner may read; an existing one is replaced."""
    Path(path).unlink(missing_ok=True)
    with open(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY, 0o600), "w", encoding="utf-8") as file:  # noqa: PTH123
        file.write(text)


def _url(listener: socket.socket) -> str:
    host, port = listener.getsockname()[:2]
    return f"http://{host}:{port}"


def _say(message: dict[str, str]) -> None:
    sys.stdout.write(json.dumps(message) + "\n")
    sys.stdout.flush()
