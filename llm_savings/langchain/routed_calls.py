# pyright: standard
"""One call of a `RoutedChatModel` on its way: which tier is asked what, and whether its answer will do."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import cached_property
from typing import TYPE_CHECKING, Any, cast

from langchain_core.exceptions import OutputParserException
from langchain_core.messages import AIMessage, BaseMessage
from langchain_core.runnables import Runnable, RunnableConfig, RunnableParallel, RunnableSequence, ensure_config
from langchain_core.runnables.config import merge_configs
from langchain_core.utils.function_calling import convert_to_openai_tool

from llm_savings.errors import BudgetError
from llm_savings.langchain.routing_tiers import adapted, tell_conversation
from llm_savings.routed import params_beside, with_evidence
from llm_savings.routing import suffices

if TYPE_CHECKING:
    from llm_savings.langchain.routed import RoutedChatModel

STRUCTURED = "llm_savings_structured"
"""The parameter by which `with_structured_output` reaches the chosen tier's own."""

_ENDS = ("finish_reason", "stop_reason")


class BoundTool(dict[str, Any]):
    """A tool as OpenAI writes it, for agents and the router, which look at what is bound; and as it was given."""

    given: Any

    @classmethod
    def of(cls, tool: Any) -> Any:
        """The tool, or what was given where nobody knows how OpenAI would write it."""
        try:
            found = cls(convert_to_openai_tool(tool))
        except Exception:  # noqa: BLE001 - the chosen tier's model may know
            return tool
        found.given = tool
        return found


class Structured:
    """A schema, and the tiers' models as they answer in it."""

    def __init__(self, models: Mapping[str, Any], schema: Any, include_raw: bool, options: Mapping[str, Any]) -> None:
        self.include_raw, self._how = include_raw, (models, schema, options)
        self.wanted = self._made(include_raw)  # what a model cannot do, it says now

    @cached_property
    def raw(self) -> Mapping[str, Runnable[Any, Any]]:
        """Tier name -> its model, with the raw answer and what could not be parsed."""
        return self.wanted if self.include_raw else self._made(True)

    def _made(self, include_raw: bool) -> dict[str, Runnable[Any, Any]]:
        models, schema, options = self._how

        def made(model: Any) -> Any:
            return model.with_structured_output(schema, include_raw=include_raw, **options)

        return {tier: adapted(model, made) for tier, model in models.items()}

    def told(self) -> dict[str, Any]:
        """What routing is told of it."""
        _, schema, options = self._how
        if options.get("method") == "json_schema":
            return {"response_format": {"type": "json_schema"}}
        return {"tools": [schema]} if options.get("method") != "json_mode" else {}


class RoutedCall:
    """One call on its way: what is asked of which tier, and in a cascade whether its answer will do.

    Attributes:
        runnable: What is to be asked now.
        input: What it is asked.
        config: The config of that run.
        kwargs: The parameters of that run.
        answer: What it answered.
    """

    def __init__(
        self, model: RoutedChatModel, input: Any, config: RunnableConfig | None, stop: Any, given: Mapping[str, Any]
    ) -> None:
        # Which packages a model comes from LangChain notes itself; the run is that of the tier's model.
        metadata = {name: value for name, value in (model.metadata or {}).items() if name != "lc_versions"}
        own: Any = {"callbacks": model.callbacks, "tags": model.tags or [], "metadata": metadata}
        self._config = merge_configs(own, ensure_config(config))
        defaults = {"temperature": model.temperature, "max_tokens": model.max_tokens, "stream": model.streaming or None}
        self._given = {**{name: value for name, value in defaults.items() if value is not None}, **given}
        self._structured: Structured | None = self._given.pop(STRUCTURED, None)
        self._tiers, self._cascade, self._stop = model._tiers, model.cascade, stop or model.stop
        self.input = input
        try:
            self._messages: list[BaseMessage] | None = model._convert_input(input).to_messages()
        except Exception:  # noqa: BLE001 - the tier's model says what is wrong with it
            self._messages = None
        told = self._structured.told() if self._structured else {}
        self._decision = self._tiers.decided(self._messages or "", self._config, self._given, **told)
        self.answer: Any = None
        self._error: Exception | None = None
        self._doubted = False
        self._aim()

    def _aim(self, **more: Any) -> None:
        """Make ready what the decision says; `more` is said in its evidence."""
        tier, given = self._decision.tier, {**params_beside(self._decision.params, self._given), **self._given}
        # A run's id is for one run.
        config = {name: value for name, value in self._config.items() if not (more and name == "run_id")}
        metadata = with_evidence(self._config.get("metadata"), self._decision, **more)
        self.config = cast("RunnableConfig", {**config, "metadata": metadata})
        if self._messages is not None:
            self.input = self._tiers.messages_for(tier, self._messages)
        self.runnable: Any = self._tiers.models[tier]
        if self._structured:
            structured = (self._structured.raw if self.judged else self._structured.wanted)[tier]
            bound, given = {**given, **({"stop": self._stop} if self._stop else {})}, {}
            self.runnable = adapted(structured, lambda chain: _bound(chain, bound))
        elif "tools" in given:
            tools = [getattr(tool, "given", tool) for tool in given.pop("tools")]
            bound, given = given, {}
            self.runnable = adapted(self.runnable, lambda model: model.bind_tools(tools, **bound))
        self.kwargs = {**given, "stop": self._stop} if self._stop and not self._structured else given

    @property
    def judged(self) -> bool:
        """Whether a stronger tier is asked if this one's answer will not do."""
        decision = self._decision
        whole = bool(self._cascade) and not decision.shadow and decision.arm is None
        return whole and decision.tier != self._tiers.router.names[-1] and "disabled" not in decision.reasons

    @contextmanager
    def asking(self) -> Iterator[None]:
        """Around a request: its failure is one of the conversation's; an answer that cannot be parsed is judged."""
        try:
            yield
            if not self.judged:
                self._told(good=True)
        except BudgetError:
            raise
        except Exception as error:
            self._told(good=False)
            if not (self._structured and self.judged and isinstance(error, OutputParserException | ValueError)):
                raise
            self._error = error

    def will_do(self) -> bool:
        """Whether the answer is the one to give; if not, the next stronger tier is made ready."""
        if not self.judged:
            return True
        if self._suffices():
            self._told(good=True)
            return True
        stronger = self._tiers.router.escalated(self._decision)
        if stronger is None:
            return True
        answered, self._decision, self._error = self._error is None, stronger, None
        if answered:
            self._told(good=False)
        self._doubted = True
        # Without routing there would have been one call: only one of the two has a baseline.
        self._aim(cascade=True, **({"repeat": True} if answered else {}))
        return False

    @property
    def wanted(self) -> Any:
        """The answer as the caller wants it."""
        if self._structured and self.judged and not self._structured.include_raw:
            return self.answer["parsed"]
        return self.answer

    def _suffices(self) -> bool:
        answer, schema = self.answer, None
        if self._error is not None:
            return False
        if self._structured:
            if answer["parsing_error"] is not None or answer["parsed"] is None:
                return False
            answer = answer["raw"]
        if not isinstance(answer, AIMessage):
            return True
        said, meta = str(answer.text), answer.response_metadata
        if answer.tool_calls and not self._structured:
            return True
        if self._structured:
            said = said or json.dumps([call["args"] for call in answer.tool_calls], default=str, ensure_ascii=False)
        else:
            schema = _schema(self._given.get("response_format"))
        return suffices(
            said,
            finish_reason=next((str(meta[end]) for end in _ENDS if meta.get(end)), None),
            schema=schema,
            confidence=cast("Callable[[str], float]", self._cascade) if callable(self._cascade) else None,
            logprobs=_logprobs(meta),
        ).ok

    def _told(self, *, good: bool) -> None:
        """Tell the router how the conversation goes. That a stronger tier could answer after all is no good news."""
        if not (good and self._doubted):
            tell_conversation(self._tiers.router, self._config, good=good)


def _bound(chain: Runnable[Any, Any], params: Mapping[str, Any]) -> Runnable[Any, Any]:
    """The chain that `with_structured_output` makes, with parameters for its model."""
    if isinstance(chain, RunnableSequence) and isinstance(chain.first, RunnableParallel):
        # With `include_raw` LangChain does not pass them on.
        steps = {name: step.bind(**params) for name, step in chain.first.steps__.items()}
        return chain.model_copy(update={"first": RunnableParallel(steps)})
    return chain.bind(**params)


def _schema(response_format: Any) -> Mapping[str, Any] | None:
    inner = response_format.get("json_schema") if isinstance(response_format, Mapping) else None
    found = inner.get("schema") if isinstance(inner, Mapping) else None
    return found if isinstance(found, Mapping) else None


def _logprobs(meta: Mapping[str, Any]) -> list[float] | None:
    """OpenAI's, where they were asked for."""
    said = meta.get("logprobs")
    tokens = said.get("content") if isinstance(said, Mapping) else None
    return [token["logprob"] for token in tokens if "logprob" in token] if isinstance(tokens, list) else None
