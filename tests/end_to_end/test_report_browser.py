"""The report in a real browser: no errors, no requests, nothing hostile, any width, both themes and languages."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from functools import partial
from pathlib import Path

import pytest
from browser import CHROMIUM, Browser

from llm_savings import Budget, Ledger, LedgerError, PriceBook, Usage
from llm_savings.bounds import Size
from llm_savings.ledger import Sent
from llm_savings.meter import Answer, Meter, settle
from llm_savings.report.dashboard import report_page, trouble_page
from llm_savings.report.overview import overview
from llm_savings.report.serve import LivePage

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="no Chromium is installed")

EVIL = "<img src=x onerror=document.title='owned'>"
TAGS = (EVIL, "</script><script>document.title='owned'</script>", "\u202e\"'`{0}", "상품 검색", "x" * 400)


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    browser = Browser(tmp_path_factory.mktemp("chromium"))
    yield browser
    browser.close()


@pytest.fixture(scope="module")
def book(tmp_path_factory: pytest.TempPathFactory) -> Ledger:
    book, prices = Ledger(tmp_path_factory.mktemp("ledger") / "costs.db"), PriceBook()
    for number in range(120):
        call = Sent(
            call_id=str(number),
            host="sdk",
            requested_model="gpt-4o",
            user=TAGS[number % 5],
            tags={"feature": TAGS[number % 5], TAGS[0]: TAGS[1]},
            started_at=datetime.now(UTC) - timedelta(hours=5 * number),
        )
        evidence = {"routing": {"baseline_model": "gpt-4o"}, "prompt_cache": {"prefix": TAGS[1], "held": 9}}
        model = ("gpt-4o", "gpt-4o-mini")[number % 2]
        used = Usage(input=100 + number, output=60, cache_read=number)
        answer = Answer(model=model, usage=used, hit=number % 9 == 0, strategies=evidence)
        book.settle(call, settle(prices, call, answer, "hit" if answer.hit else "ok"))
    book.sent(Sent(call_id="lost", host="sdk", requested_model=TAGS[1], bound=Decimal(1)))
    meter = Meter(book, budget=Budget(daily="5", monthly="9", per="user"))
    sent = Sent(call_id="held", host="sdk", requested_model="gpt-4o", user=EVIL, bound=Decimal("0.5"))
    meter.begin(sent, Size(prompt=100, max_tokens=100))
    return book


@pytest.fixture(scope="module")
def address(book: Ledger, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("page") / "보고서 report.html"
    path.write_text(report_page(overview(book), EVIL), encoding="utf-8")
    return path.as_uri()


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("width", [1200, 375])
def test_it_opens_from_a_file_without_error_or_request(
    browser: Browser, address: str, width: int, dark: bool, tmp_path: Path
) -> None:
    browser.open(address, width=width, dark=dark)
    assert browser.ask("document.documentElement.scrollWidth") <= width
    assert browser.ask("document.title") == "Report"
    assert browser.ask("document.querySelectorAll('img, iframe, main script, a[href^=http]').length") == 0
    for text in TAGS[:4]:
        assert browser.ask(f"document.querySelector('main').textContent.includes({text!r})"), text
    light, on = browser.ask("[getComputedStyle(document.body).color, getComputedStyle(document.body).backgroundColor]")
    assert (_luminance(light) > _luminance(on)) is dark
    browser.shot(tmp_path / "page.png")
    assert (tmp_path / "page.png").stat().st_size > 20_000
    assert browser.asked == [address]
    assert browser.complaints == []


def test_a_table_that_goes_on_beyond_a_phones_edge_says_so(browser: Browser, address: str) -> None:
    browser.open(address, width=375)
    wide = "[...document.querySelectorAll('.scroll')].filter(one => one.scrollWidth > one.clientWidth)"
    shadows = browser.ask(f"{wide}.map(one => getComputedStyle(one).backgroundAttachment)")
    assert shadows and set(shadows) == {"local, scroll"}


@pytest.mark.parametrize("dark", [False, True])
def test_every_text_has_enough_contrast(browser: Browser, address: str, dark: bool) -> None:
    browser.open(address, dark=dark)
    pairs = browser.ask("""[...document.querySelectorAll('body *')].filter((e) => !e.closest('svg')
      && e.checkVisibility()
      && [...e.childNodes].some((n) => n.nodeType === 3 && n.data.trim())).map((e) => {
        let under = e;
        while (under && getComputedStyle(under).backgroundColor === 'rgba(0, 0, 0, 0)') under = under.parentElement;
        return [getComputedStyle(e).color, getComputedStyle(under || document.body).backgroundColor, e.textContent];
      })""")
    assert len(pairs) > 100
    for text, ground, said in pairs:
        high, low = sorted((_luminance(text), _luminance(ground)), reverse=True)
        assert (high + 0.05) / (low + 0.05) >= 4.5, (said, text, ground)


def test_readers_change_language_and_theme(browser: Browser, address: str) -> None:
    browser.open(address, lang="ko-KR")
    assert browser.ask("document.documentElement.lang") == "ko"
    assert browser.ask("document.title") == "비용 보고서"
    assert "지출" in browser.ask("document.querySelector('.big').textContent")
    assert browser.ask("document.querySelector('#waterfall-what').textContent").startswith("절감이 없었다면")
    browser.ask("document.getElementById('lang').click()")
    assert browser.ask("[document.documentElement.lang, document.title]") == ["en", "Report"]
    assert " spent, " in browser.ask("document.querySelector('.big').textContent")
    before = browser.ask("getComputedStyle(document.body).backgroundColor")
    browser.ask("document.getElementById('theme').click()")
    assert browser.ask("getComputedStyle(document.body).backgroundColor") != before
    assert browser.ask("document.getElementById('theme').textContent") == "Light"
    browser.ask("localStorage.clear()")
    assert browser.complaints == []


def test_tables_sort_by_value_with_the_keyboard_and_say_so(browser: Browser, address: str) -> None:
    browser.open(address)
    column = (
        """(() => [...document.querySelectorAll('#by-0-table tbody tr')].map((r) => Number(r.cells[1].dataset.v)))()"""
    )
    head = "document.querySelectorAll('#by-0-table thead th')[1]"
    browser.ask(f"{head}.querySelector('button').focus()")
    for expected in ("descending", "ascending"):
        for kind in ("keyDown", "keyUp"):
            browser.call(
                "Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", windowsVirtualKeyCode=13, text="\r"
            )
        assert browser.ask(f"{head}.getAttribute('aria-sort')") == expected
        shown = browser.ask(column)
        assert shown == sorted(shown, reverse=expected == "descending")
        assert len(set(shown)) > 1


def test_it_can_be_read_without_seeing(browser: Browser, address: str) -> None:
    browser.open(address)
    assert browser.ask("['header', 'main', 'footer', 'h1'].every((t) => document.querySelectorAll(t).length === 1)")
    assert browser.ask("[...document.querySelectorAll('table')].every((t) => t.caption && t.caption.textContent)")
    assert browser.ask("[...document.querySelectorAll('th')].every((h) => h.scope)")
    named = "document.getElementById(e.getAttribute('aria-labelledby'))"
    unnamed = f"[...document.querySelectorAll('[aria-labelledby]')].filter((e) => !{named})"
    assert browser.ask(f"{unnamed}.length") == 0
    assert browser.ask(
        "[...document.querySelectorAll('svg[role=img]')].every((s) => s.querySelector('title').textContent)"
    )
    ids = "[...document.querySelectorAll('[id]')].map((e) => e.id)"
    assert browser.ask(f"new Set({ids}).size === {ids}.length")
    browser.call("Input.dispatchKeyEvent", type="keyDown", key="Tab", code="Tab", windowsVirtualKeyCode=9)
    assert browser.ask("document.activeElement.className") == "skip"


def test_the_live_page_follows_the_ledger_and_keeps_its_place(browser: Browser, book: Ledger) -> None:
    trouble: list[str] = []

    def make() -> str:
        if trouble:
            raise LedgerError(trouble[0])
        return report_page(overview(book), "costs.db", live=1)

    with LivePage(make, partial(trouble_page, live=1)) as server:
        thread = threading.Thread(target=server.serve_forever, args=(0.01,))
        thread.start()
        browser.open(server.url, height=500)
        browser.ask("document.getElementById('waterfall-figures').open = true")
        browser.ask("document.querySelectorAll('#by-0-table thead button')[1].click()")
        browser.ask("document.querySelectorAll('#by-0-table thead button')[1].focus()")
        browser.ask("scrollTo({top: 600, behavior: 'instant'})")
        calls = "document.querySelector('#by-0-table tfoot td').textContent"
        before = browser.ask(calls)
        call = Sent(call_id="new", host="sdk", requested_model="gpt-4o")
        used = Answer(model="gpt-4o", usage=Usage(input=10, output=1))
        book.settle(call, settle(PriceBook(), call, used, "ok"))
        browser.until(f"{calls} !== '{before}'")
        assert int(browser.ask(calls)) == int(before) + 1
        assert browser.ask("document.getElementById('waterfall-figures').open")
        assert browser.ask("document.querySelectorAll('#by-0-table th')[1].getAttribute('aria-sort')") == "descending"
        assert browser.ask("document.activeElement.closest('th').cellIndex") == 1
        assert abs(browser.ask("scrollY") - 600) < 10  # a figure may be a hair taller
        trouble.append(f"ledger: {EVIL}")
        browser.until("document.querySelector('main').textContent.includes('The ledger cannot be read')")
        assert browser.ask("document.querySelectorAll('img').length") == 0
        trouble.clear()
        browser.until("document.querySelector('#by-0-table') !== null")
        assert {url.split("?")[0] for url in browser.asked} <= {
            server.url,
            server.url.split(server.token)[0] + "favicon.ico",
        }
        server.shutdown()
        thread.join()
    browser.until("document.getElementById('status').textContent.includes('does not answer')")


def _luminance(colour: str) -> float:
    """Relative luminance (WCAG 2.2) of "rgb(1, 2, 3)" or "color(srgb 0.1 0.2 0.3)"."""
    inside = colour[colour.index("(") + 1 : -1].replace(",", " ").replace("srgb", "").split("/")[0].split()
    parts = [float(part) / (1 if colour.startswith("color") else 255) for part in inside[:3]]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
