"""`Sandbox`: a running local provider and the handle to it."""

from __future__ import annotations

import json
from pathlib import Path
from types import TracebackType
from typing import Any, Self
from urllib.error import HTTPError
from urllib.request import ProxyHandler, Request, build_opener

from llm_savings.errors import ConfigError

from .bill import Bill
from .server import Options, ProcessServer, ThreadServer, save

_DIRECT = build_opener(ProxyHandler({}))  # a proxy of the environment has no business on loopback


class Sandbox:
    """A local provider on a thread of this process; `Sandbox.spawn` gives it a process of its own.

    Args:
        port: The port on 127.0.0.1; 0 picks a free one.
        seed: Another seed, other answers to unknown prompts and other dice for faults with a probability.
        latency: Seconds before an answer begins.
        pause: Seconds between the pieces of a stream.
        knowledge: A JSON lines file of prompts and answers in place of the bundled one.

    Attributes:
        url: Where it listens, such as `http://127.0.0.1:8787`.

    Raises:
        ConfigError: Something is not installed, the port is taken, or the knowledge file cannot be read.

    Example:
        >>> with Sandbox() as box:                                  # doctest: +SKIP
        ...     box.fail("429", times=2, retry_after=1)
        ...     box.bill().total
    """

    def __init__(
        self,
        *,
        port: int = 0,
        seed: int = 0,
        latency: float = 0.0,
        pause: float = 0.0,
        knowledge: str | Path | None = None,
    ) -> None:
        self._open(ThreadServer(_options(port, seed, latency, pause, knowledge)))

    @classmethod
    def spawn(
        cls,
        *,
        port: int = 0,
        seed: int = 0,
        latency: float = 0.0,
        pause: float = 0.0,
        knowledge: str | Path | None = None,
    ) -> Self:
        """The same in a process of its own, which ends with `close`, or when this process dies."""
        box = cls.__new__(cls)
        box._open(ProcessServer(_options(port, seed, latency, pause, knowledge)))
        return box

    def _open(self, server: ThreadServer | ProcessServer) -> None:
        self._server = server
        self.url = server.url

    @property
    def openai_url(self) -> str:
        """The base URL for OpenAI's clients, with `/v1`."""
        return f"{self.url}/v1"

    @property
    def anthropic_url(self) -> str:
        """The base URL for Anthropic's clients, without `/v1`."""
        return self.url

    def bill(self, since: int = 0) -> Bill:
        """What was billed, oldest first; `since` leaves out that many of the oldest rows."""
        return Bill.from_jsonl(self._call("GET", f"bill?since={since}"))

    def save(self, path: str | Path) -> None:
        """Write the bill as a usage export for `llm-savings reconcile`, readable by its owner alone.

        Raises:
            OSError: The file cannot be written.
        """
        save(path, self._call("GET", "export"))

    def requests(self) -> int:
        """How many HTTP requests arrived at model endpoints, billed or not."""
        return int(json.loads(self._call("GET", "stats"))["requests"])

    def fail(
        self,
        kind: str,
        *,
        times: int | None = 1,
        path: str | None = None,
        model: str | None = None,
        probability: float = 1.0,
        **details: float,
    ) -> None:
        """Order trouble for the next requests that match.

        Args:
            kind: `429`, `500` (before the work), `500-after` (billed), `stall`, `stall-unbilled`, `slow` (stream),
                `cut`, `garbage` or `disconnect`; of structured answers `truncated`, `half`, `interleaved`,
                `unequal`, `wrong-type` and `refused`. See `llm_savings.sandbox.faults.KINDS`.
            times: How many requests suffer; None: all until `reset`.
            path: Only requests to this path, such as `/v1/chat/completions`.
            model: Only requests that name this model.
            probability: The chance that a matching request suffers.
            **details: `retry_after` (seconds, for 429 and 500), `seconds` (of a stall, or between a slow stream's
                pieces; 1 when not given).

        Raises:
            ConfigError: The kind or a detail is unknown or out of range.
        """
        given = {"times": times, "path": path, "model": model, "probability": probability, **details}
        self._call("POST", "faults", {"kind": kind, **given})

    def advance(self, seconds: float) -> None:
        """Let time pass for what the provider's prompt cache holds."""
        self._call("POST", "advance", {"seconds": seconds})

    def batches(self, **conditions: float | None) -> None:
        """Set how batches fare from now on; what is not given is as usual.

        Args:
            **conditions: `seconds` (how long the provider works on a batch; 0: done when somebody looks), `speedup`,
                `line_errors` (a chance), `expire_after` (a share of its lines) for as many batches as `expiries`,
                `queued_tokens`, `max_requests`, `max_bytes`; see `llm_savings.sandbox.batches.Conditions`.

        Raises:
            ConfigError: A condition is unknown or out of range.
        """
        self._call("POST", "batches", dict(conditions))

    def reset(self) -> None:
        """Forget the bill, the request count, batches and their files, cached prompts and all ordered trouble."""
        self._call("POST", "reset", {})

    def close(self) -> None:
        """Stop serving."""
        self._server.stop()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<Sandbox {self.url}>"

    def _call(self, method: str, what: str, body: dict[str, Any] | None = None) -> str:
        data = None if body is None else json.dumps(body).encode()
        request = Request(f"{self.url}/_sandbox/{what}", data, method=method)  # noqa: S310 - our own http URL
        try:
            with _DIRECT.open(request, timeout=30) as answer:
                return str(answer.read().decode())
        except HTTPError as error:
            with error:
                raise ConfigError(json.loads(error.read())["error"]) from None


def _options(port: int, seed: int, latency: float, pause: float, knowledge: str | Path | None) -> Options:
    return Options(port, seed, latency, pause, None if knowledge is None else str(knowledge))
