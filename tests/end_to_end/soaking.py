"""A process of users who never stop asking, with every strategy on; faults are not their business.

Run as `python soaking.py HOST LEDGER CACHE URL CALLS SEED FOLDER`. It ends with a line of JSON: how its calls ended,
and memory and threads after a third of them (the warm-up) and at the end.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import random
import sys
import threading
import time
import traceback
from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "true"

import litellm
import psutil
import second_intents
from langchain_anthropic import ChatAnthropic
from langchain_core.globals import set_llm_cache
from langchain_openai import ChatOpenAI
from litellm import Router
from pydantic import BaseModel

import llm_savings
from llm_savings import CostCallback, Ledger
from llm_savings.batch import Options
from llm_savings.errors import SavingsError
from llm_savings.langchain import (
    RoutedChatModel,
    SemanticCache,
    submit_batch,
    with_cached_streaming,
    with_compact_output,
    with_prompt_caching,
)
from llm_savings.litellm import ComplexityRouting, CostLogger, PromptCaching
from llm_savings.litellm import SemanticCache as LiteLLMCache

OURS = str(Path(llm_savings.__file__).parent)
THEIRS = ("openai", "anthropic", "httpx", "httpcore", "litellm", "langchain_openai", "langchain_anthropic")
PATIENCE = 0.6  # seconds; the provider's stalls last longer
WORDINGS = [text for intent in second_intents.ASKED for text in intent[2]]
Ask = Callable[[random.Random], object]


class Verdict(BaseModel):
    sentiment: str
    confidence: float


def question(dice: random.Random) -> list[Any]:
    """Often one that was asked before."""
    text = dice.choice(WORDINGS)
    if dice.random() < 0.4:
        text = f"{text} ({dice.randrange(100_000)})"
    return [{"role": "system", "content": second_intents.HANDBOOK}, {"role": "user", "content": text}]


def langchain(ledger: Ledger, cache: str, url: str, folder: Path) -> tuple[Ask, Callable[[], object]]:
    set_llm_cache(SemanticCache(cache))
    config: Any = {"callbacks": [CostCallback(ledger)]}

    def gpt(name: str) -> Any:
        model = ChatOpenAI(
            model=name, base_url=f"{url}/v1", api_key="x", max_retries=1, max_tokens=120, timeout=PATIENCE,
            stream_usage=True,
        )  # fmt: skip
        return with_cached_streaming(with_prompt_caching(model, own_servers=[f"{url}/v1"]))

    def claude(name: str) -> Any:
        model = ChatAnthropic(
            model=name, base_url=url, api_key="x", max_retries=1, max_tokens=120, timeout=PATIENCE
        )  # fmt: skip
        return with_cached_streaming(with_prompt_caching(model, own_servers=[url]))

    models = [
        RoutedChatModel(tiers={"simple": gpt("gpt-4o-mini"), "complex": gpt("gpt-4o")}),
        RoutedChatModel(tiers={"simple": claude("claude-haiku-4-5"), "complex": claude("claude-sonnet-4-5")}),
    ]
    compact = with_compact_output(gpt("gpt-4o"), Verdict, many=True)

    def ask(dice: random.Random) -> object:
        way, model = dice.random(), dice.choice(models)
        if way < 0.15:
            return compact.invoke(f"Sentiments: fine {dice.randrange(1000)}, 별로예요.", config)
        if way < 0.45:
            return list(model.stream(question(dice), config))
        return model.invoke(question(dice), config)

    def batch() -> object:
        plain = ChatOpenAI(model="gpt-4o", base_url=f"{url}/v1", api_key="x", max_tokens=120)
        asked = [question(random.Random(number)) for number in range(5)]
        options = Options(patience=0.2)
        return list(submit_batch(plain, asked, config=config, journal=folder / "jobs.db", options=options).collect())

    return ask, batch


def router(ledger: Ledger, cache: str, url: str, folder: Path) -> tuple[Ask, Callable[[], object]]:
    litellm.suppress_debug_info = True
    litellm.cache = LiteLLMCache(cache)
    own = [f"{url}/v1"]
    logger = CostLogger(ledger)
    litellm.callbacks = [logger, PromptCaching(own_servers=own)]

    def group(name: str, model: str) -> dict[str, Any]:
        base = url if model.startswith("anthropic") else own[0]
        params = {"model": model, "api_base": base, "api_key": "x", "timeout": PATIENCE, "max_tokens": 120}
        return {"model_name": name, "litellm_params": params}

    models = [
        group("mini", "openai/gpt-4o-mini"), group("big", "openai/gpt-4o"),
        group("haiku", "anthropic/claude-haiku-4-5"), group("sonnet", "anthropic/claude-sonnet-4-5"),
    ]  # fmt: skip
    made = Router(model_list=models, num_retries=1, retry_after=0, disable_cooldowns=True, cache_responses=True)
    ComplexityRouting({"simple": "mini", "complex": "big"}, group="auto-gpt").attach(made)
    ComplexityRouting({"simple": "haiku", "complex": "sonnet"}, group="auto-claude").attach(made)

    def ask(dice: random.Random) -> object:
        streaming = dice.random() < 0.3
        model = dice.choice(("auto-gpt", "auto-claude"))
        answer: Any = made.completion(model=model, messages=question(dice), stream=streaming)
        return list(answer) if streaming else answer

    def reported() -> None:
        """LiteLLM reports from threads of its own: until no row is added and none is settled any more."""
        before, same = None, 0
        while same < 10:
            time.sleep(0.1)
            gc.collect()
            now = logger.calls
            before, same = now, same + 1 if now == before else 0

    return ask, reported


class Soak:
    def __init__(self, ask: Ask, seed: int) -> None:
        self.ask, self.seed, self.ends = ask, seed, Counter[str]()
        self.bad: list[str] = []
        self.lock = threading.Lock()

    def one(self, number: int) -> None:
        try:
            self.ask(random.Random(self.seed * 1_000_003 + number))
            end = "answered"
        except Exception as error:
            end = f"{type(error).__module__.partition('.')[0]}.{type(error).__name__}"
            frames = traceback.extract_tb(error.__traceback__)
            ours = frames[-1].filename.startswith(OURS)
            known = end.startswith(THEIRS) or isinstance(error, (SavingsError, ValueError))
            if not known or (ours and not isinstance(error, SavingsError) and not end.startswith(THEIRS)):
                with self.lock:
                    self.bad.append("".join(traceback.format_exception(error))[-3000:])
        with self.lock:
            self.ends[end] += 1

    def run(self, first: int, last: int) -> dict[str, float]:
        with ThreadPoolExecutor(4) as pool:
            list(pool.map(self.one, range(first, last)))
        gc.collect()
        process = psutil.Process()
        return {"mb": process.memory_info().rss / 1e6, "threads": process.num_threads()}


def main(host: str, ledger: str, cache: str, url: str, calls: int, seed: int, folder: Path) -> None:
    logging.disable(logging.CRITICAL)  # trouble is what this is about
    book = Ledger(ledger)
    ask, last = {"langchain": langchain, "router": router}[host](book, cache, url, folder)
    soak = Soak(ask, seed)
    warm = soak.run(0, calls // 3)
    middle = soak.run(calls // 3, 2 * calls // 3)
    end = soak.run(2 * calls // 3, calls)
    last()
    book.flush()
    book.close()
    told = {"host": host, "ends": soak.ends, "bad": soak.bad, "warm": warm, "middle": middle, "end": end}
    print(json.dumps(told), flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:5], int(sys.argv[5]), int(sys.argv[6]), Path(sys.argv[7]))
