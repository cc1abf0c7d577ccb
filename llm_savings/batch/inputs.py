"""What a job is made of: prompts, request bodies or lines of a file, checked one by one before anything is sent."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

from llm_savings import tokens
from llm_savings.batch.provider import Rules
from llm_savings.batch.records import Entry
from llm_savings.batch.text import dumps, loads
from llm_savings.bounds import Size, limits, upper_bound
from llm_savings.errors import BatchError, UnknownModelError
from llm_savings.ledger import Mode
from llm_savings.ledger.records import to_picodollars
from llm_savings.pricing import PriceBook
from llm_savings.unseen import may_read_more

Given = str | Path | Iterable[str | Mapping[str, Any] | tuple[Mapping[str, Any], bytes | None]]
"""A file's path; or prompts, request bodies or lines in a provider's batch format, each with a rim's memo or not."""

_FRAME = 160  # bytes around a body in a batch: custom_id, method, url
_BYTES_PER_TOKEN = 4  # about, for the first guess of a queue's length
_PROMPT = ("messages", "input", "system", "instructions", "tools", "response_format", "output_config")
_WHAT = {"/v1/embeddings": "input", "/v1/responses": "input"}


class InputError(BatchError, ValueError):
    """An input cannot be sent. Nothing was sent.

    Attributes:
        line: Its number, from 1.
        field: What is wrong in it.
    """

    def __init__(self, line: int, field: str, problem: str) -> None:
        super().__init__(f"line {line}: {field} {problem}")
        self.line, self.field = line, field


@dataclass(frozen=True, slots=True)
class Target:
    """Where a job's requests go.

    Attributes:
        provider: The price book's name of the provider.
        model: The one model of the job.
        endpoint: The path, such as `/v1/chat/completions`.
    """

    provider: str
    model: str
    endpoint: str


def raw(requests: Given) -> Iterator[tuple[int, Any, bytes | None]]:
    """Every input with its number and memo: a file's lines as values, one by one.

    Raises:
        InputError: A line is not JSON.
        BatchError: The file cannot be read.
    """
    if isinstance(requests, str | Path):
        try:
            with Path(requests).open("rb") as file:
                for number, line in enumerate(file, 1):
                    if line.strip():
                        yield number, _parsed(line, number), None
        except OSError as error:
            raise BatchError(f"{requests}: {error.strerror}; expected a file of JSON lines") from error
        return
    for number, given in enumerate(requests, 1):
        if isinstance(given, tuple):
            yield number, given[0], given[1]
        else:
            yield number, given, None


def target(first: Any, *, provider: str, rules: Rules, model: str | None, prices: PriceBook) -> Target:
    """Where a job goes, from its first input.

    Raises:
        InputError: It names no model or another endpoint than the provider has.
        BatchError: The model has no known price, so nothing would bound the job's cost.
    """
    line: Mapping[str, Any] = cast("Mapping[str, Any]", first) if isinstance(first, Mapping) else {}
    inner: Any = line.get("body") or line.get("params")
    body = cast("Mapping[str, Any]", inner) if isinstance(inner, Mapping) else line
    named = model or body.get("model")
    if not isinstance(named, str) or not named:
        raise InputError(1, "model", 'is missing; name it in the request or pass model="..."')
    if "input" in body and "/v1/responses" in rules.endpoints:
        guess = "/v1/embeddings" if "embedding" in named else "/v1/responses"
    else:
        guess = rules.endpoints[0]
    url = line.get("url")
    endpoint = (url if url.startswith("/v1") else f"/v1{url}") if isinstance(url, str) else guess
    if endpoint not in rules.endpoints:
        raise InputError(1, "url", f"is {url!r}; expected one of {', '.join(rules.endpoints)}")
    try:
        prices.resolve(named, provider=provider)
    except UnknownModelError as error:
        raise BatchError(f"model {named!r} is not known: {error}") from error
    return Target(provider, named, endpoint)


class Reader:
    """Turns inputs into entries of the journal.

    Args:
        where: Where they go.
        rules: The provider's limits.
        prices: What bounds their cost.
        mode: The dearest price list that may apply.
    """

    def __init__(self, where: Target, rules: Rules, prices: PriceBook, *, mode: Mode = "batch") -> None:
        self._where, self._rules, self._prices = where, rules, prices
        self._mode: Mode = mode
        self._what = _WHAT.get(where.endpoint, "messages")
        self._anthropic = where.endpoint == "/v1/messages"

    def read(self, number: int, given: Any, memo: bytes | None = None) -> Entry:
        """One input, checked.

        Raises:
            InputError: It cannot be sent; it names the line and the field.
        """
        name, body = self._split(number, given)
        where = self._where
        if body.setdefault("model", where.model) != where.model:
            raise InputError(number, "model", f"is {body['model']!r}, but a job has one model, here {where.model!r}")
        self._check(number, body)
        try:
            text = dumps(body)
        except TypeError as error:
            raise InputError(number, "request", f"cannot be sent as JSON: {error}") from error
        if len(text) + _FRAME > self._rules.bytes:
            raise InputError(number, "request", f"has {len(text):,} bytes; a batch has {self._rules.bytes:,} at most")
        key = hashlib.blake2b(where.endpoint.encode() + b"\0" + text, digest_size=16).hexdigest()
        bound = upper_bound(self._prices, where.model, self._size(body), mode=self._mode, provider=where.provider)
        about = 1 + len(text) // _BYTES_PER_TOKEN
        return Entry(number, key, text, about, to_picodollars(bound), name, memo)

    def _split(self, number: int, given: Any) -> tuple[str | None, dict[str, Any]]:
        """The user's own custom_id and a copy of the request."""
        if isinstance(given, str):
            return None, {self._what: given if self._what == "input" else [{"role": "user", "content": given}]}
        if not isinstance(given, Mapping):
            raise InputError(number, "request", f"is a {type(given).__name__}; expected text or a JSON object")
        line = cast("Mapping[str, Any]", given)
        name = line.get("custom_id")
        if "custom_id" in line:
            if not isinstance(name, str) or not name:
                raise InputError(number, "custom_id", f"is {name!r}; expected text")
            if len(name) > self._rules.custom_id:
                most = self._rules.custom_id
                raise InputError(number, "custom_id", f"has {len(name)} characters; expected {most} at most")
        holder = "body" if "body" in line else "params" if "params" in line else None
        if holder is None:
            return name, {key: value for key, value in line.items() if key != "custom_id"}
        if not isinstance(body := line[holder], Mapping):
            raise InputError(number, holder, f"is a {type(body).__name__}; expected a JSON object")
        if line.get("method", "POST") != "POST":
            raise InputError(number, "method", f"is {line['method']!r}; expected 'POST'")
        url = line.get("url", self._where.endpoint)
        if url not in (self._where.endpoint, self._where.endpoint.removeprefix("/v1")):
            raise InputError(number, "url", f"is {url!r}, but a job has one endpoint, here {self._where.endpoint!r}")
        return name, dict(cast("Mapping[str, Any]", body))

    def _check(self, number: int, body: Mapping[str, Any]) -> None:
        if self._what == "messages":
            turns: Any = body.get("messages")
            if not isinstance(turns, list) or not turns:
                raise InputError(number, "messages", f"is {_short(turns)}; expected a list of messages")
            for place, turn in enumerate(cast("list[Any]", turns)):
                if not isinstance(turn, Mapping) or not isinstance(cast("Mapping[str, Any]", turn).get("role"), str):
                    raise InputError(number, f"messages[{place}]", "has no role; expected role and content")
        elif not body.get("input"):
            raise InputError(number, "input", f"is {_short(body.get('input'))}; expected text or a list")
        if body.get("stream"):
            raise InputError(number, "stream", "is on; a batch cannot stream, leave it out")
        most = body.get("max_tokens")
        if self._anthropic and (type(most) is not int or most < 1):
            raise InputError(number, "max_tokens", f"is {most!r}; Anthropic wants a positive whole number")

    def _size(self, body: Mapping[str, Any]) -> Size:
        most, choices = limits(body)
        if self._where.endpoint == "/v1/embeddings":
            most = 0
        prompt = body.get(self._what)
        if may_read_more(self._where.model, body, prompt):
            return Size(None, most, choices)
        total = tokens.MESSAGE_OVERHEAD
        for name in _PROMPT:
            if value := body.get(name):
                total += tokens.upper_bound(value)
                if name == "messages":
                    total += tokens.MESSAGE_OVERHEAD * len(value)
                elif name not in ("input", "system", "instructions"):
                    total += tokens.TOOLS_OVERHEAD
        return Size(total, most, choices)


def _parsed(line: bytes, number: int) -> Any:
    try:
        return loads(line)
    except ValueError as error:
        raise InputError(number, "JSON", f"cannot be read: {error}") from error


def _short(value: Any) -> str:
    text = repr(value)
    return "missing" if value is None else text if len(text) < 40 else f"{text[:40]}..."
