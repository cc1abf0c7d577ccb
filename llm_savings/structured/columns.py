"""Records as columns: `{"name": ["Mug", "Lamp"], "price": [9.5, 20]}` in place of one object a record.

A schema becomes a tree: an object is a group of its fields, a list of objects is rows, all else a leaf. Each leaf is a
column; the fields of a group within are named by their path ("buyer.name"), and rows within rows make lists of lists.
What a column cannot hold exactly (an object or null, a union, an open object, a model within itself) is a leaf, and so
in its column as it is.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from llm_savings.structured.schema import Dialect, Lean, Rule, is_list, is_object, leaned, ref, single

Kind = Literal["leaf", "group", "rows"]
Path = tuple[str, ...]


class ColumnsError(ValueError):
    """Columns that cannot be records: one is missing, is no list, or is of another length."""


@dataclass(frozen=True, slots=True)
class Node:
    """A part of a schema.

    Attributes:
        key: The name that it has in its object.
        kind: What it is.
        rule: Its schema.
        children: Of a group its fields, of rows those of a record.
        told: What the schema says of it in words, where it has fields of its own.
    """

    key: str
    kind: Kind
    rule: Rule
    children: tuple[Node, ...] = ()
    told: str = ""

    def leaves(self, above: Path = (), depth: int = 0) -> Iterator[tuple[Path, int, Node]]:
        """Every leaf: its path, how many lists are around its values, and itself."""
        path = (*above, self.key) if self.key else above
        if self.kind == "leaf":
            yield path, depth, self
        for child in self.children:
            yield from child.leaves(path, depth + (self.kind == "rows"))

    def inner(self, above: Path = ()) -> Iterator[Path]:
        """The path of every group and all rows below this node, outermost first."""
        for child in self.children:
            if child.kind != "leaf":
                yield (*above, child.key)
                yield from child.inner((*above, child.key))

    def keeping(self, kept: Path) -> Node:
        """The same with what is at that path kept as it is."""
        children = tuple(
            child
            if child.key != kept[0]
            else Node(child.key, "leaf", child.rule)
            if len(kept) == 1
            else child.keeping(kept[1:])
            for child in self.children
        )
        return Node(self.key, self.kind, self.rule, children, self.told)


def tree(rule: Rule, defs: Mapping[str, Rule], key: str = "", within: frozenset[str] = frozenset()) -> Node:
    """The tree of a schema."""
    found, within = _resolved(rule, defs, within)
    kind: Kind = "group"
    record = found
    if found.get("type") == "array" and "prefixItems" not in found:
        kind = "rows"
        record, within = _resolved(found.get("items", {}), defs, within)
    properties: Mapping[str, Rule] = record.get("properties", {})
    if record.get("type") == "object" and properties and not record.get("additionalProperties"):
        children = tuple(tree(inner, defs, name, within) for name, inner in properties.items())
        node = Node(key, kind, rule, children, str(rule.get("description", "")))
        if any(True for _ in node.leaves()):
            return node
    return Node(key, "leaf", rule)


def _resolved(rule: Rule, defs: Mapping[str, Rule], within: frozenset[str]) -> tuple[Rule, frozenset[str]]:
    rule = single(rule)
    while name := ref(rule):
        if name in within:
            return rule, within  # within itself: no object, so a leaf
        within = within | {name}
        rule = single(defs[name])
    return rule, within


@dataclass(frozen=True, slots=True)
class Columns:
    """A tree's columns and their names.

    Attributes:
        root: The tree.
        names: A column's name by its path, in the order in which the columns are written.
    """

    root: Node
    names: Mapping[Path, str]

    @classmethod
    def of(cls, root: Node, *, short: bool = False) -> Columns | None:
        """The columns of a tree, named by their paths or shortly; None where it has none or two have one name."""
        paths = [path for path, _, _ in root.leaves()]
        names = list(short_names(len(paths))) if short else [".".join(path) for path in paths]
        if root.kind == "leaf" or len(set(names)) < len(names):
            return None
        return cls(root, dict(zip(paths, names, strict=True)))

    def schema(self, defs: Mapping[str, Rule], dialect: Dialect) -> Lean:
        """The schema of an answer in columns."""
        properties: Rule = {}
        said: set[Path] = set()
        for path, depth, leaf in self.root.leaves():
            rule, name = leaf.rule, self.names[path]
            words = [".".join(path)] if name != ".".join(path) else []
            for place, told in _told(self.root, path):
                if told and place not in said:  # what is said of a group stands at the first of its columns
                    said.add(place)
                    words.append(told)
            if words:
                rule = {**rule, "description": "; ".join([*words, str(rule.get("description", ""))]).removesuffix("; ")}
            for _ in range(depth):
                about = {"description": rule["description"]} if "description" in rule else {}
                rule = {"type": "array", "items": {k: v for k, v in rule.items() if k != "description"}, **about}
            properties[name] = rule
        whole: Rule = {"type": "object", "properties": properties}
        if any(depth for _, depth, _ in self.root.leaves()):
            whole["description"] = "One array per field; all in the same order, one value per record."
        return leaned(whole, defs, dialect)

    def split(self, value: Any) -> dict[str, Any]:
        """Records as columns.

        Example:
            >>> field = Node("x", "leaf", {})
            >>> points = Columns(Node("", "rows", {}, (field,)), {("x",): "x"})
            >>> points.split([{"x": 1}, {"x": 2}])
            {'x': [1, 2]}
        """
        found = _split(self.root, value)
        return {name: found[path] for path, name in self.names.items()}

    def join(self, columns: Any) -> Any:
        """Columns as records.

        Raises:
            ColumnsError: They cannot be records.
        """
        if not is_object(columns):
            raise ColumnsError("the answer is no object of columns")
        missing = [name for name in self.names.values() if name not in columns]
        if missing or len(columns) > len(self.names):
            strange = [name for name in columns if name not in self.names.values()]
            raise ColumnsError(f"columns missing: {missing}; columns that nobody asked for: {strange}")
        return _join(self.root, {path: columns[name] for path, name in self.names.items()})


def short_names(many: int) -> Iterator[str]:
    """a, b, ... z, aa, ab and so on."""
    letters = "abcdefghijklmnopqrstuvwxyz"
    for number in range(many):
        yield letters[number] if number < 26 else letters[number // 26 - 1] + letters[number % 26]


def _told(root: Node, path: Path) -> Iterator[tuple[Path, str]]:
    node = root
    for place in range(1, len(path)):
        node = next(child for child in node.children if child.key == path[place - 1])
        yield path[:place], node.told


def _below(node: Node) -> Path:
    return (node.key,) if node.key else ()


def _split(node: Node, value: Any) -> dict[Path, Any]:
    if node.kind == "leaf":
        return {_below(node): value}
    if node.kind == "group":
        found = [part for child in node.children for part in _split(child, value[child.key]).items()]
        return {(*_below(node), *path): data for path, data in found}
    record = Node("", "group", {}, node.children)
    rows = [_split(record, item) for item in value]
    return {(*_below(node), *path): [row[path] for row in rows] for path, _, _ in record.leaves()}


def _join(node: Node, columns: Mapping[Path, Any]) -> Any:
    """The value of a node from the columns below it, whose paths begin at the node."""
    if node.kind == "leaf":
        (value,) = columns.values()
        return value
    own = len(_below(node))
    inside = {path[own:]: data for path, data in columns.items()}
    if node.kind == "group":
        return _record(node.children, inside)
    lengths = {".".join(path): len(data) if is_list(data) else None for path, data in columns.items()}
    if len(set(lengths.values())) != 1 or None in lengths.values():
        raise ColumnsError(f"columns of unequal length: {lengths}")
    (many,) = set(lengths.values())
    return [_record(node.children, {path: data[row] for path, data in inside.items()}) for row in range(many or 0)]


def _record(children: Sequence[Node], columns: Mapping[Path, Any]) -> Rule:
    made: Rule = {}
    for child in children:
        own = {path: data for path, data in columns.items() if path[0] == child.key}
        made[child.key] = _join(child, own)
    return made
