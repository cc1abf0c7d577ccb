"""Every export that providers offer, as they write it, read into one shape."""

from __future__ import annotations

import json
from contextlib import suppress
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from llm_savings import LogFormatError, Usage
from llm_savings.reconcile import Export, Kind, read_export

DAY = 1793491200  # 2026-11-01
FIRST = datetime(2026, 11, 1, tzinfo=UTC)


@pytest.fixture
def read(tmp_path: Path) -> Any:
    def read(text: str, kind: Kind | None = None) -> Export:
        path = tmp_path / "export"
        path.write_text(text, "utf-8")
        return read_export(path, kind)

    return read


def openai_page(*results: dict[str, Any], start: int = DAY) -> dict[str, Any]:
    bucket = {"object": "bucket", "start_time": start, "end_time": start + 86400, "results": list(results)}
    return {"object": "page", "data": [bucket], "has_more": False, "next_page": None}


COMPLETIONS = {
    "object": "organization.usage.completions.result",
    "input_tokens": 1000,
    "output_tokens": 500,
    "input_cached_tokens": 300,
    "input_cache_write_tokens": 50,
    "input_audio_tokens": 20,
    "input_cached_audio_tokens": 10,
    "input_image_tokens": 5,
    "output_audio_tokens": 40,
    "num_model_requests": 5,
    "project_id": None,
    "model": "gpt-4o-2024-08-06",
    "batch": None,
    "service_tier": None,
    "a_column_of_next_year": {"x": 1},
}


def test_openai_usage(read: Any) -> None:
    export = read(json.dumps(openai_page(COMPLETIONS), indent=2))
    assert (export.kind, export.provider, export.start, export.end.day) == ("openai-usage", "openai", FIRST, 2)
    (figure,) = export.figures
    assert (figure.model, figure.requests, figure.usd, figure.mode) == ("gpt-4o-2024-08-06", 5, None, None)
    assert figure.usage == Usage(
        input=625,
        cache_read=290,
        cache_write_5m=50,
        audio_input=20,
        audio_cache_read=10,
        image_input=5,
        output=460,
        audio_output=40,
    )
    assert figure.usage.prompt == 1000


@pytest.mark.parametrize(
    ("grouped", "mode"),
    [
        ({"batch": True}, "batch"),
        ({"batch": False, "service_tier": "default"}, "standard"),
        ({"service_tier": "flex"}, "flex"),
        ({"service_tier": "priority"}, "priority"),
        ({}, None),
    ],
)
def test_openai_tiers(read: Any, grouped: dict[str, Any], mode: str | None) -> None:
    assert read(json.dumps(openai_page(COMPLETIONS | grouped))).figures[0].mode == mode


def test_openai_embeddings_and_pages_one_a_line(read: Any) -> None:
    result = {
        "object": "organization.usage.embeddings.result",
        "input_tokens": 16,
        "num_model_requests": 2,
        "model": "text-embedding-3-small",
    }
    pages = [openai_page(result), openai_page(start=DAY + 86400), openai_page(COMPLETIONS, start=DAY + 2 * 86400)]
    for text in ("\n".join(map(json.dumps, pages)), json.dumps(pages), json.dumps(pages, indent=1)):
        export = read(text)
        assert [figure.usage.prompt for figure in export.figures] == [16, 1000]
        assert (export.end - export.start).days == 3


def test_openai_usage_csv(read: Any) -> None:
    # Numbers with ".0" and days without anything are as the dashboard writes them.
    export = read(
        "\ufeffstart_time,end_time,start_time_iso,end_time_iso,project_id,num_model_requests,user_id,model,batch,"
        "service_tier,input_tokens,output_tokens,input_cached_tokens,input_uncached_tokens\n"
        f"{DAY},{DAY + 86400},2026-11-01T00:00:00+00:00,2026-11-02T00:00:00+00:00,proj_1,10.0,user-1,"
        "gpt-4o-2024-08-06,FALSE,default,59200.0,10646.0,5760.0,53440.0\n"
        f"{DAY + 86400},{DAY + 172800},2026-11-02T00:00:00+00:00,2026-11-03T00:00:00+00:00,,,,,,,,,,\n"
    )
    (figure,) = export.figures
    assert (figure.usage, figure.requests, figure.mode) == (
        Usage(input=53440, cache_read=5760, output=10646),
        10,
        "standard",
    )
    assert (export.end - export.start).days == 2


def test_openai_costs(read: Any) -> None:
    amount = {"value": 0.06000000000000001, "currency": "usd"}
    result = {
        "object": "organization.costs.result",
        "amount": amount,
        "line_item": "gpt-4o-2024-08-06, cached input",
        "project_id": None,
    }
    export = read(json.dumps(openai_page(result, result | {"line_item": None})))
    assert export.kind == "openai-costs"
    assert [figure.model for figure in export.figures] == ["gpt-4o-2024-08-06", None]
    assert export.figures[0].usd == Decimal("0.06000000000000001")  # as it is written, not as a float
    assert 0 < export.figures[0].slack < Decimal("0.000001")


@pytest.mark.parametrize("separator", [",", "\t", ";"])
def test_openai_costs_csv(read: Any, separator: str) -> None:
    rows = [
        "start_time,end_time,start_time_iso,end_time_iso,amount_value,amount_currency,line_item,organization_name",
        f"{DAY},{DAY + 86400},2026-11-01T00:00:00+00:00,2026-11-02T00:00:00+00:00,0.8958740000000000,usd,,Personal",
        f"{DAY + 86400},{DAY + 172800},2026-11-02T00:00:00+00:00,2026-11-03T00:00:00+00:00,,,,",
    ]
    export = read("\n".join(rows).replace(",", separator))
    assert [(f.usd, f.model) for f in export.figures] == [(Decimal("0.895874"), None)]
    assert (export.end - export.start).days == 2


def test_anthropic_usage(read: Any) -> None:
    result = {
        "uncached_input_tokens": 1500,
        "cache_creation": {"ephemeral_1h_input_tokens": 1000, "ephemeral_5m_input_tokens": 500},
        "cache_read_input_tokens": 200,
        "output_tokens": 500,
        "server_tool_use": {"web_search_requests": 10},
        "api_key_id": None,
        "workspace_id": None,
        "model": "claude-sonnet-4-5-20250929",
        "service_tier": "batch",
        "context_window": "0-200k",
    }
    bucket = {"starting_at": "2026-11-01T00:00:00Z", "ending_at": "2026-11-01T01:00:00Z", "results": [result]}
    export = read(json.dumps({"data": [bucket], "has_more": False, "next_page": None}))
    assert (export.kind, export.provider, (export.end - export.start).seconds) == (
        "anthropic-usage",
        "anthropic",
        3600,
    )
    (figure,) = export.figures
    assert figure.usage == Usage(input=1500, cache_read=200, cache_write_5m=500, cache_write_1h=1000, output=500)
    assert figure.mode == "batch"


def test_anthropic_usage_csv(read: Any) -> None:
    export = read(
        "usage_date_utc,model_version,api_key,workspace,usage_type,context_window,usage_input_tokens_no_cache,"
        "usage_input_tokens_cache_write_5m,usage_input_tokens_cache_write_1h,usage_input_tokens_cache_read,"
        "usage_output_tokens,web_search_count,inference_geo,speed\n"
        '2026-11-01,claude-opus-5,"Key, mine",Default,standard,≤ 200k,46981,15969,7,9,16932,0,global,\n'
    )
    (figure,) = export.figures
    assert figure.usage == Usage(input=46981, cache_write_5m=15969, cache_write_1h=7, cache_read=9, output=16932)
    assert (figure.start, figure.mode, figure.model) == (FIRST, "standard", "claude-opus-5")


def test_anthropic_costs_are_cents(read: Any) -> None:
    result = {
        "amount": "123.78912",
        "currency": "USD",
        "cost_type": "tokens",
        "token_type": "output_tokens",
        "model": "claude-sonnet-4-5-20250929",
    }
    search = {"amount": "1", "currency": "USD", "cost_type": "web_search", "model": None}
    bucket = {"starting_at": "2026-11-01T00:00:00Z", "ending_at": "2026-11-02T00:00:00Z", "results": [result, search]}
    export = read(json.dumps({"data": [bucket], "has_more": True, "next_page": "x"}))
    assert export.kind == "anthropic-costs"
    assert [(f.model, f.usd, f.slack) for f in export.figures] == [
        ("claude-sonnet-4-5-20250929", Decimal("1.2378912"), 0),
        ("web_search", Decimal("0.01"), 0),
    ]


def test_anthropic_costs_csv_is_rounded(read: Any) -> None:
    head = (
        "usage_date_utc,model,workspace,api_key,usage_type,context_window,token_type,cost_usd,list_price_usd,cost_type"
    )
    export = read(f"{head}\n2026-11-01,Claude Haiku 4.5,Default,k,message,≤ 200k,output,0.02,0.02,token\n")
    (figure,) = export.figures
    assert (figure.model, figure.usd, figure.slack) == ("Claude Haiku 4.5", Decimal("0.02"), Decimal("0.005"))


def test_a_bill(read: Any) -> None:
    row = {
        "id": "msg_1",
        "request_id": "req_1",
        "at": "2026-11-01T09:00:00+09:00",
        "model": "claude-haiku-4-5",
        "tier": "standard",
        "usage": {
            "input_tokens": 10,
            "cache_read_input_tokens": 5,
            "output_tokens": 3,
            "cache_creation_input_tokens": 0,
        },
        "usd": "0.0000255",
    }
    head = {"object": "sandbox.bill", "since": "2026-11-01T00:00:00+00:00", "until": "2026-11-01T01:00:00+00:00"}
    export = read(f"{json.dumps(head)}\n{json.dumps(row)}\n")
    (billed,) = export.billed
    assert (billed.ids, billed.at, billed.usd) == (("msg_1", "req_1"), FIRST, Decimal("0.0000255"))
    assert billed.usage == Usage(input=10, cache_read=5, output=3)
    assert (export.start, export.end.hour) == (FIRST, 1)
    assert read(json.dumps(row)).start == FIRST  # without the line above, from its first row to its last
    assert read(json.dumps(head)).billed == ()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "columns \\(none\\) are no usage export's; understood are OpenAI's"),
        ("foo,bar\n1,2\n", "columns foo, bar are no usage export's"),
        ("{\n oops", "not JSON"),
        ('{"a": 1}\n', "an object with a is no usage export's"),
        ('["x"]', "str found where an object was expected"),
        (json.dumps(openai_page(COMPLETIONS | {"model": None})), "group_by=model"),
        (json.dumps(openai_page(COMPLETIONS | {"input_tokens": -1})), "input_tokens is -1"),
        (json.dumps(openai_page(COMPLETIONS | {"input_tokens": 1.5})), "expected a whole number"),
        (json.dumps(openai_page(COMPLETIONS | {"input_tokens": 1})), "usage.input is -374"),
        (json.dumps(openai_page({"object": "organization.usage.images.result"})), "images.result is not compared"),
        (json.dumps(openai_page({"amount": {"value": 1, "currency": "eur"}})), "amounts are in eur"),
        (json.dumps(openai_page({"amount": {"value": "NaN"}})), "not a number of dollars"),
        (json.dumps(openai_page()), "has no usage in it"),
        (f"{json.dumps(openai_page(COMPLETIONS))}\nnonsense\n", "line 2: not JSON"),
        ("usage_date_utc,cost_usd\nyesterday,1\n", "line 2: Invalid isoformat"),
        ("usage_date_utc,cost_usd\n2026-11-01,much\n", "line 2"),
        ("[" * 100_000, "recursion"),
    ],
)
def test_what_cannot_be_read_is_named(read: Any, text: str, message: str) -> None:
    with pytest.raises(LogFormatError, match=message):
        read(text)


def test_a_demand_for_another_format_is_an_error(read: Any) -> None:
    with pytest.raises(LogFormatError, match="looks like openai-usage, not anthropic-costs"):
        read(json.dumps(openai_page(COMPLETIONS)), "anthropic-costs")
    assert read(json.dumps(openai_page()), "openai-costs").kind == "openai-costs"  # nothing in it to tell by


FIELDS = ("data", "results", "start_time", "end_time", "starting_at", "amount", "usd", "usage", "at", "object", "since")
JUNK = st.recursive(
    st.none() | st.booleans() | st.integers() | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.sampled_from(FIELDS), inner, max_size=6),
    max_leaves=12,
)


@given(st.text(max_size=200) | JUNK.map(json.dumps))
def test_whatever_the_file_holds_the_error_is_ours(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.getbasetemp() / "anything"
    path.write_text(text, "utf-8", errors="replace")
    with suppress(LogFormatError):
        read_export(path)
