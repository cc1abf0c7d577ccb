"""Where prices come from: the bundled map, a fetched one, the supplement; and how old they are."""

from __future__ import annotations

import http.server
import json
import logging
import os
import stat
import subprocess
import sys
import threading
from collections.abc import Iterator
from datetime import UTC, date, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from llm_savings import ConfigError, SavingsError, UnknownModelError, Usage
from llm_savings.pricing import PriceBook, sources, update
from llm_savings.pricing.rules import rule_for
from llm_savings.pricing.sources import written_on


def today() -> date:
    # Asked in each test: a suite may run over midnight.
    return datetime.now(UTC).date()


def price_map(day: date | None = None, **models: dict[str, Any]) -> bytes:
    """A map in LiteLLM's format with 600 models, current on a day."""
    entries: dict[str, Any] = {
        f"model-{n}": {"litellm_provider": "x", "input_cost_per_token": 1e-6, "output_cost_per_token": 2e-6}
        for n in range(600)
    }
    if day:
        entries["model-0"]["source"] = f"https://example.com/prices-{day}"
    return json.dumps(entries | models).encode()


def test_reading_needs_neither_litellm_nor_the_network() -> None:
    code = """
import socket, sys
def refuse(*args, **kwargs): raise AssertionError("network")
socket.socket.connect = refuse
from llm_savings.pricing import PriceBook
book = PriceBook()
assert repr(book) == "PriceBook(not read yet, 0 overrides)", book
from llm_savings import Usage
book.price(Usage(input=1), "gpt-4o")
assert not {"litellm", "langchain_core", "urllib.request", "yaml"} & set(sys.modules)
print(book.source, book.date)
"""
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert out.stdout.startswith("litellm 1.")


def test_the_bundled_map_has_an_honest_date() -> None:
    book = PriceBook()
    assert book.date is not None
    assert date(2026, 1, 1) < book.date <= today()
    assert "gpt-4o" in book.models()


@pytest.mark.parametrize(
    ("text", "day"),
    [
        ('{"m-2026-04-16": {}}', date(2026, 4, 16)),
        ('{"m@20260416": {}, "n-2025-01-01": {}}', date(2026, 4, 16)),
        ('{"m": {"deprecation_date": "2026-10-01", "x": "checked 2026-02-03"}}', date(2026, 2, 3)),
        ('{"m": {"deprecation_date":"2026-10-01"}}', None),
        ('{"m-2027-01-01": {}}', None),  # in the future
        ('{"max_tokens": 202604160, "x": 120260416, "y": "2026-13-01", "z": "2026-02-30"}', None),
        ("", None),
    ],
)
def test_the_date_of_a_map_is_the_newest_it_mentions(text: str, day: date | None) -> None:
    assert written_on(text, today=date(2026, 11, 23)) == day


def test_a_stale_map_is_used_with_one_warning(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "map.json"
    for age, stale in ((120, False), (121, True)):
        path.write_bytes(price_map(today() - timedelta(days=age)))
        caplog.clear()
        book = PriceBook.from_file(path)
        with caplog.at_level(logging.WARNING, "llm_savings.pricing"):
            for _ in range(3):
                book.price(Usage(input=1), "model-1")
        assert book.stale is stale
        assert len(caplog.records) == stale
    assert "more than 120 days old" in caplog.text
    path.write_bytes(price_map())
    assert PriceBook.from_file(path).date is None
    assert PriceBook.from_file(path).stale


@pytest.mark.parametrize("body", [b"{", b"[]", b'{"m": 1}', b'{"m": {"input_cost_per_token": NaN}}', b"\xff"])
def test_a_file_that_is_not_a_price_map(tmp_path: Path, body: bytes) -> None:
    path = tmp_path / "map.json"
    path.write_bytes(body)
    with pytest.raises(ConfigError, match=r"map\.json"):
        PriceBook.from_file(path).price(Usage(), "m")
    with pytest.raises(ConfigError, match="cannot be read"):
        PriceBook.from_file(tmp_path / "absent.json").price(Usage(), "m")


def test_the_supplement_fills_gaps_and_never_hides_the_map(tmp_path: Path) -> None:
    for name, prices in {"claude-3-5-sonnet-20241022": ("3", "15"), "claude-3-haiku-20240307": (".25", "1.25")}.items():
        quote = PriceBook().quote(Usage(input=1_000_000, output=1_000_000), name)
        assert [line.usd for line in quote.lines] == [Decimal(p) for p in prices]
        assert quote.source == "supplement"
    path = tmp_path / "map.json"
    path.write_bytes(price_map(**{"gpt-4-32k": {"input_cost_per_token": 1e-6, "litellm_provider": "openai"}}))
    quote = PriceBook.from_file(path).quote(Usage(input=1_000_000), "gpt-4-32k")
    assert (quote.usd, quote.source) == (1, "litellm")


def test_the_supplement_is_complete_and_plausible() -> None:
    for name, entry in sources.supplement().items():
        assert entry["source"].startswith("https://"), name
        assert all(type(value) is not float for value in entry.values())
        prices = PriceBook().rates(name)
        assert Decimal("1e-8") < prices["input"] <= prices["output"] < Decimal("2e-4"), name


def test_rules_have_sources_and_merge() -> None:
    assert rule_for("claude-opus-4-8", "anthropic").modes == {"batch": Decimal("0.5")}
    assert rule_for("claude-opus-4-8", "anthropic").multiples["cache_write_1h"] == 2
    assert rule_for("azure/gpt-4o", "azure").cached == {"batch": "input"}
    assert rule_for("ollama/x-cloud", "ollama").free is False


# --- update -----------------------------------------------------------------------------------------------------


@pytest.fixture
def server() -> Iterator[tuple[str, dict[str, Any]]]:
    """A provider of price maps on this machine: its URL, and what it answers."""
    answer: dict[str, Any] = {"status": 200, "body": price_map(today())}

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            if "raw" in answer:
                self.wfile.write(answer["raw"])
                return
            self.send_response(200 if self.path == "/elsewhere" else answer["status"])
            for name, value in answer.get("headers", {}).items():
                self.send_header(name, value)
            self.end_headers()
            self.wfile.write(answer["body"])

        def log_message(self, *args: object) -> None:
            pass

    httpd = http.server.HTTPServer(("127.0.0.1", 0), Handler)
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    yield f"http://127.0.0.1:{httpd.server_port}/prices.json", answer
    httpd.shutdown()
    httpd.server_close()
    thread.join()


def test_an_update_is_used_by_the_next_book(server: tuple[str, dict[str, Any]]) -> None:
    url, answer = server
    with pytest.raises(UnknownModelError):
        PriceBook().resolve("brand-new")
    answer["body"] = price_map(
        today(), **{"brand-new": {"input_cost_per_token": 5e-6, "litellm_provider": "openai", "mode": "chat"}}
    )
    path = update(url=url)
    assert path == sources.fetched_path()
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [p.name for p in path.parent.iterdir()] == [path.name]
    book = PriceBook()
    assert book.price(Usage(input=1000), "brand-new") == Decimal("0.005")
    assert (book.source, book.date, book.stale) == (f"fetched {today()}", today(), False)


def test_a_newer_litellm_beats_an_old_download(server: tuple[str, dict[str, Any]]) -> None:
    url, answer = server
    answer["body"] = price_map(date(2025, 1, 1))
    update(url=url)
    assert PriceBook().source.startswith("litellm")


def test_a_broken_download_is_skipped_with_a_warning(caplog: pytest.LogCaptureFixture) -> None:
    path = sources.fetched_path()
    path.parent.mkdir(parents=True)
    path.write_text("{")
    assert PriceBook().price(Usage(input=1), "gpt-4o") > 0
    assert "Ignoring the fetched price map" in caplog.text


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        ({"status": 404}, "could not be fetched.*404"),
        ({"raw": b"this is no HTTP\r\n\r\n"}, "could not be fetched.*no HTTP"),
        ({"body": b"<html>"}, "did not send a price map"),
        ({"body": b"[]"}, "JSON object"),
        ({"body": b"{}"}, "no model in it"),
        ({"body": b'{"m": {"input_cost_per_token": 1e-6}}'}, "only 1 price"),
        ({"body": price_map(m={"input_cost_per_token": 3})}, "3 USD per token"),
        ({"body": price_map(m={"input_cost_per_token": "free"})}, "'free' is not a price"),
        ({"body": price_map(m={"input_cost_per_token": float("nan")})}, "NaN"),
        ({"body": b"\xff"}, "did not send a price map"),
    ],
)
def test_a_bad_answer_leaves_what_was_there(
    server: tuple[str, dict[str, Any]], tmp_path: Path, answer: dict[str, Any], message: str
) -> None:
    path = tmp_path / "prices.json"
    path.write_text("before")
    server[1].update(answer)
    with pytest.raises(SavingsError, match=message):
        update(path, url=server[0])
    assert path.read_text() == "before"
    assert [p.name for p in tmp_path.iterdir() if p.is_file()] == ["prices.json"]


def test_only_https(tmp_path: Path) -> None:
    for url in ("http://example.com/prices.json", "file:///etc/passwd", "ftp://127.0.0.1/x", "prices.json"):
        with pytest.raises(ConfigError, match="https only"):
            update(tmp_path / "prices.json", url=url)


def test_who_is_sent_on_to_a_place_without_https_takes_nothing_there(
    server: tuple[str, dict[str, Any]], tmp_path: Path
) -> None:
    url, answer = server
    elsewhere = url.replace("127.0.0.1", "127.1").replace("prices.json", "elsewhere")
    answer |= {"status": 302, "headers": {"Location": elsewhere}}
    with pytest.raises(SavingsError, match=r"leads to http://127\.1:.*https only"):
        update(tmp_path / "prices.json", url=url)
    assert not (tmp_path / "prices.json").exists()


@pytest.mark.skipif(os.name == "nt", reason="directories have no modes there")
def test_a_folder_that_cannot_be_written(server: tuple[str, dict[str, Any]], tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(SavingsError, match="could not be written"):
        update(tmp_path / "file" / "prices.json", url=server[0])


def test_without_litellm_only_overrides_are_left(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(sources, "bundled_path", lambda: None)
    book = PriceBook().with_overrides({"m": {"input": 1, "output": 1}})
    assert book.price(Usage(input=1_000_000), "m") == 1
    with pytest.raises(UnknownModelError):
        book.price(Usage(), "gpt-4o")
    assert caplog.text.count("No price map") == 1
