"""Prices that the user gives: negotiated ones, self-hosted models, names of their own deployments.

An override is either another model's name, or fields:

- `input`, `output`, `cache_read`, `cache_write_5m`, `cache_write_1h`, `audio_input`, `audio_cache_read`,
  `audio_output`, `image_input`, `image_output`, `reasoning`: USD per million tokens
- `gpu_hour` (USD per hour of all GPUs that serve the model) and `tokens_per_second` (input and output together, as
  measured under your load): every token costs its share of the hour
- `like` (a model) and `factor`: that model's prices times a factor, for a contract of 15% off list or a regional
  uplift of 10%
- `batch`, `flex`, `priority`: the price in that mode as a factor of the standard one
- `request` (USD per request), `web_search` (USD per search), `max_input_tokens`, `max_output_tokens`
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from decimal import Decimal
from pathlib import Path
from typing import Any, cast

from llm_savings.errors import ConfigError
from llm_savings.pricing.amounts import money, per_token, scaled
from llm_savings.pricing.rates import BUCKETS
from llm_savings.pricing.rules import Rule, rule_for

Price = str | int | float | Decimal
Override = str | Mapping[str, Price]

_TOKENS = {bucket: key for key, bucket in BUCKETS.items()}
_MODES = ("batch", "flex", "priority")
_LIMITS = ("max_input_tokens", "max_output_tokens")
_GPU = ("gpu_hour", "tokens_per_second")
_LIKE = ("like", "factor")
_FIELDS = (*_TOKENS, *_GPU, *_LIKE, *_MODES, "request", "web_search", *_LIMITS)


@dataclass(frozen=True)
class Alias:
    """A name that stands for another model's prices, times `factor` if there is one."""

    target: str
    factor: Decimal | None = None


@dataclass(frozen=True)
class Priced:
    """A name with prices of its own, in the price map's terms."""

    entry: Mapping[str, Any]
    rule: Rule


def read_overrides(overrides: Mapping[str, Override], *, where: str = "overrides") -> dict[str, Alias | Priced]:
    """Check overrides and put them into the price map's terms, by lower-case name.

    Args:
        overrides: Model name -> another model's name, or fields as listed in this module.
        where: Where they come from, for error messages.

    Raises:
        ConfigError: A field or value is wrong; the message names it and the fix.
    """
    for name in overrides:
        if not isinstance(cast(object, name), str):  # YAML reads 4: as a number
            raise ConfigError(f"{where}[{name!r}]: a model's name is text; put it in quotes")
    return {name.lower(): _read(name, value, f"{where}[{name!r}]") for name, value in overrides.items()}


def read_file(path: Path) -> dict[str, Alias | Priced]:
    """Read a TOML, YAML or JSON file of overrides: a table of model names, each as in `read_overrides`.

    Raises:
        ConfigError: The file is missing, malformed or has a wrong value.
    """
    try:
        text = path.read_text(encoding="utf-8")
        if path.suffix == ".toml":
            raw: Any = tomllib.loads(text, parse_float=Decimal)
        elif path.suffix in (".yaml", ".yml", ".json"):
            import yaml  # only when there is such a file

            raw = yaml.safe_load(text)
        else:
            raise ConfigError(f"price overrides {path}: the name must end in .toml, .yaml, .yml or .json")
    except OSError as error:
        raise ConfigError(
            f"price overrides {path}: cannot be read ({error.strerror}); set LLM_SAVINGS_PRICES to a readable TOML or "
            "YAML file, or unset it"
        ) from error
    except ConfigError:
        raise
    except Exception as error:  # the parsers' own errors share no base class
        raise ConfigError(f"price overrides {path}: {error}") from error
    if not isinstance(raw, dict):
        raise ConfigError(f"price overrides {path}: expected model names with their prices, found {raw!r}")
    return read_overrides(cast("dict[str, Any]", raw), where=str(path))


def _read(name: str, value: object, where: str) -> Alias | Priced:
    if isinstance(value, str):
        return Alias(_name(value, where))
    if not isinstance(value, Mapping) or not value:
        raise ConfigError(
            f"{where} is {value!r}; expected another model's name, or prices in USD per million tokens such as "
            '{"input": "0.10", "output": "0.40"}'
        )
    fields = cast("Mapping[str, Any]", value)
    for field in fields:
        if field not in _FIELDS:
            raise ConfigError(f"{where}: unknown field {field!r}; known fields: {', '.join(_FIELDS)}")
    if "like" in fields:
        if extra := sorted(fields.keys() - set(_LIKE)):
            raise ConfigError(f"{where}: 'like' takes 'factor' and nothing else, but there is {', '.join(extra)}")
        factor = _price(fields, "factor", where) if "factor" in fields else None
        return Alias(_name(fields["like"], f"{where}.like"), factor)
    if "factor" in fields:
        raise ConfigError(f"{where}.factor needs 'like', the model whose prices it multiplies")
    return _priced(name, fields, where)


def _priced(name: str, fields: Mapping[str, Any], where: str) -> Priced:
    entry: dict[str, Any] = {"litellm_provider": "override"}
    if any(field in fields for field in _GPU):
        entry["input_cost_per_token"] = entry["output_cost_per_token"] = _gpu_rate(fields, where)
    for bucket, key in _TOKENS.items():
        if bucket in fields:
            entry[key] = per_token(_price(fields, bucket, where))
    if "input_cost_per_token" not in entry and "output_cost_per_token" not in entry:
        raise ConfigError(f"{where} has no price; give 'input' and 'output' in USD per million tokens, or 'gpu_hour'")
    if "request" in fields:
        entry["input_cost_per_request"] = _price(fields, "request", where)
    if "web_search" in fields:
        search = _price(fields, "web_search", where)
        entry["search_context_cost_per_query"] = {f"search_context_size_{s}": search for s in ("low", "medium", "high")}
    for limit in _LIMITS:
        if limit in fields:
            if type(fields[limit]) is not int or fields[limit] <= 0:
                raise ConfigError(f"{where}.{limit} is {fields[limit]!r}; expected a number of tokens")
            entry[limit] = fields[limit]
    rule = rule_for(name, "override")
    multiples = dict(rule.multiples)
    if not any(key.startswith("cache_creation") for key in entry):
        multiples.setdefault("cache_write_1h", Decimal(1))  # no price for writing means no premium
    modes = {mode: _price(fields, mode, where) for mode in _MODES if mode in fields}
    return Priced(entry, replace(rule, free=True, unpriced=None, multiples=multiples, modes={**rule.modes, **modes}))


def _gpu_rate(fields: Mapping[str, Any], where: str) -> Decimal:
    for one, other in (_GPU, _GPU[::-1]):
        if one not in fields:
            raise ConfigError(f"{where}.{other} needs {one!r} beside it")
    for bucket in ("input", "output"):
        if bucket in fields:
            raise ConfigError(f"{where}: give either {bucket!r} or 'gpu_hour', not both")
    speed = _price(fields, "tokens_per_second", where)
    if not speed:
        raise ConfigError(f"{where}.tokens_per_second is 0; expected the tokens the model handles in a second")
    return scaled(_price(fields, "gpu_hour", where), Decimal(1), speed * 3600)


def _price(fields: Mapping[str, Any], field: str, where: str) -> Decimal:
    try:
        return money(fields[field])
    except ValueError as error:
        raise ConfigError(f'{where}.{field}: {error}; expected a number that is not negative, such as "0.10"') from None


def _name(value: object, where: str) -> str:
    if not isinstance(value, str) or not value.strip():
        raise ConfigError(f"{where} is {value!r}; expected the name of another model, such as 'azure/gpt-4o'")
    return value.strip()
