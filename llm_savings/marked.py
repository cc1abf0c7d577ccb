"""What every host does about prompt caching: plan a request as it is on the wire, mark it, learn from its answer."""

from __future__ import annotations

import logging
import threading
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, cast
from weakref import WeakValueDictionary

from llm_savings import settings
from llm_savings.errors import ConfigError
from llm_savings.ledger import tenant_hash
from llm_savings.prompt_cache import Memory, Plan, apply_plan, plan_breakpoints
from llm_savings.prompt_cache.plan import terms_for
from llm_savings.prompt_cache.rules import Dialect
from llm_savings.usage import Usage

_log = logging.getLogger("llm_savings.prompt_cache")
_PARTS = ("model", "messages", "system", "tools")
_open: WeakValueDictionary[str, Memory] = WeakValueDictionary()
_opening = threading.Lock()


class Marking:
    """Marks requests where it pays, for one memory of what was sent before.

    Args:
        memory: What is known of prefixes; share one among the models of a program. A new one by default. A path or
            URL is the store of one that several processes or machines share; see `Memory`.
        shadow: Plan and record, but send everything as it is.
        own_servers: Base URLs of servers that take what OpenAI takes, such as a gateway of yours. Other bases than
            OpenAI's own are left alone.

    Raises:
        ConfigError: `memory` is neither a `Memory` nor what can store one.
    """

    def __init__(
        self, memory: Memory | str | None = None, *, shadow: bool = False, own_servers: Sequence[str] = ()
    ) -> None:
        found = cast("object", Memory() if memory is None else _shared(memory) if isinstance(memory, str) else memory)
        if not isinstance(found, Memory):
            raise ConfigError(
                f"memory is {type(found).__name__}; give a llm_savings.prompt_cache.Memory or the address of a store"
            )
        self.memory, self.shadow = found, shadow or settings.shadow()
        self._own = tuple(base.rstrip("/") for base in own_servers)
        self._told = False

    def marked(
        self,
        request: Mapping[str, Any],
        *,
        model: str,
        provider: str | None = None,
        base: str | None = None,
        key: str | None = None,
        dialect: Dialect | None = None,
    ) -> tuple[dict[str, Any], Plan | None]:
        """A request with marks, and the plan that they follow; as it was, and None, where there is nothing to plan.

        Args:
            request: `messages`, `tools` and `system` as the provider gets them, and the other parameters. It is not
                changed.
            model: The model's name, as sent to the provider.
            provider: The host's name of the provider.
            base: The base URL, if it is not the provider's own.
            key: The API key, of which only a hash is kept: the provider keeps the caches of its accounts apart.
            dialect: How marks are written, where the host translates them.
        """
        asked = dict(request)
        if settings.disabled() or not isinstance(asked.get("messages"), list):
            return asked, None
        try:
            options = {name: value for name, value in asked.items() if name not in _PARTS}
            if base and not base.rstrip("/").startswith(self._own):
                options["api_base"] = base
            if terms_for(self.memory, model, provider, options).dialect == "none":  # before the prompt is read
                return asked, None
            memory = self.memory.scoped(tenant_hash(key)) if key else self.memory
            messages, tools, system = asked["messages"], asked.get("tools"), asked.get("system")
            plan = plan_breakpoints(
                messages, tools, model, memory=memory, provider=provider, system=system, options=options
            )
            if not self.shadow:
                _set(asked, plan, apply_plan(plan, messages, tools, system=system, dialect=dialect))
            return asked, plan
        except Exception as error:  # noqa: BLE001 (a saving must not cost a call)
            self._warn(error)
            return dict(request), None

    def evidence(self, plan: Plan) -> dict[str, Any]:
        """What the plan did, for the call's row."""
        return {**plan.evidence(), "shadow": True} if self.shadow else plan.evidence()

    def learn(self, plan: Plan, usage: Usage | None, *, key: str | None = None) -> None:
        """Learn from a call that was answered."""
        try:
            memory = self.memory.scoped(tenant_hash(key)) if key else self.memory
            memory.record(plan, usage, sent=not self.shadow)
        except Exception as error:  # noqa: BLE001
            self._warn(error)

    def _warn(self, error: Exception) -> None:
        level = logging.DEBUG if self._told else logging.WARNING
        self._told = True
        _log.log(level, "a prompt was sent without marks for the provider's cache: %r", error)


def _shared(store: str) -> Memory:
    """This process's one memory for a store."""
    name = store if "://" in store else str(Path(store).absolute())
    with _opening:
        if (found := _open.get(name)) is None:
            found = _open[name] = Memory(store=store)
        return found


def _set(asked: dict[str, Any], plan: Plan, found: tuple[list[Any], list[Any] | None, dict[str, Any]]) -> None:
    messages, tools, extra = found
    if plan.marks:
        asked["messages"] = messages
        if tools is not None:
            asked["tools"] = tools
        if "system" in extra:
            asked["system"] = extra["system"]
    # Clients older than these parameters take them this way as well.
    body: dict[str, Any] = dict(asked.get("extra_body") or {})
    wanted = {name: extra[name] for name in ("prompt_cache_key", "prompt_cache_options") if name in extra}
    more = {name: value for name, value in wanted.items() if name not in asked and name not in body}
    if more:
        asked["extra_body"] = body | more
