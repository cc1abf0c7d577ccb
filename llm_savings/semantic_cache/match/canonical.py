"""The form in which two texts share an answer without any doubt: case, spacing, punctuation and Unicode form."""

from __future__ import annotations

import re
import unicodedata

# Characters of another width, blanks that do not break, typographic quotes, and what is not seen at all.
_ODD = re.compile(
    "[\u00a0\u00ad\u0f0c\u2007\u200b\u2011\u2018\u2019\u201c\u201d\u2026\u202f\u2060\u3000\ufeff\uff00-\uffef]"
)
_PLAIN = dict.fromkeys("\u200b\u2060\ufeff\u00ad", "") | {
    "\u2018": "'", "\u2019": "'", "\u201c": '"', "\u201d": '"', "\u2026": "..."
}  # fmt: skip
# Text that looks like code keeps its case and its line ends: `Foo` is not `foo`, and Python counts spaces.
_CODE = re.compile(r"[`{};\\]|\n[ \t]|\w\(|==|=>|->|</|\w_\w|::|\$\w")
_SIGN = re.compile(r"[`{};\\\n(=></_:$]")  # nothing without one of these looks like code
_WORD = re.compile(r"[\"'(]*[^\W\d_]+(?:['-][^\W\d_]+)*[,.!?:;\"')]*")
_ASKS_EN = re.compile(
    r"(?:what|which|who|whom|whose|when|where|why|how|is|are|am|was|were|do|does|did|can|could|will|would|shall|should"
    r"|may|might|must|has|have|had|what's|who's|how's|where's)\b"
)
_ASKS_KO = re.compile(r"(?:까|까요|나요|가요|니까|는지|은지|인지|을지|나|니|냐|뭐야|뭐지|뭐예요|인가|어때|어때요)\?$")


def canonical(text: str) -> str:
    """Return the form of `text` that the exact tier compares: equal forms share one answer.

    Folded: Unicode composition (NFC), full-width and half-width forms, runs of blanks, typographic quotes, invisible
    characters, one closing full stop, and a closing question mark where the words already ask. Case is folded in
    words written as words (`Hello`, `hello`), never in acronyms (`US` is not `us`), single letters (`C`, `c`; `I` and
    `A` are words), names with digits or signs, or text that looks like code. Digits, signs and operators always stay,
    and so does the order of everything; NFKC is not used, because it makes `10²` into `102`.

    Example:
        >>> canonical("  What is  RAG? ") == canonical("what is RAG")
        True
        >>> canonical("C++") == canonical("C#")
        False
    """
    text = unicodedata.normalize("NFC", text)
    if not text.isascii():
        text = unicodedata.normalize("NFC", _ODD.sub(_even, text))
    text = text.strip()
    if _SIGN.search(text) and _CODE.search(text):
        return text
    text = " ".join([word if word == word.lower() else _fold(word) for word in text.split()])
    if text.endswith("?") and len(text) > 1 and (text[-2].isalnum() or text[-2] in ")\"'+#%"):
        return text[:-1] if _ASKS_EN.match(text) or _ASKS_KO.search(text[-5:]) else text
    return text[:-1] if text.endswith(".") and text[-2:-1].isalnum() else text


def _even(match: re.Match[str]) -> str:
    char = match[0]
    if char in _PLAIN:
        return _PLAIN[char]
    kind, _, code = unicodedata.decomposition(char).partition(" ")
    return chr(int(code, 16)) if kind in {"<wide>", "<narrow>"} else " " if kind == "<noBreak>" else char


def _fold(word: str) -> str:
    if not _WORD.fullmatch(word):
        return word
    letters = word.strip("\"'(),.!?:;")
    if letters in {"I", "A"} or letters.startswith("I'"):
        return word.lower()
    # A capital only in front (or none) is a word; capitals elsewhere are an acronym or a name in code.
    return word.lower() if len(letters) > 1 and letters[1:] == letters[1:].lower() else word
