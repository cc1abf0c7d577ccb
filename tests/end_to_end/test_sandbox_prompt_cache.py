"""The sandbox's prompt cache behaves as the providers document theirs, seen through their real clients."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import anthropic
import openai
import pytest

from llm_savings.sandbox import Sandbox

MANUAL = "The shop takes back what was bought within thirty days, in its box and with the bill. " * 120
SHORT, LONG = {"type": "ephemeral"}, {"type": "ephemeral", "ttl": "1h"}


class Claude:
    """Asks Claude, and gives (fresh, read, written for 5 minutes, written for an hour)."""

    def __init__(self, box: Sandbox, key: str = "sk-ant-1") -> None:
        self.client = anthropic.Anthropic(base_url=box.anthropic_url, api_key=key, max_retries=0)

    def __call__(self, model: str = "claude-sonnet-4-5", **body: Any) -> tuple[int, int, int, int]:
        body = {"messages": [{"role": "user", "content": "Hi"}], "max_tokens": 20, **body}
        usage = self.client.messages.create(model=model, **body).usage
        split = usage.cache_creation
        assert split is not None
        return (
            usage.input_tokens,
            usage.cache_read_input_tokens or 0,
            split.ephemeral_5m_input_tokens,
            split.ephemeral_1h_input_tokens,
        )


def text(content: str, mark: Any = None) -> dict[str, Any]:
    return {"type": "text", "text": content, **({"cache_control": mark} if mark else {})}


def test_a_marked_prefix_is_written_then_read_and_billed_so(box: Sandbox) -> None:
    ask = Claude(box)
    fresh, read, short, long = ask(system=[text(MANUAL, SHORT)])
    assert read == long == 0 and short > 2000
    assert ask(system=[text(MANUAL, SHORT)]) == (fresh, short, 0, 0)
    first, second = box.bill().rows
    output = Decimal(15) * first.usage["output_tokens"]
    assert first.usd == (Decimal(3) * fresh + Decimal("3.75") * short + output) / 1_000_000
    assert second.usd == (Decimal(3) * fresh + Decimal("0.30") * short + output) / 1_000_000


def test_time_runs_from_the_last_read(box: Sandbox) -> None:
    ask = Claude(box)
    _, _, size, _ = ask(system=[text(MANUAL, SHORT)])
    for _ in range(3):
        box.advance(280)
        assert ask(system=[text(MANUAL, SHORT)])[1:] == (size, 0, 0)
    box.advance(301)
    assert ask(system=[text(MANUAL, SHORT)])[1:] == (0, size, 0)
    assert ask(system=[text("1" + MANUAL, LONG)])[3] > size
    box.advance(3_500)
    assert ask(system=[text("1" + MANUAL, LONG)])[1] > size


def test_what_is_too_short_is_silently_not_cached(box: Sandbox) -> None:
    ask = Claude(box)
    assert ask(system=[text("Be kind.", SHORT)])[1:] == (0, 0, 0)
    assert ask("claude-haiku-4-5", system=[text(MANUAL, SHORT)])[1:] == (0, 0, 0)  # 4,096 at least
    assert ask("claude-sonnet-5-5", system=[text(MANUAL[:4000], SHORT)])[2] > 512


@pytest.mark.parametrize(
    ("change", "kept"),
    [
        ({}, ("tools", "system", "messages")),
        ({"tool_choice": {"type": "any"}}, ("tools", "system")),
        ({"thinking": {"type": "enabled", "budget_tokens": 1024}, "max_tokens": 2000}, ("tools", "system")),
        ({"system": [text("Other. " + MANUAL, SHORT)]}, ("tools",)),
        ({"model": "claude-opus-5-5"}, ()),
    ],
)
def test_what_a_change_invalidates(box: Sandbox, change: dict[str, Any], kept: tuple[str, ...]) -> None:
    tool = {"name": "look_up", "description": MANUAL, "input_schema": {"type": "object"}, "cache_control": SHORT}
    body: dict[str, Any] = {
        "model": "claude-sonnet-5-5",
        "tools": [tool],
        "system": [text(MANUAL, SHORT)],
        "messages": [{"role": "user", "content": [text(MANUAL, SHORT), text("Hi")]}],
    }
    ask = Claude(box)
    written = ask(**body)[2]
    read = ask(**{**body, **change})[1]
    part = round(3 * read / written)
    assert part == len(kept)


def test_a_held_prefix_is_found_up_to_twenty_blocks_before_a_mark(box: Sandbox) -> None:
    def turn(extra: int) -> dict[str, Any]:
        blocks = [text(MANUAL), *(text(f"note {number}") for number in range(extra))]
        blocks[-1] = {**blocks[-1], "cache_control": SHORT}
        return {"messages": [{"role": "user", "content": blocks}]}

    ask = Claude(box)
    size = ask(**turn(0))[2]
    assert ask(**turn(19))[1] == size
    box.advance(4_000)
    ask(**turn(0))
    assert ask(**turn(20))[1] == 0


def test_accounts_share_nothing(box: Sandbox) -> None:
    assert Claude(box, "sk-ant-1")(system=[text(MANUAL, SHORT)])[2] > 0
    assert Claude(box, "sk-ant-2")(system=[text(MANUAL, SHORT)])[1] == 0


def test_the_mark_at_the_top_stands_for_the_last_block(box: Sandbox) -> None:
    ask = Claude(box)
    body = {"messages": [{"role": "user", "content": MANUAL}], "cache_control": SHORT}
    assert ask(**body)[2] > 2000
    assert ask(**body)[1] > 2000


@pytest.mark.parametrize(
    ("body", "said"),
    [
        ({"system": [text("a", SHORT)] * 5}, "A maximum of 4 blocks"),
        ({"system": [text("a", SHORT), text("b", LONG)]}, "must not come after"),
        ({"system": [text("a", LONG)], "cache_control": LONG, "tools": []}, None),
    ],
)
def test_marks_that_are_refused(box: Sandbox, body: dict[str, Any], said: str | None) -> None:
    if said is None:
        Claude(box)(**body)
        return
    with pytest.raises(anthropic.BadRequestError, match=said):
        Claude(box)(**body)


class Gpt:
    """Asks OpenAI, and gives (prompt, read, written)."""

    def __init__(self, box: Sandbox) -> None:
        self.client = openai.OpenAI(base_url=box.openai_url, api_key="sk-1", max_retries=0)

    def __call__(self, *contents: Any, model: str = "gpt-4o", **body: Any) -> tuple[int, int, int]:
        messages: Any = [{"role": "system", "content": contents[0]}, {"role": "user", "content": contents[1]}]
        usage = self.client.chat.completions.create(model=model, messages=messages, **body).usage
        assert usage is not None and usage.prompt_tokens_details is not None
        detail = usage.prompt_tokens_details
        return usage.prompt_tokens, detail.cached_tokens or 0, detail.cache_write_tokens or 0


def test_openai_caches_by_itself_in_steps(box: Sandbox) -> None:
    ask = Gpt(box)
    prompt, read, _ = ask(MANUAL, "Where is my parcel?")
    assert prompt > 1500 and read == 0
    _, read, written = ask(MANUAL, "Do you sell hats?")
    assert read % 128 == 0 and prompt - 256 < read < prompt and written == 0
    row = box.bill().rows[-1]
    fresh = row.usage["prompt_tokens"] - read
    output = Decimal(10) * row.usage["completion_tokens"]
    assert row.usd == (Decimal("2.50") * fresh + Decimal("1.25") * read + output) / 1_000_000
    assert ask(MANUAL, "Do you sell hats?", prompt_cache_key="another")[1] == 0
    assert ask("Today is Monday. " + MANUAL, "Do you sell hats?")[1] == 0
    box.advance(700)
    assert ask(MANUAL, "Do you sell hats?")[1] == 0
    assert ask("Be kind.", "Hi")[1] == ask("Be kind.", "Hi")[1] == 0


def marked(content: str) -> list[dict[str, Any]]:
    return [{"type": "text", "text": content, "prompt_cache_breakpoint": {"mode": "explicit"}}]


def test_newer_models_of_openai_bill_what_is_written(box: Sandbox) -> None:
    ask = Gpt(box)
    only = {"prompt_cache_options": {"mode": "explicit"}}
    assert ask(MANUAL, "Hi", model="gpt-5.6", **only)[1:] == (0, 0)  # nothing is marked
    _, read, size = ask(marked(MANUAL), "Hi", model="gpt-5.6", **only)
    assert read == 0 and size > 1500
    prompt, read, written = ask(marked(MANUAL), "Do you sell hats?", model="gpt-5.6", **only)
    assert (read, written) == (size, 0)
    row = box.bill().rows[-1]
    output = Decimal(20) * row.usage["completion_tokens"]
    assert row.usd == (Decimal("4.00") * (prompt - read) + Decimal("0.40") * read + output) / 1_000_000
    # Left to itself, it also writes the newest message every time.
    _, read, written = ask(marked(MANUAL), "Do you sell hats? " * 50, model="gpt-5.6")
    assert read == size and written > 200
    box.advance(1_801)
    assert ask(marked(MANUAL), "Hi", model="gpt-5.6", **only)[1:] == (0, size)


def test_older_models_of_openai_refuse_marks(box: Sandbox) -> None:
    with pytest.raises(openai.BadRequestError, match="prompt_cache_breakpoint"):
        Gpt(box)(marked(MANUAL), "Hi")
    with pytest.raises(openai.BadRequestError, match="prompt_cache_options"):
        Gpt(box)(MANUAL, "Hi", prompt_cache_options={"mode": "explicit"})
    with pytest.raises(openai.BadRequestError, match="30m"):
        Gpt(box)(MANUAL, "Hi", model="gpt-5.6", prompt_cache_options={"mode": "explicit", "ttl": "12h"})


def test_the_responses_api_has_the_same_cache(box: Sandbox) -> None:
    client = openai.OpenAI(base_url=box.openai_url, api_key="sk-1", max_retries=0)

    def ask(question: str) -> Any:
        return client.responses.create(model="gpt-4o", instructions=MANUAL, input=question).usage

    assert ask("Hi").input_tokens_details.cached_tokens == 0
    assert ask("Do you sell hats?").input_tokens_details.cached_tokens > 1_024
