"""Planning and marking: the provider's limits always hold, and nothing of the caller's is touched."""

from __future__ import annotations

import copy
import json
import threading
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_savings import PriceBook, Usage
from llm_savings.errors import ConfigError
from llm_savings.prompt_cache import Memory, Plan, apply_plan, plan_breakpoints, steady
from llm_savings.tokens import count

SONNET, HAIKU, BEDROCK = "claude-sonnet-4-5", "claude-haiku-4-5", "bedrock/anthropic.claude-sonnet-4-5-20250929-v1:0"
LONG = "Orders above ten euros are checked by hand; tell the customer so, and never promise a day. " * 90
LONG_KO = "주문 금액이 만 원을 넘으면 담당자가 확인합니다. 고객에게 친절하게 안내하고 날짜는 약속하지 마세요. " * 60
TOOLS = [{"name": "find_order", "description": "Find an order. " * 30, "input_schema": {"type": "object"}}]


def chat(*said: Any, system: str = LONG) -> list[dict[str, Any]]:
    roles = ("user", "assistant")
    return [{"role": "system", "content": system}, *({"role": roles[n % 2], "content": s} for n, s in enumerate(said))]


def sent(memory: Memory, messages: list[Any], at: float, model: str = SONNET, **more: Any) -> Plan:
    """Plan, send and record a call, with the usage that a provider would report."""
    plan = plan_breakpoints(messages, more.pop("tools", None), model, memory=memory, now=at, **more)
    total = plan.prompt.tokens[-1]
    end = plan.marks[-1].tokens if plan.marks else 0
    memory.record(plan, Usage(input=total - end, cache_write_5m=end), at + 1)
    return plan


# --- what a user meets first --------------------------------------------------------------------------------------


def test_the_first_prompt_is_not_marked_and_a_shared_beginning_is_at_its_second_sight() -> None:
    memory = Memory()
    assert sent(memory, chat("Where is my order?"), 0).marks == ()
    second = sent(memory, chat("Can I send it back?"), 20)
    assert [(mark.place.part, mark.place.number, mark.ttl) for mark in second.marks] == [("messages", 0, "5m")]
    third = sent(memory, chat("And the other one?"), 40)
    assert "holds it" in third.marks[0].why
    assert third.expected_usd < third.unmarked_usd / 2
    assert "chance of" in second.marks[0].why


def test_one_shot_prompts_are_never_marked() -> None:
    memory = Memory()
    for n in range(200):
        plan = sent(memory, [{"role": "user", "content": f"{n}: {LONG}"}], 10.0 * n)
        assert plan.marks == ()
    assert any("chance" in reason or "never sent" in reason for reason in plan.reasons)


def test_a_conversation_is_marked_as_it_grows_and_what_is_held_is_marked_again() -> None:
    memory = Memory()
    said = ["Where is my order?"]
    for turn in range(6):
        plan = sent(memory, chat(*said), 30.0 * turn)
        if turn > 1:
            assert any("holds it" in mark.why for mark in plan.marks)
            assert plan.marks[-1].place.number == len(said)  # the newest message
        said += [f"Answer {turn}. {LONG[:400]}", f"Question {turn}?"]


def test_what_the_provider_has_dropped_is_not_called_held() -> None:
    memory = Memory()
    for at in (0, 20, 40):
        sent(memory, chat(f"Question at {at}?"), at)
    late = plan_breakpoints(chat("Late?"), None, SONNET, memory=memory, now=40 + 301)
    assert not any("holds it" in mark.why for mark in late.marks)
    early = plan_breakpoints(chat("Early?"), None, SONNET, memory=memory, now=40 + 200)
    assert any("holds it" in mark.why for mark in early.marks)


def test_beginnings_that_come_back_too_late_are_let_go() -> None:
    memory = Memory(ttls=("5m",))
    marks = [bool(sent(memory, chat(f"Question {n}?"), 1500.0 * n).marks) for n in range(40)]
    assert not any(marks[-10:])


def test_an_hour_is_bought_when_five_minutes_are_too_short() -> None:
    memory = Memory()
    ttls = [{mark.ttl for mark in sent(memory, chat(f"Question {n}?"), 900.0 * n).marks} for n in range(60)]
    assert ttls[-1] == {"1h"}


def test_time_may_be_a_datetime() -> None:
    memory = Memory()
    moment = datetime(2026, 11, 27, 12, tzinfo=UTC)
    for _ in range(2):
        plan = plan_breakpoints(chat("Hello"), None, SONNET, memory=memory, now=moment)
        memory.record(plan, None, moment)
    assert plan.at == moment.timestamp()


# --- providers ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("model", "dialect"),
    [
        (SONNET, "anthropic"),
        ("vertex_ai/claude-sonnet-4-5", "anthropic"),
        (BEDROCK, "bedrock"),
        ("amazon.nova-pro-v1:0", "bedrock"),
        ("gpt-5.6", "openai"),
        ("gpt-4o", "automatic"),
        ("azure/gpt-4o", "automatic"),
        ("gemini/gemini-2.5-pro", "automatic"),
        ("deepseek/deepseek-chat", "automatic"),
        ("my-llama", "none"),
        ("text-embedding-3-small", "none"),
    ],
)
def test_each_provider_gets_its_own_form_and_no_other(model: str, dialect: str) -> None:
    memory = Memory()
    for n in range(3):
        plan = sent(memory, chat(f"Question {n}?"), 10.0 * n, model)
    assert plan.dialect == dialect
    messages, _, extra = apply_plan(plan, chat("Question 2?"))
    wire = json.dumps([messages, extra])
    assert ("cache_control" in wire) == (dialect == "anthropic")
    assert ("cachePoint" in wire) == (dialect == "bedrock")
    assert ("prompt_cache_breakpoint" in wire) == (dialect == "openai")
    assert ("prompt_cache_key" in extra) == model.startswith("gpt-")
    assert bool(plan.marks) == (dialect not in ("automatic", "none"))


def test_another_server_that_speaks_openai_gets_nothing() -> None:
    memory = Memory()
    there = {"api_base": "https://llm.example.com/v1"}
    plan = plan_breakpoints(chat("Hello"), None, "gpt-5.6", memory=memory, options=there)
    assert (plan.dialect, plan.prompt_cache_key, apply_plan(plan, chat("Hello"))[2]) == ("none", None, {})
    home = plan_breakpoints(
        chat("Hello"), None, "gpt-5.6", memory=memory, options={"base_url": "https://eu.api.openai.com/v1"}
    )
    assert home.dialect == "openai"


def test_minimums_come_from_the_price_map() -> None:
    memory = Memory()
    assert [memory.terms(model).minimum for model in (SONNET, HAIKU, "claude-opus-4-7", "claude-sonnet-5-5")] == [
        1024,
        4096,
        2048,
        512,
    ]
    two_thousand = "word " * 2_500
    for model, expected in ((SONNET, True), (HAIKU, False)):
        for n in range(3):
            plan = sent(memory, chat(f"Question {n}?", system=two_thousand), 10.0 * n, model)
        assert bool(plan.marks) == expected


def test_negotiated_prices_change_what_pays_and_not_what_is_possible() -> None:
    dear = PriceBook().with_overrides(
        {SONNET: {"input": "3", "output": "15", "cache_read": "0.3", "cache_write_5m": "9"}}
    )
    terms = Memory(prices=dear).terms(SONNET)
    assert (terms.dialect, terms.lives[0].write) == ("anthropic", 3.0)


def test_rules_can_be_corrected_in_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = tmp_path / "rules.toml"
    path.write_text(
        '[[rule]]\nproviders = ["azure_ai"]\ndialect = "anthropic"\nttls = { 5m = 300 }\n', encoding="utf-8"
    )
    assert Memory().terms("azure_ai/claude-sonnet-4-5").dialect == "none"
    monkeypatch.setenv("LLM_SAVINGS_CACHE_RULES", str(path))
    assert Memory().terms("azure_ai/claude-sonnet-4-5").dialect == "anthropic"
    path = tmp_path / "wrong.toml"
    path.write_text('[[rule]]\ndialect = "telepathy"\n', encoding="utf-8")
    monkeypatch.setenv("LLM_SAVINGS_CACHE_RULES", str(path))
    with pytest.raises(ConfigError, match="telepathy"):
        Memory().terms(SONNET)


# --- keys ---------------------------------------------------------------------------------------------------------


def test_the_cache_key_names_the_stable_beginning_and_tells_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    memory = Memory()
    one, two = (plan_breakpoints(chat(text), None, "gpt-4o", memory=memory) for text in ("Hello", "Where is it?"))
    assert one.prompt_cache_key == two.prompt_cache_key
    other = plan_breakpoints(chat("Hello", system="x" + LONG), None, "gpt-4o", memory=memory)
    assert other.prompt_cache_key != one.prompt_cache_key
    assert plan_breakpoints(chat("Hello"), None, "gpt-4o", memory=memory.scoped("b")).prefix != one.prefix
    monkeypatch.setenv("LLM_SAVINGS_HASH_KEY", "another secret")
    assert plan_breakpoints(chat("Hello"), None, "gpt-4o", memory=Memory()).prefix != one.prefix


def test_a_busy_prefix_is_spread_over_keys() -> None:
    memory = Memory()
    for n in range(300):
        sent(memory, chat(f"Question {n}?"), 0.5 * n, "gpt-4o")
    keys = {
        plan_breakpoints(chat(f"Question {n}?"), None, "gpt-4o", memory=memory, now=151).prompt_cache_key
        for n in range(100)
    }
    assert 4 <= len(keys) <= 16
    again = {
        plan_breakpoints(chat("Question 1?", "Well", more), None, "gpt-4o", memory=memory, now=151).prompt_cache_key
        for more in ("And?", "So?")
    }
    assert len(again) == 1  # a conversation stays with its key


def _keys(memory: Memory, at: float, many: int) -> set[str | None]:
    plans = (plan_breakpoints(chat(f"Question {n}?"), None, "gpt-4o", memory=memory, now=at) for n in range(many))
    return {plan.prompt_cache_key for plan in plans}


def test_a_prefix_is_spread_over_64_keys_at_most() -> None:
    memory = Memory()
    for n in range(120):
        sent(memory, chat(f"Question {n}?"), 0.001 * n, "gpt-4o")
    assert len(_keys(memory, 1, 800)) == 64


def test_a_burst_of_a_few_is_no_traffic_that_is_spread() -> None:
    memory = Memory()
    for n in range(60):
        sent(memory, chat(f"Question {n}?"), 0.001 * n, "gpt-4o")
    assert len(_keys(memory, 1, 20)) == 1
    sent(memory, chat("Question 60?"), 0.06, "gpt-4o")
    assert len(_keys(memory, 1, 20)) > 1


def test_what_makes_the_provider_forget_the_messages_changes_their_hashes_only() -> None:
    memory = Memory()
    talk = chat("Hello", "Yes?", "Well")
    plain = plan_breakpoints(talk, TOOLS, SONNET, memory=memory).prompt
    for options in ({"tool_choice": {"type": "any"}}, {"thinking": {"type": "enabled", "budget_tokens": 2000}}):
        changed = plan_breakpoints(talk, TOOLS, SONNET, memory=memory, options=options).prompt
        assert changed.keys[:2] == plain.keys[:2]
        assert not set(changed.keys[2:]) & set(plain.keys[2:])
    picture = {"type": "image_url", "image_url": {"url": "https://x.test/a.png"}}
    pictured = plan_breakpoints([*talk, {"role": "user", "content": [picture]}], TOOLS, SONNET, memory=memory).prompt
    assert pictured.keys[:2] == plain.keys[:2]
    assert pictured.keys[2] != plain.keys[2]
    assert not set(plan_breakpoints(talk, TOOLS, HAIKU, memory=memory).prompt.keys) & set(plain.keys)
    assert not set(plan_breakpoints(talk, [*TOOLS, *TOOLS], SONNET, memory=memory).prompt.keys[1:]) & set(plain.keys)


# --- marking ------------------------------------------------------------------------------------------------------


def test_a_string_becomes_a_block_to_the_letter_and_tools_and_system_are_marked_too() -> None:
    memory = Memory()
    tools = [{"name": f"tool_{n}", "description": LONG[:3000], "input_schema": {"type": "object"}} for n in range(4)]
    for n in range(4):
        talk = [{"role": "user", "content": f"Question {n}?"}]
        plan = sent(memory, talk, 10.0 * n, tools=tools, system=LONG_KO)
    messages, kit, extra = apply_plan(plan, talk, tools, system=LONG_KO)
    assert messages == talk
    assert extra["system"] == [{"type": "text", "text": LONG_KO, "cache_control": {"type": "ephemeral"}}]
    assert kit == tools
    for n in range(4):  # the system text changes, the tools stay
        plan = sent(memory, talk, 100.0 + 10 * n, tools=tools, system=f"{n} {LONG_KO}")
    assert plan.marks[0].place.part == "tools"
    marked = apply_plan(plan, talk, tools, system="x")[1]
    assert marked is not None
    assert marked[3]["cache_control"] == {"type": "ephemeral"}
    assert "cache_control" not in tools[3]


def test_bedrock_gets_cache_points_beside_the_blocks() -> None:
    memory = Memory()
    for n in range(3):
        talk = [{"role": "user", "content": [{"text": f"Question {n}?"}]}]
        plan = sent(memory, talk, 10.0 * n, BEDROCK, system=[{"text": LONG}])
    extra = apply_plan(plan, talk, system=[{"text": LONG}])[2]
    assert extra["system"] == [{"text": LONG}, {"cachePoint": {"type": "default"}}]
    through_litellm = apply_plan(plan, talk, system=[{"text": LONG}], dialect="anthropic")[2]
    assert through_litellm["system"] == [{"text": LONG, "cache_control": {"type": "ephemeral"}}]


def test_tool_calls_are_marked_behind_the_content() -> None:
    memory = Memory()
    call = {"id": "1", "type": "function", "function": {"name": "find_order", "arguments": LONG}}
    history: list[dict[str, Any]] = [
        {"role": "user", "content": "Go"},
        {"role": "assistant", "content": None, "tool_calls": [call]},
    ]
    for n in range(3):
        plan = sent(memory, [*history, {"role": "tool", "tool_call_id": "1", "content": f"{n}"}], 10.0 * n)
    marked = apply_plan(plan, [*history, {"role": "tool", "tool_call_id": "1", "content": "2"}])[0]
    assert marked[1]["tool_calls"][0]["cache_control"] == {"type": "ephemeral"}
    assert marked[1]["content"] is None
    assert "cache_control" not in call


def test_the_callers_marks_stay_and_count() -> None:
    memory = Memory()
    mark = {"cache_control": {"type": "ephemeral"}}
    own = [{"type": "text", "text": f"{n} {LONG}", **mark} for n in range(4)]
    for n in range(3):
        plan = sent(memory, [{"role": "user", "content": [*own, {"type": "text", "text": f"{n}"}]}], 10.0 * n)
        assert plan.marks == ()
        assert len(plan.own) == 4
    three = [
        {"role": "user", "content": own[:3]},
        {"role": "assistant", "content": "Yes?"},
        {"role": "user", "content": LONG},
    ]
    for n in range(3):
        plan = sent(memory, three, 100.0 + n, options={"cache_control": {"type": "ephemeral"}})
        assert plan.marks == ()  # three of the caller's, and the automatic one
    pieces = [{"type": "text", "text": f"{n} {LONG}", **mark} for n in range(3)]
    for n in range(3):
        result = {"type": "tool_result", "tool_use_id": "1", "content": pieces}
        plan = sent(memory, [{"role": "user", "content": [own[0], result]}], 200.0 + n)
        assert plan.marks == ()  # each piece of a tool's result counts


def test_steady_tools_are_equal_to_the_byte() -> None:
    tools = [
        {"name": "b", "input_schema": {"required": ["y", "x"], "type": "object"}},
        {"type": "function", "function": {"name": "a"}},
    ]
    turned = [dict(reversed(tool.items())) for tool in reversed(tools)]
    before = copy.deepcopy(turned)
    assert json.dumps(steady(tools)) == json.dumps(steady(turned))
    assert turned == before
    assert steady(tools)[1]["input_schema"]["required"] == ["y", "x"]


# --- learning from usages -----------------------------------------------------------------------------------------


def test_a_prefix_that_the_provider_refused_is_not_marked_again() -> None:
    memory = Memory()
    for n in range(2):
        plan = plan_breakpoints(chat(f"Question {n}?"), None, SONNET, memory=memory, now=n)
        memory.record(plan, Usage(input=1500), n)  # marked the second time, and nothing was written
    assert plan.marks
    assert plan_breakpoints(chat("Question 2?"), None, SONNET, memory=memory, now=2).marks == ()
    longer = chat("Question?", system=LONG * 3)
    for n in range(2):
        plan = sent(memory, longer, 10 + n)
    assert plan.marks


def test_a_long_prefix_that_was_not_cached_has_other_reasons_and_is_tried_again() -> None:
    memory = Memory()
    for n in range(2):
        plan = plan_breakpoints(chat(f"Question {n}?", system=LONG * 9), None, SONNET, memory=memory, now=n)
        memory.record(plan, Usage(input=15_000), n)
    again = plan_breakpoints(chat("Question 2?", system=LONG * 9), None, SONNET, memory=memory, now=2)
    assert again.marks
    assert not any("holds it" in mark.why for mark in again.marks)


def test_text_that_only_looks_long_is_counted() -> None:
    memory = Memory()
    blank = "x" * 8_000  # 1,000 tokens, though 2,000 by its length
    assert count(blank) < 1_024
    for n in range(4):
        plan = plan_breakpoints(chat(f"Question {n}?", system=blank), None, SONNET, memory=memory, now=10.0 * n)
        assert plan.marks == ()
        memory.record(plan, None, 10.0 * n)  # nobody says how long it is


def test_what_the_provider_counts_as_long_enough_is_marked() -> None:
    """Claude makes some 1.7 times as many tokens of Korean as tiktoken does."""
    handbook, memory = LONG_KO * 2, Memory()
    assert count(handbook) < 4_096 < 5_100
    for n in range(2):
        plan = plan_breakpoints(chat(f"질문 {n}?", system=handbook), None, HAIKU, memory=memory, now=10.0 * n)
        memory.record(plan, Usage(input=5_120), 10.0 * n)
        short = plan_breakpoints(chat("Hi?", system="Be brief."), None, HAIKU, memory=memory, now=10.0 * n + 5)
        memory.record(short, Usage(input=10), 10.0 * n + 5)  # its words are counted otherwise: no ratio fits both
    assert [mark.place.number for mark in plan.marks] == [0]


@pytest.mark.parametrize("kind", ["a long question", "a file"])
def test_what_the_rest_of_a_prompt_may_have_is_not_the_prefixes(kind: str) -> None:
    handbook, memory = LONG_KO, Memory()
    for n in range(3):
        file = [{"type": "document", "source": {"type": "url", "url": f"https://example.com/{n}.pdf"}}]
        asked: Any = file if kind == "a file" else f"{n} " + "왜? " * 1_000
        plan = plan_breakpoints(chat(asked, system=handbook), None, HAIKU, memory=memory, now=10.0 * n)
        assert plan.marks == ()
        memory.record(plan, Usage(input=5_120), 10.0 * n)


def test_what_comes_every_few_hours_is_soon_left_alone() -> None:
    memory = Memory()
    marked = [bool(sent(memory, chat(f"Question {n}?"), 5 * 3600.0 * n).marks) for n in range(12)]
    assert sum(marked) <= 4 and not any(marked[6:])


def test_the_memory_is_bounded_and_forgets_the_oldest_first() -> None:
    memory = Memory(capacity=50)
    for n in range(200):
        sent(memory, [{"role": "user", "content": f"{n} {LONG}"}], float(n))
    assert len(memory) == 50
    with pytest.raises(ConfigError, match="capacity"):
        Memory(capacity=0)


def test_a_plan_changes_nothing_and_shadow_writes_nothing() -> None:
    memory = Memory()
    for n in range(3):
        plan = plan_breakpoints(chat(f"Question {n}?"), None, SONNET, memory=memory, now=10.0 * n)
        assert len(memory) == (0 if n == 0 else n + 1)
        memory.record(plan, None, 10.0 * n, sent=False)
    last = plan_breakpoints(chat("Question 3?"), None, SONNET, memory=memory, now=40)
    assert last.marks
    assert not any("holds it" in mark.why for mark in last.marks)


def test_threads_may_share_a_memory() -> None:
    memory = Memory(capacity=500)
    failed: list[BaseException] = []

    def work(number: int) -> None:
        try:
            for n in range(60):
                sent(memory, chat(f"Question {number} {n}?", "Yes", "And?"), n * 5.0)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failed
    assert plan_breakpoints(chat("One more?"), None, SONNET, memory=memory, now=300).marks


def test_evidence_is_plain_json_without_text() -> None:
    memory = Memory()
    for n in range(3):
        plan = sent(memory, chat(f"Question {n}?"), 10.0 * n)
    evidence = json.loads(json.dumps(plan.evidence()))
    assert evidence["prefix"] == plan.prefix
    assert Decimal(evidence["expected_usd"]) < Decimal(evidence["unmarked_usd"])
    assert "Orders" not in json.dumps(evidence)


# --- laws ---------------------------------------------------------------------------------------------------------

MARK = st.sampled_from(
    [{}, {}, {}, {"cache_control": {"type": "ephemeral"}}, {"cache_control": {"type": "ephemeral", "ttl": "1h"}}]
)
INSIDE = {"cache_control": {"type": "ephemeral"}}  # where LiteLLM sets the mark of a tool's result
WORDS = st.sampled_from(
    ["", " ", "Hi", "주문 어디예요?", "\ud800", "x" * 3000, LONG[:2000], LONG, LONG_KO[:1500], "\0", "🙂" * 400]
)
TEXT = st.builds(lambda text, mark: {"type": "text", "text": text, **mark}, WORDS, MARK)
OTHER = st.sampled_from(
    [
        {"type": "image_url", "image_url": {"url": "data:image/png;base64," + "A" * 5000}},
        {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "A" * 5000}},
        {"type": "thinking", "thinking": LONG, "signature": "s"},
        {"type": "redacted_thinking", "data": "s" * 9000},
        {"type": "tool_use", "id": "1", "name": "find_order", "input": {"order": 1, "why": LONG[:900]}},
        {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": LONG}]},
        {"type": "tool_result", "tool_use_id": "1", "content": [{"type": "text", "text": LONG, **INSIDE}]},
        {"type": "tool_result", "tool_use_id": "1", "content": ""},
    ]
)
CALL = {"id": "1", "type": "function", "function": {"name": "f", "arguments": '{"a": "' + LONG + '"}'}}


def message(role: str, content: Any, called: bool) -> dict[str, Any]:
    return {"role": role, "content": content, **({"tool_calls": [CALL]} if called and role == "assistant" else {})}


MESSAGE = st.builds(
    message,
    st.sampled_from(["user", "assistant", "system", "tool", "developer"]),
    st.one_of(st.none(), WORDS, st.lists(st.one_of(TEXT, OTHER), max_size=4)),
    st.booleans(),
)
TOOL = st.builds(lambda n, mark: {"name": f"t{n}", "description": LONG[: n * 700], **mark}, st.integers(0, 9), MARK)
MODELS = st.sampled_from([SONNET, HAIKU, BEDROCK, "gpt-5.6", "gpt-4o", "amazon.nova-pro-v1:0"])


def blocks_of(messages: list[Any], tools: Any, system: Any) -> list[tuple[str, Any, str]]:
    """Every block in the provider's order: its text, its mark's time to live ("" for none), its part."""
    found: list[tuple[str, Any, str]] = []

    def add(value: Any, part: str) -> None:
        if isinstance(value, dict) and set(value) == {"cachePoint"}:
            if found:
                found[-1] = (found[-1][0], value["cachePoint"].get("ttl", "5m"), found[-1][2])
            return
        ttl, bare = "", value
        if isinstance(value, dict):
            bare = {key: item for key, item in value.items() if key not in ("cache_control", "prompt_cache_breakpoint")}
            if "prompt_cache_breakpoint" in value:
                ttl = "30m"
            if value.get("cache_control"):
                ttl = value["cache_control"].get("ttl", "5m")
            if isinstance(parts := value.get("content"), list):
                ttl = ttl or next(
                    (part["cache_control"].get("ttl", "5m") for part in parts if "cache_control" in part), ""
                )
                bare["content"] = [{key: part[key] for key in ("type", "text")} for part in parts]
            if set(bare) <= {"type", "text"} and "text" in bare:
                bare = bare["text"]
        found.append((bare if isinstance(bare, str) else json.dumps(bare), ttl, part))

    for tool in tools or ():
        add(tool, "tools")
    for value in [system] if isinstance(system, str) else system or []:
        add(value, "system")
    for head in (True, False):
        for message in messages:
            if (message["role"] in ("system", "developer")) == head:
                content = message.get("content")
                for value in [content] if isinstance(content, str) else content or []:
                    add(value, "system" if head else "messages")
                for call in message.get("tool_calls") or ():
                    add(call, "messages")
    return found


@settings(max_examples=100)
@given(
    conversation=st.lists(MESSAGE, min_size=1, max_size=8),
    tools=st.one_of(st.none(), st.lists(TOOL, max_size=4)),
    system=st.one_of(st.none(), WORDS, st.lists(TEXT, max_size=3)),
    model=MODELS,
    steps=st.lists(st.sampled_from([5.0, 200.0, 400.0, 2000.0]), min_size=2, max_size=4),
)
def test_the_laws_of_marking(
    conversation: list[dict[str, Any]], tools: Any, system: Any, model: str, steps: list[float]
) -> None:
    memory = Memory()
    at = 0.0
    given = copy.deepcopy((conversation, tools, system))
    for number, step in enumerate([*steps, 1.0, 1.0]):
        at += step
        messages = conversation[: max(1, len(conversation) * (number + 1) // len(steps))]
        arguments: dict[str, Any] = {"memory": memory, "now": at, "system": system}
        plan = plan_breakpoints(messages, tools, model, **arguments)
        again = plan_breakpoints(messages, tools, model, **arguments)
        assert (plan.marks, plan.prefix, plan.reasons) == (again.marks, again.prefix, again.reasons)

        marked, kit, extra = apply_plan(plan, messages, tools, system=system)
        assert (conversation, tools, system) == given, "the caller's objects were changed"
        before, after = blocks_of(messages, tools, system), blocks_of(marked, kit, extra.get("system", system))
        assert [(text, part) for text, _, part in before] == [(text, part) for text, _, part in after]
        assert [m["role"] for m in marked] == [m["role"] for m in messages]

        own = [ttl for _, ttl, _ in before if ttl]
        all_of_them = [ttl for _, ttl, _ in after if ttl]
        assert len(all_of_them) == len(own) + len(plan.marks)
        assert len(all_of_them) <= max(4, len(own))
        order = [{"5m": 300, "30m": 1800, "1h": 3600}[ttl] for ttl in all_of_them]
        if plan.dialect != "openai" and own == sorted(own, key=lambda ttl: ttl != "1h"):  # the caller's own in order
            assert order == sorted(order, reverse=True)
        minimum = memory.terms(model).minimum
        for end, ((_, had, part), (_, has, _)) in enumerate(zip(before, after, strict=True), start=1):
            if has and not had:
                texts = "".join(text for text, _, _ in before[:end] if "base64" not in text)
                pictures = sum("base64" in text for text, _, _ in before[:end])
                assert count(texts) + 1_000 * pictures >= minimum
                assert part in memory.terms(model).parts

        replanned = plan_breakpoints(marked, kit, model, **{**arguments, "system": extra.get("system", system)})
        assert replanned.prompt.keys == plan.prompt.keys, "a mark is no part of the text"
        assert replanned.marks == (), "a marked prompt needs no more marks"
        memory.record(plan, None, at + 1)
