"""A Router in YAML: what it says is done, and what is wrong in it is named with its key and what it may be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import yaml
from litellm_checks import GPT, Metered

from llm_savings import ComplexityRouter, ConfigError
from llm_savings.litellm import router_from_config
from llm_savings.routing import Rule

EASY, HARD = "파이썬이 뭐야?", "RESTful API와 GraphQL을 상세히 비교하고 마이크로서비스 아키텍처를 설계해줘"


def written(folder: Path, metered: Metered, routing: Any, **more: Any) -> Path:
    models = [metered.deployment("mini", GPT), metered.deployment("big", "openai/gpt-4o")]
    config = {
        "model_list": models,
        "litellm_settings": {"drop_params": True},
        "llm_savings": {"routing": routing},
        **more,
    }
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump({key: value for key, value in config.items() if value is not ...}, sort_keys=False))
    return path


async def test_a_router_of_a_file_routes(tmp_path: Path, metered: Metered, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MY_KEY", "sk-test")
    routing = {
        "group": "smart",
        "tiers": {"simple": {"group": "mini", "max_tokens": 20}, "complex": "big"},
        "rules": [{"pattern": "환불|refund", "tier": "complex"}],
        "baseline": "complex",
        "experiment": 0.0,
    }
    keyed = metered.deployment("mini", GPT) | {}
    keyed["litellm_params"]["api_key"] = "os.environ/MY_KEY"
    models = [keyed, metered.deployment("big", "openai/gpt-4o")]
    path = written(tmp_path, metered, routing, model_list=models, router_settings={"num_retries": 2})
    router = router_from_config(path)
    assert router.num_retries == 2
    for text in (EASY, HARD, "환불해 주세요"):
        router.completion(model="smart", messages=[{"role": "user", "content": text}])
    rows = sorted(await metered.rows(3), key=lambda row: row.sent.started_at)
    assert [row.sent.requested_model for row in rows] == ["gpt-4o-mini", "gpt-4o", "gpt-4o"]
    assert [row.settled.strategies["routing"]["reasons"] for row in rows if row.settled][-1] == ["rule:0"]
    assert rows[0].settled and rows[0].settled.usage.output == 20
    metered.check_bill(rows)


async def test_the_articles_rules_and_a_shadow(tmp_path: Path, metered: Metered) -> None:
    tiers = {"simple": {"group": "mini", "capabilities": {"vision": False}}, "complex": "big"}
    router = router_from_config(str(written(tmp_path, metered, {"tiers": tiers, "method": "article", "shadow": True})))
    router.completion(model="auto", messages=[{"role": "user", "content": "What is RAG?"}])
    row = await metered.row()
    assert row.settled is not None
    said = row.settled.strategies["routing"]
    assert (said["reasons"], said["chosen"], said["tier"]) == (["article:simple"], "simple", "complex")


TIERS = {"simple": "mini", "complex": "big"}


async def test_a_router_that_was_saved(tmp_path: Path, metered: Metered) -> None:
    learned = ComplexityRouter({"simple": "x", "complex": "y"}, rules=[Rule("환불", tier="complex")])
    learned.calibrate([EASY] * 30 + [HARD] * 30, share={"complex": 0.5})
    learned.save(tmp_path / "routing.json")
    router = router_from_config(written(tmp_path, metered, {"tiers": TIERS, "file": "routing.json"}))
    for text in (EASY, HARD, "환불"):
        router.completion(model="auto", messages=[{"role": "user", "content": text}])
    rows = sorted(await metered.rows(3), key=lambda row: row.sent.started_at)
    assert [row.sent.requested_model for row in rows] == ["gpt-4o-mini", "gpt-4o", "gpt-4o"]
    assert [row.settled.strategies["routing"]["baseline_model"] for row in rows if row.settled] == ["openai/gpt-4o"] * 3


@pytest.mark.parametrize(
    ("routing", "more", "says"),
    [
        (
            None,
            {},
            r"llm_savings\.routing=None; expected a mapping with baseline, cascade, experiment, file, group, method",
        ),
        ({"tiers": TIERS}, {"llm_savings": ...}, r"llm_savings=None; expected a mapping with routing"),
        ({"tiers": TIERS}, {"llm_savings": {"routes": 1}}, r"llm_savings\.routes: there is no such key; .* routing"),
        (
            {"tiers": TIERS, "tears": 1},
            {},
            r"llm_savings\.routing\.tears: there is no such key; did you mean 'tiers'\? expected one of baseline",
        ),
        ({"tiers": {"simple": "mini"}}, {}, r"llm_savings\.routing\.tiers.*at least two tiers"),
        ({"tiers": "mini"}, {}, r"llm_savings\.routing\.tiers='mini'; give a mapping"),
        ({}, {}, r"llm_savings\.routing\.tiers=None"),
        ({"tiers": {"simple": "mini", "complex": "huge"}}, {}, r"tiers\['complex'\]='huge'.*has 'big', 'mini'"),
        (
            {"tiers": {"simple": {"max_tokens": 5}, "complex": "big"}},
            {},
            r"tiers\.simple=.*expected the name of a model",
        ),
        (
            {"tiers": {"simple": {"group": "mini", "capabilities": {"sight": True}}, "complex": "big"}},
            {},
            r"tiers\.simple\.capabilities\.sight: there is no such key; expected one of audio, context",
        ),
        ({"tiers": TIERS, "method": "magic"}, {}, r"routing\.method='magic'; expected one of 'model', 'article'"),
        ({"tiers": TIERS, "shadow": "yes"}, {}, r"routing\.shadow='yes'; expected true or false"),
        ({"tiers": TIERS, "experiment": "5%"}, {}, r"routing\.experiment='5%'; expected a share from 0 to 0.5"),
        ({"tiers": TIERS, "experiment": 0.9}, {}, r"routing\.experiment=0.9; give a share from 0 to 0.5"),
        ({"tiers": TIERS, "baseline": "best"}, {}, r"routing\.baseline='best': .* 'simple', 'complex'"),
        (
            {"tiers": TIERS, "rules": [{"pattern": "x"}]},
            {},
            r"routing\.rules\[0\]=.*expected {pattern: ..., tier: ...}",
        ),
        ({"tiers": TIERS, "rules": [{"pattern": "(", "tier": "simple"}]}, {}, r"routing\.rules\[0\]\.pattern='\('"),
        ({"tiers": TIERS, "rules": [{"pattern": "x", "tier": "huge"}]}, {}, r"rules\[0\]\.tier='huge'.* 'complex'"),
        ({"tiers": TIERS, "rules": "x"}, {}, r"routing\.rules='x'; expected a list"),
        ({"tiers": TIERS, "file": "none.json"}, {}, r"routing\..*none\.json"),
        ({"tiers": TIERS, "file": "x", "method": "article"}, {}, r"routing\.file='x'; expected a path, and no method"),
        ({"tiers": TIERS, "group": "mini"}, {}, r"group='mini'.*already"),
        ({"tiers": TIERS, "group": 7}, {}, r"routing\.group=7"),
        ({"tiers": TIERS}, {"model_list": ...}, r"model_list=None; give a list"),
        ({"tiers": TIERS}, {"model_list": [{"model_name": "mini"}]}, r"model_list or router_settings: "),
        ({"tiers": TIERS}, {"router_settings": {"retries": 1}}, r"router_settings\.retries: there is no such key"),
    ],
)
def test_what_is_wrong_is_named(tmp_path: Path, metered: Metered, routing: Any, more: Any, says: str) -> None:
    with pytest.raises(ConfigError, match=says):
        router_from_config(written(tmp_path, metered, routing, **more))


@pytest.mark.parametrize("text", ["a: [", "- a\n- b\n", "\x00", ""])
def test_a_file_that_is_no_config(tmp_path: Path, text: str) -> None:
    path = tmp_path / "config.yaml"
    path.write_text(text)
    with pytest.raises(ConfigError, match=r"config\.yaml"):
        router_from_config(path)
    with pytest.raises(ConfigError, match="cannot be read"):
        router_from_config(tmp_path / "nothing.yaml")
