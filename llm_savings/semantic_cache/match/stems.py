"""A light English stemmer: enough that a word and its plural or past are one."""

from __future__ import annotations

import re
from functools import lru_cache

# Pasts that no ending tells: of the verb before the colon.
_PASTS = """
buy:bought pay:paid send:sent spend:spent lose:lost find:found take:took,taken break:broke,broken steal:stole,stolen
freeze:froze,frozen forget:forgot,forgotten choose:chose,chosen write:wrote,written speak:spoke,spoken sell:sold
tell:told make:made go:went,gone come:came give:gave,given know:knew,known see:saw,seen eat:ate,eaten drive:drove,driven
fly:flew,flown drink:drank,drunk begin:began,begun run:ran sleep:slept keep:kept hold:held bring:brought think:thought
teach:taught catch:caught build:built lend:lent mean:meant meet:met win:won wake:woke,woken wear:wore,worn say:said
"""
_PRESENT = {
    past: present for present, pasts in (pair.split(":") for pair in _PASTS.split()) for past in pasts.split(",")
}


@lru_cache(16384)
def stem_english(word: str) -> str:
    """Return `word` without its plural, -ing, -ed and silent e: `charges`, `charged` and `charge` are one."""
    stem = _PRESENT.get(word, word)
    if len(stem) > 4 and stem.endswith("ies"):
        stem = stem[:-3] + "y"
    elif len(stem) > 4 and re.search(r"(?:ss|x|z|ch|sh)es$", stem):
        stem = stem[:-2]
    elif len(stem) > 3 and stem.endswith("s") and stem[-2] not in "sui":
        stem = stem[:-1]
    for ending in ("ing", "ed"):
        if stem.endswith(ending) and len(stem) >= len(ending) + 3 and re.search("[aeiouy]", stem[: -len(ending)]):
            stem = stem[: -len(ending)]
            if stem[-1] == stem[-2] and stem[-1] not in "lsz":
                stem = stem[:-1]
            break
    return stem[:-1] if len(stem) > 3 and stem.endswith("e") else stem
