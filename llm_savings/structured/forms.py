"""The forms that an answer can be written in, and which of them takes the fewest tokens."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from types import GenericAlias
from typing import Any, Literal, Protocol

from pydantic import TypeAdapter

from llm_savings import tokens
from llm_savings.errors import ConfigError
from llm_savings.structured.columns import Columns, ColumnsError, Node, short_names, tree
from llm_savings.structured.rules import Provider
from llm_savings.structured.schema import Dialect, Lean, Rule, defs_of, is_list, is_object, leaned, raw_schema

FormName = Literal["rows", "short", "columns", "short columns"]
_EXPECTED = 20  # records of a list, for want of a sample


class _Layout(Protocol):
    def schema(self, defs: Mapping[str, Rule], dialect: Dialect) -> Lean: ...
    def split(self, value: Any) -> Any: ...
    def join(self, columns: Any) -> Any: ...


@dataclass(frozen=True, slots=True)
class _Rows:
    """Every record an object, as the model itself has it."""

    rule: Rule

    def schema(self, defs: Mapping[str, Rule], dialect: Dialect) -> Lean:
        return leaned(self.rule, defs, dialect)

    def split(self, value: Any) -> Any:
        return value

    def join(self, columns: Any) -> Any:
        return columns


@dataclass(frozen=True, slots=True)
class _Short:
    """The same with a letter in place of each name; what the letters stand for is said in the schema."""

    root: Node
    names: Mapping[str, str]

    @classmethod
    def of(cls, root: Node) -> _Short:
        keys = list(dict.fromkeys(_keys(root)))
        return cls(root, dict(zip(keys, short_names(len(keys)), strict=True)))

    def schema(self, defs: Mapping[str, Rule], dialect: Dialect) -> Lean:
        return leaned(self._rule(self.root), defs, dialect)

    def split(self, value: Any) -> Any:
        return self._renamed(self.root, value, self.names)

    def join(self, columns: Any) -> Any:
        return self._renamed(self.root, columns, {short: key for key, short in self.names.items()})

    def _rule(self, node: Node) -> Rule:
        if node.kind == "leaf":
            return node.rule
        properties: Rule = {}
        for child in node.children:
            rule = self._rule(child)
            words = (child.key, child.told or rule.get("description"))
            properties[self.names[child.key]] = {**rule, "description": "; ".join(filter(None, words))}
        made: Rule = {"type": "object", "properties": properties}
        return made if node.kind == "group" else {"type": "array", "items": made}

    def _renamed(self, node: Node, value: Any, names: Mapping[str, str]) -> Any:
        if node.kind == "leaf":
            return value
        if node.kind == "rows":
            if not is_list(value):
                raise ColumnsError(f"{node.key or 'the answer'} is no list")
            record = Node("", "group", {}, node.children)
            return [self._renamed(record, item, names) for item in value]
        # Either the children's own names are what there is, or what they become.
        inward = names is self.names
        given = {child.key if inward else self.names[child.key]: child for child in node.children}
        if not is_object(value) or set(value) != set(given):
            raise ColumnsError(f"{node.key or 'the answer'} has not the fields that were asked for")
        return {names[name]: self._renamed(child, value[name], names) for name, child in given.items()}


def _keys(node: Node) -> Iterator[str]:
    for child in node.children:
        yield child.key
        yield from _keys(child)


class Target:
    """What is asked for: one object of a model, or a list of them.

    Args:
        model: A pydantic model, or another type that pydantic can validate.
        many: A list of them is asked for.

    Attributes:
        name: What the model is called.
        whole: The type of the answer.
        wrapper: The key that the answer has in the object that every provider wants at the top, if it needs one.
    """

    def __init__(self, model: Any, *, many: bool = False) -> None:
        self.model, self.many = model, many
        self.whole: Any = GenericAlias(list, (model,)) if many else model
        self.adapter: TypeAdapter[Any] = TypeAdapter(self.whole)
        self.name = str(getattr(model, "__name__", "answer"))
        rule = raw_schema(self.whole)
        self.defs = defs_of(rule)
        own: Rule = {key: value for key, value in rule.items() if key != "$defs"}
        root = tree(own, self.defs)
        self.wrapper = "items" if many else None if root.kind == "group" else "answer"
        self._inner = root
        if self.wrapper:
            own = {"type": "object", "properties": {self.wrapper: own}}
            root = tree(own, self.defs)
        self.rule, self.root = own, root

    def forms(self, *, short: bool = False) -> Iterator[Form]:
        """Every form that the answer can have; rows first."""
        yield Form(self, "rows", _Rows(self.rule))
        if short and self.root.kind == "group":
            yield Form(self, "short", _Short.of(self.root))
        yield from self._columns(self._inner, short)

    def _columns(self, node: Node, short: bool) -> Iterator[Form]:
        if columns := Columns.of(node, short=short):
            yield Form(self, "short columns" if short else "columns", columns)

    def kept(self, form: Form) -> Iterator[Form]:
        """The same columns with one group, or one list of records within, kept as it is."""
        if isinstance(columns := form.layout, Columns):
            for path in columns.root.inner():
                yield from self._columns(columns.root.keeping(path), form.name == "short columns")

    def dumped(self, value: Any) -> Any:
        """Objects as JSON values."""
        return self.adapter.dump_python(value, mode="json", by_alias=True)


@dataclass(frozen=True, slots=True)
class Form:
    """One way to write an answer.

    Attributes:
        target: What is asked for.
        name: What it is called.
        layout: How values become an answer and back.
    """

    target: Target
    name: FormName
    layout: _Layout

    def schema(self, provider: Provider | None = "openai") -> Lean:
        """The schema of such an answer; without a provider one that all of them take."""
        return self.layout.schema(self.target.defs, Dialect.of(provider))

    def write(self, value: Any) -> str:
        """Objects as the answer that a model would write."""
        return self.written(self.target.dumped(value))

    def written(self, dumped: Any) -> str:
        """The same for what is JSON values already."""
        wrapper = self.target.wrapper
        wrapped = {wrapper: dumped} if wrapper and not self._is_bare else dumped
        return compact_json(self.layout.split(wrapped))

    def rows(self, answer: Any) -> Any:
        """The JSON values of the objects in an answer's JSON value.

        Raises:
            ColumnsError: The columns or fields are not those asked for, or they do not fit together.
        """
        found = self.layout.join(answer)
        if (wrapper := self.target.wrapper) is None or self._is_bare:
            return found
        if not is_object(found) or set(found) != {wrapper}:
            raise ColumnsError(f"the answer is not an object with {wrapper!r} alone")
        return found[wrapper]

    @property
    def _is_bare(self) -> bool:
        return isinstance(self.layout, Columns)


def smallest(target: Target, sample: Any = None, *, short: bool = False, model: str = "gpt-4o") -> Form:
    """The form that takes the fewest tokens for a sample; never one that takes more than compact JSON.

    Args:
        target: What is asked for.
        sample: Objects such as the answers will hold; without it stand-ins for every field.
        short: Letters may stand for names.
        model: Whose tokens are counted.
    """
    values = target.dumped(sample) if sample is not None else _stand_in(target)

    def size(form: Form) -> int:
        return tokens.count(form.written(values), model)

    best = min(target.forms(short=short), key=size)  # of equals the first, so rows
    while (better := min(target.kept(best), key=size, default=best)) is not best and size(better) < size(best):
        best = better
    return best


def columnar(model: Any, *, short: bool = False) -> Form:
    """A list of a model's records as columns.

    Args:
        model: A pydantic model, or another type that pydantic can validate.
        short: Letters stand for the names of the columns.

    Raises:
        ConfigError: It is no record with fields of its own.

    Example:
        >>> from pydantic import BaseModel
        >>> class Point(BaseModel):
        ...     x: int
        ...     y: int
        >>> columnar(Point).write([Point(x=1, y=2), Point(x=3, y=4)])
        '{"x":[1,3],"y":[2,4]}'
    """
    for form in Target(model, many=True).forms(short=short):
        if form.name in ("columns", "short columns"):
            return form
    raise ConfigError(f"{model!r} has no columns; expected a model with fields")


def compact_json(value: Any) -> str:
    """JSON without blanks and without escapes: an escape costs more than the letter that it stands for."""
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@dataclass(frozen=True, slots=True)
class Sizes:
    """What some records take, in tokens.

    Attributes:
        pretty: As JSON with line breaks and indents.
        compact: As JSON without.
        short: The same with letters for names.
        columns: As columns.
        values: The values alone, without quotes, names and what is between them; a part of each of the others.
    """

    pretty: int
    compact: int
    short: int
    columns: int
    values: int

    @property
    def structure(self) -> float:
        """What the columns take beside the values, relative to compact JSON."""
        return (self.columns - self.values) / max(1, self.compact - self.values)

    @property
    def saved(self) -> float:
        """What the columns save of compact JSON, values and all."""
        return 1 - self.columns / self.compact


def sizes(target: Target, sample: Sequence[Any], *, encoding: str = "o200k_base") -> Sizes:
    """What a list of records takes in each form; compact JSON here is the bare list, without an object around it."""
    rows: Any = target.dumped(sample)
    written = {form.name: form.written(rows) for form in (*target.forms(), *target.forms(short=True))}
    count = tokens.encoding(encoding).encode_ordinary
    return Sizes(
        pretty=len(count(json.dumps(rows, ensure_ascii=False, indent=2))),
        compact=len(count(compact_json(rows))),
        short=len(count(written.get("short", written["rows"]))),
        columns=len(count(written.get("columns", written["rows"]))),
        values=sum(len(count(value)) for value in _values(rows)),
    )


def texts_in(value: Any) -> Iterator[str]:
    """Every text among JSON values."""
    if isinstance(value, str):
        yield value
    elif is_object(value) or is_list(value):
        for item in value.values() if is_object(value) else value:
            yield from texts_in(item)


def _values(value: Any) -> Iterator[str]:
    if is_object(value):
        for item in value.values():
            yield from _values(item)
    elif is_list(value):
        for item in value:
            yield from _values(item)
    else:
        yield value if isinstance(value, str) else json.dumps(value)


def _stand_in(target: Target) -> Any:
    """Values of the shape that is asked for; their content does not matter."""
    made = _made(target.root, _EXPECTED)
    return made[target.wrapper] if target.wrapper else made


def _made(node: Node, records: int) -> Any:
    if node.kind == "leaf":
        return "text" if node.rule.get("type") == "string" else 1
    inside = 3 if node.kind == "rows" else records  # lists within records are short
    record = {child.key: _made(child, inside) for child in node.children}
    return record if node.kind == "group" else [record] * records
