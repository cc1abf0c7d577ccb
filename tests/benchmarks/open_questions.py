"""Open-domain questions as streams, for measuring alone: real ones of many kinds, and what rules make of them.

`asked` reads short prompts of the routing data (quiz questions and programming tasks, Apache-2.0), each distinct.
`one_word` puts beside each either the same in another manner or one with a word exchanged, added or left out.
`asked_of_many` asks the same few dozen things, in two or three wordings, of many subjects, as people do on the web.
"""

# ruff: noqa: E501  (tables that are read a row at a time)
from __future__ import annotations

import gzip
import json
import random
from collections.abc import Sequence

from match_data import ROOT, Stream

from llm_savings.semantic_cache.match import prepare
from llm_savings.semantic_cache.match.words import stem_korean
from llm_savings.semantic_cache.match.wordspace import bundled_words

MANNERS = ("can you tell me {}", "{}?", "do you know {}?", "please, {}", "i want to know {}", "{} exactly?")
MANNERS_KO = ("혹시 {}?", "{} 알려줘", "{}?", "저기, {}?", "{} 궁금해요")
ADDED_KO = "해외에서 인터넷으로 학생이 주말에 겨울에 무료로 집에서 아이와 외국인이 회사에서"
ADDED = "in India;for beginners;in the world;at home;for kids;without money;as a student;online;after college;in winter;in real life;for free;at night"
SUBJECTS = {
    "skill": "Python;Java;machine learning;the guitar;Spanish;French;chess;photography;accounting;yoga;swimming;drawing;cooking;JavaScript;statistics;public speaking;poker",
    "place": "Bangalore;Mumbai;Delhi;Pune;London;New York;Paris;Singapore;Dubai;Tokyo;Toronto;Sydney;Berlin;Goa;Boston",
    "thing": "gaming laptop;smart TV;electric car;bike;camera;treadmill;washing machine;smartwatch;tablet;router",
    "trouble": "belly fat;acne;dandruff;stress;back pain;a cold;insomnia;bad breath;smoking;laziness;shyness",
}
FRAMES = {
    "skill": "What is the best way to learn {}?|How can I learn {}?|How do I start learning {}?/How long does it take to learn {}?|How much time is needed to learn {}?/What are the best books to learn {}?|Which book is best for learning {}?/Is it worth learning {}?|Should I learn {}?/What should I learn before {}?|What are the prerequisites for learning {}?/Is {} hard to learn?|How difficult is {}?/What is {} used for?|What are the applications of {}?",
    "place": "What are the best restaurants in {}?|Where can I find the best food in {}?/What are the best hotels in {}?|Which hotel is the best in {}?/What should I see in {}?|What are the best places to visit in {}?/What is the cost of living in {}?|How expensive is it to live in {}?/How is life in {}?|What is it like to live in {}?/How do I get a job in {}?|What is the best way to find a job in {}?/How safe is {} for women?|Is {} safe for girls?/When should I visit {}?|What is the best time to visit {}?",
    "thing": "Which {} should I buy?|What is the best {} to buy?/What are the pros and cons of a {}?|What are the advantages and disadvantages of a {}?/Where can I buy a cheap {}?|What is the cheapest place to get a {}?/How do I fix a broken {}?|How can I repair my {}?/How does a {} work?|What is the working of a {}?/How long does a {} last?|What is the life of a {}?/How do I clean my {}?|What is the best way to clean a {}?",
    "trouble": "How do I get rid of {}?|What is the best way to get rid of {}?|How can I get rid of {}?/What causes {}?|What are the causes of {}?/How do I get rid of {} fast?|What is the fastest way to get rid of {}?/How do I get rid of {} naturally?|What are natural remedies for {}?/Is there a cure for {}?|Can {} be cured?/What foods help with {}?|What should I eat for {}?/Can exercise help with {}?|Does exercise reduce {}?",
}


def asked() -> list[str]:
    with gzip.open(ROOT / "routing" / "prompts.jsonl.gz", "rt", encoding="utf-8") as file:
        rows = [json.loads(line) for line in file]
    texts = {row["prompt"].strip() for row in rows if row["dataset"] == "llmrouter"}
    return sorted(text for text in texts if len(text) < 160 and "\n" not in text)


def distinct(name: str, texts: Sequence[str], seed: int = 0) -> Stream:
    return _mixed(name, [(text, text) for text in texts], seed)


def one_word(texts: Sequence[str], seed: int = 0, same: float = 0.35) -> Stream:
    draw, words = random.Random(seed), bundled_words()
    vocabulary = sorted({surface for text in texts for surface in prepare(text).surfaces if len(surface) > 2})
    found: list[tuple[str, str]] = []
    for text in texts:
        low = text.rstrip(" ?.").lower()
        inside = [surface for surface in prepare(text).surfaces if surface in low and len(surface) > 2]
        found.append((text, text))
        if not inside:
            continue
        old, kind = draw.choice(inside), draw.random()
        if draw.random() < same:
            found.append((draw.choice(MANNERS).format(low), text))
        elif kind < 0.6:
            others = [word for word in draw.sample(vocabulary, 300) if word[:4] != old[:4]]
            near = dict(zip(others, words.likeness([old], others)[0], strict=True))
            new = max(others, key=near.__getitem__)
            found.append((low.replace(old, new, 1), f"{text} exchanged"))
        elif kind < 0.8:
            found.append((f"{low} {draw.choice(ADDED.split(';'))}", f"{text} added"))
        else:
            found.append((" ".join(low.replace(old, "", 1).split()), f"{text} left out"))
    return _mixed("one word differs", found, seed)


def asked_of_many(seed: int = 0) -> Stream:
    found = [
        (wording.format(subject), f"{kind} {number} {subject}")
        for kind, subjects in SUBJECTS.items()
        for subject in subjects.split(";")
        for number, frame in enumerate(FRAMES[kind].split("/"))
        for wording in frame.split("|")
    ]
    return _mixed("asked of many subjects", found, seed)


def one_word_korean(name: str, texts: Sequence[str], seed: int = 0, same: float = 0.35) -> Stream:
    """As `one_word`: beside each question the same in another manner, or one word exchanged, added or left out.

    What is put in is no synonym (likeness below 0.6) and changes the content words; particles and endings stay.
    """
    draw, words = random.Random(seed), bundled_words()
    texts = [text for text in dict.fromkeys(texts) if len(prepare(text).words) >= 3]
    vocabulary = sorted({bare for text in texts for bare in _bare(text)})
    found: list[tuple[str, str]] = []
    for text in texts:
        low, kind = text.rstrip(" ?.!"), draw.random()
        inside = [bare for bare in _bare(text) if bare in low]
        found.append((text, text))
        if not inside:
            continue
        old = draw.choice(inside)
        if draw.random() < same:
            found.append((draw.choice(MANNERS_KO).format(low), text))
            continue
        if kind < 0.6:
            others = [word for word in draw.sample(vocabulary, min(300, len(vocabulary))) if word[0] != old[0]]
            near = zip(words.likeness([old], others)[0], others, strict=True)
            changed = low.replace(old, max(pair for pair in near if pair[0] < 0.6)[1], 1)
        elif kind < 0.8:
            changed = f"{draw.choice(ADDED_KO.split())} {low}"
        else:
            changed = " ".join(word for word in low.split() if old not in word)
        if prepare(changed).word_set != prepare(text).word_set:
            found.append((changed, f"{text} changed"))
    return _mixed(name, found, seed, "ko")


def _bare(text: str) -> list[str]:
    stems = (stem_korean(surface)[0] for surface in prepare(text).surfaces)
    return [stem for stem in stems if len(stem) > 1]


def _mixed(name: str, found: list[tuple[str, str]], seed: int, language: str = "en") -> Stream:
    random.Random(seed).shuffle(found)
    return Stream(name, language, [text for text, _ in found], [label for _, label in found])
