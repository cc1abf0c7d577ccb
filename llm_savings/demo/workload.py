"""A workload file: a header line, then one request a line, in time order."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date, timedelta
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

from llm_savings.errors import LogFormatError

FIRST_DAY = date(2026, 11, 2)
_MOST = 1_000_000_000  # seconds from the first day on (30 years), or tokens


@dataclass(frozen=True, slots=True)
class Request:
    """One request of a workload.

    Attributes:
        id: Its name in the file.
        at: Seconds since midnight of the first day.
        feature: support, translation, coding, analysis, or the user's own word.
        user: Who asks.
        system: The system prompt's text.
        prompt: The question.
        max_tokens: The limit on output tokens.
        stream: Whether the answer is streamed.
        lang: The language of the prompt, where the file says so.
        batchable: Whether the answer can wait until the end of the day.
        answer: What the local provider's models say to it; "" leaves it to them.
        wrong: What its small models say instead, where the question is too hard for them.
    """

    id: str
    at: int
    feature: str
    user: str
    system: str
    prompt: str
    max_tokens: int
    stream: bool
    lang: str = ""
    batchable: bool = False
    answer: str = ""
    wrong: str = ""

    @property
    def day(self) -> str:
        """The simulated day, as an ISO date."""
        return (FIRST_DAY + timedelta(days=self.at // 86_400)).isoformat()


@dataclass(frozen=True, slots=True)
class Workload:
    """Requests in time order."""

    name: str
    requests: tuple[Request, ...]


def load(path: str | Path | None = None) -> Workload:
    """Read a workload file; the bundled shop's without a path.

    The first line is `{"workload": name, "systems": {name: system prompt}}`; every other line a request with
    `prompt`, and optionally `id`, `at`, `feature`, `user`, `system` (a name from the header), `max_tokens`, `stream`,
    `lang`, `batchable`, `answer` and `wrong`. Those whose feature is `extraction` want a list of orders.

    Raises:
        LogFormatError: A line cannot be used; it names the line and the field.
        OSError: The file cannot be read.
    """
    if path is None:
        text = (files("llm_savings.demo") / "workload.jsonl").read_text(encoding="utf-8")
    else:
        try:
            text = Path(path).read_text(encoding="utf-8-sig")
        except UnicodeDecodeError as error:
            raise LogFormatError(f"the workload is not UTF-8 text ({error})") from error
    # Not splitlines(): JSON may hold other line ends, such as U+2028, inside its text.
    lines = [(number, line) for number, line in enumerate(text.split("\n"), 1) if line.strip()]
    if not lines:
        raise LogFormatError("the workload is empty; its first line is a header", 1)
    header = _object(*lines[0])
    if "workload" not in header:
        raise LogFormatError('the header has no "workload" (its name)', lines[0][0])
    systems: Any = header.get("systems") or {}
    if not isinstance(systems, dict) or not all(isinstance(said, str) for said in cast("Any", systems).values()):
        raise LogFormatError(f"systems is {systems!r}; expected names with their texts", lines[0][0])
    requests: list[Request] = []
    seen: set[str] = set()
    for number, line in lines[1:]:
        request = _request(number, _object(number, line), cast("Mapping[str, str]", systems))
        if request.id in seen:
            raise LogFormatError(f"id is {request.id!r}, which an earlier line has", number)
        seen.add(request.id)
        requests.append(request)
    return Workload(str(header["workload"]), tuple(sorted(requests, key=lambda request: request.at)))


def write_knowledge(path: str | Path, work: Workload) -> None:
    """Write what the local provider is to answer: what it knows anyway, and what the workload says."""
    from llm_savings.sandbox.knowledge import BUNDLED

    with Path(path).open("w", encoding="utf-8") as file:
        for request in work.requests:  # first, so that a workload can correct what is known
            if request.answer:
                row = {"id": request.id, "prompts": [request.prompt], "answer": request.answer}
                row |= {"hard": bool(request.wrong), "wrong": request.wrong}
                file.write(json.dumps(row, ensure_ascii=False) + "\n")
        file.write(BUNDLED.read_text("utf-8"))


def _object(number: int, line: str) -> dict[str, Any]:
    try:
        value = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise LogFormatError(f"not JSON ({error})", number) from error
    if not isinstance(value, dict):
        raise LogFormatError("expected a JSON object", number)
    return cast("dict[str, Any]", value)


def _request(number: int, raw: dict[str, Any], systems: Mapping[str, str]) -> Request:
    values: dict[str, Any] = {
        "id": f"line-{number}",
        "at": 0,
        "feature": "other",
        "user": "",
        "max_tokens": 500,
        "stream": False,
        "lang": "",
        "batchable": False,
        "answer": "",
        "wrong": "",
    } | raw
    kinds = {
        "prompt": str,
        "at": int,
        "max_tokens": int,
        "stream": bool,
        "feature": str,
        "lang": str,
        "batchable": bool,
        "answer": str,
        "wrong": str,
    }
    for name, kind in kinds.items():
        if type(values.get(name)) is not kind:
            raise LogFormatError(f"{name} is {values.get(name)!r}; expected {kind.__name__}", number)
    for name, least in (("at", 0), ("max_tokens", 1)):
        if not least <= values[name] < _MOST:
            raise LogFormatError(f"{name} is {values[name]}; expected {least} to {_MOST:,}", number)
    system = values.get("system", "")
    if system and system not in systems:
        raise LogFormatError(f"system is {system!r}, which the header's systems do not have", number)
    return Request(
        id=str(values["id"]),
        at=values["at"],
        feature=values["feature"],
        user=str(values["user"]),
        system=systems.get(system, ""),
        prompt=values["prompt"],
        max_tokens=values["max_tokens"],
        stream=values["stream"],
        lang=values["lang"],
        batchable=values["batchable"],
        answer=values["answer"],
        wrong=values["wrong"],
    )
