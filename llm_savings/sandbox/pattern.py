"""A string for a regular expression: enough of the syntax for the patterns that people put in JSON schemas."""

from __future__ import annotations

import random
import re

_CLASSES = {"d": "0123456789", "w": "abcdefghijklmnopqrstuvwxyz", "s": " ", "D": "a", "W": "-", "S": "a"}
_ANY = "abcdefghijklmnopqrstuvwxyz"


def matching(pattern: str, dice: random.Random) -> str | None:
    """A string that the pattern finds, or None when the syntax is beyond this little reader."""
    try:
        made = _Reader(pattern, dice).alternatives()
        return made if re.search(pattern, made) else None
    except (ValueError, IndexError, re.error):
        return None


class _Reader:
    """Reads a pattern from left to right and writes a match as it goes."""

    def __init__(self, pattern: str, dice: random.Random) -> None:
        self._rest, self._dice = list(pattern), dice

    def alternatives(self) -> str:
        branches = [self._branch()]
        while self._rest and self._rest[0] == "|":
            self._rest.pop(0)
            branches.append(self._branch())
        return self._dice.choice(branches)

    def _branch(self) -> str:
        made = ""
        while self._rest and self._rest[0] not in "|)":
            before = list(self._rest)
            piece = self._atom()
            times = self._times()
            made += piece if times else ""
            for _ in range(times - 1):  # read the same atom again, for a fresh choice
                rest, self._rest = self._rest, before[:]
                made += self._atom()
                self._rest = rest
        return made

    def _atom(self) -> str:
        letter = self._rest.pop(0)
        if letter in "^$":
            return ""
        if letter == ".":
            return self._dice.choice(_ANY)
        if letter == "\\":
            escaped = self._rest.pop(0)
            return "" if escaped in "bB" else self._dice.choice(_CLASSES.get(escaped, escaped))
        if letter == "[":
            return self._set()
        if letter == "(":
            if self._rest[0] == "?":
                if self._rest[1] != ":":
                    raise ValueError("only plain groups")
                del self._rest[:2]
            made = self.alternatives()
            self._rest.pop(0)
            return made
        return letter

    def _set(self) -> str:
        negated = self._rest[0] == "^"
        if negated:
            self._rest.pop(0)
        letters = ""
        while self._rest[0] != "]" or not letters:
            letter = self._rest.pop(0)
            if letter == "\\":
                escaped = self._rest.pop(0)
                letters += _CLASSES.get(escaped, escaped)
            elif self._rest[0] == "-" and self._rest[1] != "]":
                self._rest.pop(0)
                letters += "".join(map(chr, range(ord(letter), ord(self._rest.pop(0)) + 1)))
            else:
                letters += letter
        self._rest.pop(0)
        if negated:
            letters = "".join(letter for letter in _ANY + _ANY.upper() + "0123456789 -" if letter not in letters)
        elif _CLASSES["d"] in letters and "." in letters:
            letters = _CLASSES["d"]  # a number: no model writes "4..2"
        return self._dice.choice(letters)

    def _times(self) -> int:
        if not self._rest or self._rest[0] not in "*+?{":
            return 1
        letter = self._rest.pop(0)
        if letter == "{":
            inside = ""
            while self._rest[0] != "}":
                inside += self._rest.pop(0)
            self._rest.pop(0)
            low, comma, high = inside.partition(",")
            least = int(low or 0)
            times = self._dice.randint(least, int(high)) if high else least + (2 if comma else 0)
        else:
            times = {"*": 2, "+": 3, "?": 1}[letter]
        if self._rest and self._rest[0] == "?":  # lazy: the same strings match
            self._rest.pop(0)
        return times
