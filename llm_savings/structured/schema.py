"""JSON schemas in few tokens: without titles, defaults and definitions used once, strict where the model can be.

A strict schema binds the provider's model to the letter, but says less: objects are closed, every property is
required, and few limits are understood. What the provider does not understand is told to the model in the description,
in the words of Anthropic's own client (`{maxLength: 20}`), and checked when the answer is there.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeGuard

from pydantic import TypeAdapter
from pydantic.json_schema import GenerateJsonSchema

from llm_savings.structured.rules import Provider, data
from llm_savings.structured.words import telling

Rule = dict[str, Any]

_LIMITS = (
    "pattern", "multipleOf", "maximum", "exclusiveMaximum", "minimum", "exclusiveMinimum", "minItems", "maxItems",
    "minLength", "maxLength",
)  # fmt: skip
_DECIMAL = r"^-?[\d.]+$"  # short; that there is one point at most is checked when the answer is there
_UNSUPPORTED_PATTERN = re.compile(r"\(\?|\\[bB1-9]")


@dataclass(frozen=True, slots=True)
class Dialect:
    """What a provider understands of a schema; see `llm_savings/data/structured.toml`."""

    keywords: frozenset[str]
    formats: frozenset[str]
    nullable: bool
    recursive: bool
    names: str

    @classmethod
    def of(cls, provider: Provider | None) -> Dialect:
        """The dialect of a provider, or the one that every provider takes."""
        rules = data()["strict"][provider or "anthropic"]
        return cls(
            frozenset(rules["keywords"]),
            frozenset(rules["formats"]),
            rules["nullable"],
            rules["recursive"],
            rules["names"],
        )


@dataclass(frozen=True, slots=True)
class Lean:
    """A schema as it is sent.

    Attributes:
        schema: The JSON schema.
        loose: Why it cannot be strict, one reason a place; empty where it can.
    """

    schema: Rule
    loose: tuple[str, ...] = ()

    @property
    def strict(self) -> bool:
        """Whether the provider can hold its model to the letter of it."""
        return not self.loose


def lean_schema(model: Any, *, provider: Provider = "openai") -> Lean:
    """A model's JSON schema in few tokens. An answer to it is decoded by the model itself.

    Args:
        model: A pydantic model, or another type that pydantic can validate.
        provider: Whose strict schemas it shall be one of.

    Example:
        >>> from pydantic import BaseModel
        >>> class Point(BaseModel):
        ...     x: int
        ...     y: int | None = None
        >>> lean_schema(Point).schema["properties"]
        {'x': {'type': 'integer'}, 'y': {'type': ['integer', 'null']}}
    """
    whole = raw_schema(model)
    return leaned(whole, defs_of(whole), Dialect.of(provider))


def raw_schema(model: Any) -> Rule:
    """Pydantic's schema of a model's JSON, with word limits under `maxWords`."""
    with telling():
        return TypeAdapter(model).json_schema(mode="validation", schema_generator=_Schemas)


class _Schemas(GenerateJsonSchema):
    def decimal_schema(self, schema: Any) -> Rule:
        """A Decimal: pydantic says a number or any string. Only a string is exact."""
        return {"type": "string", "pattern": _DECIMAL}


def defs_of(whole: Rule) -> Mapping[str, Rule]:
    """The definitions that a whole schema carries."""
    return whole.get("$defs", {})


def leaned(rule: Rule, defs: Mapping[str, Rule], dialect: Dialect) -> Lean:
    """The same schema in few tokens, with those definitions that it still needs."""
    leaner = _Leaner(defs, dialect, Counter(_refs(rule, defs)), frozenset(_recursive(defs)))
    top = {key: value for key, value in rule.items() if key != "$defs"}
    if name := ref(top):  # a model that contains itself; at the top there has to be an object
        top = defs[name]
    schema = leaner.lean(top)
    done: Rule = {}
    while todo := [name for name in leaner.referred if name not in done]:
        done[todo[0]] = leaner.lean(defs[todo[0]])
    return Lean({**schema, "$defs": done} if done else schema, tuple(dict.fromkeys(leaner.loose)))


@dataclass
class _Leaner:
    defs: Mapping[str, Rule]
    dialect: Dialect
    uses: Counter[str]
    recursive: frozenset[str]
    referred: dict[str, None] = field(default_factory=dict[str, None])  # in order
    loose: list[str] = field(default_factory=list[str])

    def lean(self, rule: Rule) -> Rule:
        rule = single(rule)
        if name := ref(rule):
            if name in self.recursive or (self.uses[name] > 1 and "description" not in rule):
                self.referred[name] = None
                if name in self.recursive and not self.dialect.recursive:
                    self.loose.append(f"{name} within itself")
                return {"$ref": f"#/$defs/{name}"}
            return self.lean({**self.defs[name], **{k: v for k, v in rule.items() if k != "$ref"}})
        options = rule.get("anyOf") or rule.get("oneOf")
        told = self._description(rule)
        if options:
            return {**self._union(options), **told}
        if "const" in rule or "enum" in rule:
            return {k: rule[k] for k in ("type", "enum", "const") if k in rule} | told
        kind = rule.get("type")
        if kind == "object":
            return {"type": "object", **self._object(rule), **told}
        if kind == "array":
            return {"type": "array", **self._array(rule), **told}
        if kind is None:
            self.loose.append("a value of any type")
            return told
        return {"type": kind, **self._limits(rule), **told}

    def _object(self, rule: Rule) -> Rule:
        properties: Mapping[str, Rule] = rule.get("properties", {})
        more = rule.get("additionalProperties", False)
        if more is not False or (not properties and "additionalProperties" not in rule):
            self.loose.append(f"an open object ({rule.get('title', 'a dict')})")
            open_rule = self.lean(more) if is_object(more) and more else True
            closed: Rule = {"additionalProperties": open_rule}
        else:
            closed = {"additionalProperties": False}
        for name in properties:
            if not re.fullmatch(self.dialect.names, name):
                self.loose.append(f"the name {name!r}")
        made: Rule = {name: self.lean(inner) for name, inner in properties.items()}
        return {"properties": made, "required": list(made), **closed} if made or more is False else closed

    def _array(self, rule: Rule) -> Rule:
        if "prefixItems" in rule:
            self.loose.append("a tuple")
            made: Rule = {"prefixItems": [self.lean(item) for item in rule["prefixItems"]]}
            return made | {key: rule[key] for key in ("minItems", "maxItems") if key in rule}
        return {"items": self.lean(rule.get("items", {})), **self._limits(rule)}

    def _union(self, options: Sequence[Rule]) -> Rule:
        made = [self.lean(option) for option in options]
        null: Rule = {"type": "null"}
        rest = [option for option in made if option != null]
        if len(made) == 1:
            return made[0]
        if self.dialect.nullable and len(rest) == 1 and null in made and not {"enum", "const"} & set(rest[0]):
            kind = rest[0].get("type")
            if isinstance(kind, str):
                return {**rest[0], "type": [kind, "null"]}
        return {"anyOf": made}

    def _limits(self, rule: Rule) -> Rule:
        found = {name: rule[name] for name in _LIMITS if name in rule and name in self.dialect.keywords}
        if _UNSUPPORTED_PATTERN.search(str(found.get("pattern", ""))):
            del found["pattern"]
        if rule.get("format") in self.dialect.formats:
            found["format"] = rule["format"]
        return found

    def _description(self, rule: Rule) -> Rule:
        said = " ".join(str(rule.get("description", "")).split("\n\n")[0].split())
        notes = [f"<={rule['maxWords']} words"] if "maxWords" in rule else []
        default = rule.get("default")
        if isinstance(default, str | int | float) and default != "":
            notes.append(f"default {default}")
        sent = self._limits(rule)
        untold = {k: rule[k] for k in _LIMITS if k in rule and k not in sent and "prefixItems" not in rule}
        if untold:
            notes.append("{" + ", ".join(f"{key}: {value}" for key, value in untold.items()) + "}")
        text = "; ".join([said, *notes] if said else notes)
        return {"description": text} if text else {}


def is_object(value: object) -> TypeGuard[dict[str, Any]]:
    """Whether it is a JSON object."""
    return isinstance(value, dict)


def is_list(value: object) -> TypeGuard[list[Any]]:
    """Whether it is a JSON array."""
    return isinstance(value, list)


def single(rule: Rule) -> Rule:
    """The schema with an `allOf` of one part folded in."""
    if len(rule.get("allOf", ())) == 1:
        return {**rule["allOf"][0], **{k: v for k, v in rule.items() if k != "allOf"}}
    return rule


def ref(rule: Rule) -> str | None:
    """The name of the definition that a schema refers to."""
    return str(rule["$ref"]).rpartition("/")[2] if "$ref" in rule else None


def _refs(rule: object, defs: Mapping[str, Rule]) -> Iterator[str]:
    """Every reference in a schema and in all definitions that it reaches, each definition looked into once."""
    seen: set[str] = set()
    todo: list[object] = [rule]
    while todo:
        part = todo.pop()
        if is_object(part):
            if (name := ref(part)) is not None:
                yield name
                if name not in seen:
                    seen.add(name)
                    todo.append(defs[name])
            todo += [value for key, value in part.items() if key != "$defs"]
        elif is_list(part):
            todo += part


def _recursive(defs: Mapping[str, Rule]) -> Iterator[str]:
    for name, rule in defs.items():
        if name in _refs(rule, defs):
            yield name
