"""The what-if calculator: the same arithmetic as a ledger's, and the article's sums done again."""

from __future__ import annotations

import json
from dataclasses import replace
from decimal import Decimal, localcontext

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from llm_savings import ConfigError, PriceBook, UnknownModelError
from llm_savings.audit import Scenario, article_claims
from llm_savings.audit.article import ARTICLE
from llm_savings.cli import main

PRICES = PriceBook()
CENT = Decimal("0.01")
shares = st.decimals(0, 1, places=3)


def cost(scenario: Scenario) -> Decimal:
    return scenario.attribution(PRICES).actual.quantize(CENT)


def run(*arguments: str) -> Result:
    return CliRunner().invoke(main, ["scenario", *arguments])


def test_the_honest_cases() -> None:
    assert cost(ARTICLE) == Decimal("177.45")
    assert cost(replace(ARTICLE, hits_lean=1)) == Decimal("273.89")
    assert ARTICLE.attribution(PRICES).baseline == 1250


def test_the_articles_sums() -> None:
    found = [claim.found.quantize(CENT) for claim in article_claims(PRICES)]
    assert found == list(
        map(Decimal, ["5250.00", "315.00", "16.67", "0.75", "0.84", "1250.00", "100.00", "51.71", "177.45", "273.89"])
    )


@settings(max_examples=60, deadline=None)
@given(
    st.builds(
        Scenario,
        requests=st.integers(0, 10**6),
        input_tokens=st.integers(4000, 9000),
        output_tokens=st.integers(0, 4000),
        model=st.just("claude-sonnet-4-5"),
        small_model=st.just("claude-haiku-4-5"),
        routed=shares,
        shortened=shares,
        prefix_tokens=st.integers(0, 4000),
        prefix_hits=shares,
        batched=shares,
        hits=shares,
        hits_lean=st.decimals(-1, 1, places=3),
        overhead=st.decimals(0, 100, places=2),
    )
)
def test_it_adds_up(scenario: Scenario) -> None:
    found = scenario.attribution(PRICES)
    each = Decimal(scenario.input_tokens) * 3 / 1_000_000 + Decimal(scenario.output_tokens) * 15 / 1_000_000
    assert abs(found.baseline - scenario.requests * each) < Decimal("1e-9")
    with localcontext(prec=60):
        assert found.baseline - found.actual == sum(found.credits.values()) - found.overhead
    assert found.modelled == found.credits
    assert found.calls == scenario.requests


@given(shares, shares, st.decimals(-1, 1, places=3))
def test_leaning_moves_hits_and_makes_none(hits: Decimal, routed: Decimal, lean: Decimal) -> None:
    asked = replace(ARTICLE, hits=hits, routed=routed, hits_lean=lean)
    small, large = asked._hit_shares()
    assert min(small, large) >= 0
    assert max(small, large) <= 1
    assert abs(routed * small + (1 - routed) * large - hits) < Decimal("1e-20")


def test_nothing_below_the_minimum_is_cached() -> None:
    long = Scenario(
        requests=10, input_tokens=2000, output_tokens=0, model="gpt-4o", prefix_tokens=1024, prefix_hits="0.5"
    )
    assert long.attribution(PRICES).credits["prompt_cache"] == Decimal("0.0064")
    assert "prompt_cache" not in replace(long, prefix_tokens=1023).attribution(PRICES).credits


def test_a_cache_that_is_hardly_read_costs_more_than_none() -> None:
    rare = Scenario(
        requests=10,
        input_tokens=2000,
        output_tokens=0,
        model="claude-sonnet-4-5",
        prefix_tokens=2000,
        prefix_hits="0.1",
    )
    assert rare.attribution(PRICES).saved < 0
    assert replace(rare, prefix_hits="0.3").attribution(PRICES).saved > 0


def test_a_range_holds_its_middle_and_comes_again() -> None:
    found = ARTICLE.spread(PRICES, draws=60, seed=4)
    assert found == ARTICLE.spread(PRICES, draws=60, seed=4) != ARTICLE.spread(PRICES, draws=60, seed=5)
    assert found.low < found.median < found.high
    sure = ARTICLE.spread(PRICES, uncertainty=0, draws=3)
    assert sure.low == sure.high == ARTICLE.attribution(PRICES).actual


@pytest.mark.parametrize(
    ("changes", "said"),
    [
        ({"routed": "1.2"}, "routed is '1.2'; expected a number from 0 to 1"),
        ({"hits": "many"}, "hits is 'many'"),
        ({"hits_lean": -2}, "hits_lean is -2; expected a number from -1 to 1"),
        ({"overhead": "NaN"}, "overhead is 'NaN'; expected a number of 0 or more"),
        ({"requests": -1}, "requests is -1; expected a whole number"),
        ({"small_model": None}, "name the small_model"),
        ({"prefix_tokens": 1001}, "more than input_tokens"),
    ],
)
def test_what_makes_no_sense_is_said(changes: dict[str, object], said: str) -> None:
    with pytest.raises(ConfigError, match=said):
        replace(ARTICLE, **changes)


def test_a_model_without_a_price() -> None:
    with pytest.raises(UnknownModelError, match="zork"):
        replace(ARTICLE, model="zork").attribution(PRICES)


def test_the_command() -> None:
    given_ = [
        "--small",
        "gpt-4o-mini",
        "--routed",
        "0.7",
        "--shortened",
        "0.3",
        "--batched",
        "0.2",
        "--hits",
        "0.4",
        "--overhead",
        "2",
    ]
    shown = run(*given_).output
    assert "$177.45" in shown
    assert "$1,072.55 saved, 85.8%" in shown
    assert "All of it is modelled" in shown
    assert Decimal(json.loads(run(*given_, "--json").output)["actual"]).quantize(CENT) == Decimal("177.45")
    assert "Error: routed is '7'" in run("--routed", "7").output
    assert run("--routed", "7").exit_code == 1


def test_the_article_in_a_terminal() -> None:
    shown = run("--article").output
    assert "$82,500.00" in shown
    assert "$273.89" in shown
    assert len(json.loads(run("--article", "--json").output)) == len(article_claims(PRICES))
