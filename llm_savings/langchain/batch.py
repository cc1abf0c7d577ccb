# pyright: standard
"""`submit_batch`: what `.batch()` does, at half price and by tomorrow morning.

The model's own code makes every request and reads every answer: a copy of it talks to a transport that notes the
request at submit, and plays the batch's answer at collect. So tools, structured output, parsing errors, callbacks and
traces are the same as with `.batch()`.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextvars import ContextVar
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any, cast

from langchain_core.callbacks import BaseCallbackManager
from langchain_core.language_models import BaseChatModel
from langchain_core.language_models import _utils as host_utils
from langchain_core.load import dumps
from langchain_core.messages import BaseMessage
from langchain_core.runnables import (
    Runnable,
    RunnableConfig,
    RunnableParallel,
    RunnablePassthrough,
    RunnableSequence,
    ensure_config,
)
from langchain_core.runnables.base import RunnableBindingBase
from langchain_core.runnables.config import get_config_list, merge_configs

from llm_savings.batch import text as json
from llm_savings.batch.job import Job
from llm_savings.batch.outcomes import Answered, Outcome
from llm_savings.batch.replay import Handle, Notebook, Noted, Transport, client_over, response, with_beta
from llm_savings.batch.submit import Options, open_job, submit
from llm_savings.errors import BatchError, ConfigError
from llm_savings.labels import USER_KEYS, labels, text
from llm_savings.langchain.batch_cache import Asked, answering, keep_answer, known_answer
from llm_savings.langchain.costs import CostCallback
from llm_savings.langchain.current import metered_elsewhere
from llm_savings.langchain.messages import loads
from llm_savings.langchain.tracking import tracked
from llm_savings.meter import Meter

_PAGE = 200  # inputs whose requests or answers are in memory at a time


@dataclass(frozen=True, slots=True)
class _Line:
    """What the model was asked, and what became of it."""

    messages: list[BaseMessage]
    outcome: Outcome


_playing: ContextVar[_Line] = ContextVar("llm_savings_playing")


class _Player(Runnable[_Line, BaseMessage]):
    """The model, answering from a batch."""

    def __init__(
        self, model: BaseChatModel, keep: Callable[[list[BaseMessage], BaseMessage, Any], None] | None
    ) -> None:
        self._model, self._keep = model, keep

    def invoke(self, input: _Line, config: RunnableConfig | None = None, **kwargs: Any) -> BaseMessage:
        """The model's message for an answer of the batch, with all its callbacks; its cost is in the ledger already."""
        response(input.outcome)  # what has no answer at all begins no run
        known = isinstance(input.outcome, Answered) and input.outcome.source == "cache"
        model = answering(self._model, cast("Answered", input.outcome).body) if known else self._model
        playing, elsewhere = _playing.set(input), metered_elsewhere.set(True)
        try:
            message = model.invoke(input.messages, config, **kwargs)
        finally:
            metered_elsewhere.reset(elsewhere)
            _playing.reset(playing)
        if self._keep is not None and not known:
            self._keep(input.messages, message, (config or {}).get("metadata") or {})
        return message


@dataclass(frozen=True, slots=True)
class _Chain:
    """A chain, parted at its model.

    Attributes:
        before: What makes the model's input.
        step: The step with the model in it.
        after: What reads the model's answer.
        model: The model.
        bound: The arguments that the chain binds to it.
    """

    before: Runnable[Any, Any]
    step: Runnable[Any, Any]
    after: list[Runnable[Any, Any]]
    model: BaseChatModel
    bound: Mapping[str, Any]

    @classmethod
    def of(cls, runnable: Runnable[Any, Any]) -> _Chain:
        """The parts of a model, or of a chain with one model.

        Raises:
            ConfigError: There is no model whose requests can be batched, or there are several.
        """
        steps = runnable.steps if isinstance(runnable, RunnableSequence) else [runnable]
        places = [place for place, step in enumerate(steps) if _model_in(step) is not None]
        if len(places) != 1:
            what = f"{len(places)} chat models" if places else "no chat model at its top level"
            raise ConfigError(f"the chain has {what}; a batch needs a chat model, or prompt | model | parser")
        place = places[0]
        found = _model_in(steps[place])
        assert found is not None  # noqa: S101 (it was there a line ago)
        before = RunnableSequence(*steps[:place]) if place > 1 else steps[0] if place else RunnablePassthrough()
        return cls(before, steps[place], list(steps[place + 1 :]), *found)

    def requests(
        self, inputs: Sequence[Any], configs: list[RunnableConfig], known: dict[bytes, Any] | None
    ) -> Iterator[tuple[Noted, bytes]]:
        """Each input's request, as the model makes it, with the messages that it was made from.

        Answers that the model's cache has to them are put into `known`, by the requests' bodies.
        """
        notebook = Notebook()
        model = _over(self.model, notebook)
        # Below `invoke`, which would begin a run: no callback is to see what has not been asked yet.
        bound = {name: value for name, value in self.bound.items() if name != "ls_structured_output_format"}
        for start in range(0, len(inputs), _PAGE):
            page = configs[start : start + _PAGE]
            values = self.before.batch(list(inputs[start : start + _PAGE]), page)
            for value, config in zip(values, page, strict=True):
                messages = self.model._convert_input(value).to_messages()
                wanted = host_utils._normalize_messages(messages)
                noted = notebook.of(partial(model._generate, wanted, **bound))
                if known is not None:
                    asked = Asked(self.model, wanted, self.bound, config.get("metadata") or {})
                    if (answer := known_answer(asked)) is not None:
                        known[json.dumps(noted.body)] = answer
                yield noted, dumps(messages).encode()

    def played(self, *, keep: bool) -> Runnable[_Line, Any]:
        """What gives the chain's results from lines of the batch; and keeps them in the model's cache."""

        def kept(messages: list[BaseMessage], answer: BaseMessage, metadata: Mapping[str, Any]) -> None:
            asked = Asked(self.model, host_utils._normalize_messages(messages), self.bound, metadata)
            keep_answer(asked, answer)

        model = _over(self.model, lambda request: response(_playing.get().outcome))
        player = _replaced(self.step, _Player(model, kept if keep else None))
        return RunnableSequence(player, *self.after) if self.after else player


def submit_batch(
    chain_or_model: Runnable[Any, Any],
    inputs: Sequence[Any],
    *,
    config: RunnableConfig | None = None,
    journal: str | Path | None = None,
    options: Options | None = None,
    cached: bool = False,
) -> BatchHandle:
    """Send the inputs of a chat model or chain as a batch, at half price.

    The prompt side of the chain runs now, its parser side in `collect`. ChatOpenAI, AzureChatOpenAI, ChatAnthropic and
    models made from them; tools and structured output work.

    Args:
        chain_or_model: A chat model, bound or not, or a chain with one, such as `prompt | model | parser`.
        inputs: What `.batch()` would take.
        config: As for `.batch()`. A `CostCallback` among its callbacks meters the job, and its budget holds it; its
            tags and metadata label the job's calls.
        journal: Where the job is kept; by default `LLM_SAVINGS_BATCHES`, or a file in the user's data folder.
        options: A cap, a deadline and more; see `llm_savings.batch.Options`.
        cached: What the model's cache (LangChain's global one, or its own) has word for word is not sent, and costs
            nothing; what the batch answers is put into it by `collect`.

    Raises:
        ConfigError: The chain cannot be batched.
        BatchError: The job may not or cannot be sent; nothing was.
        BudgetError: A budget has no room for it.

    Example:
        >>> handle = submit_batch(prompt | model | parser, reviews)                # doctest: +SKIP
        >>> handle.id                                                              # doctest: +SKIP
        '5f0c9a54c1d2ab34e6f7'
        >>> open_batch(handle.id, prompt | model | parser).collect()               # doctest: +SKIP
    """
    chain, config = _parted(chain_or_model, config)
    options = options or Options()
    metadata = config.get("metadata") or {}
    options = replace(
        options,
        user=options.user or text(metadata, USER_KEYS),
        tags={**labels(config.get("tags"), metadata), **options.tags},
        host="langchain",
    )
    known: dict[bytes, Any] = {}
    if cached:
        options = replace(options, known=options.known or (lambda body: known.get(json.dumps(body))))
    requests = chain.requests(inputs, get_config_list(config, len(inputs)), known if cached else None)
    first = next(requests, None)
    if first is None:
        raise BatchError("there is nothing to send; the input is empty")
    client = with_beta(_client_of(chain.model), first[0])

    lines = ((request.line(), memo) for request, memo in itertools.chain([first], requests))
    meter = _meter(config, chain.model)
    job = submit(lines, provider=client, journal=journal, meter=meter, options=options)
    return BatchHandle(job, chain, config, keep=cached)


def open_batch(
    id: str,
    chain_or_model: Runnable[Any, Any],
    *,
    config: RunnableConfig | None = None,
    journal: str | Path | None = None,
    cached: bool = False,
) -> BatchHandle:
    """A batch that was submitted before, in this process or another one.

    Args:
        id: Its `BatchHandle.id`.
        chain_or_model: The chain that it was submitted with.
        config: As for `submit_batch`.
        journal: As for `submit_batch`.
        cached: As for `submit_batch`.

    Raises:
        BatchError: There is no such batch.
        ConfigError: The chain's model is another one.
    """
    chain, config = _parted(chain_or_model, config)
    job = open_job(id, provider=_client_of(chain.model), journal=journal, meter=_meter(config, chain.model))
    named = getattr(chain.model, "model_name", None) or getattr(chain.model, "model", None)
    if named != job.model:
        raise ConfigError(f"batch {job.id} is one of model {job.model!r}, but this chain's is {named!r}")
    return BatchHandle(job, chain, config, keep=cached)


class BatchHandle(Handle):
    """A batch of a chain, whose `collect` returns what `.batch()` would have. Made by `submit_batch` and `open_batch`.

    Callbacks see every input's model run once, with the answer's own usage; the parser side of the chain runs then.
    """

    def __init__(self, job: Job, chain: _Chain, config: RunnableConfig, *, keep: bool) -> None:
        super().__init__(job)
        self._chain, self._config, self._keep = chain, config, keep

    def _collected(self, *, return_exceptions: bool) -> list[Any]:
        found: list[Any] = []
        chain = self._chain.played(keep=self._keep)
        for page in _pages(self.job):
            configs = get_config_list(self._config, len(page))
            found += chain.batch(page, configs, return_exceptions=cast("Any", return_exceptions))
        return found


def _pages(job: Job) -> Iterator[list[_Line]]:
    page: list[_Line] = []
    for outcome, memo in job.outcomes():
        page.append(_Line(loads((memo or b"[]").decode()), outcome))
        if len(page) == _PAGE:
            yield page
            page = []
    if page:
        yield page


def _parted(runnable: Runnable[Any, Any], config: RunnableConfig | None) -> tuple[_Chain, RunnableConfig]:
    """A chain's parts, and its config with that of `chain.with_config(...)`."""
    config = ensure_config(config)
    if isinstance(runnable, RunnableBindingBase) and isinstance(runnable.bound, RunnableSequence):
        return _Chain.of(runnable.bound), merge_configs(runnable.config, config)
    return _Chain.of(runnable), config


def _model_in(step: Any) -> tuple[BaseChatModel, Mapping[str, Any]] | None:
    """The model in a step of a chain, and what is bound to it."""
    if isinstance(step, BaseChatModel):
        return step, {}
    if isinstance(step, RunnableBindingBase):
        found = _model_in(step.bound)
        return found and (found[0], {**found[1], **step.kwargs})
    if isinstance(step, RunnableParallel):  # with_structured_output(include_raw=True)
        inside = [found for branch in step.steps__.values() if (found := _model_in(branch)) is not None]
        return inside[0] if len(inside) == 1 and len(step.steps__) == 1 else None
    return None


def _replaced(step: Any, player: Runnable[Any, Any]) -> Runnable[Any, Any]:
    """A copy of a step with another model."""
    if isinstance(step, RunnableBindingBase):
        return step.model_copy(update={"bound": _replaced(step.bound, player)})
    if isinstance(step, RunnableParallel):
        return RunnableParallel({name: _replaced(branch, player) for name, branch in step.steps__.items()})
    return player


def _client_of(model: BaseChatModel) -> Any:
    """The SDK's client of a model.

    Raises:
        ConfigError: It has none that speaks a batch interface.
    """
    client = getattr(model, "root_client", None) or getattr(model, "_client", None)
    if client is None or type(client).__module__.partition(".")[0] not in ("openai", "anthropic"):
        raise ConfigError(f"{type(model).__name__} cannot be batched; expected ChatOpenAI or ChatAnthropic")
    return client


def _over(model: BaseChatModel, transport: Transport) -> BaseChatModel:
    """A copy of a model that asks this transport instead of the network. It streams and caches nothing."""
    fake = client_over(_client_of(model), transport)
    changes = {"streaming": False, "disable_streaming": True, "cache": False, "rate_limiter": None}
    copy = model.model_copy(update={k: v for k, v in changes.items() if k in type(model).model_fields})
    if hasattr(model, "root_client"):
        return copy.model_copy(update={"root_client": fake, "client": fake.chat.completions})
    vars(copy)["_client"] = fake  # a cached property
    return copy


def _meter(config: RunnableConfig, model: BaseChatModel) -> Meter | None:
    """The meter of the `CostCallback` that would have metered the calls."""
    given: list[Any] = []
    for callbacks in (config.get("callbacks"), model.callbacks):
        given += callbacks.handlers if isinstance(callbacks, BaseCallbackManager) else callbacks or []
    found = next((handler for handler in given if isinstance(handler, CostCallback)), None) or tracked()
    return found.meter if found else None
