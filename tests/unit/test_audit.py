"""The audit: one replay through all strategies, exact sums, and nothing claimed that the log does not tell."""

from __future__ import annotations

import ast
import json
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from html import escape
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_savings import ConfigError, LogFormatError, PriceBook, Usage
from llm_savings.audit import Audit, Choices, Record, audit, order, reading
from llm_savings.audit.order import UnsortedError, as_they_come, in_order
from llm_savings.audit.show import advice, audit_page, in_notebook, quality
from llm_savings.audit.values import NO_MODEL, NOT_A_CALL
from llm_savings.cli import main
from llm_savings.report.texts import catalogue, recognised, say

NOON = datetime(2026, 11, 2, 12, tzinfo=UTC)
BOOK = PriceBook()
HARD = "Design a distributed transaction protocol for a marketplace, prove its safety step by step, and compare it."


def call(n: int = 0, prompt: str | None = "파이썬이 뭐야?", **more: Any) -> Record:
    given: dict[str, Any] = {
        "source": "log", "line": n + 1, "model": "gpt-4o", "usage": Usage(input=1000, output=1000),
        "at": NOON + timedelta(minutes=n), "answer": "An answer.",
        "messages": None if prompt is None else [{"role": "user", "content": prompt}],
    }  # fmt: skip
    return Record(**given | more)


def sums(found: Any) -> bool:
    told = found.attribution
    return told.baseline - sum(told.credits.values()) + told.overhead == told.actual


def test_a_repeated_question_saves_what_it_would_have_cost_after_routing() -> None:
    found = audit([call(0), call(1)])
    # gpt-4o: 0.0125 a call; mini: 0.00075. The first is routed; the second is a hit worth mini's price.
    assert found.attribution.credits["routing"] == 2 * (Decimal("0.0125") - Decimal("0.00075"))
    assert found.attribution.credits["semantic_cache"] == Decimal("0.00075")
    assert found.attribution.actual == Decimal("0.00075")
    assert found.saved.expected == Decimal("0.025") - Decimal("0.00075")
    assert sums(found) and found.seen.routed == 2 and found.seen.served == 1


def test_hard_questions_stay_where_they_are() -> None:
    found = audit([call(0, HARD)])
    assert found.seen.routed == 0 and found.attribution.actual == found.spent == Decimal("0.0125")


def test_what_can_wait_is_half_and_nothing_else_happens_to_it() -> None:
    found = audit(
        [
            call(0, tags={"can-wait": ""}),
            call(1, tags={"team": "nightly"}),
            call(2, tags={"nightly": ""}, streamed=True),
        ]
    )
    assert found.attribution.credits["batch"] == Decimal("0.0125")
    assert found.seen.waited == 2 and found.seen.lookups == 1


def test_lists_of_records_are_counted_as_columns() -> None:
    rows = [{"product": f"mug {n}", "price_krw": 1000 + n} for n in range(12)]
    found = audit([call(0, HARD, answer=json.dumps({"orders": rows}), usage=Usage(input=100, output=400))])
    assert 0 < found.attribution.credits["output"] < Decimal("0.004")
    assert found.spans["output"].low == 0
    assert found.attribution.modelled["output"] == found.attribution.credits["output"]


def test_a_long_beginning_is_marked_for_anthropic() -> None:
    system = [{"role": "system", "content": "Rules of the shop. " * 1200}]
    used = Usage(input=5000, output=50)
    calls = [
        call(n, model="claude-sonnet-4-5", usage=used, messages=[*system, {"role": "user", "content": f"{HARD} {n}"}])
        for n in range(30)
    ]
    found = audit(calls, choices=Choices(strategies=frozenset({"prompt_cache"})))
    assert found.attribution.credits["prompt_cache"] > Decimal("0.5") * found.attribution.baseline
    assert sums(found)


def test_without_prompts_it_says_what_cannot_be_known() -> None:
    found = audit([call(n, None, answer=None) for n in range(3)])
    assert found.attribution.credits == {} and found.spent == Decimal("0.0375")
    assert any("3 of 3 calls have no prompt" in str(note) for note in found.notes)


def test_failures_unknown_models_and_hits_of_then_are_told_apart() -> None:
    found = audit([call(0), call(1, usage=None, failed=True), call(2, model="my-llama"), call(3, hit=True)])
    assert (found.seen.failed, found.seen.unpriced, found.seen.hits) == (1, 1, 1)
    assert found.attribution.calls == 1 and found.priced_share == 0.5


def test_tenants_share_no_answers_unless_asked() -> None:
    calls = [call(0, tenant="a"), call(1, tenant="b")]
    assert audit(calls).seen.served == 0
    assert audit(calls, choices=Choices(per_tenant=False)).seen.served == 1


def test_an_answer_older_than_its_life_is_none() -> None:
    calls = [call(0), call(60 * 25)]
    assert audit(calls).seen.served == 0
    assert audit(calls, choices=Choices(ttl=timedelta(days=2))).seen.served == 1


def test_the_users_own_smaller_model_comes_first() -> None:
    found = audit([call(0)], choices=Choices(small_models={"gpt-4o": "gpt-4.1-nano"}))
    assert found.attribution.actual == BOOK.price(Usage(input=1000, output=1000), "gpt-4.1-nano")
    assert audit([call(0)], choices=Choices(small_models={"gpt-4*": ""})).seen.routed == 0


def test_nothing_to_read_is_an_error_and_a_wrong_strategy_too(tmp_path: Path) -> None:
    with pytest.raises(LogFormatError, match="no call"):
        audit(list[Record]())
    with pytest.raises(ConfigError, match="rooting"):
        Choices(strategies=frozenset({"rooting"}))  # type: ignore[arg-type]


PROMPTS = ["파이썬이 뭐야?", "파이썬이 뭐야", "What is RAG?", HARD, "배송이 얼마나 걸려요?", ""]


@st.composite
def records(draw: st.DrawFn) -> list[Record]:
    size = draw(st.integers(1, 25))
    return [
        call(
            draw(st.integers(-500, 500)),
            draw(st.sampled_from([*PROMPTS, None])),
            model=draw(st.sampled_from(["gpt-4o", "claude-sonnet-4-5", "gpt-4o-mini", "nobody-knows"])),
            usage=draw(st.none() | st.builds(Usage, input=st.integers(0, 9000), output=st.integers(0, 900))),
            answer=draw(st.sampled_from(["yes", None, "[1]", '[{"a":1},{"a":2},{"a":3},{"a":4}]'])),
            tags=draw(st.sampled_from([{}, {"nightly": ""}])),
            hit=draw(st.booleans()),
        )
        for _ in range(size)
    ]


@settings(max_examples=40)
@given(records())
def test_it_adds_up_whatever_the_log(calls: list[Record]) -> None:
    try:
        found = audit(calls)
    except LogFormatError:
        return
    seen, told = found.seen, found.attribution
    assert sums(found)
    assert told.calls + seen.failed + seen.unpriced + seen.hits == seen.calls == len(calls)
    assert found.saved.low <= found.saved.expected <= found.saved.high
    assert all(span.low <= span.expected <= span.high for span in found.spans.values())
    assert told.actual >= 0


@given(st.lists(st.none() | st.integers(0, 50), max_size=60), st.integers(1, 5))
def test_order_loses_no_call_and_keeps_time(minutes: list[int | None], room: int) -> None:
    calls = [call(n, at=None if m is None else NOON + timedelta(minutes=m)) for n, m in enumerate(minutes)]
    late: list[int] = []
    found = list(in_order(calls, lambda: late.append(1), room=room * 2500))
    assert sorted(one.line for one in found) == [one.line for one in calls]
    known = [one.at for one in found if one.at is not None]
    assert known == sorted(known)
    with patch.object(order, "_NEAR", room):
        try:
            assert [one.line for one in as_they_come(calls, lambda: None)] == [one.line for one in found]
        except UnsortedError:
            assert late


def test_the_command_and_the_page(tmp_path: Path) -> None:
    log, page = tmp_path / "log.jsonl", tmp_path / "audit.html"
    rows = [
        {"model": "gpt-4o", "messages": [{"role": "user", "content": "<script>alert(1)</script> 파이썬이 뭐야?"}],
         "usage": {"prompt_tokens": 100, "completion_tokens": 100}, "created": 1_790_000_000 + n}
        for n in range(4)
    ]  # fmt: skip
    log.write_text("\n".join([*map(json.dumps, rows), "{broken"]), "utf-8")
    done = CliRunner().invoke(main, ["audit", str(log), "--html", str(page)])
    assert done.exit_code == 0, done.output
    assert "What would have been saved" in done.output and "1 line was not read" in done.output
    assert f"{log}: 5" in done.output.replace("\n", "")
    assert "<script>alert" not in page.read_text("utf-8") and page.read_text("utf-8").startswith("<!doctype html>")
    told = json.loads(CliRunner().invoke(main, ["audit", str(log), "--json"]).output)
    assert told["calls"] == 4 and Decimal(told["spent"]) == 4 * Decimal("0.00125")
    empty = tmp_path / "empty.jsonl"
    empty.touch()
    failed = CliRunner().invoke(main, ["audit", str(empty)])
    assert failed.exit_code == 1 and "Traceback" not in failed.output
    wrong = CliRunner().invoke(main, ["audit", str(log), "--small", "gpt-4o"])
    assert wrong.exit_code == 1 and "--small is 'gpt-4o'" in wrong.output


def test_a_part_of_a_log_and_times_without_a_zone(tmp_path: Path) -> None:
    log = tmp_path / "log.csv"
    lines = [f"gpt-4o,100,10,2026-11-0{day} 00:30:00" for day in range(1, 6)]
    log.write_text("\n".join(["model,prompt_tokens,completion_tokens,time", *lines]), "utf-8")

    def calls(*given: str) -> int:
        done = CliRunner().invoke(main, ["audit", str(log), "--json", *given])
        return json.loads(done.output)["calls"] if not done.exit_code else -1

    assert calls() == 5
    assert calls("--since", "2026-11-02", "--until", "2026-11-04") == 2
    assert calls("--since", "2026-11-02T00:00+00:00", "--tz", "Asia/Seoul") == 3  # 00:30 in Seoul is the day before
    assert calls("--since", "yesterday") == -1 == calls("--tz", "Asia/Nowhere")
    assert "no call" in CliRunner().invoke(main, ["audit", str(log), "--until", "2026-10-01"]).output


@pytest.fixture
def risky() -> Audit:
    """Questions again, in the same words and in others, some of which go to a smaller model."""
    asked = ["배송은 얼마나 걸리나요?", "배송 얼마나 걸려요?", "배송은 얼마나 걸리나요?", HARD]
    return audit([call(n, asked[n % 4], model="gpt-4o") for n in range(40)], choices=Choices(max_error=0.3))


def test_the_bound_of_false_hits_is_what_can_be_wrong(risky: Audit) -> None:
    seen = risky.seen
    assert seen.served > seen.by_meaning > 0
    assert risky.false_hits == seen.by_meaning / seen.lookups < 0.3
    assert replace(risky, max_error=0.001).false_hits == 0.001
    assert 0 < risky.doubtful == seen.doubt / seen.routed < 1
    nothing = audit([call(0)])
    assert nothing.false_hits == 0 and not [one for one in quality(nothing) if one.key == "audit.risk_cache"]


def test_the_quality_at_risk_is_told_everywhere_in_both_languages(risky: Audit, tmp_path: Path) -> None:
    seen = risky.seen
    told = risky.document()["quality"]
    assert told["routing"] == {
        "kind": "estimate", "calls": seen.routed, "wrong": seen.doubt, "share": seen.doubt / seen.routed
    }  # fmt: skip
    assert told["semantic_cache"] == {
        "kind": "bound", "calls": seen.lookups, "wrong": seen.by_meaning, "share": risky.false_hits
    }  # fmt: skip
    routing, cache = quality(risky)
    assert f"{seen.routed} calls sent to a smaller model about {seen.doubt:.1f} ({risky.doubtful:.1%})" in str(routing)
    assert f"at most {seen.by_meaning} of {seen.lookups} lookups ({risky.false_hits:.2%})" in str(cache)
    for lang, estimate, bound in (("en", "an estimate", "a bound"), ("ko", "추정치", "상한")):
        for page in (audit_page(risky, lang=lang), in_notebook(risky, lang=lang)):  # type: ignore[arg-type]
            for said, kind in ((routing, estimate), (cache, bound)):
                assert kind in said.text(lang) and escape(said.text(lang)) in page  # type: ignore[arg-type]
    log = tmp_path / "log.jsonl"
    rows = [
        {"model": "gpt-4o", "messages": [{"role": "user", "content": asked}],
         "choices": [{"message": {"role": "assistant", "content": "2 days."}}],
         "usage": {"prompt_tokens": 100, "completion_tokens": 100}, "created": 1_790_000_000 + n}
        for n, asked in enumerate(["배송은 얼마나 걸리나요?"] * 2)
    ]  # fmt: skip
    log.write_text("\n".join(map(json.dumps, rows)), "utf-8")
    done = " ".join(CliRunner().invoke(main, ["audit", str(log)]).output.split())
    assert "What may get worse" in done and "a bound: at most 0 of 2 lookups (0.00%)" in done


def test_the_code_to_add_names_what_there_is(risky: Audit) -> None:
    given = advice(risky)
    assert {"routing", "semantic_cache"} <= {name for name, *_ in given}
    for name, *codes in given:
        for code in codes:
            imported, used = code.split("\n")
            compile(used, "advice", "exec")
            exec(imported)
            if name == "routing":
                assert '"gpt-4o-mini"' in used and '"gpt-4o"' in used
    assert all(
        '"gpt-4o-mini"' in code and '"gpt-4o"' in code for name, *codes in given for code in codes if name == "routing"
    )


def test_what_the_linter_and_the_reader_say_is_korean_too(tmp_path: Path) -> None:
    log = tmp_path / "calls.jsonl"
    rows = [
        {
            "model": "gpt-4o",
            "timestamp": f"2026-11-0{day}T12:00:00",
            "messages": [{"role": "system", "content": f"It is now 2026-11-0{day} 12:00:07. {HARD * 60}"}],
            "usage": {"prompt_tokens": 1500, "completion_tokens": 9},
        }
        for day in (2, 3)
    ]
    log.write_text("\n".join([*map(json.dumps, rows), "{"]), "utf-8")
    found = audit(log)
    clock = next(one for one in found.findings if one.kind == "clock")
    assert (clock.reason, clock.fix) == (str(say("clock.reason", *clock.details)), str(say("clock.fix")))
    for lang in ("en", "ko"):
        shown = audit_page(found, lang=lang).partition("<script")[0]
        for one in (
            say("clock.reason", *clock.details), say("clock.fix"), say("unread.malformed"), say("noted.zone", "UTC")
        ):  # fmt: skip
            assert escape(one.text(lang), quote=False) in shown.replace("&#39;", "'"), one


def _said_of_logs() -> set[tuple[str, str]]:
    """What the code that reads logs may say of a line or a value, and in which group of texts it stands."""
    found: set[tuple[str, str]] = set()

    def text(node: ast.AST) -> str:
        if isinstance(node, ast.JoinedStr):
            return "".join(part.value if isinstance(part, ast.Constant) else "x" for part in node.values)
        return node.value if isinstance(node, ast.Constant) else ""

    for path in Path(order.__file__).parent.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text("utf-8"))):
            if isinstance(node, ast.Call) and getattr(node.func, "id", "") == "Unusable":
                found.add(("unread", text(node.args[0])))
            elif isinstance(node, ast.Subscript) and getattr(node.value, "attr", "") == "notes":
                found.add(("noted", text(node.slice)))
    found |= {("unread", one) for one in (NOT_A_CALL, NO_MODEL, reading._CONTRADICTING, reading._OTHER)}
    return {(group, said) for group, said in found if said}


def test_there_are_korean_words_for_all_that_is_said_of_a_log() -> None:
    said = _said_of_logs()
    assert len(said) >= 17
    for group, one in said:
        known = recognised(one, group)
        assert not isinstance(known, str) and str(known) == one and known.text("ko") != one, one
    assert {key for key in catalogue() if key.startswith(("unread.", "noted."))} == {
        recognised(one, group).key
        for group, one in said  # type: ignore[union-attr]
    }


def test_the_page_speaks_korean() -> None:
    assert "아낄 수 있었던 비용" in audit_page(audit([call(0), call(1)]), lang="ko")
    found = audit([call(0)])
    assert "<table>" in found._repr_html_()
    assert repr(found).startswith("Audit(1 calls, $0.012500 spent")
