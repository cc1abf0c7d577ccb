"""Sends a workload the way a user's program would: half through LangChain chains, half through a LiteLLM Router."""

from __future__ import annotations

import itertools
import os
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, field
from datetime import timedelta
from importlib.util import find_spec
from pathlib import Path
from typing import Any, get_args

from pydantic import BaseModel

from llm_savings.demo.workload import FIRST_DAY, Request, Workload
from llm_savings.errors import ConfigError
from llm_savings.evidence import Strategy
from llm_savings.ledger import Ledger

ALL: frozenset[Strategy] = frozenset(get_args(Strategy))
_IN_A_CHAIN = ("support", "translation", "extraction")  # the rest goes through the Router
_KEPT = timedelta(days=7)
LISTS = (
    "input_callback",
    "success_callback",
    "failure_callback",
    "_async_input_callback",
    "_async_success_callback",
    "_async_failure_callback",
)
"""Where LiteLLM copies its `callbacks` to, and keeps them."""


class Order(BaseModel):
    """One order in a support note."""

    product: str
    quantity: int
    price_krw: int
    city: str
    status: str


class Orders(BaseModel):
    """What extraction wants."""

    orders: list[Order]


@dataclass(frozen=True, slots=True)
class Target:
    """Where the workload goes.

    Attributes:
        openai_model: The model behind English support, analysis and extraction.
        anthropic_model: The model behind Korean support, translation and coding, or None to use the OpenAI one.
        openai_small: The model that routing may choose instead of the first.
        anthropic_small: Instead of the second.
        openai_url: Base URL, or None for OpenAI itself.
        anthropic_url: Base URL, or None for Anthropic itself.
        pass_time: Lets so many seconds pass at the provider; None where time passes by itself.
    """

    openai_model: str | None = "gpt-4o"
    anthropic_model: str | None = "claude-sonnet-4-5"
    openai_small: str = "gpt-4o-mini"
    anthropic_small: str = "claude-haiku-4-5"
    openai_url: str | None = None
    anthropic_url: str | None = None
    pass_time: Callable[[float], None] | None = None


@dataclass(slots=True)
class Clock:
    """The workload's own time, in seconds since 1970 (UTC)."""

    now: float = field(default_factory=time.time)

    def __call__(self) -> float:
        """The time."""
        return self.now


class Driver:
    """A user's program: LangChain chains and a LiteLLM Router.

    Args:
        target: Where requests go.
        ledger: Meter every call into this ledger; without one, nothing of llm-savings takes part.
        strategies: What is switched on.

    Attributes:
        answers: The text of each request's answer, by the request's id.

    Raises:
        ConfigError: A package the demo needs is not installed.
    """

    def __init__(self, target: Target, ledger: Ledger | None = None, strategies: frozenset[Strategy] = ALL) -> None:
        os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "true")  # no price map from the network
        for package in ("langchain_anthropic", "langchain_openai"):
            if find_spec(package) is None:
                raise ConfigError(f'the demo needs {package}; install it with: pip install "llm-savings[demo]"')
        self.answers: dict[str, str] = {}
        self._target, self._on = target, strategies if ledger is not None else frozenset[Strategy]()
        self._callbacks: list[Any] = []
        self._logger: Any = None
        self._clock = Clock()
        if ledger is not None:
            from llm_savings.langchain import CostCallback
            from llm_savings.litellm import CostLogger

            self._callbacks = [CostCallback(ledger)]
            self._logger = CostLogger(ledger)
        self._marks: Any = None
        if "prompt_cache" in self._on:
            from llm_savings.prompt_cache import Memory

            self._marks = Memory(clock=self._clock)
        self._chains: dict[str, Any] = {}
        self._router = self._make_router()
        self._routed = 0

    def run(self, workload: Workload, each: Callable[[int], None]) -> None:
        """Send every request in its order, what can wait at the end of its day, and call `each` with how many are done.

        Waits until the last is recorded.
        """
        with ExitStack() as stack:
            self._switch_on(stack)
            for _, day in itertools.groupby(workload.requests, key=lambda request: request.day):
                waiting: list[Request] = []
                for request in day:
                    self._reach(request.at)
                    if request.batchable and "batch" in self._on:
                        waiting.append(request)
                        continue
                    self.answers[request.id] = self._ask(request)
                    each(1)
                for key in sorted({(r.feature in _IN_A_CHAIN, r.feature, r.max_tokens) for r in waiting}):
                    alike = [r for r in waiting if (r.feature in _IN_A_CHAIN, r.feature, r.max_tokens) == key]
                    self._ask_later(alike, stack)
                    each(len(alike))
            # LiteLLM reports a success from a thread of its own, after the answer was delivered.
            deadline = time.monotonic() + 10
            while self._logger is not None and self._logger.calls < self._routed and time.monotonic() < deadline:
                time.sleep(0.01)

    def _switch_on(self, stack: ExitStack) -> None:
        """Metering, the cache and the marks, in both hosts, until the stack is left."""
        import litellm
        from langchain_core.globals import get_llm_cache, set_llm_cache

        def restore(before: Mapping[str, Any], langchains: Any) -> None:
            for name, value in before.items():
                setattr(litellm, name, value)
            set_llm_cache(langchains)

        lists = {name: list(getattr(litellm, name)) for name in LISTS}
        others = {name: getattr(litellm, name) for name in ("callbacks", "cache", "suppress_debug_info")}
        stack.callback(restore, lists | others, get_llm_cache())
        ours = [] if self._logger is None else [self._logger]
        litellm.suppress_debug_info = True  # LiteLLM prints advice for its users beside an error
        if self._marks is not None:
            from llm_savings.litellm import PromptCaching

            own = [self._target.openai_url] if self._target.openai_url else []
            ours.append(PromptCaching(memory=self._marks, own_servers=own))
        litellm.callbacks = [*litellm.callbacks, *ours]
        if "semantic_cache" in self._on:
            from llm_savings.langchain import SemanticCache
            from llm_savings.litellm import SemanticCache as LiteLLMCache

            set_llm_cache(SemanticCache(ttl=_KEPT))
            litellm.cache = LiteLLMCache(ttl=_KEPT)

    def _reach(self, at: int) -> None:
        """Let the workload's time pass, here and at the provider."""
        import datetime

        midnight = datetime.datetime.combine(FIRST_DAY, datetime.time(), datetime.UTC).timestamp()
        seconds, self._clock.now = midnight + at - self._clock.now, midnight + at
        if self._target.pass_time is not None and 0 < seconds < 100 * 86_400:
            self._target.pass_time(seconds)

    def _ask(self, request: Request) -> str:
        if request.feature in _IN_A_CHAIN:
            return self._ask_chain(request)
        self._routed += 1
        return self._ask_router(request)

    def _config(self, request: Request) -> Any:
        return {"callbacks": self._callbacks, "tags": _tags(request), "metadata": {"user_id": request.user}}

    def _ask_chain(self, request: Request) -> str:
        chain = self._chain(request)
        question = {"system": request.system, "question": request.prompt}
        if request.stream:
            return "".join(chain.stream(question, config=self._config(request)))
        return _text(chain.invoke(question, config=self._config(request)))

    def _ask_router(self, request: Request) -> str:
        model = "coding" if request.feature == "coding" else "analysis"
        answer = self._router.completion(
            model=f"auto-{model}" if "routing" in self._on else model,
            messages=_messages(request),
            max_tokens=request.max_tokens,
            stream=request.stream,
            user=request.user,
            metadata={"tags": _tags(request)},
        )
        if request.stream:
            return "".join(chunk.choices[0].delta.content or "" for chunk in answer)
        return str(answer.choices[0].message.content)

    def _ask_later(self, requests: Sequence[Request], stack: ExitStack) -> None:
        """Alike requests of one day as a batch."""
        from llm_savings.batch import Options

        first = requests[0]
        journal = Path(stack.enter_context(tempfile.TemporaryDirectory()), "batches.db")
        tags = {"feature": first.feature, "day": first.day}
        options = Options(tags=tags, patience=0.5)
        if first.feature in _IN_A_CHAIN:
            from llm_savings.langchain import submit_batch

            inputs = [{"system": request.system, "question": request.prompt} for request in requests]
            handle: Any = submit_batch(
                self._chain(first, plain=True),
                inputs,
                config={"callbacks": self._callbacks},  # one for all: whose each of them is, a batch does not say
                journal=journal,
                options=options,
            )
            texts = [_text(answer) for answer in handle.collect()]
        else:
            from llm_savings.litellm import submit_batch as submit_calls

            group = self._groups()["coding" if first.feature == "coding" else "analysis"]
            calls = [
                {**group, "messages": _messages(request), "max_tokens": request.max_tokens} for request in requests
            ]
            texts = [
                str(answer.choices[0].message.content)
                for answer in submit_calls(calls, journal=journal, options=options).collect()
            ]
        self.answers |= {request.id: text for request, text in zip(requests, texts, strict=True)}

    def _chain(self, request: Request, *, plain: bool = False) -> Any:
        from langchain_core.output_parsers import StrOutputParser
        from langchain_core.prompts import ChatPromptTemplate

        anthropic = request.feature == "translation" or (request.feature == "support" and request.lang == "ko")
        key = f"{request.feature}-{anthropic}-{request.max_tokens}-{plain}"
        if key not in self._chains:
            prompt = ChatPromptTemplate.from_messages([("system", "{system}"), ("user", "{question}")])
            model = self._model(anthropic, request.max_tokens, plain=plain)
            self._chains[key] = prompt | self._reader(request, model, StrOutputParser())
        return self._chains[key]

    def _reader(self, request: Request, model: Any, parser: Any) -> Any:
        if request.feature != "extraction":
            return model | parser
        if "output" not in self._on:
            return model.with_structured_output(Orders, method="json_schema")
        from llm_savings.langchain import with_compact_output

        return with_compact_output(model, Order, many=True)

    def _model(self, anthropic: bool, max_tokens: int, *, plain: bool) -> Any:
        """The strong model, or with routing both behind one; `plain` for a batch, which takes one model."""
        target = self._target
        anthropic = bool(target.anthropic_model and (anthropic or not target.openai_model))
        strong = self._chat_model(target.anthropic_model if anthropic else target.openai_model, anthropic, max_tokens)
        if plain or "routing" not in self._on:
            return strong
        from llm_savings.langchain import RoutedChatModel

        small = target.anthropic_small if anthropic else target.openai_small
        return RoutedChatModel(tiers={"simple": self._chat_model(small, anthropic, max_tokens), "complex": strong})

    def _chat_model(self, name: str | None, anthropic: bool, max_tokens: int) -> Any:
        target = self._target
        options: dict[str, Any] = {"model": name, "max_tokens": max_tokens, "max_retries": 0}
        if anthropic:
            from langchain_anthropic import ChatAnthropic as Model

            if target.anthropic_url:
                options |= {"base_url": target.anthropic_url, "api_key": "sandbox"}
        else:
            from langchain_openai import ChatOpenAI as Model

            # stream_usage: on a base URL of its own, ChatOpenAI asks for a stream's usage only when told to.
            options["stream_usage"] = True
            if target.openai_url:
                options |= {"base_url": target.openai_url, "api_key": "sandbox"}
        model: Any = Model(**options)
        if self._marks is not None:
            from llm_savings.langchain import with_prompt_caching

            own = [url for url in (target.openai_url, target.anthropic_url) if url]
            model = with_prompt_caching(model, memory=self._marks, own_servers=own)
        if "semantic_cache" in self._on:
            from llm_savings.langchain import with_cached_streaming

            model = with_cached_streaming(model)
        return model

    def _groups(self) -> dict[str, dict[str, Any]]:
        """LiteLLM's parameters of each model group."""
        target = self._target

        def openai(name: str | None) -> dict[str, Any]:
            found: dict[str, Any] = {"model": f"openai/{name}"}
            return found | ({"api_base": target.openai_url, "api_key": "sandbox"} if target.openai_url else {})

        def anthropic(name: str | None) -> dict[str, Any]:
            found: dict[str, Any] = {"model": f"anthropic/{name}"}
            return found | ({"api_base": target.anthropic_url, "api_key": "sandbox"} if target.anthropic_url else {})

        by_openai = (openai(target.openai_model), openai(target.openai_small))
        by_anthropic = (anthropic(target.anthropic_model), anthropic(target.anthropic_small))
        coding = by_anthropic if target.anthropic_model else by_openai
        analysis = by_openai if target.openai_model else by_anthropic
        return {"coding": coding[0], "coding-small": coding[1], "analysis": analysis[0], "analysis-small": analysis[1]}

    def _make_router(self) -> Any:
        from litellm.router import Router

        router = Router(
            model_list=[{"model_name": name, "litellm_params": params} for name, params in self._groups().items()],
            num_retries=0,
            cache_responses="semantic_cache" in self._on,
        )
        if "routing" in self._on:
            from llm_savings.litellm import ComplexityRouting

            for group in ("coding", "analysis"):
                tiers = {"simple": f"{group}-small", "complex": group}
                ComplexityRouting(tiers=tiers, group=f"auto-{group}").attach(router)
        return router


def _tags(request: Request) -> list[str]:
    return [f"feature:{request.feature}", f"day:{request.day}", f"request:{request.id}"]


def _messages(request: Request) -> list[dict[str, str]]:
    system = [{"role": "system", "content": request.system}] if request.system else []
    return [*system, {"role": "user", "content": request.prompt}]


def _text(answer: Any) -> str:
    """An answer in one form, whether it came as text, as orders or as a list of them."""
    if isinstance(answer, str):
        return answer
    orders = answer.orders if isinstance(answer, Orders) else answer
    return Orders(orders=orders).model_dump_json()
