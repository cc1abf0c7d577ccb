"""`ProxySavings`: everything that the package does for LiteLLM, as one callback of its proxy."""
# pyright: standard, reportIncompatibleMethodOverride=false

from __future__ import annotations

import asyncio
import logging
import sys
import weakref
from collections.abc import Mapping
from contextlib import suppress
from importlib import import_module
from pathlib import Path
from typing import Any, cast
from urllib.parse import quote

import litellm

from llm_savings import settings
from llm_savings.errors import ConfigError
from llm_savings.evidence import CACHE_KEY, METADATA_KEY
from llm_savings.litellm.caching import SemanticCache
from llm_savings.litellm.calls import strategies_of
from llm_savings.litellm.costs import CostLogger
from llm_savings.litellm.prompt_caching import PromptCaching
from llm_savings.litellm.proxy.options import Options, options_beside, read_options
from llm_savings.litellm.routed_calls import ALLOWED
from llm_savings.meter import METERED

_log = logging.getLogger("llm_savings.litellm")
_METADATA = ("metadata", "litellm_metadata")
# What only the package or the proxy's Router may write in a call; a client's is taken out. The Router says which model
# a deployment is, by which it is priced, later than this.
_OURS = (METADATA_KEY, METERED, CACHE_KEY, ALLOWED, "model_info", "base_model")
_HEADER = "x-llm-savings-"
_SOON, _PATIENCE = 0.1, 600  # the proxy makes its Router after its callbacks


class ProxySavings(CostLogger):
    """Metering, budgets, routing, prompt caching and the semantic cache for all clients of LiteLLM's proxy.

    The parts are those of the SDK: `CostLogger` (this is one), `PromptCaching`, `ComplexityRouting` on the proxy's
    Router, `SemanticCache` as `litellm.cache`. What is added is what only a proxy needs: keys that may not use every
    model, clients that are not to be trusted with evidence, and headers.

    A call for the routing group passes the proxy's own access check for that name first. Then a tier is open to a key
    whose team, user and so on may use the tier's own group, by the proxy's rules. A key that lists the routing group
    and none of the tiers' groups may use all tiers: naming the group was the grant. (Its team's list still counts.)

    Args:
        options: What is on, and how.

    Raises:
        ConfigError: Something in the options makes no sense here.
    """

    def __init__(self, options: Options) -> None:
        if "://" not in options.ledger and options.ledger != ":memory:":
            Path(options.ledger).parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        super().__init__(options.ledger, tags=options.tags, budget=options.budgets)
        self.options = options
        asked = options.prompt_caching
        self._marks = None if asked is None else PromptCaching(**asked)
        if options.cache is not None:
            litellm.cache = SemanticCache(**options.cache)
        self._attached: weakref.ref[Any] | None = None
        self._attaching: asyncio.Task[None] | None = None

    # LiteLLM calls these by keyword, and looks for some of them in this very class.

    async def async_pre_call_hook(
        self, user_api_key_dict: Any, cache: Any, data: dict[str, Any], call_type: Any
    ) -> Any:
        """Take out what a client may not say; find out which tiers its key may use."""
        parts = [data, *(part for name in _METADATA if isinstance(part := data.get(name), dict))]
        for part in parts:
            for name in _OURS:
                part.pop(name, None)
        routing = self.options.routing
        if routing is None or data.get("model") != routing.group:
            return None
        router = self.attach()
        if router is not None:
            allowed = await self._allowed(user_api_key_dict, router)
            for name in _METADATA:
                if isinstance(part := data.get(name), dict):
                    part[ALLOWED] = allowed
        return None

    async def async_pre_call_deployment_hook(self, kwargs: Any, call_type: Any) -> Any:
        """Hold the call in its budgets; mark it, where that must be done early."""
        await super().async_pre_call_deployment_hook(kwargs, call_type)
        return await self._marks.async_pre_call_deployment_hook(kwargs, call_type) if self._marks else None

    def log_pre_api_call(self, model: Any, messages: Any, kwargs: Any) -> None:
        """Write the call ahead, then mark it."""
        super().log_pre_api_call(model, messages, kwargs)
        if self._marks:
            self._marks.log_pre_api_call(model, messages, kwargs)

    def log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """Settle the call, and learn from it."""
        super().log_success_event(kwargs, response_obj, start_time, end_time)
        if self._marks:
            self._marks.log_success_event(kwargs, response_obj, start_time, end_time)

    async def async_log_success_event(self, kwargs: Any, response_obj: Any, start_time: Any, end_time: Any) -> None:
        """The same under asyncio."""
        await super().async_log_success_event(kwargs, response_obj, start_time, end_time)
        if self._marks:
            await self._marks.async_log_success_event(kwargs, response_obj, start_time, end_time)

    async def async_post_call_response_headers_hook(
        self,
        data: dict[str, Any],
        user_api_key_dict: Any,
        response: Any,
        request_headers: Any = None,
        litellm_call_info: Any = None,
    ) -> dict[str, str] | None:
        """What was done and saved. Of a stream, what is known before it."""
        if not self.options.headers or settings.disabled():
            return None
        try:
            details = getattr(data.get("litellm_logging_obj"), "model_call_details", None)
            return self._headers(details, response) if isinstance(details, dict) else None
        except Exception as error:  # noqa: BLE001 (a defect here must not become the client's)
            _log.debug("an answer does not say what was saved: %s", type(error).__name__)
            return None

    def __str__(self) -> str:
        return repr(self)  # the proxy asks for it at every answer, and a table of all calls takes its time

    def attach(self) -> Any:
        """The proxy's Router with the routing group; None while there is none. The proxy may make another one."""
        router = getattr(sys.modules.get("litellm.proxy.proxy_server"), "llm_router", None)
        routing = self.options.routing
        if routing is None or router is None or (self._attached is not None and self._attached() is router):
            return router
        self._attached = weakref.ref(router)
        try:
            return routing.attach(router)
        except ConfigError as error:
            _log.error("routing is off: %s", error)
            return None

    def attach_soon(self) -> None:
        """Attach as soon as the proxy has its Router, so that it lists the routing group before the first call."""
        with suppress(RuntimeError):  # no loop: the first call attaches
            self._attaching = asyncio.get_running_loop().create_task(self._attach_later())

    async def _attach_later(self) -> None:
        for _ in range(_PATIENCE):
            if self.attach() is not None:
                return
            await asyncio.sleep(_SOON)

    async def _allowed(self, key: Any, router: Any) -> list[str]:
        """Names of the tiers that a key may use.

        Raises:
            ProxyException: There is none; HTTP 403, as the proxy answers for a model that a key may not use.
        """
        found = await self._open(key, router)
        routing = self.options.routing
        if not found and routing is not None and routing.group in (key.models or ()):
            found = await self._open(key.model_copy(update={"models": []}), router)
        if found or routing is None:
            return found
        from litellm.proxy._types import ProxyErrorTypes, ProxyException

        groups = ", ".join(sorted({tier.model for tier in routing.tiers.values()}))
        raise ProxyException(
            message=f"key not allowed to access model: {routing.group} chooses among {groups}, and it may use none",
            type=ProxyErrorTypes.key_model_access_denied,
            param="model",
            code=403,
        )

    async def _open(self, key: Any, router: Any) -> list[str]:
        from litellm.proxy.auth.fallback_model_access import is_model_authorized_for_token as may

        tiers = self.options.routing.tiers if self.options.routing else {}
        return [name for name, tier in tiers.items() if await may(model=tier.model, valid_token=key, llm_router=router)]

    def _headers(self, details: dict[str, Any], response: Any) -> dict[str, str]:
        found = strategies_of(details)
        cache, routed, marked = (found.get(name) or {} for name in ("semantic_cache", "routing", "prompt_cache"))
        hit = cache.get("cache") == "hit"
        done = {"routing": routed, "prompt_cache": {} if hit else marked.get("marks") and marked}
        done["semantic_cache"] = cache if hit or cache.get("reason") == "shadow" else {}
        said: dict[str, Any] = {
            "strategies": ",".join(_named(name, each) for name, each in done.items() if each),
            "model": details.get("model"),
            "tier": routed.get("tier"),
            "cache": cache.get("cache"),
            "cache-reason": cache.get("tier") if hit else cache.get("reason"),
        }
        if getattr(response, "usage", None) or (isinstance(response, Mapping) and response.get("usage")):
            settled = self.so_far(details, response, hit=hit)
            if settled is not None and settled.actual is not None:
                said["cost-usd"] = f"{settled.actual.normalize():f}"
                if settled.baseline is not None:
                    said["saved-usd"] = f"{(settled.baseline - settled.actual).normalize():f}"
        return {_HEADER + name: quote(str(value), safe=" ,:;=/.+") for name, value in said.items() if value}


def _named(strategy: str, evidence: Mapping[str, Any]) -> str:
    shadow = evidence.get("shadow") or evidence.get("reason") == "shadow"
    return f"{strategy};shadow" if shadow else strategy


def plugged() -> ProxySavings:
    """The plug-in by the options beside the config that the proxy is reading.

    Raises:
        ConfigError: An option is wrong, or a tier is no model of the proxy. The proxy does not start then.
    """
    from llm_savings.litellm.proxy.checking import config_of, unknown_tiers

    server = sys.modules.get("litellm.proxy.proxy_server")
    config = cast("str | None", getattr(server, "user_config_file_path", None))
    options = read_options(options_beside(config))
    if options.routing is not None and config and Path(config).is_file():
        for problem in unknown_tiers(options.routing, config_of(Path(config))):
            raise ConfigError(problem)
    made = ProxySavings(options)
    if options.routing is not None:
        made.attach_soon()
    _spare_imports()
    return made


def _spare_imports() -> None:
    """Have LiteLLM try only once to import what is not there.

    In every request LiteLLM (1.108 to 1.110) looks on the disk for opentelemetry's SDK and, without a database, for
    prisma, only to fail where they are not installed: 0.5 and 0.15 ms.
    """
    for needed, asked in (("opentelemetry.sdk.trace", "litellm.integrations.otel.logger"), ("prisma", "prisma")):
        try:
            import_module(needed)
        except ImportError:
            sys.modules.setdefault(asked, None)  # pyright: ignore[reportArgumentType]
