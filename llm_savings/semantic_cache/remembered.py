"""What was worked out of a text, remembered for when it comes again."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable
from contextlib import suppress
from typing import Generic, TypeVar

_T = TypeVar("_T")


class Remembered(Generic[_T]):
    """A function of texts that remembers its latest results; without a lock, so none that a fork could leave held.

    Args:
        make: The function.
        most: How many results.

    Example:
        >>> length = Remembered(len, 2)
        >>> length.put("a", 100)
        >>> length("a"), length("ab")
        (100, 2)
    """

    def __init__(self, make: Callable[[str], _T], most: int) -> None:
        self._make, self._most = make, most
        self._known: OrderedDict[str, _T] = OrderedDict()

    def __call__(self, text: str) -> _T:
        """The result for a text."""
        found = self._known.get(text)
        if found is None:
            found = self._make(text)
            self.put(text, found)
        return found

    def __contains__(self, text: str) -> bool:
        return text in self._known

    def put(self, text: str, found: _T) -> None:
        """Remember what was worked out elsewhere."""
        self._known[text] = found
        if len(self._known) > self._most:
            with suppress(KeyError):  # another thread was faster
                self._known.popitem(last=False)
