"""Kills a program that talks to a provider, at random moments, with SIGKILL.

Run as `python killing.py LEDGER OPENAI_URL ANTHROPIC_URL ROUNDS SEED`. The hosts are imported once; every round forks
a child that sends requests through one host, sync or async, and dies before it is done.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import random
import select
import signal
import sys
import time

os.environ["LITELLM_LOCAL_MODEL_COST_MAP"] = "true"

import litellm
from langchain_anthropic import ChatAnthropic
from langchain_openai import ChatOpenAI

from llm_savings.langchain import CostCallback
from llm_savings.litellm import CostLogger

PROMPTS = (
    "배송이 얼마나 걸려요?",
    "How long does delivery take?",
    "RAG가 뭐야?",
    "Write a function that reverses a list.",
)


# A child says so after every answer, so that its end can be counted from there: however slow the machine, some calls
# have ended by then and others have not.
ANSWERS, SAY = os.pipe()


def answered() -> None:
    os.write(SAY, b".")


def chat_models(openai_url: str, anthropic_url: str) -> list[ChatOpenAI | ChatAnthropic]:
    return [
        ChatOpenAI(model="gpt-4o", base_url=openai_url, api_key="x", max_tokens=200, max_retries=0, stream_usage=True),
        ChatAnthropic(model="claude-sonnet-4-5", base_url=anthropic_url, api_key="x", max_tokens=200, max_retries=0),
    ]


def langchain_sync(ledger: str, openai_url: str, anthropic_url: str) -> None:
    config = {"callbacks": [CostCallback(ledger)]}
    models = chat_models(openai_url, anthropic_url)
    for i in itertools.count():
        model, prompt = models[i % 2], PROMPTS[i % 4]
        if i % 3:
            model.invoke(prompt, config=config)
        else:
            list(model.stream(prompt, config=config))
        answered()


def langchain_async(ledger: str, openai_url: str, anthropic_url: str) -> None:
    config = {"callbacks": [CostCallback(ledger)]}
    models = chat_models(openai_url, anthropic_url)

    async def ask(i: int) -> None:
        model, prompt = models[i % 2], PROMPTS[i % 4]
        if i % 3:
            await model.ainvoke(prompt, config=config)
        else:
            async for _ in model.astream(prompt, config=config):
                pass
        answered()

    async def run() -> None:
        for i in itertools.count(step=3):
            await asyncio.gather(*(ask(i + k) for k in range(3)))

    asyncio.run(run())


def litellm_arguments(i: int, openai_url: str, anthropic_url: str) -> dict[str, object]:
    openai = {"model": "openai/gpt-4o", "api_base": openai_url}
    anthropic = {"model": "anthropic/claude-sonnet-4-5", "api_base": anthropic_url}
    streaming = {"stream": True, "stream_options": {"include_usage": True}} if i % 3 == 0 else {}
    return {
        **(openai if i % 2 else anthropic),
        **streaming,
        "api_key": "x",
        "max_tokens": 200,
        "num_retries": 0,
        "messages": [{"role": "user", "content": PROMPTS[i % 4]}],
    }


def litellm_sync(ledger: str, openai_url: str, anthropic_url: str) -> None:
    litellm.callbacks = [CostLogger(ledger)]
    for i in itertools.count():
        arguments = litellm_arguments(i, openai_url, anthropic_url)
        answer = litellm.completion(**arguments)
        if arguments.get("stream"):
            list(answer)
        answered()


def litellm_async(ledger: str, openai_url: str, anthropic_url: str) -> None:
    litellm.callbacks = [CostLogger(ledger)]

    async def ask(i: int) -> None:
        arguments = litellm_arguments(i, openai_url, anthropic_url)
        answer = await litellm.acompletion(**arguments)
        if arguments.get("stream"):
            async for _ in answer:
                pass
        answered()

    async def run() -> None:
        for i in itertools.count(step=3):
            await asyncio.gather(*(ask(i + k) for k in range(3)))

    asyncio.run(run())


PROGRAMS = (langchain_sync, langchain_async, litellm_sync, litellm_async)


def wait_for_answers(count: int) -> bool:
    while count and select.select([ANSWERS], [], [], 30)[0]:
        count -= len(os.read(ANSWERS, count))
    return not count


def main(ledger: str, openai_url: str, anthropic_url: str, rounds: int, seed: int) -> None:
    global ANSWERS, SAY
    dice = random.Random(seed)
    for i in range(rounds):
        program = PROGRAMS[i % len(PROGRAMS)]
        os.close(ANSWERS)
        os.close(SAY)
        ANSWERS, SAY = os.pipe()  # what the last child said after it was counted is of no interest
        child = os.fork()
        if child == 0:
            try:
                program(ledger, openai_url, anthropic_url)
            except BaseException as error:  # a child that ends by itself was not killed: that is a failure
                print(f"{program.__name__}: {error!r}", file=sys.stderr, flush=True)
            finally:
                os._exit(3)
        if not wait_for_answers(dice.randint(1, 4)):
            sys.exit(f"round {i}: {program.__name__} got no answer in 30 seconds")
        time.sleep(dice.uniform(0, 0.1))
        os.kill(child, signal.SIGKILL)
        _, status = os.waitpid(child, 0)
        if not os.WIFSIGNALED(status):
            sys.exit(f"round {i}: {program.__name__} ended before it was killed")


if __name__ == "__main__":
    main(*sys.argv[1:4], int(sys.argv[4]), int(sys.argv[5]))
