"""`llm_savings.yaml`: what a proxy's operator may set, checked once; every error names the key and what it may be.

    ledger: costs.db                     # or postgresql://..., for many machines
    tags: {app: shop}                    # labels of every call
    shadow: false                        # true: decide and record, change nothing (budgets hold all the same)
    budgets:
      - {daily: "50", per: tenant, tz: Asia/Seoul}
    cache:                               # false: no semantic cache
      store: cache.db                    # or postgresql://, redis://; memory is each worker's own
      per: team                          # key, team, user or everyone share answers
      max_error: 0.01
    routing:                             # as in `router_from_config`
      group: auto
      tiers: {simple: gpt-4o-mini, complex: gpt-4o}
    prompt_caching: true                 # or {own_servers: ["https://gateway"]}
    headers: true                        # x-llm-savings-... with each answer

Paths begin at the file's own folder. A variable replaces a key of the file, in YAML: `LLM_SAVINGS_SHADOW=true`,
`LLM_SAVINGS_BUDGETS='[{daily: "50"}]'`, `LLM_SAVINGS_CACHE='{per: team}'`.
"""
# pyright: standard

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast, get_args

import yaml
from litellm.caching.caching import CacheMode

from llm_savings import settings
from llm_savings.budget import PLAN_FIELDS, Budget
from llm_savings.errors import ConfigError
from llm_savings.litellm.cache_requests import Per
from llm_savings.litellm.routing import ComplexityRouting
from llm_savings.litellm.routing_config import flag, read_yaml, routing_of, section, unknown_key
from llm_savings.semantic_cache.settings import Settings

FILE = "llm_savings.yaml"
KEYS = ("ledger", "tags", "shadow", "budgets", "cache", "routing", "prompt_caching", "headers")
_FLAGS = ("sliding", "tools", "shadow")
_TEXTS = ("embeddings", "namespace", "tuned")
_NUMBERS = (
    *("max_error", "similarity_threshold", "ttl", "max_entries", "max_bytes", "max_temperature"),
    *("longest", "audit_rate", "wait", "embed_timeout"),
)
_CHOICES = {"per": get_args(Per), "mode": tuple(mode.value for mode in CacheMode)}
_BUDGET = (*PLAN_FIELDS, "alerts", "on_alert")


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What is on, and how.

    Attributes:
        ledger: A path or a postgresql:// URL.
        tags: Labels of every call.
        shadow: Decide and record, change nothing.
        budgets: What calls must stay within.
        cache: The arguments of the semantic cache, `target` among them; None for none.
        routing: The tiers and the group that chooses among them; None for no routing.
        prompt_caching: The arguments of `PromptCaching`; None for none.
        headers: Whether answers say in their headers what was done.
    """

    ledger: str
    tags: Mapping[str, str]
    shadow: bool
    budgets: tuple[Budget, ...]
    cache: Mapping[str, Any] | None
    routing: ComplexityRouting | None
    prompt_caching: Mapping[str, Any] | None
    headers: bool


def options_beside(config: str | Path | None, environ: Mapping[str, str] = os.environ) -> Path | None:
    """The file of options: what `LLM_SAVINGS_CONFIG` names, else one beside the proxy's config or in this folder.

    Raises:
        ConfigError: `LLM_SAVINGS_CONFIG` names a file that is not there.
    """
    if named := environ.get("LLM_SAVINGS_CONFIG"):
        if not Path(named).is_file():
            raise ConfigError(f"LLM_SAVINGS_CONFIG={named!r}: there is no such file")
        return Path(named)
    folders = [Path(config).parent] if config else []
    return next((path for folder in (*folders, Path()) if (path := folder / FILE).is_file()), None)


def read_options(path: Path | None, environ: Mapping[str, str] = os.environ) -> Options:
    """The options of a file, and of variables, which come first.

    Args:
        path: The file; None for what holds without one: metering, prompt caching and the semantic cache.
        environ: The variables.

    Raises:
        ConfigError: A key is not known, or a value makes no sense.

    Example:
        >>> read_options(None, {"LLM_SAVINGS_LEDGER": ":memory:", "LLM_SAVINGS_BUDGETS": "[{daily: 50}]"}).budgets
        (Budget(per_call=None, hourly=None, daily=Decimal('50'), ...
    """
    folder = path.parent if path else Path()
    said = dict(read_yaml(path)) if path and path.read_text(encoding="utf-8").strip() else {}
    for key in said:
        if key not in KEYS:
            raise ConfigError(f"{key}: {unknown_key(key, KEYS)}")
    ledger = _ledger(said.get("ledger"), folder)
    for key in KEYS:
        if (value := environ.get(f"LLM_SAVINGS_{key.upper()}", "").strip()) and key != "ledger":
            said[key] = _parsed(f"LLM_SAVINGS_{key.upper()}", value)
            if key == "shadow" and value in ("0", "1"):  # as in the rest of the package; in YAML these are numbers
                said[key] = value == "1"
    ledger = environ.get("LLM_SAVINGS_LEDGER") or ledger or settings.default_ledger()
    shadow = flag(said, "shadow")
    return Options(
        ledger=ledger,
        tags=_tags(said.get("tags") or {}),
        shadow=shadow,
        budgets=_budgets(said.get("budgets") or []),
        cache=_cache(said, ledger, folder, shadow=shadow),
        routing=routing_of(said, folder, shadow=shadow) if said.get("routing") else None,
        prompt_caching=_prompt_caching(said, ledger, folder, shadow=shadow),
        headers=flag(said, "headers", default=True),
    )


def _parsed(name: str, value: str) -> Any:
    try:
        return yaml.safe_load(value)
    except yaml.YAMLError as error:  # its text repeats the value, which may have a database's password in it
        place = getattr(error, "problem_mark", None)
        at = f" at character {place.index + 1}" if place else ""
        raise ConfigError(f"{name} is no YAML: {getattr(error, 'problem', None) or 'unreadable'}{at}") from None


def _placed(path: str, folder: Path) -> str:
    return path if "://" in path or path == ":memory:" else str(folder / path)


def _ledger(said: Any, folder: Path) -> str | None:
    if said is None:
        return None
    if not isinstance(said, str) or not said.strip():
        raise ConfigError(f"ledger={said!r}; expected a path such as costs.db, or a postgresql:// URL")
    return _placed(said, folder)


def _tags(said: Any) -> dict[str, str]:
    if not isinstance(said, Mapping) or not all(isinstance(value, str | int) for value in said.values()):
        raise ConfigError(f"tags={said!r}; expected a mapping of names to text, such as {{app: shop}}")
    return {str(name): str(value) for name, value in said.items()}


def _budgets(said: Any) -> tuple[Budget, ...]:
    if not isinstance(said, list):
        raise ConfigError(f"budgets={said!r}; expected a list of budgets, such as [{{daily: '50', per: tenant}}]")
    found: list[Budget] = []
    for number, plan in enumerate(said):
        where = f"budgets[{number}]"
        known = section({where: plan}, where, _BUDGET)
        on_alert = known.pop("on_alert", None)
        try:
            budget = Budget.from_plan(known, on_alert=on_alert)
        except (ConfigError, TypeError) as error:
            raise ConfigError(f"{where}: {error}") from error
        if budget.name in [other.name for other in found]:
            raise ConfigError(f"{where}.name={budget.name!r}: another budget has this name; give each its own")
        found.append(budget)
    return tuple(found)


def _cache(options: Mapping[str, Any], ledger: str, folder: Path, *, shadow: bool) -> dict[str, Any] | None:
    if (said := _switched(options, "cache", ("store", *_CHOICES, *_FLAGS, *_TEXTS, *_NUMBERS))) is None:
        return None
    for name, value in said.items():
        if name in _CHOICES and value not in _CHOICES[name]:
            raise ConfigError(f"cache.{name}={value!r}; expected one of {', '.join(_CHOICES[name])}")
        if name in ("store", *_TEXTS) and (not isinstance(value, str) or not value.strip()):
            raise ConfigError(f"cache.{name}={value!r}; expected text")
        if name in _FLAGS:
            flag(said, name, "cache.")
    given = {name: value for name, value in said.items() if name != "store"}
    if "tuned" in given:
        given["tuned"] = _placed(given["tuned"], folder)
    given["shadow"] = shadow or given.get("shadow", False)
    try:
        Settings.of(cast("Any", {name: value for name, value in given.items() if name not in _CHOICES}))
    except (ConfigError, TypeError) as error:
        raise ConfigError(f"cache.{error}") from error
    target = _placed(said["store"], folder) if "store" in said else _beside(ledger, "cache.db")
    return {**given, "target": None if target == ":memory:" else target}


def _prompt_caching(options: Mapping[str, Any], ledger: str, folder: Path, *, shadow: bool) -> dict[str, Any] | None:
    if (said := _switched(options, "prompt_caching", ("memory", "own_servers", "shadow"))) is None:
        return None
    memory = said.get("memory", "prefixes.db")
    if not isinstance(memory, str) or not memory.strip():
        raise ConfigError(
            f"prompt_caching.memory={memory!r}; expected a path, a URL, or :memory: for each worker's own"
        )
    servers = said.get("own_servers", [])
    if not isinstance(servers, list) or not all(isinstance(base, str) for base in servers):
        raise ConfigError(f"prompt_caching.own_servers={servers!r}; expected a list of base URLs")
    shared = _placed(memory, folder) if "memory" in said else _beside(ledger, memory)
    return {
        "memory": None if shared == ":memory:" else shared,
        "own_servers": servers,
        "shadow": shadow or flag(said, "shadow", "prompt_caching."),
    }


def _beside(ledger: str, name: str) -> str:
    """Where something is kept that all workers share: in the ledger's database, or in a file beside its file."""
    return ledger if "://" in ledger or ledger == ":memory:" else str(Path(ledger).with_name(name))


def _switched(options: Mapping[str, Any], name: str, allowed: tuple[str, ...]) -> dict[str, Any] | None:
    """A part that is on unless it is false: its keys, or None."""
    said = options.get(name, True)
    if isinstance(said, bool):
        return {} if said else None
    return section(options, name, allowed)
