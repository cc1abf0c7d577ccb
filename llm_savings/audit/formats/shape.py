"""What a format of logs is: its name, the fields that tell it, and how one entry becomes a record's fields."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from llm_savings.audit.values import Document, Values


@dataclass(frozen=True, slots=True)
class Format:
    """A format of logs.

    Attributes:
        name: As users name it.
        needs: Fields that its entries have; of each group one.
        read: An entry's fields of a `Record`, but for where it is from. Raises `Unusable` or `UsageError` for an entry
            that gives none.
        utc: Whether its times are UTC when they name no zone.
    """

    name: str
    needs: tuple[tuple[str, ...], ...]
    read: Callable[[Document, Values], dict[str, Any]]
    utc: bool = True

    def missing(self, document: Document) -> list[str]:
        """What this entry lacks to be of this format."""
        return ["|".join(group) for group in self.needs if not any(name in document for name in group)]
