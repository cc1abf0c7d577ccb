"""What will be on in a proxy with these files, and what is wrong with them, without starting it."""
# pyright: standard

from __future__ import annotations

import os
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, Literal

from llm_savings import settings
from llm_savings.errors import ConfigError, SavingsError
from llm_savings.ledger import Ledger
from llm_savings.litellm.calls import part_of
from llm_savings.litellm.proxy.options import FILE, Options, options_beside, read_options
from llm_savings.litellm.routing import ComplexityRouting, model_of
from llm_savings.litellm.routing_config import read_yaml
from llm_savings.pricing import PriceBook
from llm_savings.semantic_cache.cache import AnswerCache
from llm_savings.storage.urls import masked

PLUGIN = "llm_savings.litellm.proxy.plugin"
State = Literal["on", "shadow", "off", "warning", "wrong"]
_OF_A_PROXY = ("model_list", "litellm_settings", "general_settings", "router_settings")


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of what was found.

    Attributes:
        part: What it is about, such as "routing".
        state: Whether it will be on; or "wrong" if the proxy would not start or not do what the options say.
        says: In a sentence.
    """

    part: str
    state: State
    says: str


def check(paths: Sequence[Path]) -> list[Finding]:
    """Look at the proxy's config.yaml, its llm_savings.yaml, or both.

    Beside a config.yaml its llm_savings.yaml is looked for as the proxy does. Nothing is created, and no model is
    called; a ledger or cache behind a URL is asked whether it is there.

    Args:
        paths: One or two files.

    Example:
        >>> [finding.part for finding in check([Path("config.yaml")]) if finding.state == "wrong"]  # doctest: +SKIP
        ['routing']
    """
    try:
        configs = [path for path in paths if path.name != FILE and not set(_OF_A_PROXY).isdisjoint(read_yaml(path))]
        config = config_of(configs[0]) if configs else None
        named = next((path for path in paths if path not in configs), None)
        file = named or options_beside(configs[0] if configs else None)
        options = read_options(file)
    except (ConfigError, OSError) as error:
        return [Finding("options", "wrong", str(error))]
    found = [Finding("options", "on", str(file) if file else f"no {FILE}; variables and what holds without one")]
    if settings.disabled():
        found.append(Finding("options", "warning", "LLM_SAVINGS_DISABLED is set: the plug-in lets everything pass"))
    if config is not None:
        found.extend(_plugged(config, options))
    found.extend(_parts(options, config))
    return found


def config_of(path: Path) -> Mapping[str, Any]:
    """The proxy's config, with the files that it includes.

    Raises:
        ConfigError: It cannot be read.
    """
    config = dict(read_yaml(path))
    for name in config.get("include") or ():
        for key, value in read_yaml(path.parent / str(name)).items():
            known = config.get(key)
            config[key] = [*known, *value] if isinstance(known, list) and isinstance(value, list) else value
    return config


def unknown_tiers(routing: ComplexityRouting, config: Mapping[str, Any]) -> Iterator[str]:
    """What is wrong with the tiers' groups, where the config says which models there are."""
    names = _groups(config)
    if not names or part_of(config, "general_settings").get("store_model_in_db"):
        return  # the rest is in the proxy's database
    if routing.group in names:
        yield f"routing.group={routing.group!r}: model_list has such a model already; give another name"
    for tier, said in routing.tiers.items():
        if not any(fnmatchcase(said.model, name) for name in names):
            allowed = ", ".join(sorted(names))
            yield f"routing.tiers.{tier}={said.model!r}: model_list has no such model; it has {allowed}"


def _groups(config: Mapping[str, Any]) -> list[str]:
    aliases = part_of(part_of(config, "router_settings"), "model_group_alias")
    return [*(str(each.get("model_name")) for each in _deployments(config)), *map(str, aliases)]


def _deployments(config: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    models = config.get("model_list")
    found = models if isinstance(models, list) else []
    return [each for each in found if isinstance(each, Mapping) and part_of(each, "litellm_params").get("model")]


def _plugged(config: Mapping[str, Any], options: Options) -> Iterator[Finding]:
    litellm_settings = part_of(config, "litellm_settings")
    callbacks = litellm_settings.get("callbacks") or []
    if PLUGIN in ([callbacks] if isinstance(callbacks, str) else callbacks):
        yield Finding("plug-in", "on", f"litellm_settings.callbacks has {PLUGIN}")
    else:
        yield Finding("plug-in", "wrong", f"litellm_settings.callbacks={callbacks!r}; add {PLUGIN}")
    if litellm_settings.get("cache") and options.cache is not None:
        yield Finding("cache", "wrong", "litellm_settings.cache is LiteLLM's own, and replaces this one; take it out")
    prices = PriceBook()
    for each in _deployments(config):
        model = model_of(each, str(each["model_name"]))
        if "*" in model:
            continue
        try:
            prices.rates(model, provider=part_of(each, "litellm_params").get("custom_llm_provider"))
        except SavingsError as error:
            # A budget refuses what it cannot hold.
            state: State = "wrong" if options.budgets else "warning"
            yield Finding("prices", state, f"model_list: {each['model_name']}: {error}")


def _parts(options: Options, config: Mapping[str, Any] | None) -> Iterator[Finding]:
    yield _reachable("metering", options.ledger, "on", "ledger", lambda: _ask_ledger(options.ledger))
    for budget in options.budgets:
        limits = ", ".join(f"{key} {value}" for key, value in budget.plan().items() if value not in (None, False))
        yield Finding("budgets", "on", limits)
    if not options.budgets:
        yield Finding("budgets", "off", "no budgets")
    if options.routing is None:
        yield Finding("routing", "off", "no routing.tiers")
    else:
        problems = list(unknown_tiers(options.routing, config)) if config is not None else []
        for problem in problems:
            yield Finding("routing", "wrong", problem)
        if not problems:
            tiers = ", ".join(f"{name} = {tier.model}" for name, tier in options.routing.tiers.items())
            unseen = "" if config is not None else "; give config.yaml as well, to have its models checked"
            yield Finding("routing", _state(options.routing.shadow), f"{options.routing.group}: {tiers}{unseen}")
    yield _switch("prompt caching", options.prompt_caching, "marks where they pay")
    if options.cache is None:
        yield Finding("cache", "off", "cache: false")
        return
    target, per = options.cache["target"], options.cache.get("per", "key")
    shared = f"shared per {per}" if target else f"each worker's own memory, per {per}"
    yield _reachable(
        "cache", target or ":memory:", _state(options.cache["shadow"]), shared, lambda: _ask_cache(str(target))
    )


def _ask_ledger(target: str) -> None:
    with Ledger(target) as ledger:
        ledger.budgets.plans()


def _ask_cache(target: str) -> None:
    with AnswerCache(target, text_of=str) as answers:
        answers.stats()


def _state(shadow: bool) -> State:
    return "shadow" if shadow else "on"


def _switch(part: str, said: Mapping[str, Any] | None, what: str) -> Finding:
    return Finding(part, "off", "switched off") if said is None else Finding(part, _state(said["shadow"]), what)


def _reachable(part: str, target: str, state: State, what: str, ask: Any) -> Finding:
    """Whether a database is there and can be written to. A file that is not there yet is not made."""
    shown = masked(target)
    try:
        if "://" in target:
            ask()
        elif target != ":memory:":
            _writable(Path(target))
    except (SavingsError, OSError, sqlite3.Error) as error:
        return Finding(part, "wrong", f"{shown} cannot be written to: {error}")
    return Finding(part, state, f"{shown} ({what})")


def _writable(path: Path) -> None:
    if not path.exists():
        folder = next(parent for parent in path.absolute().parents if parent.exists())
        if not folder.is_dir() or not os.access(folder, os.W_OK | os.X_OK):
            raise OSError(f"{folder} is no folder that this user may write in")
        return
    with closing(sqlite3.connect(f"{path.absolute().as_uri()}?mode=rw", uri=True, timeout=5)) as database:
        database.execute("PRAGMA schema_version").fetchone()
        database.execute("BEGIN IMMEDIATE")
        database.rollback()
