"""The page's blocks: what comes from outside stays text, both languages are whole, and nothing can be loaded."""

from __future__ import annotations

import json
import re
from decimal import Decimal
from html import unescape
from html.parser import HTMLParser

import pytest

from llm_savings.attribution import Attribution
from llm_savings.report.charts import day_stack, waterfall
from llm_savings.report.page import bullets, cards, code, count, folded, headline, page, section, share, table, usd
from llm_savings.report.texts import LANGS, Said, catalogue, say

HOSTILE = (
    "<script>alert(1)</script>",
    '"><img src=x onerror=alert(1)>',
    "' onmouseover='alert(1)",
    "</script><svg onload=alert(1)>",
    "</title></style><b>",
    "javascript:alert(1)",
    '" data-t="page.skip" data-x="',
    "{0} {1:a|b} ${1}",
    "&lt;b&gt; &amp;",
    "\u202eevil\u0000\ud800",
    "<!--",
    "한국어 <b>태그</b>",
)
SAVED = Attribution(
    Decimal(100),
    Decimal(38),
    {"routing": Decimal(40), "prompt_cache": Decimal("24"), "batch": Decimal(-1)},
    overhead=Decimal(1),
    calls=9,
)


class Elements(HTMLParser):
    """The tags of a page with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.said: list[str] = []
        self.feed(html)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_data(self, data: str) -> None:
        self.said.append(data)


def whole(text: str, lang: str | None = None) -> str:
    return page(
        text,
        headline(text, text),
        cards([(text, text, text)]),
        section(text, bullets([text, say("note.hits", text)]), code(text), name="one", lead=text),
        table([text, "b"], [[text, usd(Decimal(1))], ["x", text]], caption=text, name="two", foot=[[text, count(3)]]),
        folded(text, waterfall(SAVED, name="fall"), name="three"),
        day_stack({text: SAVED}, name="days"),
        lang=lang,  # type: ignore[arg-type]
    )


@pytest.mark.parametrize("lang", [None, "ko"])
@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_text_is_text_everywhere(text: str, lang: str | None) -> None:
    hostile, plain = Elements(whole(text, lang)), Elements(whole("plain", lang))
    assert [tag for tag, _ in hostile.tags] == [tag for tag, _ in plain.tags]
    # Only the arguments of sentences and what a row is sorted by may carry it, as the value of their attribute.
    for (_, found), (_, expected) in zip(hostile.tags, plain.tags, strict=True):
        assert found.keys() == expected.keys()
        assert {k: v for k, v in found.items() if k != "data-a"} == {k: v for k, v in expected.items() if k != "data-a"}
    shown = text.replace("\0", "\ufffd").encode("utf-8", "replace").decode()
    assert "".join(hostile.said).count(shown) >= 15


def test_both_languages_say_everything_with_the_same_places() -> None:
    for name, said in catalogue().items():
        assert set(said) == set(LANGS), name
        assert all(text.strip() for text in said.values()), name
        places = [set(re.findall(r"\{(\d)", said[lang])) for lang in LANGS]
        assert places[0] == places[1], name


def test_a_page_in_korean_is_korean_without_its_script() -> None:
    html = whole("x", "ko")
    assert '<html lang="ko"' in html
    shown = "".join(Elements(re.sub(r"<script.*?</script>", "", html)).said)
    for name in ("strategy.routing", "column.share", "page.as_table", "page.skip"):
        assert catalogue()[name]["ko"] in shown
        assert catalogue()[name]["en"] not in shown


def test_the_script_gets_every_sentence_that_is_shown() -> None:
    html = page("x", bullets([say("note.saved", "$1", Said("page.unknown"))]))
    found = re.search(r'id="sentences">(.*?)</script>', html)
    assert found
    assert {"note.saved", "page.unknown", "page.made"} <= json.loads(found[1]).keys()


def test_nothing_is_loaded_and_only_the_named_script_runs() -> None:
    html = whole("x")
    elements = Elements(html)
    for tag, attributes in elements.tags:
        assert not attributes.keys() & {"src", "srcset", "style", "onclick", "action"}, tag
        assert (attributes.get("href") or "#").startswith("#")
    policy = next(a["content"] for _, a in elements.tags if a.get("http-equiv")) or ""
    assert "default-src 'none'" in policy
    assert "connect-src 'none'" in policy
    assert "unsafe" not in policy
    assert "connect-src 'self'" in unescape(page("x", live=10))
    assert "url(" not in html
    assert "@import" not in html


def test_figures_sort_by_their_value_and_unknown_ones_are_unknown() -> None:
    html = table(
        ["a", "b", "c"],
        [["x", usd(None), share(1, 3)], ["y", usd(Decimal("1234.5")), count(12_345_678)]],
        caption="c",
        name="t",
    )
    assert 'data-v="1234.5">$1,234.50<' in html
    assert "unknown" in html
    assert "33.3%" in html
    assert "12.3M" in html
    assert share(1, 0).shown == "–"


def test_a_chart_has_a_title_and_a_table() -> None:
    html = waterfall(SAVED, name="fall")
    assert "<title id=fall-what" in html
    for amount in ("$100.00", "-$40.00", "-$24.00", "$1.00", "$38.00"):
        assert html.count(f"{amount}") >= 2
    assert "Nothing to show" in day_stack({}, name="days")
