"""What of LiteLLM's Router routing stands on, and which LiteLLM it was tried with: one that breaks it shows here."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import litellm
import pytest
from litellm import Router
from litellm.litellm_core_utils.logging_worker import GLOBAL_LOGGING_WORKER
from litellm.types.router import RouterRateLimitError
from litellm_checks import GPT, Metered, called

from llm_savings import ConfigError
from llm_savings.litellm import ComplexityRouting, routing
from llm_savings.litellm.routed_calls import ASKED, CHATS

ROOT = Path(__file__).parents[2]
HI = [{"role": "user", "content": "hi"}]
TIERS = {"simple": "mini", "complex": "big"}


def host(metered: Metered, **given: Any) -> Router:
    models = [metered.deployment("mini", GPT), metered.deployment("big", "openai/gpt-4o")]
    return Router(model_list=models, retry_after=0, **{"num_retries": 0, **given})


def test_the_pin_is_what_routing_was_tried_with() -> None:
    wanted = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]["dependencies"]
    (pin,) = (each for each in wanted if re.match(r"litellm\b", each))
    assert pin.endswith(",<{}.{}".format(*routing.UNTRIED))
    assert routing._litellm() < routing.UNTRIED, "try the tests of this folder with it, then move both"


@pytest.mark.parametrize("way", ASKED)
def test_a_way_to_ask_is_there_and_can_be_replaced(metered: Metered, way: str) -> None:
    router = host(metered)
    assert callable(getattr(router, way))
    assert ComplexityRouting(TIERS).attach(router) is router
    ours = getattr(router, way)
    assert Path(ours.__code__.co_filename).name == "routed_calls.py"
    router.update_settings(routing_strategy="least-busy")
    assert getattr(router, way) is ours


def asking(router: Router, way: str) -> Callable[..., Any]:
    async def ask(**given: Any) -> Any:
        try:
            return await called(lambda: getattr(router, way)(messages=HI, **given))
        finally:
            await GLOBAL_LOGGING_WORKER.flush()  # no report of it comes in the middle of the next test

    return ask


@pytest.mark.parametrize("way", CHATS)
async def test_the_router_says_what_it_did_in_the_metadata_that_it_was_given(metered: Metered, way: str) -> None:
    router = host(metered, num_retries=1, fallbacks=[{"mini": ["big"]}])
    ask, tried = asking(router, way), dict[str, Any]()
    metered.box.fail("500", times=None)
    with pytest.raises(litellm.InternalServerError):
        await ask(model="big", metadata=tried)
    assert tried["attempted_retries"] == 1
    metered.box.reset()
    metered.box.fail("500", model="gpt-4o-mini", times=None)
    seen: list[tuple[str, str]] = []

    class Seen(litellm.integrations.custom_logger.CustomLogger):
        def log_pre_api_call(self, model: Any, messages: Any, kwargs: Any) -> None:
            metadata = kwargs["litellm_params"]["metadata"]
            seen.append((metadata.get("original_model_group"), metadata["model_group"]))

    litellm.callbacks.append(Seen())
    await ask(model="mini")
    assert (seen[0], seen[-1]) == (("mini", "mini"), ("mini", "big"))


@pytest.mark.parametrize("way", CHATS)
async def test_a_group_that_cools_down_is_told_by_its_error(metered: Metered, way: str) -> None:
    router = Router(model_list=[metered.deployment("mini", GPT, timeout=at) for at in (8, 9)], num_retries=0)
    ask = asking(router, way)
    metered.box.fail("429", times=2, retry_after=60)
    for error in (litellm.RateLimitError, litellm.RateLimitError, RouterRateLimitError):
        with pytest.raises(error):
            await ask(model="mini")
    with pytest.raises(RouterRateLimitError):
        router.get_available_deployment(model="mini", messages=HI, request_kwargs={})


def test_a_newer_one_is_warned_of(
    metered: Metered, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("llm_savings.litellm.routing.version", lambda _: "1.111.0rc1")
    ComplexityRouting(TIERS).attach(host(metered))
    assert "tried with litellm below 1.111, and this is 1.111" in caplog.text


@pytest.mark.parametrize("loud", [True, False])
@pytest.mark.parametrize("sealed", ["completion", "acompletion"])
def test_one_whose_ways_to_ask_cannot_be_replaced_is_refused_and_left_as_it_was(
    metered: Metered, monkeypatch: pytest.MonkeyPatch, sealed: str, loud: bool
) -> None:
    def set_no_more(router: Router, name: str, value: Any) -> None:
        if name != sealed:
            vars(router)[name] = value
        elif loud:
            raise AttributeError("read only")

    router, auto = host(metered), ComplexityRouting(TIERS)
    listed, before, chooser = router.get_model_names(), dict(vars(router)), auto.router
    monkeypatch.setattr(Router, "__setattr__", set_no_more)
    with pytest.raises(ConfigError, match=rf"Router does not let its {sealed} be replaced"):
        auto.attach(router)
    assert vars(router) == before and router.get_model_names() == listed and auto.router is chooser
    with pytest.raises(litellm.BadRequestError):
        router.completion(model="auto", messages=HI)
    assert router.completion(model="mini", messages=HI).choices
