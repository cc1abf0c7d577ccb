"""Where requests go: difficulty, rules, guards, experiments, and that routing never raises."""

from __future__ import annotations

import csv
import json
import logging
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_savings.errors import ConfigError
from llm_savings.evidence import evidence_in, noted
from llm_savings.routing import Capabilities, ComplexityRouter, Rule, Tier, portable

PAIR = {"simple": "gpt-4o-mini", "complex": "gpt-4o"}
THREE = {
    "simple": Tier("gpt-4o-mini", max_tokens=200),
    "medium": Tier("gpt-4o-mini", max_tokens=500),
    "complex": "gpt-4o",
}
PROMPTS = Path(__file__).with_name("routing_prompts.tsv")


def prompts(part: str) -> list[dict[str, str]]:
    with PROMPTS.open(encoding="utf-8") as file:
        return [row for row in csv.DictReader(file, delimiter="\t", quoting=csv.QUOTE_NONE) if row["part"] == part]


@pytest.mark.parametrize("tiers", [PAIR, THREE], ids=["two", "three"])
@pytest.mark.parametrize(
    "prompt",
    [
        "파이썬이 뭐야?",
        "오늘 날씨 어때?",
        "Python 3.11 출시일이 언제야?",
        "What is Python?",
        "What's the weather like today?",
        "When was Python 3.11 released?",
        "hi",
        "",
    ],
)
def test_simple_requests_go_to_the_cheapest_tier(tiers: Any, prompt: str) -> None:
    assert ComplexityRouter(tiers).route(prompt).tier == "simple"


@pytest.mark.parametrize("tiers", [PAIR, THREE], ids=["two", "three"])
@pytest.mark.parametrize(
    "prompt",
    [
        "마이크로서비스 아키텍처를 설계해줘",
        "RESTful API와 GraphQL을 상세히 비교해줘",
        "Design a microservice architecture",
        "Compare RESTful APIs and GraphQL in detail",
    ],
)
def test_complex_requests_go_to_the_strongest_tier(tiers: Any, prompt: str) -> None:
    assert ComplexityRouter(tiers).route(prompt).tier == "complex"


@pytest.mark.parametrize("language", ["en", "ko"])
def test_prompts_that_nothing_was_tuned_on(language: str) -> None:
    router = ComplexityRouter(PAIR)
    kept = [row for row in prompts("kept") if row["language"] == language and row["tier"] != "medium"]
    assert len(kept) >= 30
    right = sum(router.route(row["text"]).tier == row["tier"] for row in kept)
    assert right / len(kept) >= 0.9


def test_the_prompts_are_in_both_languages() -> None:
    rows = prompts("kept") + prompts("tune")
    korean = sum(row["language"] == "ko" for row in rows)
    assert len(rows) >= 200
    assert len(rows) * 0.45 <= korean <= len(rows) * 0.55


def test_the_articles_rules() -> None:
    router = ComplexityRouter.rules(THREE)
    assert router.route("What is Python?").params == {"max_tokens": 200}
    assert router.route("파이썬이 뭐야?").params == {"max_tokens": 500}  # the article's patterns do not know it
    assert router.route("마이크로서비스 아키텍처를 설계해줘").model == "gpt-4o"
    assert ComplexityRouter.rules(PAIR).route("그래").tier == "simple"
    assert router.route("x" * 501).tier == "complex"


def test_a_users_rule_pins_a_tier() -> None:
    router = ComplexityRouter(PAIR, rules=[Rule("환불|refund", tier="complex"), Rule("설계", tier="simple")])
    decision = router.route("How do I get a REFUND?")
    assert (decision.tier, decision.reasons, decision.sufficiency) == ("complex", ("rule:0",), None)
    assert router.route("아키텍처를 설계해줘").tier == "simple"


@pytest.mark.parametrize(
    ("wrong", "named"),
    [
        ({"tiers": {"simple": "a"}}, "at least two"),
        ({"tiers": ["a", "b"]}, "mapping"),
        ({"tiers": {"simple": "a", "complex": 7}}, r"tiers\['complex'\]"),
        ({"tiers": {"simple": "a", "complex": " "}}, "name of a model"),
        ({"tiers": {"": "a", "complex": "b"}}, "no name of a tier"),
        ({"rules": [Rule("(", tier="simple")]}, r"rules\[0\].pattern"),
        ({"rules": [Rule("x", tier="medium")]}, r"rules\[0\].tier='medium'"),
        ({"rules": ["x"]}, r"rules\[0\]='x'"),
        ({"baseline": "gpt-4o"}, "baseline='gpt-4o'"),
        ({"experiment": 0.7}, "experiment=0.7"),
    ],
)
def test_configuration_fails_when_it_is_made(wrong: dict[str, Any], named: str) -> None:
    with pytest.raises(ConfigError, match=named):
        ComplexityRouter(**({"tiers": PAIR} | wrong))


IMAGE = [
    {"role": "user", "content": [{"type": "text", "text": "hi"}, {"type": "image_url", "image_url": {"url": "x"}}]}
]


def test_a_model_without_vision_gets_no_image() -> None:
    router = ComplexityRouter({"simple": "gpt-3.5-turbo", "complex": "gpt-4o"})
    decision = router.route(IMAGE)
    assert (decision.tier, decision.guards) == ("complex", ("vision",))
    assert router.route("hi").tier == "simple"


def test_what_is_unknown_is_no_guard_and_the_user_knows_better() -> None:
    unknown = {"simple": "my-group", "complex": "gpt-4o"}
    assert ComplexityRouter(unknown).route(IMAGE).tier == "simple"
    told = {"simple": Tier("my-group", capabilities=Capabilities(vision=False)), "complex": "gpt-4o"}
    assert ComplexityRouter(told).route(IMAGE).tier == "complex"
    blind = Capabilities(vision=False)
    nobody = {"simple": Tier("a", capabilities=blind), "complex": Tier("b", capabilities=blind)}
    assert ComplexityRouter(nobody).route(IMAGE).guards == ("vision", "none")


@pytest.mark.parametrize(
    ("lacks", "request_"),
    [
        ("tools", {"tools": [{"type": "function"}]}),
        ("json_schema", {"response_format": {"type": "json_schema", "json_schema": {}}}),
        ("output", {"max_tokens": 4000}),
    ],
)
def test_guards(lacks: str, request_: dict[str, Any]) -> None:
    limited = Capabilities(**{lacks: 1000 if lacks == "output" else False})
    router = ComplexityRouter({"simple": Tier("m", capabilities=limited), "complex": "gpt-4o"})
    assert router.route("hi", **request_).guards == (lacks,)
    assert router.route("hi", **request_).tier == "complex"


def test_a_long_conversation_needs_a_long_context() -> None:
    router = ComplexityRouter({"simple": Tier("m", capabilities=Capabilities(context=1000)), "complex": "gpt-4o"})
    history = [{"role": "user", "content": "word " * 2000}, {"role": "assistant", "content": "ok"}]
    assert router.route([*history, {"role": "user", "content": "thanks"}]).guards == ("context",)
    weaker = ComplexityRouter({"simple": "gpt-4o", "complex": Tier("m", capabilities=Capabilities(context=1000))})
    assert weaker.route([*history, {"role": "user", "content": "아키텍처를 설계하고 분석해줘"}]).tier == "simple"


VALUES = st.one_of(
    st.text(max_size=20),
    st.none(),
    st.integers(),
    st.lists(st.dictionaries(st.sampled_from(["type", "text", "content"]), st.text(max_size=5))),
    st.sampled_from(["user", "assistant"]),
)
MESSAGES = st.lists(st.dictionaries(st.sampled_from(["role", "content", "tool_calls"]), VALUES), max_size=4)
JUNK = st.one_of(st.text(max_size=300), st.binary(max_size=300), st.none(), st.integers(), MESSAGES)


@settings(max_examples=200, deadline=None)
@given(JUNK, st.one_of(st.none(), st.text(max_size=9)), JUNK)
def test_nothing_makes_routing_raise(messages: Any, conversation: str | None, tools: Any) -> None:
    decision = ComplexityRouter(PAIR).route(messages, conversation=conversation, tools=tools)
    assert decision.tier in PAIR
    json.dumps(decision.evidence())


@pytest.mark.parametrize(
    "prompt", ["x" * 1_000_000, "설계 " * 300_000, bytes(range(256)) * 4000, "\ud800", "$" * 100_000]
)
def test_large_and_broken_prompts(prompt: Any) -> None:
    assert "failed" not in ComplexityRouter(PAIR).route(prompt).reasons


def test_a_failed_decision_goes_to_the_strongest_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    router = ComplexityRouter(PAIR)
    with caplog.at_level(logging.WARNING, "llm_savings.routing"):
        decisions = [router.route(7) for _ in range(3)]
    assert {(each.tier, each.reasons) for each in decisions} == {("complex", ("failed",))}
    assert len(caplog.records) == 1


def test_disabled_is_the_baseline(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LLM_SAVINGS_DISABLED", "1")
    decision = ComplexityRouter(PAIR).route("hi")
    assert (decision.model, decision.reasons) == ("gpt-4o", ("disabled",))


def test_the_baseline_is_the_most_expensive_tier_unless_told_otherwise(caplog: pytest.LogCaptureFixture) -> None:
    assert ComplexityRouter({"fast": "gpt-4o", "clever": "gpt-4o-mini"}).baseline == "fast"
    assert "from the cheapest to the strongest" in caplog.text
    assert ComplexityRouter({"a": "unknown-a", "b": "unknown-b"}).baseline == "b"
    assert ComplexityRouter(PAIR, baseline="simple").route("hi").baseline_model == "gpt-4o-mini"


def test_shadow_decides_and_changes_nothing() -> None:
    decision = ComplexityRouter(PAIR, shadow=True).route("hi")
    assert (decision.tier, decision.chosen, decision.evidence()["shadow"]) == ("complex", "simple", True)


def test_evidence_says_what_attribution_needs_and_no_text() -> None:
    said = evidence_in(noted(None, "routing", ComplexityRouter(PAIR).route("secret words").evidence()))["routing"]
    assert said["tier"] == "simple"
    assert said["baseline_model"] == "gpt-4o"
    assert 0 < said["probability"] < 1
    assert "secret" not in json.dumps(said)


def test_an_experiment_sends_a_stable_share_the_other_way() -> None:
    router = ComplexityRouter(PAIR, experiment=0.2)
    first = [router.route("hi", conversation=str(number)) for number in range(1000)]
    again = [ComplexityRouter(PAIR, experiment=0.2).route("hi", conversation=str(number)) for number in range(1000)]
    assert [each.arm for each in first] == [each.arm for each in again]
    other = [each for each in first if each.arm == "other"]
    assert 150 <= len(other) <= 250
    assert {(each.tier, each.chosen) for each in other} == {("complex", "simple")}
    assert {each.tier for each in first if each.arm == "routed"} == {"simple"}


def test_a_cascade_goes_up_until_there_is_nothing_stronger() -> None:
    router = ComplexityRouter(THREE)
    second = router.escalated(router.route("hi"))
    assert second is not None
    assert (second.tier, second.params, second.escalated) == ("medium", {"max_tokens": 500}, True)
    blind = THREE | {"medium": Tier("m", capabilities=Capabilities(vision=False))}
    skipped = ComplexityRouter(blind).escalated(ComplexityRouter(blind).route(IMAGE))
    assert skipped is not None and skipped.tier == "complex"
    third = router.escalated(second)
    assert third is not None
    assert router.escalated(third) is None


def test_history_of_another_provider_is_left_out_of_a_copy() -> None:
    history = [
        {"role": "user", "content": [{"type": "text", "text": "q", "cache_control": {"type": "ephemeral"}}]},
        {
            "role": "assistant",
            "content": [{"type": "thinking", "thinking": "hm", "signature": "s"}, {"type": "text", "text": "a"}],
            "thinking_blocks": [{}],
            "tool_calls": [{"id": "1"}],
        },
        {"role": "user", "content": [{"cachePoint": {"type": "default"}}, {"type": "text", "text": "r"}]},
    ]
    before = json.dumps(history)
    assert portable(history) == [
        {"role": "user", "content": [{"type": "text", "text": "q"}]},
        {"role": "assistant", "content": [{"type": "text", "text": "a"}], "tool_calls": [{"id": "1"}]},
        {"role": "user", "content": [{"type": "text", "text": "r"}]},
    ]
    assert json.dumps(history) == before


@given(
    text=st.sampled_from(["파이썬이 뭐야?", "Prove that the halting problem is undecidable, step by step.", ""]),
    allowed=st.sets(st.sampled_from(["small", "middle", "large"]), min_size=1),
    shadow=st.booleans(),
)
def test_a_caller_gets_only_tiers_that_are_open_to_it(text: str, allowed: set[str], shadow: bool) -> None:
    tiers = {"small": "gpt-4o-mini", "middle": "gpt-4.1-mini", "large": "gpt-4o"}
    router = ComplexityRouter(tiers, shadow=shadow)
    free = router.route(text)
    found = router.within(free, allowed)
    assert found.tier in allowed and found.model == tiers[found.tier]
    assert found.baseline_model in {tiers[name] for name in allowed}, "nothing it could not have bought is saved"
    assert (found.tier == free.tier) == (free.tier in allowed)
    assert ("access" in found.reasons) == (free.tier not in allowed)
    stronger = router.escalated(found)
    assert stronger is None or stronger.tier in allowed
