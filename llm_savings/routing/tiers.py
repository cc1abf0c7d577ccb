"""Tiers, the rules that pin a request to one, and what a tier's model can take."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import TYPE_CHECKING, Any, cast

from llm_savings.errors import ConfigError

if TYPE_CHECKING:
    from llm_savings.pricing import PriceBook


@dataclass(frozen=True, slots=True, kw_only=True)
class Capabilities:
    """What a model takes. None is unknown, and nothing is kept from a model for what is unknown.

    Attributes:
        vision: Images.
        audio: Audio.
        documents: PDF files.
        tools: Tool definitions.
        json_schema: A response format of type json_schema.
        context: The most tokens of prompt and answer together.
        output: The most tokens of an answer.
    """

    vision: bool | None = None
    audio: bool | None = None
    documents: bool | None = None
    tools: bool | None = None
    json_schema: bool | None = None
    context: int | None = None
    output: int | None = None


_KEYS = {
    "vision": "supports_vision",
    "audio": "supports_audio_input",
    "documents": "supports_pdf_input",
    "tools": "supports_function_calling",
    "json_schema": "supports_response_schema",
}


@dataclass(frozen=True, slots=True, init=False)
class Tier:
    """A model, the parameters that are sent with its calls, and what it can take.

    Args:
        model: Its name, as the price book knows it. A host may send another thing (a group of deployments, a model
            object); the name is for prices and capabilities.
        capabilities: What differs from the price map; a field that is None is looked up there.
        params: Sent with each call of this tier, unless the caller says otherwise: max_tokens, reasoning_effort, ...

    Example:
        >>> Tier("gpt-4o-mini", max_tokens=200).params
        {'max_tokens': 200}
    """

    model: str
    params: Mapping[str, Any]
    capabilities: Capabilities = field(default_factory=Capabilities)

    def __init__(self, model: str, *, capabilities: Capabilities | None = None, **params: Any) -> None:
        if not isinstance(cast(object, model), str) or not model.strip():
            raise ConfigError(f"a tier's model is {model!r}; give the name of a model, such as 'gpt-4o-mini'")
        object.__setattr__(self, "model", model)
        object.__setattr__(self, "params", params)
        object.__setattr__(self, "capabilities", capabilities or Capabilities())


@dataclass(frozen=True, slots=True)
class Rule:
    """The user's own rule: a request whose last user turn matches is sent to this tier, whatever else it looks like.

    Attributes:
        pattern: A regular expression, searched without regard to case in the first 3,000 and last 1,000 characters.
        tier: The tier's name.

    Example:
        >>> rules = [Rule(r"refund|환불", tier="simple"), Rule(r"계약서|lawsuit", tier="complex")]
    """

    pattern: str
    tier: str


def read_tiers(tiers: Mapping[str, str | Tier]) -> dict[str, Tier]:
    """The tiers by name, from the cheapest to the strongest.

    Raises:
        ConfigError: There are fewer than two, or one is no model.
    """
    if not isinstance(cast(object, tiers), Mapping):
        raise ConfigError(f"tiers={tiers!r}; give a mapping such as {{'simple': 'gpt-4o-mini', 'complex': 'gpt-4o'}}")
    if len(tiers) < 2:
        raise ConfigError(
            f"tiers={dict(tiers)!r}: routing needs at least two tiers, from the cheapest to the strongest"
        )
    found: dict[str, Tier] = {}
    for name, tier in tiers.items():
        if not isinstance(cast(object, name), str) or not name.strip():
            raise ConfigError(f"tiers: {name!r} is no name of a tier; give text such as 'simple'")
        if not isinstance(cast(object, tier), str | Tier):
            raise ConfigError(f"tiers[{name!r}]={tier!r}; give a model's name or Tier(model, ...)")
        found[name] = tier if isinstance(tier, Tier) else Tier(tier)
    return found


def read_rules(rules: Sequence[Rule], names: Sequence[str]) -> tuple[tuple[re.Pattern[str], str], ...]:
    """The rules, compiled.

    Raises:
        ConfigError: A pattern is no regular expression, or there is no such tier.
    """
    found: list[tuple[re.Pattern[str], str]] = []
    for number, rule in enumerate(rules):
        if not isinstance(cast(object, rule), Rule):
            raise ConfigError(f"rules[{number}]={rule!r}; give Rule(pattern, tier=...)")
        found.append((_compiled(rule.pattern, number), tier_named(rule.tier, names, f"rules[{number}].tier")))
    return tuple(found)


def tier_named(name: str, names: Sequence[str], where: str) -> str:
    """`name`, if there is a tier of that name.

    Raises:
        ConfigError: There is none.
    """
    if name not in names:
        raise ConfigError(f"{where}={name!r}: there is no such tier; the tiers are {', '.join(map(repr, names))}")
    return name


def capabilities_of(tier: Tier, prices: PriceBook) -> Capabilities:
    """What a tier's model takes: what the tier says, and else what the price map says.

    A model of which the map says something that it supports lacks what the map is silent about; a model of which it
    says nothing (an alias of the user's, a group of deployments) is unknown.
    """
    entry = prices.entry(tier.model)
    said = any(key.startswith("supports_") for key in entry)
    known: dict[str, Any] = {name: bool(entry.get(key)) if said else None for name, key in _KEYS.items()}
    limits = prices.limits(tier.model)
    known |= {"context": limits.max_input_tokens, "output": limits.max_output_tokens}
    own = {f.name: value for f in fields(Capabilities) if (value := getattr(tier.capabilities, f.name)) is not None}
    return Capabilities(**(known | own))


def _compiled(pattern: str, number: int) -> re.Pattern[str]:
    try:
        return re.compile(pattern, re.IGNORECASE)
    except (re.error, TypeError) as error:
        raise ConfigError(f"rules[{number}].pattern={pattern!r} is no regular expression: {error}") from error
