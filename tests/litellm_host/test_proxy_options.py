"""`llm_savings.yaml` and `llm-savings check`: what they say is on; a mistake is named with its key and its cure."""

from __future__ import annotations

import json
import os
import sys
from decimal import Decimal
from importlib import import_module
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest
import yaml
from click.testing import CliRunner

from llm_savings import ConfigError
from llm_savings.cli import main
from llm_savings.ledger import Ledger
from llm_savings.litellm.proxy import plug
from llm_savings.litellm.proxy.options import options_beside, read_options

TRACING = "litellm.integrations.otel.logger"
TIERS = {"simple": "mini", "complex": "big"}
CONFIG: dict[str, Any] = {
    "model_list": [
        {"model_name": "mini", "litellm_params": {"model": "openai/gpt-4o-mini"}},
        {"model_name": "big", "litellm_params": {"model": "openai/gpt-4o"}},
    ],
    "litellm_settings": {"callbacks": ["llm_savings.litellm.proxy.plugin"]},
}


def written(folder: Path, options: Any = None, **more: Any) -> Path:
    (folder / "config.yaml").write_text(yaml.safe_dump(CONFIG | more))
    if options is not None:
        (folder / "llm_savings.yaml").write_text(yaml.safe_dump(options, sort_keys=False))
    return folder / "config.yaml"


def checked(*paths: Path) -> tuple[int, dict[str, tuple[str, str]]]:
    """The exit status, and what is said of each part."""
    done = CliRunner().invoke(main, ["check", *map(str, paths), "--json"])
    found = json.loads(done.stdout)
    return done.exit_code, {each["part"]: (each["state"], each["says"]) for each in found}


def test_without_a_file_all_is_on_but_what_must_be_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    status, found = checked(written(tmp_path))
    assert status == 0
    assert {part: state for part, (state, _) in found.items()} == {
        "options": "on",
        "plug-in": "on",
        "metering": "on",
        "budgets": "off",
        "routing": "off",
        "prompt caching": "on",
        "cache": "on",
    }


def test_a_file_is_read_from_its_own_folder_and_variables_come_first(tmp_path: Path) -> None:
    said = {
        "ledger": "costs.db",
        "tags": {"app": "상점"},
        "budgets": [{"daily": 50, "per": "tenant", "tz": "Asia/Seoul", "alerts": [0.5]}],
        "cache": {"per": "team", "ttl": 60},
        "routing": {"group": "smart", "tiers": TIERS},
        "prompt_caching": False,
    }
    config = written(tmp_path, said)
    path = options_beside(config, {})
    options = read_options(path, {})
    assert options.ledger == str(tmp_path / "costs.db")
    assert options.tags == {"app": "상점"} and options.prompt_caching is None
    assert options.budgets[0].daily == Decimal(50) and options.budgets[0].tz == "Asia/Seoul"
    assert options.cache is not None and options.cache["target"] == str(tmp_path / "cache.db")
    assert options.routing is not None and options.routing.group == "smart" and not options.routing.shadow
    env = {
        "LLM_SAVINGS_SHADOW": "true",
        "LLM_SAVINGS_LEDGER": "postgresql://db/app",
        "LLM_SAVINGS_BUDGETS": '[{total: "7"}]',
        "LLM_SAVINGS_PROMPT_CACHING": "true",
    }
    other = read_options(path, env)
    assert other.cache is not None and other.routing is not None and other.prompt_caching is not None
    assert other.cache["target"] == other.ledger == "postgresql://db/app"
    assert other.cache["shadow"] and other.routing.shadow and other.prompt_caching["shadow"]
    assert other.budgets[0].total == Decimal(7)
    # The one switch of the whole package, however it is set.
    for value, on in (("1", True), ("true", True), ("0", False), ("off", False)):
        assert read_options(path, {"LLM_SAVINGS_SHADOW": value}).shadow is on
    # Workers share what they learn of prefixes where they share the ledger, unless told otherwise.
    assert other.prompt_caching["memory"] == "postgresql://db/app"
    for memory, kept in (("{}", "prefixes.db"), ("{memory: seen.db}", "seen.db"), ("{memory: ':memory:'}", None)):
        marks = read_options(path, {"LLM_SAVINGS_PROMPT_CACHING": memory}).prompt_caching
        assert marks is not None and marks["memory"] == (kept and str(tmp_path / kept))


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ({"cahe": {}}, "cahe: there is no such key; did you mean 'cache'? expected one of budgets, cache"),
        ({"shadow": "maybe"}, "shadow='maybe'; expected true or false"),
        ({"ledger": 7}, "ledger=7; expected a path"),
        ({"tags": ["app"]}, "tags=['app']; expected a mapping"),
        ({"cache": {"per": "teem"}}, "cache.per='teem'; expected one of key, team, user, everyone"),
        ({"cache": {"max_eror": 0.1}}, "cache.max_eror: there is no such key; did you mean 'max_error'?"),
        ({"cache": {"max_error": 2}}, "cache.max_error=2 is out of range; expected a number from 0 to 0.5"),
        ({"cache": {"max_error": None}}, "cache.max_error=None is out of range; expected a number from 0 to 0.5"),
        ({"cache": {"tools": "yes"}}, "cache.tools='yes'; expected true or false"),
        ({"cache": {"ttl": "a day"}}, "cache.ttl='a day'"),
        ({"cache": 7}, "cache=7; expected a mapping"),
        ({"budgets": {"daily": 5}}, "budgets={'daily': 5}; expected a list"),
        ({"budgets": [{"dayly": 5}]}, "budgets[0].dayly: there is no such key; did you mean 'daily'?"),
        ({"budgets": [{"daily": "much"}]}, "budgets[0]: budget.daily is 'much'; expected a positive number"),
        ({"budgets": [{"daily": 1}, {"total": 2}]}, "budgets[1].name='default': another budget has this name"),
        ({"routing": {"tiers": {"only": "mini"}}}, "routing.tiers"),
        ({"routing": {"tiers": TIERS, "methid": 1}}, "routing.methid: there is no such key; did you mean 'method'?"),
        ({"routing": {"tiers": TIERS, "shadow": 1}}, "routing.shadow=1; expected true or false"),
        ({"prompt_caching": {"own_servers": "x"}}, "prompt_caching.own_servers='x'; expected a list"),
        ({"prompt_caching": {"memory": 7}}, "prompt_caching.memory=7; expected a path"),
        ({"headers": "no"}, "headers='no'; expected true or false"),
    ],
)
def test_each_mistake_is_named(tmp_path: Path, said: Any, expected: str) -> None:
    written(tmp_path, said)
    with pytest.raises(ConfigError) as error:
        read_options(tmp_path / "llm_savings.yaml", {})
    assert expected in str(error.value)


def test_a_variable_that_makes_no_sense_is_named(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"^LLM_SAVINGS_CACHE is no YAML: "):
        read_options(None, {"LLM_SAVINGS_LEDGER": ":memory:", "LLM_SAVINGS_CACHE": "{per: ["})
    with pytest.raises(ConfigError, match=r"LLM_SAVINGS_CONFIG=.*no such file"):
        options_beside(None, {"LLM_SAVINGS_CONFIG": str(tmp_path / "nowhere.yaml")})


def test_check_finds_what_the_proxy_would_stumble_over(tmp_path: Path) -> None:
    config = written(
        tmp_path,
        {"ledger": "costs.db", "budgets": [{"total": 5}], "routing": {"tiers": TIERS | {"best": "huge"}}},
        litellm_settings={"callbacks": ["other.thing"], "cache": True},
        model_list=[*CONFIG["model_list"], {"model_name": "own", "litellm_params": {"model": "openai/our-own-7b"}}],
    )
    (tmp_path / "cache.db").write_text("this is no database, but a text that is long enough to be taken for one" * 9)
    status, found = checked(config)
    assert status == 1
    wrong = {part for part, (state, _) in found.items() if state == "wrong"}
    assert wrong == {"plug-in", "prices", "routing", "cache"}
    assert "routing.tiers.best='huge': model_list has no such model; it has big, mini, own" in found["routing"][1]
    assert "own" in found["prices"][1]
    assert not (tmp_path / "costs.db").exists(), "looking makes nothing"


def test_check_says_what_a_shadow_is_and_reads_the_options_alone(tmp_path: Path) -> None:
    Ledger(tmp_path / "costs.db").budgets.plans()
    written(tmp_path, {"ledger": "costs.db", "shadow": True, "routing": {"tiers": TIERS}})
    status, found = checked(tmp_path / "llm_savings.yaml")
    assert status == 0
    assert {found[part][0] for part in ("routing", "prompt caching", "cache")} == {"shadow"}
    assert found["metering"][0] == "on" and "give config.yaml as well" in found["routing"][1]
    done = CliRunner().invoke(main, ["check", str(tmp_path / "config.yaml"), str(tmp_path / "llm_savings.yaml")])
    assert done.exit_code == 0 and "◐" in done.output and "auto: simple = mini, complex = big" in done.output


def test_check_fetches_no_prices(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """LiteLLM asks the network for its price map when it is loaded, unless it is told not to."""
    monkeypatch.delenv("LITELLM_LOCAL_MODEL_COST_MAP")
    checked(written(tmp_path, {}))
    assert os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] == "true"


def test_check_lets_go_of_the_ledger_that_it_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, postgres_url: str
) -> None:
    closed: list[str] = []
    close = Ledger.close
    monkeypatch.setattr(Ledger, "close", lambda ledger: (closed.append(ledger.target), close(ledger)))
    status, found = checked(written(tmp_path, {"ledger": postgres_url, "cache": False, "prompt_caching": False}))
    assert (status, found["metering"][0], closed) == (0, "on", [postgres_url])


@pytest.mark.parametrize(("needed", "asked"), [("opentelemetry.sdk.trace", TRACING), ("prisma", "prisma")])
def test_what_is_not_installed_is_not_looked_for_anew_in_each_request(
    monkeypatch: pytest.MonkeyPatch, needed: str, asked: str
) -> None:
    """LiteLLM asks for its tracing and its database in each request, and went to the disk only to fail."""
    monkeypatch.delitem(sys.modules, asked, raising=False)
    monkeypatch.setitem(sys.modules, needed, None)  # as if it were not installed
    plug._spare_imports()
    assert sys.modules[asked] is None
    with pytest.raises(ImportError):
        import_module(asked)


def test_what_is_installed_stays(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("opentelemetry.sdk.trace", "prisma"):
        monkeypatch.setitem(sys.modules, name, ModuleType(name))
    monkeypatch.delitem(sys.modules, TRACING, raising=False)
    plug._spare_imports()
    assert TRACING not in sys.modules
    assert sys.modules["prisma"] is not None
