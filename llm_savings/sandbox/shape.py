"""JSON of the shape that a schema asks for: plausible, and always the same for the same request."""

from __future__ import annotations

import random
import re
from typing import Any

from .pattern import matching
from .wire import JSON, WireError, is_array, is_object, mapping, sequence

# Fields that hold "the answer" get the model's answer to the prompt, so that quality can be measured there too.
_ANSWER_FIELDS = {
    "answer", "code", "content", "explanation", "message", "output", "reply", "response", "result", "summary", "text",
    "translation", "답변", "번역", "요약",
}  # fmt: skip
_IDENTIFIER = re.compile(r"(^|_)(id|number|no|code)$", re.IGNORECASE)  # such fields get the prompt's first number
_FORMATS = {
    "date": "2026-03-14",
    "time": "09:30:00Z",
    "date-time": "2026-03-14T09:30:00Z",
    "duration": "P3D",
    "email": "customer@example.com",
    "hostname": "example.com",
    "ipv4": "192.0.2.10",
    "ipv6": "2001:db8::10",
    "uri": "https://example.com/help",
    "url": "https://example.com/help",
    "uuid": "6f1c3a52-8d0e-4b7a-9c21-5e4f7a90b3d8",
}
_LIMITS = {
    name: re.compile(rf"{words}:? (-?\d+(?:\.\d+)?)", re.IGNORECASE)
    for name, words in {
        "minimum": r"(?<!exclusive )\bminimum(?: value)?",
        "maximum": r"(?<!exclusive )\bmaximum(?: value)?",
        "exclusiveMinimum": r"\bexclusive ?minimum(?: value)?",
        "exclusiveMaximum": r"\bexclusive ?maximum(?: value)?",
        "multipleOf": r"\bmultiple ?of",
        "minLength": r"\b(?:minLength|minimum length)",
        "maxLength": r"\b(?:maxLength|maximum length)",
        "minItems": r"\b(?:minItems|minimum number of items)",
        "maxItems": r"\b(?:maxItems|maximum number of items)",
    }.items()
}
_PATTERN = re.compile(r"\{(?:.*, )?pattern: (.+?)(?:, [a-zA-Z]+: .*)?\}$")
# Records as columns (`llm_savings.structured`) want columns of one length, and lists within them too.
_COLUMNS = "one value per record"
_NOT_STRICT = (
    "allOf", "oneOf", "not", "if", "then", "else", "dependentRequired", "dependentSchemas", "patternProperties",
    "propertyNames", "minProperties", "maxProperties", "unevaluatedProperties", "unevaluatedItems", "prefixItems",
    "contains", "minContains", "maxContains", "uniqueItems", "maxWords",
)  # fmt: skip
_DEEP = 4  # below this, optional fields are left out and arrays are as short as allowed
_BOTTOM = 30


def as_columns(known: JSON, schema: JSON) -> JSON | None:
    """A known answer that is one list of records, in the columns that a schema wants of it."""
    names = list(mapping(schema.get("properties")))
    rows = [mapping(row) for row in sequence(next(iter(known.values())))] if len(known) == 1 else []
    if _COLUMNS not in str(schema.get("description")) or not all(set(row) == set(names) for row in rows):
        return None
    return {name: [row[name] for row in rows] for name in names} if rows else None


class Shaper:
    """Makes values for one schema.

    Args:
        root: The whole schema; `$ref`s point into it.
        answer: The model's answer in words.
        prompt: The prompt, whose words fill the other strings.
        dice: Decides what the schema leaves open.
    """

    def __init__(self, root: JSON, *, answer: str, prompt: str, dice: random.Random) -> None:
        self._root, self._answer, self._dice = root, answer, dice
        self._rows = dice.randint(2, 4) if _COLUMNS in str(root.get("description")) else None
        self._words = re.findall(r"\w+", prompt)[:60] or ["example"]

    def value(self) -> Any:
        """A value that the whole schema accepts.

        Raises:
            WireError: The schema makes no sense.
        """
        try:
            return self._make(self._root, "", 0)
        except (TypeError, ValueError, LookupError, ArithmeticError, RecursionError) as error:
            raise WireError(400, f"Invalid schema: {error}", code="invalid_json_schema") from error

    def _make(self, schema: object, name: str, depth: int) -> Any:
        if depth > _BOTTOM:
            raise WireError(400, "Invalid schema: it has no finite value.", code="invalid_json_schema")
        rule = self._resolve(mapping(schema))
        rule = {**_told(rule), **rule}
        if "const" in rule:
            return rule["const"]
        if rule.get("enum"):
            return self._dice.choice(sequence(rule["enum"]))
        options = sequence(rule.get("anyOf")) or sequence(rule.get("oneOf"))
        if options:
            choice = min(options, key=self._size) if depth >= _DEEP else self._first(options)
            rest = {key: item for key, item in rule.items() if key not in ("anyOf", "oneOf")}
            return self._make({**rest, **self._resolve(mapping(choice))}, name, depth + 1)
        kind = self._kind(rule)
        if kind == "object":
            return self._object(rule, depth)
        if kind == "array":
            return self._array(rule, name, depth)
        if kind in ("integer", "number"):
            return self._number(rule, whole=kind == "integer")
        if kind == "boolean":
            return self._dice.random() < 0.5
        if kind == "null":
            return None
        return self._string(rule, name)

    def _resolve(self, rule: JSON) -> JSON:
        """The schema with its `$ref` and `allOf` folded in."""
        for _ in range(_BOTTOM):
            if "$ref" in rule:
                target: Any = self._root
                for step in str(rule["$ref"]).removeprefix("#").strip("/").split("/"):
                    target = mapping(target).get(step) if step else target
                if not is_object(target):
                    message = f"Invalid schema: {rule['$ref']!r} cannot be resolved."
                    raise WireError(400, message, code="invalid_json_schema")
                rule = {**mapping(target), **{k: v for k, v in rule.items() if k != "$ref"}}
            elif "allOf" in rule:
                parts = [self._resolve(mapping(part)) for part in sequence(rule["allOf"])]
                rule = _merge([{k: v for k, v in rule.items() if k != "allOf"}, *parts])
            else:
                return rule
        raise WireError(400, "Invalid schema: $ref goes in a circle.", code="invalid_json_schema")

    def _first(self, options: list[Any]) -> Any:
        return next((option for option in options if self._size(option)), options[0])

    def _size(self, option: object) -> int:
        """How large a value grows: null, scalar, array, object."""
        kind = self._kind(self._resolve(mapping(option)))
        return {"null": 0, "array": 2, "object": 3}.get(kind, 1)

    @staticmethod
    def _kind(rule: JSON) -> str:
        kind = rule.get("type")
        if is_array(kind):
            kinds = [str(item) for item in kind]
            return next((item for item in kinds if item != "null"), "null")
        if kind is None:
            if "properties" in rule or "additionalProperties" in rule:
                return "object"
            return "array" if "items" in rule or "prefixItems" in rule else "string"
        return str(kind)

    def _object(self, rule: JSON, depth: int) -> JSON:
        required = sequence(rule.get("required"))
        made: JSON = {
            name: self._make(inner, name, depth + 1)
            for name, inner in mapping(rule.get("properties")).items()
            if depth < _DEEP or name in required
        }
        extra = rule.get("additionalProperties", not made)
        wanted = max(int(rule.get("minProperties", 0)), len(required))
        free = 0 if made or depth >= _DEEP else 2
        if extra is not False:
            for number in range(max(free, wanted - len(made))):
                name = next((str(key) for key in required if key not in made), f"{self._words[0]}_{number + 1}".lower())
                made[name] = self._make(extra, name, depth + 1)
        return made

    def _array(self, rule: JSON, name: str, depth: int) -> list[Any]:
        made = [self._make(item, name, depth + 1) for item in sequence(rule.get("prefixItems"))]
        low = int(rule.get("minItems", 0))
        high = int(rule.get("maxItems", max(low, 3)))
        length = low if depth >= _DEEP else max(low, min(high, self._dice.randint(2, 3)))
        if self._rows is not None and depth < _DEEP:
            length = self._rows if depth == 1 else 2
        if made and "items" not in rule:
            length = low
        tries = 0
        while len(made) < length:
            item = self._make(rule.get("items", {}), name, depth + 1)
            tries += 1
            if rule.get("uniqueItems") and item in made:
                if tries > 50 * length:
                    break
                continue
            made.append(item)
        return made

    def _number(self, rule: JSON, *, whole: bool) -> int | float:
        step = rule.get("multipleOf") or (1 if whole else 0.5)
        low, high = rule.get("minimum"), rule.get("maximum")
        if "exclusiveMinimum" in rule:
            low = rule["exclusiveMinimum"] + (step if whole else (_gap(rule, step)))
        if "exclusiveMaximum" in rule:
            high = rule["exclusiveMaximum"] - (step if whole else (_gap(rule, step)))
        if low is None:
            low = 1 if high is None else high - 20 * step
        if high is None:
            high = low + 20 * step
        first, last = -(-low // step), high // step
        if first > last:  # no multiple of the usual step fits: any number between will do
            return low
        picked = self._dice.randint(int(first), int(last)) * step
        return int(picked) if whole else float(picked)

    def _string(self, rule: JSON, name: str) -> str:
        if rule.get("pattern"):
            made = matching(str(rule["pattern"]), self._dice)
            if made is not None:
                return made
            raise WireError(400, f"The sandbox cannot make a string for the pattern {rule['pattern']!r}.")
        if rule.get("format") in _FORMATS:
            return _FORMATS[rule["format"]]
        if name.lower() in _ANSWER_FIELDS:
            made = self._answer
        elif _IDENTIFIER.search(name) and any(map(_has_digit, self._words)):
            made = next(filter(_has_digit, self._words))
        else:
            start = self._dice.randrange(len(self._words))
            made = " ".join(self._words[start : start + self._dice.randint(1, 3)])
        if limit := re.search(r"\bmax (\d+) words", str(rule.get("description"))):
            made = " ".join(made.split()[: int(limit[1])])
        low, high = int(rule.get("minLength", 0)), rule.get("maxLength")
        while len(made) < low:
            made += " " + self._dice.choice(self._words)
        return made if high is None else made[: int(high)]


def check_strict(schema: JSON, where: str, param: str, code: str | None = None) -> None:
    """Refuse what OpenAI's strict mode refuses: open objects, optional properties, keywords that it does not know.

    Source: https://platform.openai.com/docs/guides/structured-outputs#supported-schemas
    """
    problem = next((f"'{name}' is not permitted." for name in schema if name in _NOT_STRICT), None)
    if "$ref" in schema and len(schema.keys() - {"$ref", "$defs"}) > 0:
        problem = f"$ref cannot have keywords {sorted(schema.keys() - {'$ref'})}."
    if problem:
        raise WireError(400, f"Invalid schema for {where}: {problem}", param=param, code=code)
    if schema.get("type") == "object" or "properties" in schema:
        if schema.get("additionalProperties") is not False:
            problem = "'additionalProperties' is required to be supplied and to be false."
            raise WireError(400, f"Invalid schema for {where}: {problem}", param=param, code=code)
        missing = [name for name in mapping(schema.get("properties")) if name not in sequence(schema.get("required"))]
        if missing:
            problem = f"'required' is required to include every key in properties. Missing '{missing[0]}'."
            raise WireError(400, f"Invalid schema for {where}: {problem}", param=param, code=code)
    for key in ("properties", "$defs", "definitions"):
        for inner in mapping(schema.get(key)).values():
            check_strict(mapping(inner), where, param, code)
    for inner in (schema.get("items"), *sequence(schema.get("anyOf"))):
        if is_object(inner):
            check_strict(inner, where, param, code)


def _told(rule: JSON) -> JSON:
    """Limits that only the description states.

    Anthropic's API enforces none, so its own client writes `{maximum: 3, minimum: 1}` where the model reads it, and
    LiteLLM `minimum value: 1, maximum value: 3`.
    """
    description = rule.get("description")
    if not isinstance(description, str):
        return {}
    told: JSON = {name: float(found[1]) for name, words in _LIMITS.items() if (found := words.search(description))}
    pattern = _PATTERN.search(description)
    return {**told, "pattern": pattern[1]} if pattern else told


def _has_digit(word: str) -> bool:
    return any(letter.isdigit() for letter in word)


def _gap(rule: JSON, step: float) -> float:
    """How far inside an exclusive bound to stay."""
    low = rule.get("exclusiveMinimum", rule.get("minimum"))
    high = rule.get("exclusiveMaximum", rule.get("maximum"))
    if rule.get("multipleOf") or low is None or high is None:
        return step
    return min(step, (high - low) / 4)


def _merge(parts: list[JSON]) -> JSON:
    merged: JSON = {}
    for part in parts:
        for key, item in part.items():
            if key == "properties":
                merged[key] = {**mapping(merged.get(key)), **mapping(item)}
            elif key == "required":
                merged[key] = [*sequence(merged.get(key)), *sequence(item)]
            else:
                merged[key] = item
    return merged
