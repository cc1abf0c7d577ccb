"""Sends a workload the way a user's program would: half through a LangChain chain, half through a LiteLLM Router."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from importlib.util import find_spec
from typing import Any

from llm_savings.demo.workload import Request, Workload
from llm_savings.errors import ConfigError
from llm_savings.ledger import Ledger

# Support and translation run in a LangChain chain, the rest through the Router.
_CHAIN_FEATURES = ("support", "translation")


@dataclass(frozen=True, slots=True)
class Target:
    """Where the workload goes.

    Attributes:
        openai_model: The model behind support and analysis.
        anthropic_model: The model behind translation and coding, or None to use the OpenAI one for everything.
        openai_url: Base URL, or None for OpenAI itself.
        anthropic_url: Base URL, or None for Anthropic itself.
    """

    openai_model: str | None = "gpt-4o"
    anthropic_model: str | None = "claude-sonnet-4-5"
    openai_url: str | None = None
    anthropic_url: str | None = None


class Driver:
    """A user's program: a LangChain chain and a LiteLLM Router.

    Args:
        target: Where requests go.
        ledger: Meter every call into this ledger; without one, nothing of llm-savings takes part.

    Raises:
        ConfigError: A package the demo needs is not installed.
    """

    def __init__(self, target: Target, ledger: Ledger | None = None) -> None:
        os.environ.setdefault("LITELLM_LOCAL_MODEL_COST_MAP", "true")  # no price map from the network
        for package in ("langchain_anthropic", "langchain_openai"):
            if find_spec(package) is None:
                raise ConfigError(f'the demo needs {package}; install it with: pip install "llm-savings[demo]"')
        self._target = target
        self._callbacks: list[Any] = []
        self._logger: Any = None
        if ledger is not None:
            from llm_savings.langchain import CostCallback
            from llm_savings.litellm import CostLogger

            self._callbacks = [CostCallback(ledger)]
            self._logger = CostLogger(ledger)
        self._chains: dict[str, Any] = {}
        self._router = self._make_router()

    def run(self, workload: Workload, each: Callable[[], None]) -> None:
        """Send every request, one after the other, and call `each` after it. Waits until the last is recorded."""
        import litellm

        before, loud = list(litellm.callbacks), litellm.suppress_debug_info
        if self._logger is not None:
            litellm.callbacks = [*before, self._logger]
        litellm.suppress_debug_info = True  # LiteLLM prints advice for its users beside an error
        routed = 0
        try:
            for request in workload.requests:
                if request.feature in _CHAIN_FEATURES:
                    self._ask_chain(request)
                else:
                    self._ask_router(request)
                    routed += 1
                each()
            # LiteLLM reports a success from a thread of its own, after the answer was delivered.
            deadline = time.monotonic() + 10
            while self._logger is not None and self._logger.calls < routed and time.monotonic() < deadline:
                time.sleep(0.01)
        finally:
            litellm.callbacks, litellm.suppress_debug_info = before, loud

    def _ask_chain(self, request: Request) -> None:
        chain = self._chain(request)
        config = {
            "callbacks": self._callbacks,
            "tags": [f"feature:{request.feature}", f"day:{request.day}"],
            "metadata": {"user_id": request.user},
        }
        question = {"system": request.system, "question": request.prompt}
        if request.stream:
            for _ in chain.stream(question, config=config):
                pass
        else:
            chain.invoke(question, config=config)

    def _ask_router(self, request: Request) -> None:
        answer = self._router.completion(
            model="coding" if request.feature == "coding" else "analysis",
            messages=[{"role": "system", "content": request.system}, {"role": "user", "content": request.prompt}],
            max_tokens=request.max_tokens,
            stream=request.stream,
            user=request.user,
            metadata={"tags": [f"feature:{request.feature}", f"day:{request.day}"]},
        )
        if request.stream:
            for _ in answer:
                pass

    def _chain(self, request: Request) -> Any:
        from langchain_core.output_parsers import StrOutputParser
        from langchain_core.prompts import ChatPromptTemplate

        key = f"{request.feature}-{request.max_tokens}"
        if key not in self._chains:
            prompt = ChatPromptTemplate.from_messages([("system", "{system}"), ("user", "{question}")])
            model = self._chat_model(request.feature == "translation", request.max_tokens)
            self._chains[key] = prompt | model | StrOutputParser()
        return self._chains[key]

    def _chat_model(self, prefer_anthropic: bool, max_tokens: int) -> Any:
        target = self._target
        if target.anthropic_model and (prefer_anthropic or not target.openai_model):
            from langchain_anthropic import ChatAnthropic

            options: dict[str, Any] = {"model": target.anthropic_model, "max_tokens": max_tokens, "max_retries": 0}
            if target.anthropic_url:
                options |= {"base_url": target.anthropic_url, "api_key": "sandbox"}
            return ChatAnthropic(**options)
        from langchain_openai import ChatOpenAI

        # stream_usage: on a base URL of its own, ChatOpenAI asks for a stream's usage only when told to.
        options = {"model": target.openai_model, "max_tokens": max_tokens, "max_retries": 0, "stream_usage": True}
        if target.openai_url:
            options |= {"base_url": target.openai_url, "api_key": "sandbox"}
        return ChatOpenAI(**options)

    def _make_router(self) -> Any:
        from litellm.router import Router

        target = self._target
        openai = {"model": f"openai/{target.openai_model}"}
        if target.openai_url:
            openai |= {"api_base": target.openai_url, "api_key": "sandbox"}
        anthropic = {"model": f"anthropic/{target.anthropic_model}"}
        if target.anthropic_url:
            anthropic |= {"api_base": target.anthropic_url, "api_key": "sandbox"}
        coding = anthropic if target.anthropic_model else openai
        analysis = openai if target.openai_model else anthropic
        groups = [("coding", coding), ("analysis", analysis)]
        return Router(
            model_list=[{"model_name": name, "litellm_params": params} for name, params in groups], num_retries=0
        )
