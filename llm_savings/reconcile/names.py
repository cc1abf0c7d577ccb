"""When two names mean one model: a ledger's, a usage export's, and the display name of an invoice."""

from __future__ import annotations

import re
from collections.abc import Iterable

_DATE = re.compile(r"-(20\d\d)-?(\d\d)-?(\d\d)(?!\d)")


def plain(model: str) -> str:
    """A name without what differs between a provider's own papers: its prefix, capitals, dots and spaces.

    Example:
        >>> plain("anthropic/claude-haiku-4-5"), plain("Claude Haiku 4.5"), plain("gpt-4o-2024-08-06")
        ('claude-haiku-4-5', 'claude-haiku-4-5', 'gpt-4o-20240806')
    """
    name = model.strip().lower().rpartition("/")[2]
    if name.startswith("ft:"):  # OpenAI's line items say ft-gpt-4o-2024-08-06 of ft:gpt-4o-2024-08-06:org::id
        name = f"ft-{name.split(':')[1]}"
    return _DATE.sub(r"-\1\2\3", re.sub(r"[\s.:@]+", "-", name))


def undated(name: str) -> str:
    """A plain name without its date."""
    return _DATE.sub("", name)


def same(one: str, other: str) -> bool:
    """Whether two plain names may mean one model: they are equal, or one only adds a date to the other."""
    return one == other or (undated(one) == undated(other) and (one == undated(one) or other == undated(other)))


class Models:
    """The models of an export, and which of them a call of the ledger belongs to.

    Args:
        names: The export's names.
    """

    def __init__(self, names: Iterable[str]) -> None:
        self.names = {plain(name) for name in names}
        self._answered: dict[str, set[str]] = {}

    def learn(self, requested: str, answered: str | None) -> None:
        """Remember which model answers to a name (gpt-4o -> gpt-4o-2024-08-06), for calls whose answer was lost."""
        if answered:
            self._answered.setdefault(plain(requested), set()).add(plain(answered))

    def find(self, requested: str, answered: str | None = None) -> str | None:
        """The export's plain name for a call, or None when it has none that is certain."""
        asked = plain(requested)
        for name in (answered and plain(answered), asked, *self._answered.get(asked, ())):
            if name in self.names:
                return name
        alike = {
            known for name in (answered and plain(answered), asked) if name for known in self.names if same(known, name)
        }
        return alike.pop() if len(alike) == 1 else None
