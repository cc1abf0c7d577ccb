"""The tokens of a question, and Korean words without their particles and endings."""

from __future__ import annotations

import re
import unicodedata

from llm_savings.semantic_cache.match.lexicon import lexicon
from llm_savings.semantic_cache.match.stems import stem_english

HANGUL = re.compile(r"[가-힣]")
# A name with digits or joining signs is one token (gpt-4o, C++, snake_case, 3.11, 2024-01-05, #12); so is a word.
TOKEN = re.compile(
    r"[$€£¥₩₹%°]|(?<!\S)--?[a-z][\w-]+|(?<!\w)[-+]?\d[\w.,:/+-]*\w|(?<!\w)[-+]?\d|\d+|[a-z]+[-_./]?\d(?:[\w.-]*\w)?"
    r"|[a-z][+#]+|\w+_\w+|[a-z]+n't|'(?:s|m|re|ve|d|ll)\b|[가-힣]+|[^\W\d_가-힣]+|<=|>=|!=|==|[<>=^]|(?<!\S)[-+*/&|](?=\s*\d)|(?<!\S)[+*/&|](?!\S)"
)
# What denies or forbids, each way of saying it once (하지 마, 하면 안 돼, 하면 큰일 나, 금지, 자제, 삼가), and what
# puts one thing aside for another (A 말고, 대신, 아니라, 하기보다 B).
NEGATION = re.compile(
    r"[가-힣]지(?:는|도|를)?\s?(?:마(?![가-힣]*른)|말|맙|않|못)"
    r"|(?<![가-힣])(?:안|못)(?=\s(?!말고)|돼|되|됩|된|될|해|하|할|합|한|했|갔|왔|탔|봤|먹|읽|받|열|켜|꺼|써|쓰|마[시셔]|내려가|올라가|나[오와]|들어|움직|보[이여내]|가(?:게|$|\s)|와(?:$|\s))"
    r"|[가-힣]면\s?(?:안(?=\s|돼|되|됩|된)|큰일|혼[나난])|금지|(?<!궁)금합|삼가|자제|그만\s|(?<![가-힣])(?:아닌|아니라|아니고)"
    r"|(?<!지)(?<!지\s)말고|대신|[가-힣]기\s?보[다단]|[가-힣]수\s?없|[가-힣]\s수\s?없"
)
# Which part a word plays, by the particle behind it (Korean) or the preposition before it (English).
_PARTICLES_BY_ROLE = {
    "from": "에서 부터 에게서 한테서 에서부터 으로부터 로부터",
    "to": "로 으로 까지",
    "given": "에게 한테 께",
    "at": "에",
    "subject": "이 가 께서",
    "object": "을 를",
    "than": "보다",
    "of": "의",
    "instead": "말고 대신",
}
ROLES = {particle: role for role, particles in _PARTICLES_BY_ROLE.items() for particle in particles.split()}
PREPOSITIONS = {"into": "to", "onto": "to", "towards": "to", "in": "at", "on": "at"} | {
    word: word for word in ("from", "to", "by", "for", "of", "than", "before", "after", "over", "with", "without", "at")
}

# Behind a single syllable only what hardly ever ends a noun is cut (사고 is not 사 + 고), and only after the kind of
# letter that it follows: 사과 is not 사 + 과, 차이 is not 차 + 이, 가을 is not 가 + 을.
_AFTER_VOWEL, _AFTER_CONSONANT = frozenset("는가를와"), frozenset("은이을과")
_FUSED = {"ᅧ": "ᅵ", "ᅪ": "ᅩ", "ᅯ": "ᅮ", "ᅫ": "ᅬ"}


def stem_korean(word: str) -> tuple[str, str]:
    """Return the stem of `word` and the role its particle gives it (empty for none).

    Suffixes go until none is left, so that a noun with and without a particle ends in the same stem.

    Example:
        >>> stem_korean("배송이")
        ('배송', 'subject')
        >>> stem_korean("걸리나요")[0] == stem_korean("걸려요")[0]
        True
    """
    role, stem, ending = "", word, ""
    while True:
        cut, verb = _suffix(stem)
        if not cut:
            return _whole(stem, ending) if ending else stem, role
        if stem == word:
            role = ROLES.get(stem[-cut:], "")
        ending = stem[-cut:] if verb else ""
        stem = stem[:-cut]


def _suffix(stem: str) -> tuple[int, bool]:
    """Return how many syllables of `stem` are a suffix (0 for none), and whether it is a verb's."""
    lists = lexicon("ko")
    for length in range(min(5, len(stem) - 1), 0, -1):
        tail = stem[-length:]
        verb = tail in lists.endings
        if not verb and tail not in lists.particles:
            continue
        if length > 1:
            return length, verb
        if len(stem) > 2:
            return length, verb
        closed = (ord(stem[-2]) - 0xAC00) % 28 != 0
        if tail == "에" or tail in (_AFTER_CONSONANT if closed else _AFTER_VOWEL):
            return length, verb
    return 0, False


def _whole(stem: str, ending: str) -> str:
    """Undo what an ending did to a stem's last syllable: 걸려 -> 걸리, 했 -> 하, 지울(까) -> 지우."""
    jamo = unicodedata.normalize("NFD", stem).removesuffix("ᆻ")
    if jamo.endswith("ᄒ" + "ᅢ"):
        jamo = jamo[:-1] + "ᅡ"
    elif jamo[-1] in "ᆯᆸ" and ending[0] in "까래니" and len(stem) > 1:
        jamo = jamo[:-1]
    elif jamo[-1] in _FUSED:
        jamo = jamo[:-1] + _FUSED[jamo[-1]]
    return unicodedata.normalize("NFC", jamo)


_POLITE = frozenset(map(stem_english, ("please", "kindly", "hi", "hello", "hey")))
_ASKING = frozenset({"do", "can", "could", "would"})
_ASKED = frozenset({"what", "who", "where", "how", "when"})


def bare(tokens: tuple[str, ...]) -> tuple[str, ...]:
    """English stems without what only the manner of asking adds: "please", "how can I" for "how do I", "what's".

    Example:
        >>> bare(("how", "can", "i", "pay", "please")) == bare(("how", "do", "i", "pay"))
        True
    """
    kept: list[str] = []
    for word in tokens:
        last = kept[-1] if kept else ""
        if word in _POLITE or (word in _ASKING and last == "how"):
            continue
        kept.append("is" if word == "'s" and last in _ASKED else word)
    return tuple(kept)
