"""`router_from_config`: a LiteLLM Router with routing, from the YAML in which people keep their Router."""
# pyright: standard

from __future__ import annotations

import inspect
from collections.abc import Callable, Iterable, Mapping
from dataclasses import fields
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import Any

import yaml
from litellm.router import Router

from llm_savings.errors import ConfigError
from llm_savings.litellm.routing import ComplexityRouting
from llm_savings.routing import Capabilities, ComplexityRouter, Rule, Tier

_METHODS = ("model", "article")
_ROUTING = ("tiers", "group", "method", "file", "rules", "baseline", "experiment", "shadow", "cascade")
_FOR_THE_ROUTER = ("baseline", "experiment")


def router_from_config(path: str | Path) -> Router:
    """A `litellm.Router` of a config file as LiteLLM's proxy reads it, with what its `llm_savings:` section says.

    Of the file, `model_list`, `router_settings` and `llm_savings` are read; the rest is the proxy's own business.

        llm_savings:
          routing:
            group: auto
            tiers:
              simple: {group: gpt-4o-mini, max_tokens: 200}
              complex: gpt-4o
            rules:
              - {pattern: "refund|환불", tier: simple}

    Further keys of `routing` are `method` ("model", or "article" for the source article's rules), `file` (what
    `ComplexityRouter.save` wrote; a path from the config's own folder), `baseline` (a tier's name), `experiment` (a
    share from 0 to 0.5), `shadow` and `cascade` (true or false). A tier is a model group, or a mapping with `group`,
    `capabilities` and parameters of its calls.

    Args:
        path: The file.

    Raises:
        ConfigError: The file cannot be read, or a key in it is wrong; the error names the key and what it may be.

    Example:
        >>> router = router_from_config("config.yaml")                              # doctest: +SKIP
        >>> router.completion(model="auto", messages=[...])                         # doctest: +SKIP
    """
    config = read_yaml(Path(path))
    models = config.get("model_list")
    if not isinstance(models, list) or not models:
        raise ConfigError(f"{path}: model_list={models!r}; give a list of deployments, as LiteLLM's Router takes it")
    routing = routing_of(section(config, "llm_savings", ("routing",)), Path(path).parent, "llm_savings.")
    given = section(config, "router_settings", inspect.signature(Router).parameters, missing={})
    try:
        router = Router(model_list=models, **given)
    except ConfigError:
        raise
    except Exception as error:  # whatever LiteLLM makes of a deployment or a setting
        raise ConfigError(f"{path}: model_list or router_settings: {type(error).__name__}: {error}") from error
    return routing.attach(router)


def routing_of(ours: Mapping[str, Any], folder: Path, where: str = "", *, shadow: bool = False) -> ComplexityRouting:
    """What the key `routing` of these options says; see `router_from_config`.

    Args:
        ours: The options.
        folder: Where paths in it begin.
        where: What stands before `routing` in errors.
        shadow: Shadow, whatever the options say.

    Raises:
        ConfigError: A key in it is wrong.
    """
    said = section(ours, "routing", _ROUTING, where)
    where = f"{where}routing."
    tiers = said.get("tiers")
    if not isinstance(tiers, Mapping):
        raise ConfigError(f"{where}tiers={tiers!r}; give a mapping such as {{simple: gpt-4o-mini, complex: gpt-4o}}")
    method = said.get("method", "model")
    if method not in _METHODS:
        raise ConfigError(f"{where}method={method!r}; expected one of {', '.join(map(repr, _METHODS))}")
    for name in ("shadow", "cascade"):
        flag(said, name, where)
    experiment = said.get("experiment", 0.0)
    if isinstance(experiment, bool) or not isinstance(experiment, int | float):
        raise ConfigError(f"{where}experiment={experiment!r}; expected a share from 0 to 0.5, such as 0.05")
    options = {name: said[name] for name in _FOR_THE_ROUTER if name in said}
    if (rules := said.get("rules")) is not None:  # else those of the file hold
        if not isinstance(rules, list):
            raise ConfigError(f"{where}rules={rules!r}; expected a list of {{pattern: ..., tier: ...}}")
        options["rules"] = [_rule(rule, f"{where}rules[{number}]") for number, rule in enumerate(rules)]
    made: Callable[..., ComplexityRouter] = ComplexityRouter.rules if method == "article" else ComplexityRouter
    if (file := said.get("file")) is not None:
        if not isinstance(file, str) or method == "article":
            raise ConfigError(f"{where}file={file!r}; expected a path, and no method: article beside it")
        made = partial(ComplexityRouter.load, folder / file)
    try:
        return ComplexityRouting(
            {str(name): _tier(tier, f"{where}tiers.{name}") for name, tier in tiers.items()},
            router=partial(made, **options),
            group=said.get("group", "auto"),
            shadow=shadow or said.get("shadow", False),
            cascade=said.get("cascade", False),
        )
    except (ConfigError, OSError) as error:
        raise ConfigError(str(error) if str(error).startswith(where) else f"{where}{error}") from error


def _tier(said: Any, where: str) -> Tier:
    if isinstance(said, str):
        return Tier(said)
    if not isinstance(said, Mapping) or not isinstance(said.get("group"), str):
        raise ConfigError(f"{where}={said!r}; expected the name of a model group, or {{group: ..., max_tokens: ...}}")
    known = [field.name for field in fields(Capabilities)]
    can = section(said, "capabilities", known, f"{where}.", missing={})
    params = {str(name): value for name, value in said.items() if name not in ("group", "capabilities")}
    return Tier(said["group"], capabilities=Capabilities(**can), **params)


def _rule(said: Any, where: str) -> Rule:
    if not isinstance(said, Mapping) or set(said) != {"pattern", "tier"}:
        raise ConfigError(f"{where}={said!r}; expected {{pattern: ..., tier: ...}}")
    return Rule(said["pattern"], tier=said["tier"])


def read_yaml(path: Path) -> Mapping[str, Any]:
    """A YAML file that is a mapping.

    Raises:
        ConfigError: It cannot be read, or is none.
    """
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, yaml.YAMLError) as error:
        raise ConfigError(f"{path} cannot be read: {error}") from error
    if not isinstance(config, Mapping):
        raise ConfigError(f"{path}: expected a mapping such as `key: value`, one a line")
    return config


def section(
    source: Mapping[str, Any], name: str, allowed: Iterable[str], where: str = "", missing: Any = None
) -> dict[str, Any]:
    """A part of the file, all of whose keys are known.

    Raises:
        ConfigError: It is no mapping, or has a key that is not allowed.
    """
    found, known = source.get(name, missing), sorted(allowed)
    if not isinstance(found, Mapping):
        raise ConfigError(f"{where}{name}={found!r}; expected a mapping with {', '.join(known)}")
    for key in found:
        if key not in known:
            raise ConfigError(f"{where}{name}.{key}: {unknown_key(key, known)}")
    return dict(found)


def unknown_key(key: object, known: Iterable[str]) -> str:
    """What is wrong with a key that there is not."""
    near = get_close_matches(str(key), known := sorted(known), 1)
    meant = f"did you mean {near[0]!r}? " if near else ""
    return f"there is no such key; {meant}expected one of {', '.join(known)}"


def flag(said: Mapping[str, Any], name: str, where: str = "", *, default: bool = False) -> bool:
    """A switch.

    Raises:
        ConfigError: It is neither true nor false.
    """
    value = said.get(name, default)
    if not isinstance(value, bool):
        raise ConfigError(f"{where}{name}={value!r}; expected true or false")
    return value
