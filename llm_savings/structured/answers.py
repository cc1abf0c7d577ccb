"""Reading an answer: exactly, or with what is broken said, and never half.

JSON in a code fence is read. JSON with a small fault (a trailing comma, single quotes) is repaired by `json_repair`,
which would also make something of an answer that was cut: so a repair only counts if it has changed nothing but quotes
and commas. A name that comes twice, or a second document, is an error too.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, NoReturn

from pydantic import ValidationError

from llm_savings.structured.columns import ColumnsError
from llm_savings.structured.forms import Form, compact_json
from llm_savings.structured.schema import Rule, is_list, is_object, ref, single

Fault = Literal["cut", "refused", "unreadable", "misfit", "invalid", "long"]
Place = tuple[str | int, ...]
"""Where a value is in the objects' JSON: (3, "price")."""

_FENCE = re.compile(r"\A[^{\[]*?```(?:json)?\s*\n?(?P<inside>[{\[].*?)\n?\s*```\s*\Z", re.DOTALL | re.IGNORECASE)
_PART = re.compile(
    r"""(?P<text>"(?:[^"\\]|\\.)*"|'(?:[^'\\]|\\.)*')(?![^\S\n]*[\w"'])|(?P<bracket>[\[\]{}])"""
    r"""|(?P<word>[\w.+-]+)(?![^\S\n]*[\w"'])|(?P<skip>[\s,:]+)""",
    re.DOTALL,
)
_LITERALS = {"True": "true", "False": "false", "None": "null"}


@dataclass(frozen=True, slots=True)
class Wrong:
    """What is wrong with a value of an otherwise readable answer.

    Attributes:
        place: Where it is.
        value: The value, as JSON.
        says: Why it does not fit.
        rule: The schema that it should fit.
    """

    place: Place
    value: str
    says: str
    rule: Rule


@dataclass(frozen=True, slots=True)
class Reading:
    """An answer that was read.

    Attributes:
        value: The objects, if there is no fault.
        fault: What is the matter: "cut" at its token limit, "refused" by the model, "unreadable" as JSON, a "misfit"
            of columns or fields, "invalid" values, or too "long".
        says: The same in words, without text of the answer.
        rows: The objects' JSON values, where they could be had.
        wrong: The values that can be asked for again alone; empty unless all that is wrong is of that kind.
    """

    value: Any = None
    fault: Fault | None = None
    says: str = ""
    rows: Any = None
    wrong: tuple[Wrong, ...] = ()


def read(form: Form, text: str) -> Reading:
    """Read an answer in this form."""
    try:
        answer = parsed(text)
    except (ValueError, RecursionError) as error:
        return Reading(fault="unreadable", says=f"the answer is no JSON: {_without_text(error)}")
    try:
        rows = form.rows(answer)
    except ColumnsError as error:
        return Reading(fault="misfit", says=str(error))
    return validated(form, rows)


def validated(form: Form, rows: Any) -> Reading:
    """The objects of JSON values, of exactly the types that the model has: "5" is no number."""
    try:
        document = json.dumps(rows, ensure_ascii=False, allow_nan=False).encode()
    except (ValueError, RecursionError) as error:  # infinity, half a character
        return Reading(fault="unreadable", says=f"the answer is no JSON: {_without_text(error)}")
    try:
        return Reading(value=form.target.adapter.validate_json(document, strict=True), rows=rows)
    except ValidationError as error:
        found = error.errors(include_url=False, include_context=False, include_input=False)
        says = "; ".join(f"{'.'.join(map(str, e['loc'])) or 'the answer'}: {e['msg']}" for e in found[:5])
        return Reading(fault="invalid", says=says, rows=rows, wrong=tuple(_wrong(form, rows, found)))


def mended(form: Form, reading: Reading, fixes: Any) -> Reading:
    """The reading with other values where some were wrong.

    Args:
        form: The answer's form.
        reading: What was wrong.
        fixes: The new values, as `fixes_rule` asks for them.
    """
    given = fixes if is_object(fixes) else {}
    names = [f"v{number}" for number, _ in enumerate(reading.wrong, start=1)]
    if set(given) != set(names):
        return Reading(fault="invalid", says=reading.says, rows=reading.rows)
    rows = json.loads(compact_json(reading.rows))
    for name, wrong in zip(names, reading.wrong, strict=True):
        holder = rows
        for step in wrong.place[:-1]:
            holder = holder[step]
        holder[wrong.place[-1]] = given[name]
    return validated(form, rows)


def fixes_rule(wrong: Sequence[Wrong]) -> Rule:
    """What is asked for when single values are wrong: a value for each, or null where nothing tells it."""
    properties: Rule = {
        f"v{number}": {"anyOf": [one.rule, {"type": "null"}]} for number, one in enumerate(wrong, start=1)
    }
    return {"type": "object", "properties": properties}


def fixes_question(wrong: Sequence[Wrong]) -> str:
    """The question that goes with it: the errors and the values, and nothing of the conversation."""
    lines = [f"v{number}: {one.value} ({one.says})" for number, one in enumerate(wrong, start=1)]
    return "\n".join(
        ("Give these values again so that they fit; null where the value does not tell. Keep their language.", *lines)
    )


def parsed(text: str) -> Any:
    """The JSON value of an answer.

    Raises:
        ValueError: It is no JSON, or not surely what was meant.
    """
    text = text.strip().removeprefix("\ufeff")
    if found := _FENCE.match(text):
        text = found["inside"]
    try:
        return _exactly(text)
    except ValueError as error:
        return _repaired(text, error)


def _exactly(text: str) -> Any:
    return json.loads(text, object_pairs_hook=_once, parse_constant=_no_constant)


def _repaired(text: str, error: ValueError) -> Any:
    import json_repair  # only needed for what is broken

    before = list(_parts(text)) if text[:1] in ("{", "[") else []
    if not before or None in before or not _is_closed(before):
        raise error
    try:
        after = json_repair.repair_json(text, ensure_ascii=False, skip_json_loads=True)
    except Exception:  # noqa: BLE001 (it guesses at anything, and so may trip over anything)
        raise error from None
    if list(_parts(after)) != before:
        raise error
    return _exactly(after)


def _parts(text: str) -> Iterator[tuple[str, str] | None]:
    """The brackets, strings and words of a document in order; None for anything that JSON has no place for.

    Two values on one line with nothing between them might be one, so they have no place either.
    """
    at = 0
    while at < len(text):
        found = _PART.match(text, at)
        if found is None:
            yield None
            return
        at, part = found.end(), found[0]
        if found.lastgroup == "text":
            yield "text", _unquoted(part)
        elif found.lastgroup == "bracket":
            yield "bracket", part
        elif found.lastgroup == "word":
            yield "word", _LITERALS.get(part, part)


def _unquoted(part: str) -> str:
    inside = part[1:-1].replace('"', r"\"") if part[0] == "'" else part[1:-1]
    try:
        return json.loads(f'"{inside}"', strict=False)
    except ValueError:
        return part


def _is_closed(parts: Sequence[tuple[str, str] | None]) -> bool:
    """Whether every bracket is closed, the first one by the last part: a document that was cut is not."""
    open_brackets: list[str] = []
    for number, part in enumerate(parts):
        if part is None or part[0] != "bracket":
            continue
        if part[1] in "[{":
            open_brackets.append("]" if part[1] == "[" else "}")
        elif not open_brackets or open_brackets.pop() != part[1]:
            return False
        if not open_brackets:
            return number == len(parts) - 1
    return False


def _once(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    made = dict(pairs)
    if len(made) < len(pairs):
        raise ValueError("a name comes twice")
    return made


def _no_constant(name: str) -> NoReturn:
    raise ValueError(f"{name} is no JSON")


def _without_text(error: BaseException) -> str:
    """What a parser says, without the text that it quotes."""
    if isinstance(error, json.JSONDecodeError):
        return f"{error.msg} at character {error.pos}"
    return type(error).__name__ if isinstance(error, UnicodeError) else str(error)


def _wrong(form: Form, rows: Any, errors: Sequence[Any]) -> Iterator[Wrong]:
    """The values that a validation complains of, if all of them are there to be given again; none otherwise."""
    found: dict[Place, Wrong] = {}
    for error in errors:
        if error["type"] in ("missing", "extra_forbidden"):
            return  # nothing of the value is there: only the whole conversation tells it
        place, value, rule = _placed(form, rows, error["loc"])
        if not place:
            return  # nearly everything is wrong
        found.setdefault(place, Wrong(place, compact_json(value), error["msg"], rule))
    # A value inside another one that is given again anyway is not asked for twice.
    yield from (one for one in found.values() if not any(one.place[:n] in found for n in range(1, len(one.place))))


def _placed(form: Form, rows: Any, loc: Sequence[str | int]) -> tuple[Place, Any, Rule]:
    """As far as a location of pydantic's leads into the JSON and its schema: in unions it goes on by other names."""
    target = form.target
    rule: Rule = target.rule["properties"][target.wrapper] if target.wrapper else target.rule
    place: Place = ()
    value = rows
    for step in loc:
        rule = single(rule)
        while name := ref(rule):
            rule = single(target.defs[name])
        if isinstance(step, int) and is_list(value) and step < len(value) and "items" in rule:
            place, value, rule = (*place, step), value[step], rule["items"]
        elif isinstance(step, str) and is_object(value) and step in value and step in rule.get("properties", ()):
            place, value, rule = (*place, step), value[step], rule["properties"][step]
        else:
            break
    return place, value, rule
