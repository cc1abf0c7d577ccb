"""A provider on loopback that answers exactly what a test wrote down, for usage that the sandbox never reports."""

from __future__ import annotations

import json
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Self

TEXT = "The refund takes five working days."


class Canned:
    """Serves the answers given, one a request (the last one for ever), and keeps what was asked.

    An answer is a dict (sent as JSON) or a list of dicts (sent as server-sent events).
    """

    def __init__(self, *answers: dict[str, Any] | list[dict[str, Any]]) -> None:
        self.answers = list(answers)
        self.asked: list[dict[str, Any]] = []
        canned = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                canned.asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                answer = canned.answers.pop(0) if len(canned.answers) > 1 else canned.answers[0]
                if isinstance(answer, dict):
                    kind, data = "application/json", json.dumps(answer).encode()
                else:
                    kind, data = "text/event-stream", b"".join(_event(item) for item in answer)
                self.send_response(200)
                self.send_header("content-type", kind)
                self.send_header("content-length", str(len(data)))
                self.end_headers()
                self.wfile.write(data)

            def log_message(self, *_: Any) -> None:
                pass

        self._server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self._server.server_address[1]}"
        self._thread = threading.Thread(target=self._server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._server.shutdown()
        self._server.server_close()


def _event(item: dict[str, Any]) -> bytes:
    name = f"event: {item['type']}\n" if "type" in item else ""
    return f"{name}data: {json.dumps(item)}\n\n".encode()


def openai_chat(usage: dict[str, Any] | None, *, texts: tuple[str, ...] = (TEXT,), **extra: Any) -> dict[str, Any]:
    """A chat completion of OpenAI's."""
    choices = [
        {"index": i, "finish_reason": "stop", "message": {"role": "assistant", "content": text}}
        for i, text in enumerate(texts)
    ]
    body = {"id": "chatcmpl-1", "object": "chat.completion", "created": 1, "model": "gpt-4o-2024-08-06"}
    return {**body, "choices": choices, "usage": usage, **extra}


def openai_stream(
    usage: dict[str, Any] | None, *, pieces: tuple[str, ...] = (TEXT,), **extra: Any
) -> list[dict[str, Any]]:
    """The same as a stream; without usage when it is None."""
    head = {"id": "chatcmpl-1", "object": "chat.completion.chunk", "created": 1, "model": "gpt-4o-2024-08-06", **extra}
    deltas: list[dict[str, Any]] = [{"role": "assistant", "content": ""}, *({"content": piece} for piece in pieces)]
    events = [{**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}]} for delta in deltas]
    events.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]})
    if usage is not None:
        events.append({**head, "choices": [], "usage": usage})
    return events


def openai_response(usage: dict[str, Any], *used: dict[str, Any]) -> dict[str, Any]:
    """A response of OpenAI's responses API, after the tools that it used."""
    words = [{"type": "output_text", "text": TEXT, "annotations": []}]
    said = {"type": "message", "id": "msg_1", "role": "assistant", "status": "completed", "content": words}
    head = {"id": "resp_1", "object": "response", "created_at": 1, "model": "gpt-5-2025-08-07", "status": "completed"}
    rest = {"parallel_tool_calls": True, "tool_choice": "auto", "tools": [], "output": [*used, said]}
    return {**head, **rest, "usage": usage}


def anthropic_message(usage: dict[str, Any], *, text: str = TEXT) -> dict[str, Any]:
    """A message of Anthropic's."""
    return {
        "id": "msg_1",
        "type": "message",
        "role": "assistant",
        "model": "claude-sonnet-4-5-20250929",
        "content": [{"type": "text", "text": text}],
        "stop_reason": "end_turn",
        "stop_sequence": None,
        "usage": usage,
    }


def anthropic_stream(usage: dict[str, Any], *, text: str = TEXT) -> list[dict[str, Any]]:
    """The same as a stream, whose last event has the counts but, as Anthropic's, not the writes by time to live."""
    last = {key: value for key, value in usage.items() if key not in ("cache_creation", "service_tier")}
    start = {**anthropic_message({**usage, "output_tokens": 1}), "content": [], "stop_reason": None}
    return [
        {"type": "message_start", "message": start},
        {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}},
        {"type": "content_block_delta", "index": 0, "delta": {"type": "text_delta", "text": text}},
        {"type": "content_block_stop", "index": 0},
        {"type": "message_delta", "delta": {"stop_reason": "end_turn", "stop_sequence": None}, "usage": last},
        {"type": "message_stop"},
    ]
