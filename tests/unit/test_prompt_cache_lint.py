"""The linter: seeded faults are found where they are, and prompts without a fault are left in peace."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from llm_savings.cli.main import main
from llm_savings.errors import LogFormatError
from llm_savings.prompt_cache import lint

RULES = "\n".join(
    f"{n}. Orders above {n * 10} euros are checked by hand; tell the customer so, kindly, and never promise a day."
    for n in range(1, 80)
)
RULES_KO = "\n".join(
    f"{n}. 주문 금액이 {n}만 원을 넘으면 담당자가 확인합니다. 고객에게 친절하게 안내하고 날짜는 약속하지 마세요."
    for n in range(1, 60)
)
MODEL = "claude-sonnet-4-5"
SHORT = {"type": "ephemeral"}
LONG = {"type": "ephemeral", "ttl": "1h"}


SETTINGS = ['{"shop": "A", "country": "KR", "tone": "warm"}', '{"tone": "warm", "shop": "A", "country": "KR"}']


def tool(name: str, **more: Any) -> dict[str, Any]:
    fields = {"type": "object", "properties": {"order": {"type": "string"}, "reason": {"type": "string"}}}
    return {"name": name, "description": f"Use {name} for orders. " * 12, "input_schema": fields, **more}


TOOLS = [tool("find_order"), tool("refund_order"), tool("write_note")]


def request(system: Any = RULES, *talk: Any, **more: Any) -> dict[str, Any]:
    turns = talk or ("Where is my order?",)
    roles = ("user", "assistant")
    messages = [{"role": roles[n % 2], "content": said} for n, said in enumerate(turns)]
    return {"model": MODEL, "messages": [{"role": "system", "content": system}, *messages], **more}


def marked(text: str, mark: Any = SHORT) -> list[dict[str, Any]]:
    return [{"type": "text", "text": text, "cache_control": mark}]


def log(change: Callable[[int, dict[str, Any]], Any], count: int = 4, **more: Any) -> list[dict[str, Any]]:
    """A log of different questions, each changed in some way."""
    rows = [copy.deepcopy(request(RULES, f"Question {n} about my order?", **more)) for n in range(count)]
    for n, row in enumerate(rows):
        change(n, row)
    return rows


def system_of(row: dict[str, Any], text: Callable[[str], str]) -> None:
    row["messages"][0]["content"] = text(row["messages"][0]["content"])


def grown(*, drop: int = 0, edit: bool = False, **options: Any) -> list[dict[str, Any]]:
    """Two turns of a conversation."""
    said = [f"{'Question' if n % 2 == 0 else 'Answer'} {n}: about order {n}" for n in range(9)]
    later = [*said, "Answer 9: it is on its way", "Thank you. And the other one?"]
    if edit:
        later[2] += " (corrected)"
    rows = [request(RULES, *said), request(RULES, *later[drop:], **options)]
    if drop % 2:
        rows[1]["messages"][1:] = [
            {"role": "assistant" if n % 2 == 0 else "user", "content": text} for n, text in enumerate(later[drop:])
        ]
    return rows


def parallel(count: int) -> dict[str, Any]:
    calls = [
        {"type": "tool_use", "id": f"t{n}", "name": "find_order", "input": {"order": str(n)}} for n in range(count)
    ]
    results = [{"type": "tool_result", "tool_use_id": f"t{n}", "content": f"order {n} is late"} for n in range(count)]
    results[-1] = {**results[-1], "cache_control": SHORT}
    return request(marked(RULES), "Look at all my orders", calls, results, tools=TOOLS)


FAULTS: dict[str, tuple[Any, str]] = {
    "clock": (request(f"The current time is 2026-11-27 10:42:07.\n{RULES}"), "clock"),
    "iso clock": (request(f"<env>Now: 2026-11-27T10:42:07Z</env>\n{RULES}"), "clock"),
    "spoken clock": (request(f"Today is Friday, November 27, 2026, 10:42 AM.\n{RULES}"), "clock"),
    "epoch": (request(f"timestamp: 1764240127\n{RULES}"), "clock"),
    "clock after the rules": (request(marked(f"{RULES}\nServer time: 10:42:07")), "clock"),
    "clock in a tool": (
        request(RULES, tools=[tool("now", description="The time is 2026-11-27 10:42:07 now. " * 5), *TOOLS]),
        "clock",
    ),
    "clock, Korean": (request(f"현재 시각: 2026년 11월 27일 10:42\n{RULES_KO}"), "clock"),
    "clock, Korean, afternoon": (request(f"지금은 오후 3시 20분입니다.\n{RULES_KO}"), "clock"),
    "date": (request(f"Today's date is 2026-11-27.\n{RULES}"), "date"),
    "date in words": (request(f"Today is Friday, November 27, 2026.\n{RULES}"), "date"),
    "date, Korean": (request(f"오늘은 2026년 11월 27일입니다.\n{RULES_KO}"), "date"),
    "uuid": (request(f"Conversation 5f0c2f6e-9a51-4c1e-8f8e-0a9c7d1b2e3f\n{RULES}"), "uuid"),
    "uuid in Anthropic's system": (
        {
            "model": MODEL,
            "system": [
                {"type": "text", "text": f"[5f0c2f6e-9a51-4c1e-8f8e-0a9c7d1b2e3f] {RULES}", "cache_control": SHORT}
            ],
            "messages": [{"role": "user", "content": "Hello"}],
        },
        "uuid",
    ),
    "request id": (request(f"request_id: req_8fa93bc1\n{RULES}"), "id"),
    "session id": (request(f"Session ID: 00918273\n{RULES}"), "id"),
    "session id, Korean": (request(f"세션 ID: a8f2c913\n{RULES_KO}"), "id"),
    "nonce": (request(f"nonce=81726354a\n{RULES}"), "id"),
    "folder": (request(f"Working directory: /srv/build/job-1182\n{RULES}"), "place"),
    "home": (request(f"Files are in /home/kim/project.\n{RULES}"), "place"),
    "folder, Windows": (request(f"cwd: C:\\Users\\kim\\shop\n{RULES}"), "place"),
    "folder, Korean": (request(f"작업 디렉터리: /data/kim/shop\n{RULES_KO}"), "place"),
    "host": (request(f"hostname: ip-10-2-3-4\n{RULES}"), "place"),
    "retrieved first": (
        request(f"<context>\n{'Order 1182 was sent on Monday. ' * 20}\n</context>\n\n# Instructions\n{RULES}"),
        "dynamic-before-static",
    ),
    "retrieved first, Korean": (
        request(f"검색 결과:\n{'1182번 주문은 월요일에 발송되었습니다. ' * 10}\n\n지침\n{RULES_KO}"),
        "dynamic-before-static",
    ),
    "user text first, in a log": (
        log(
            lambda n, row: system_of(
                row, lambda text: f"The customer is called {'ABCD'[n] * 8} and says hello.\n{text}"
            )
        ),
        "dynamic-before-static",
    ),
    "passages first, in a log": (
        log(lambda n, row: system_of(row, lambda text: f"{f'Passage {n} tells of things. ' * (20 + n)}\n{text}")),
        "dynamic-before-static",
    ),
    "changing end of the system text": (
        log(lambda n, row: system_of(row, lambda text: f"{text}\nThe customer's name is {'ABCD'[n] * 6}.")),
        "system-changed",
    ),
    "tool order": (log(lambda n, row: row.update(tools=TOOLS[n % 3 :] + TOOLS[: n % 3])), "tool-order"),
    "tool set": (log(lambda n, row: row.update(tools=TOOLS[: 2 + n % 2])), "tool-set"),
    "tool changed": (
        log(lambda n, row: row.update(tools=[tool("find_order", description=f"Finds {'abcd'[n]}" * 9), *TOOLS[1:]])),
        "tool-changed",
    ),
    "unsorted keys of tools": (
        log(lambda n, row: row.update(tools=[dict(reversed(t.items())) if n % 2 else t for t in TOOLS])),
        "unsorted-keys",
    ),
    "unsorted keys in text": (log(lambda n, row: system_of(row, lambda text: text + SETTINGS[n % 2])), "unsorted-keys"),
    "model switch": (
        log(lambda n, row: row.update(model=["claude-sonnet-4-5", "claude-opus-4-6"][n % 2])),
        "model-switch",
    ),
    "tool_choice switch": (grown(tool_choice={"type": "any"}), "option-switch"),
    "thinking switch": (grown(thinking={"type": "enabled", "budget_tokens": 2000}), "option-switch"),
    "trimmed": (grown(drop=2), "history-trimmed"),
    "trimmed by one": (grown(drop=1), "history-trimmed"),
    "edited": (grown(edit=True), "history-edited"),
    "below the minimum": (request(marked("You are a kind clerk of a shop.")), "below-minimum"),
    "below the minimum of a larger one": (
        {**request(marked("\n".join(RULES.splitlines()[:50]))), "model": "claude-haiku-4-5"},
        "below-minimum",
    ),
    "below the minimum, Korean": (
        {**request(marked(RULES_KO[:2_000])), "model": "claude-haiku-4-5"},
        "below-minimum",
    ),
    "many blocks at once": (parallel(15), "lookback"),
    "many blocks, in a log": (
        [
            request(RULES, "Go on", "Yes", marked("and?")),
            request(RULES, "Go on", "Yes", "and?", *(f"step {n}" for n in range(25)), marked("now?")),
        ],
        "lookback",
    ),
    "tail mark": (request(RULES, marked("Where is my order 1182?")), "tail-mark"),
    "tail mark in a log of one-shots": (
        log(lambda n, row: row["messages"][1].update(content=marked(f"Question {n} about my order?"))),
        "tail-mark",
    ),
    "five marks": (
        {
            "model": MODEL,
            "system": marked(RULES),
            "messages": [{"role": "assistant" if n % 2 else "user", "content": marked(f"turn {n}")} for n in range(5)],
        },
        "too-many-marks",
    ),
    "four marks and the automatic one": (
        {
            "model": MODEL,
            "cache_control": SHORT,
            "tools": [*TOOLS[:-1], tool("write_note", cache_control=SHORT)],
            "system": marked(RULES),
            "messages": [{"role": "assistant" if n % 2 else "user", "content": marked(f"turn {n}")} for n in range(2)],
        },
        "too-many-marks",
    ),
    "five minutes before an hour": (request(marked(RULES), "Hello", "Yes?", marked("Well", LONG)), "ttl-order"),
    "mark on nothing": (
        request(
            [
                {"type": "text", "text": RULES, "cache_control": SHORT},
                {"type": "text", "text": "", "cache_control": SHORT},
            ]
        ),
        "mark-rejected",
    ),
    "mark for OpenAI": ({**request(marked(RULES)), "model": "gpt-4o"}, "mark-not-taken"),
    "mark for Azure": ({**request(marked(RULES)), "model": "azure/gpt-4o"}, "mark-not-taken"),
}

CLEAN: dict[str, Any] = {
    "plain": request(),
    "plain, OpenAI": {**request(), "model": "gpt-4o"},
    "Korean": request(RULES_KO, "제 주문은 어디에 있나요?"),
    "short": request("You are a kind clerk.", "Hello"),
    "marked system": request(marked(RULES)),
    "marked Korean, which Claude counts as more": {
        **request(marked(f"{RULES_KO}\n{RULES_KO}"[:4_500])),
        "model": "claude-haiku-4-5",
    },
    "marked system, an hour": request(marked(RULES, LONG), "Hello", "Yes?", marked("Well")),
    "marked tools and system": request(marked(RULES), tools=[*TOOLS[:-1], tool("write_note", cache_control=SHORT)]),
    "conversation with a moving mark": [
        request(marked(RULES), "Hello", "Yes?", marked("Well")),
        request(marked(RULES), "Hello", "Yes?", "Well", "I see", marked("Then?")),
    ],
    "clock in the question": request(RULES, "It is now 2026-11-27 10:42:07. Is the shop open?"),
    "uuid in the question": request(RULES, "Where is order 5f0c2f6e-9a51-4c1e-8f8e-0a9c7d1b2e3f?"),
    "opening hours": request(f"The shop is open from 9:00 to 18:30 on weekdays.\n{RULES}"),
    "opening hours, Korean": request(f"영업시간은 평일 9:00부터 18:30까지입니다.\n{RULES_KO}"),
    "policy date": request(f"This policy holds for orders after 2024-03-01.\n{RULES}"),
    "policy date with a label": request(f"Policy date: 2024-03-01. Delivery time: 9:00 to 12:00.\n{RULES}"),
    "from now on": request(f"From now on, orders before 10:00 are sent the same day.\n{RULES}"),
    "an incident": request(f"{RULES}\nAn example of a note: the parcel was lost on 2024-03-01 10:30 in Busan."),
    "version": request(f"You are release 2.14.3 of the shop's assistant.\n{RULES}"),
    "example date": request(f"Write dates in a format such as 2024-05-01 10:30.\n{RULES}"),
    "example uuid": request(f"An order's key looks like this, e.g. 123e4567-e89b-12d3-a456-426614174000.\n{RULES}"),
    "example date, Korean": request(f"날짜는 다음 형식으로 쓰세요. 예: 2024-05-01 10:30\n{RULES_KO}"),
    "about sessions": request(f"Never tell a customer the session id or the request id.\n{RULES}"),
    "about folders": request(f"Never ask for the customer's working directory or host name.\n{RULES}"),
    "phone": request(f"The hotline is 02-1234-5678.\n{RULES}"),
    "retrieved last": request(f"{RULES}\n\nContext:\n{'Order 1182 was sent on Monday. ' * 5}"),
    "about retrieval": request(f"You get a question and, below it, what was found.\n{RULES}"),
    "log of questions": log(lambda n, row: None),
    "log with tools": log(lambda n, row: None, tools=TOOLS),
    "log with marks": log(lambda n, row: system_of(row, lambda text: marked(text))),
    "log with a fixed date": log(
        lambda n, row: system_of(row, lambda text: f"Today's date is 2024-01-01 (fixed).\n{text}")
    ),
    "log with a fixed id": log(lambda n, row: system_of(row, lambda text: f"build id: 8fa93bc1\n{text}")),
    "two applications": [
        request(RULES),
        request(RULES_KO, "안녕하세요"),
        request(RULES, "Hm?"),
        request(RULES_KO, "네"),
    ],
    "two applications, two models": [request(RULES), {**request(RULES_KO), "model": "claude-opus-4-6"}],
    "two applications, other tools": [
        request(RULES, tools=TOOLS),
        request(RULES_KO, tools=[tool("search"), tool("open")]),
    ],
    "growing": grown(),
    "asked again": [request(RULES, "One", "Two", "Three"), request(RULES, "One", "Two", "Three, please")],
    "few parallel calls": parallel(5),
    "agent, call by call": [
        request(
            marked(RULES),
            "Go",
            *(
                part
                for n in range(turn)
                for part in (
                    [{"type": "tool_use", "id": f"t{n}", "name": "find_order", "input": {}}],
                    [{"type": "tool_result", "tool_use_id": f"t{n}", "content": f"found {n}"}],
                )
            ),
            tools=TOOLS,
        )
        for turn in range(1, 5)
    ],
    "image": request(
        RULES,
        [
            {"type": "text", "text": "What is this?"},
            {"type": "image_url", "image_url": {"url": "https://x.test/a.png"}},
        ],
    ),
    "no system text": {"model": MODEL, "messages": [{"role": "user", "content": "Hello, it is 10:42 here"}]},
    "questions without system text": [
        {"model": MODEL, "messages": [{"role": "user", "content": f"What is {n} plus {n}?"}]} for n in range(5)
    ],
    "same tools": log(lambda n, row: row.update(tools=copy.deepcopy(TOOLS))),
    "cached by itself": [{**request(RULES, f"Question {n}?"), "model": "gemini/gemini-2.5-pro"} for n in range(3)],
    "Nova": {**request(RULES), "model": "amazon.nova-pro-v1:0"},
    "unknown model": {**request(), "model": "my-llama"},
    "schema": request(
        f"Answer as JSON: {json.dumps({'type': 'object', 'properties': {'date': {'type': 'string'}}})}\n{RULES}"
    ),
}


@pytest.mark.parametrize("name", FAULTS)
def test_a_seeded_fault_is_found(name: str) -> None:
    given, kind = FAULTS[name]
    before = copy.deepcopy(given)
    found = lint(given)
    assert kind in {finding.kind for finding in found}
    assert given == before


@pytest.mark.parametrize("name", CLEAN)
def test_a_clean_prompt_is_left_in_peace(name: str) -> None:
    assert lint(CLEAN[name]) == []


def test_there_are_enough_cases_and_each_fault_is_found_alone() -> None:
    extra = {name: {f.kind for f in lint(given)} - {kind} for name, (given, kind) in FAULTS.items()}
    noise = sum(map(bool, extra.values()))
    assert len(FAULTS) >= 40
    assert len(CLEAN) >= 40
    assert noise <= 0.05 * len(FAULTS), extra


def test_a_finding_says_what_it_costs() -> None:
    (finding,) = lint(request(marked(f"The current time is 2026-11-27 10:42:07.\n{RULES}")))
    # Written anew at 1.25 instead of read at 0.1, 1,000 times, at $3 per million: within the estimate of the tokens.
    assert finding.usd_per_1000 is not None
    assert Decimal("5") < finding.usd_per_1000 < Decimal("8")
    assert finding.place == "message 0"
    assert "character" in finding.reason
    assert "2026" not in finding.reason


def test_an_unknown_price_is_unknown_and_a_short_prompt_costs_nothing() -> None:
    (unknown,) = lint([{"role": "system", "content": f"Now: 2026-11-27 10:42:07\n{RULES}"}])
    assert unknown.usd_per_1000 is None
    (short,) = lint(request("Now: 2026-11-27 10:42:07"))
    assert short.usd_per_1000 == 0


def test_the_same_finding_in_many_requests_is_one() -> None:
    rows = log(lambda n, row: system_of(row, lambda text: f"Now: 2026-11-27 10:42:0{n}\n{text}"))
    (finding,) = lint(rows)
    assert (finding.kind, finding.count, finding.request) == ("clock", 4, 0)


@pytest.mark.parametrize("wrapped", ["body", "kwargs"])
def test_lines_of_batches_and_logs_are_understood(wrapped: str) -> None:
    given, kind = FAULTS["uuid"]
    (finding,) = lint([{"custom_id": "1", wrapped: given}])
    assert finding.kind == kind


def test_what_is_no_request_is_told() -> None:
    with pytest.raises(LogFormatError, match="line 2"):
        lint([request(), {"model": "gpt-4o"}])
    with pytest.raises(LogFormatError):
        lint([])


def test_a_tool_that_is_none_does_not_end_the_reading() -> None:
    odd = {
        "model": MODEL,
        "messages": [{"role": "user", "content": RULES}],
        "tools": [{"function": "search"}, "search"],
    }
    assert [finding.kind for finding in lint([odd, {**odd, "tools": [{"function": "look"}]}])] == ["tool-changed"]


def test_the_command_prints_json_lines_and_exit_status(tmp_path: Path) -> None:
    path = tmp_path / "log.jsonl"
    rows = log(lambda n, row: system_of(row, lambda text: f"Now: 2026-11-27 10:42:0{n}\n{text}"))
    path.write_text("\n".join(map(json.dumps, rows)), encoding="utf-8")
    done = CliRunner().invoke(main, ["lint", str(path), "--json"])
    assert done.exit_code == 1
    (finding,) = json.loads(done.output)
    assert finding["kind"] == "clock"
    assert Decimal(finding["usd_per_1000"]) > 0
    table = CliRunner().invoke(main, ["lint", str(path)])
    assert table.exit_code == 1
    assert "clock" in table.output


def test_the_command_is_content_with_a_clean_prompt_and_not_with_nonsense(tmp_path: Path) -> None:
    path = tmp_path / "prompt.json"
    path.write_text(json.dumps(request()), encoding="utf-8")
    assert CliRunner().invoke(main, ["lint", str(path)]).exit_code == 0
    path.write_text("not json", encoding="utf-8")
    done = CliRunner().invoke(main, ["lint", str(path)])
    assert done.exit_code == 2
    assert "line 1" in done.output
