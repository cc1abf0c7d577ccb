"""What pages and reports say, in English and Korean: sentences by name, from one data file (`data/texts.toml`)."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import resources
from typing import Any, Literal, get_args

from rich.console import Console, ConsoleOptions, RenderResult
from rich.measure import Measurement
from rich.text import Text

Lang = Literal["en", "ko"]
LANGS: tuple[Lang, ...] = get_args(Lang)

# {0} is the first thing said; {0:call|calls} is followed by the first word if it is 1, else by the second.
_PLACE = re.compile(r"\{(\d)(?::([^|}]*)\|([^}]*))?\}")


@dataclass(frozen=True, slots=True)
class Said:
    """A sentence by its name, with what stands in its places; it is put into a language last.

    A console puts it into its own (`lang`, else English), also where it stands in a table.

    Attributes:
        key: Its name in the data file, such as "headline.saved".
        args: Text, or other sentences, for {0}, {1} and so on.

    Example:
        >>> Said("count.calls", ("1",)).text(), Said("count.calls", ("2",)).text("ko")
        ('1 call', '2건')
    """

    key: str
    args: tuple[str | Said, ...] = ()

    def text(self, lang: Lang = "en") -> str:
        """The sentence in a language.

        Raises:
            KeyError: There is no sentence of this name.
        """
        said = [arg if isinstance(arg, str) else arg.text(lang) for arg in self.args]

        def put(place: re.Match[str]) -> str:
            value, one = said[int(place[1])], place[2]
            return value if one is None else f"{value} {one if value == '1' else place[3]}"

        return _PLACE.sub(put, catalogue()[self.key][lang])

    def __str__(self) -> str:
        return self.text()

    def __rich_console__(self, console: Console, options: ConsoleOptions) -> RenderResult:
        yield Text(self.text(getattr(console, "lang", "en")))

    def __rich_measure__(self, console: Console, options: ConsoleOptions) -> Measurement:
        return Measurement.get(console, options, Text(self.text(getattr(console, "lang", "en"))))

    def data(self) -> list[Any]:
        """Its name and arguments, for the script of a page."""
        return [self.key, *(arg if isinstance(arg, str) else arg.data() for arg in self.args)]


def say(key: str, *args: str | int | Said) -> Said:
    """A sentence; counts get thousands separators."""
    return Said(key, tuple(f"{arg:,}" if isinstance(arg, int) else arg for arg in args))


def columns(*names: str) -> list[Said]:
    """Heads of a table's columns."""
    return [say(f"column.{name}") for name in names]


@cache
def catalogue() -> Mapping[str, Mapping[Lang, str]]:
    """All sentences: {"group.name": {"en": ..., "ko": ...}}; of a finding of the linter "clock.reason" and so on."""
    folder = resources.files("llm_savings").joinpath("data")
    groups: dict[str, dict[str, dict[Lang, str]]] = {}
    for file in ("texts.toml", "prompt_cache_findings.toml"):
        groups |= tomllib.loads(folder.joinpath(file).read_text(encoding="utf-8"))
    return {f"{group}.{name}": said for group, names in groups.items() for name, said in names.items()}


def recognised(text: str, group: str) -> Said | str:
    """The sentence of a group that says this in English; the text itself where there is none.

    Example:
        >>> str(recognised("no model", "unread")), recognised("no model", "unread").key, recognised("?", "unread")
        ('no model', 'unread.no_model', '?')
    """
    for key, said in catalogue().items():
        if key.startswith(f"{group}."):
            pattern = _PLACE.sub("(.+)", re.escape(said["en"]).replace(r"\{", "{").replace(r"\}", "}"))
            if match := re.fullmatch(pattern, text):
                return Said(key, match.groups())
    return text
