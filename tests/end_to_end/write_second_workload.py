"""Writes workload_second.jsonl, an IT help desk that no strategy was developed on: python write_second_workload.py.

What is asked is written by hand; who asks it when is drawn with one seed, popular questions more often (Zipf).
"""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import second_intents

TARGET = Path(__file__).with_name("workload_second.jsonl")
DAYS, CHATS, NIGHTLY, SEED = 3, 78, 20, 20261102


def lines() -> list[dict[str, Any]]:
    """The header and the requests, in time order."""
    dice = random.Random(SEED)
    popular = list(second_intents.ASKED)
    dice.shuffle(popular)
    weights = [1 / rank for rank in range(1, len(popular) + 1)]
    asked: list[dict[str, Any]] = []
    for day in range(DAYS):
        for _ in range(CHATS // DAYS):
            lang = dice.choice(("ko", "en"))
            mine = [(intent, weight) for intent, weight in zip(popular, weights, strict=True) if intent[1] == lang]
            at = day * 86_400 + int(dice.triangular(8 * 3600, 18 * 3600, 10 * 3600))
            user = f"{lang}{dice.randrange(24):02}"
            for intent in dice.choices([i for i, _ in mine], [w for _, w in mine], k=dice.randint(1, 5)):
                asked.append(request(intent, dice.choice(intent[2]), at, user, stream=dice.random() < 0.3))
                at += dice.randint(40, 240)
        for count in range(NIGHTLY):
            intent = dice.choice(second_intents.LOGS)
            at = day * 86_400 + 23 * 3600 + count
            line = dice.choice(intent[2]).replace("#", str(dice.randrange(100, 999)))
            asked.append(request(intent, line, at, "nightly", system="classify", batchable=True, max_tokens=60))
    asked.sort(key=lambda one: one["at"])
    header = {"workload": "help desk", "version": 1, "license": "MIT", "systems": second_intents.SYSTEMS}
    return [header, *({"id": f"h{number:04}", **one} for number, one in enumerate(asked, 1))]


def request(intent: second_intents.Intent, prompt: str, at: int, user: str, **more: Any) -> dict[str, Any]:
    """One line of the file."""
    feature, lang, _, answer, wrong = intent
    usual: dict[str, Any] = {"system": "handbook", "max_tokens": 400, "stream": False, "batchable": False}
    told = {"answer": answer} | ({"wrong": wrong} if wrong else {})
    return {"at": at, "feature": feature, "lang": lang, "user": user, "prompt": prompt, **usual, **more, **told}


def text() -> str:
    """The whole file."""
    return "".join(json.dumps(line, ensure_ascii=False) + "\n" for line in lines())


if __name__ == "__main__":
    TARGET.write_text(text(), "utf-8")
