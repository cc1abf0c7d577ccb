# pyright: standard, reportIncompatibleMethodOverride=false
"""`CostCallback`: one callback on a chain, and every model call in it is metered into a ledger."""

from __future__ import annotations

import logging
import threading
from collections import OrderedDict
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial, wraps
from pathlib import Path
from typing import Any, TypeVar
from uuid import UUID
from weakref import WeakValueDictionary

from langchain_core.callbacks import BaseCallbackHandler
from langchain_core.messages import BaseMessage
from langchain_core.outputs import ChatGenerationChunk, GenerationChunk, LLMResult
from langchain_core.outputs.chat_generation import merge_chat_generation_chunks

from llm_savings import settings
from llm_savings.budget import Budget
from llm_savings.errors import BudgetError, BudgetExceededError, BudgetUnavailableError
from llm_savings.evidence import evidence_in
from llm_savings.langchain import current
from llm_savings.langchain.answers import read_answer, read_failure, read_partial, reports_elsewhere
from llm_savings.langchain.current import Mark
from llm_savings.langchain.errors import translated
from llm_savings.langchain.only_hits import forget, only_hits
from llm_savings.langchain.requests import Start
from llm_savings.ledger import Ledger, Sent
from llm_savings.meter import Answer, Live, Meter, current_call, may_have_billed
from llm_savings.metered import Metered
from llm_savings.pricing import PriceBook
from llm_savings.resends import RetriedError
from llm_savings.storage.forks import Latch
from llm_savings.usage import Usage

_log = logging.getLogger("llm_savings.langchain")
# Runs in flight that are remembered; what falls out stays in the ledger as unknown, at its bound.
_MOST = 10_000

_Hook = TypeVar("_Hook", bound=Callable[..., None])


class _Once:
    """Says a thing once, and whispers it from then on."""

    def __init__(self) -> None:
        self._told: set[str] = set()
        self._lock = Latch()

    def failed(self, hook: str) -> None:
        """Log the exception being handled."""
        with self._lock:
            level = logging.DEBUG if hook in self._told else logging.ERROR
            self._told.add(hook)
        _log.log(level, "%s failed", hook, exc_info=True)


_once = _Once()


def _quietly(hook: _Hook) -> _Hook:
    """A hook whose own defect is logged, once, and never reaches the caller's chain. A budget's error always does."""

    @wraps(hook)
    def wrapped(*args: Any, **kwargs: Any) -> None:
        try:
            hook(*args, **kwargs)
        except BudgetError as error:
            found = translated(error)
            raise found from found.__cause__
        except Exception:  # noqa: BLE001 - whatever it is, the user's call goes on
            _once.failed(hook.__name__)

    return wrapped  # type: ignore[return-value]


@dataclass(slots=True)
class _Open:
    """A run in flight. `refused`: no budget lets it leave, only a cache may answer it."""

    start: Start
    live: Live
    mark: Mark | None
    batch: _Batch | None
    refused: bool = False
    attempts: int = 0
    chunks: list[ChatGenerationChunk] = field(default_factory=list)

    @property
    def hit(self) -> bool:
        """Whether a cache answered for sure, so that no request left."""
        return self.refused or (self.mark is not None and self.mark.hit)

    @property
    def stopped(self) -> bool:
        """Whether a budget has stopped the request before it left."""
        return self.mark is not None and self.mark.refusal is not None


class _Batch:
    """The runs of one request that carried several prompts to a plain LLM.

    LangChain gives the request's usage to one of the runs, and under asyncio they end in any order.
    """

    def __init__(self, size: int) -> None:
        self._size, self._reported = size, False
        self._waiting: list[tuple[_Open, LLMResult]] = []
        self._lock = threading.Lock()

    def ended(self, run: _Open, response: LLMResult) -> list[tuple[_Open, LLMResult, bool]]:
        """The runs that can be settled now that this one has ended, and whether another one has their usage."""
        with self._lock:
            if reports_elsewhere(response):
                self._waiting.append((run, response))
                if not self._reported and len(self._waiting) < self._size:
                    return []
                ready = [(*pair, self._reported) for pair in self._waiting]
            else:
                self._reported = True
                ready = [(run, response, False), *((*pair, True) for pair in self._waiting)]
            self._waiting.clear()
            return ready


class CostCallback(Metered, BaseCallbackHandler):
    """Meters every model call of a chain, graph or agent: what it cost, and what it would have cost.

    Works in invoke, ainvoke, stream, astream, batch and abatch. A row is durably in the ledger before a request
    leaves, and is settled by its end: measured by the provider's own counts; estimated where a stream came without
    usage or was left; unknown, at most its bound, where it may have been billed and nobody said how much. Under
    asyncio all of it happens in LangChain's executor, never on the event loop. It never breaks a chain.

    With a budget, a call that could pass it is stopped before any request leaves, and so are hidden retries; the
    errors are LangChain's `ModelError` too. Answers from LangChain's cache cost nothing and are given all the same.

    A run is labelled by tags such as "feature:faq" (plain ones make the label `tags`), by `feature`, `team`, `project`,
    `app`, `environment` and `customer` in its metadata; its user by `user_id` or `user`, its session by `session_id`,
    `thread_id`, `conversation_id` or `trace_id` there.

    Every attempt that may have been billed has its row: those of `.with_retry()`, of ChatLiteLLM, and those that the
    openai and anthropic clients make on their own. LangChain tells its callbacks nothing about embeddings.

    Args:
        ledger: A path, ":memory:", a postgresql:// URL, or a `Ledger`, which several callbacks may share. By default
            `LLM_SAVINGS_LEDGER`, or a file in the user's data folder.
        prices: The price book; LiteLLM's bundled map by default.
        tags: Labels for every call, such as {"feature": "faq"}.
        user: Who causes the calls, unless a run says otherwise.
        session: The conversation they belong to, unless a run says otherwise.
        budget: What these calls must stay within, a `Budget` or several.

    Raises:
        ConfigError: The ledger's path or URL cannot be one, or two budgets have one name.

    Example:
        >>> cost = CostCallback("costs.db", tags={"feature": "faq"})              # doctest: +SKIP
        >>> chain.invoke(question, config={"callbacks": [cost]})                  # doctest: +SKIP
        >>> cost.spent                                                            # doctest: +SKIP
        Decimal('0.000525')
    """

    # Chains, tools and retrievers cost nothing themselves; under asyncio each event would be a trip to a thread.
    ignore_chain = ignore_agent = ignore_retriever = ignore_custom_event = True  # type: ignore[assignment]
    ignore_llm = False  # type: ignore[assignment]
    # Nothing but a budget's error ever leaves a hook.
    raise_error = True

    def __init__(
        self,
        ledger: Ledger | str | Path | None = None,
        *,
        prices: PriceBook | None = None,
        tags: Mapping[str, str] | None = None,
        user: str | None = None,
        session: str | None = None,
        budget: Budget | Sequence[Budget] | None = None,
    ) -> None:
        self.meter = Meter(ledger, prices=prices, tags=tags, budget=budget)
        self.user, self.session = user, session
        self._open: OrderedDict[UUID, _Open] = OrderedDict()
        self._batches: WeakValueDictionary[int, _Batch] = WeakValueDictionary()
        self._lock = Latch()
        current.register(self)
        if budget:
            current.expect_refusals()

    @property
    def ignore_chat_model(self) -> bool:
        """LangChain asks before a call: nothing is metered that begins while LLM_SAVINGS_DISABLED is set."""
        return settings.disabled() or current.metered_elsewhere.get()

    @_quietly
    def on_chat_model_start(self, serialized: dict[str, Any], messages: list[list[BaseMessage]], **event: Any) -> None:
        """Write a chat model's call ahead."""
        self._begin(Start(serialized, messages[0], event))

    @_quietly
    def on_llm_start(self, serialized: dict[str, Any], prompts: list[str], **event: Any) -> None:
        """Write a plain LLM's call ahead."""
        if not settings.disabled():
            self._begin(Start(serialized, prompts[0], event))

    @_quietly
    def on_llm_new_token(
        self, token: Any, *, chunk: GenerationChunk | ChatGenerationChunk | None = None, run_id: UUID, **_: Any
    ) -> None:
        """Keep a piece of a stream, for the case that the rest is not wanted."""
        if found := self._open.get(run_id):
            if found.mark is not None:
                # The request has left. What the caller does between two pieces of a stream is another call.
                found.mark.done = True
            if isinstance(chunk, ChatGenerationChunk):
                found.chunks.append(chunk)

    @_quietly
    def on_llm_end(self, response: LLMResult, *, run_id: UUID, **event: Any) -> None:
        """Settle a call that was answered."""
        found = self._pop(run_id)
        if found is None and (settings.disabled() or current.metered_elsewhere.get()):
            return
        if found is None:
            # Under asyncio langchain-core 1.7.2 drops `on_llm_start` where another handler runs inline (tracers do).
            start = Start(None, None, {"run_id": run_id, **event})
            found = _Open(start, self.meter.late(self._sent(start)), None, None)
        if found.batch is None:
            self._answered(found, response)
        else:
            for run, result, shared in found.batch.ended(found, response):
                self._answered(run, result, shared=shared)

    @_quietly
    def on_llm_error(self, error: BaseException, *, run_id: UUID, response: LLMResult | None = None, **_: Any) -> None:
        """Settle a call that failed, or a stream that was left (GeneratorExit, cancellation, Ctrl-C)."""
        found = self._pop(run_id)
        if found is not None and not found.refused:
            if isinstance(error, Exception):
                free = found.hit or found.stopped
                self.meter.failed(found.live, error, Answer(usage=Usage()) if free else read_failure(error, response))
            else:
                self._left(found, response)
        refusal = current.refusal_of(run_id)
        if refusal is not None and isinstance(error, Exception) and not isinstance(error, BudgetError):
            raise refusal  # LiteLLM has made an error of its own of it

    @_quietly
    def on_retry(self, retry_state: Any, *, run_id: UUID, **_: Any) -> None:
        """Note an attempt that the model's own retrying gave up."""
        outcome = retry_state.outcome
        if outcome is None:
            # Under asyncio LangChain does not wait for this hook. The error is forgotten by now, and nothing stops the
            # attempt that follows, so both are charged.
            if found := self._open.get(run_id):
                self.meter.failed(self.meter.late(self._again(found)), RetriedError())
        elif (error := outcome.exception()) is not None and may_have_billed(error):
            self.resent(run_id, error)

    @_quietly
    def resent(self, run_id: UUID, error: BaseException) -> None:
        """Write a row for an attempt that failed in a way that may have been billed, and is made again.

        Raises:
            BudgetError: Both attempts together have no room in a budget; the second one must not be made.
        """
        if (found := self._open.get(run_id)) is None:
            return
        try:
            live = self.meter.begin(self._again(found))
        except BudgetError:
            # There is one attempt, and its row is there.
            self._pop(run_id)
            self.meter.failed(found.live, error)
            raise
        self.meter.failed(live, error)

    def _again(self, run: _Open) -> Sent:
        run.attempts += 1
        return replace(run.live.sent, call_id=f"{run.start.run_id}:{run.attempts}")

    @_quietly
    def release(self, mark: Mark, error: BaseException) -> None:
        """Give back what is held for the runs of a request that will not leave."""
        for run in self._taken(lambda run: run.mark is mark and run.start.params is mark.request):
            self._released(run, error)

    @_quietly
    def abandon(self, mark: Mark) -> None:
        """Settle the calls of this mark, which were cancelled: LangChain does not report it."""
        for found in self._taken(lambda run: run.mark is mark):
            whole = merge_chat_generation_chunks(found.chunks)
            result = LLMResult(generations=[[whole] if whole else []])
            self._left(found, result)

    def given(self, start: Start, response: LLMResult) -> None:
        """Note an answer that a cache has given where LangChain begins no run: to a plain LLM's prompt."""
        self._answered(_Open(start, self.meter.late(self._sent(start)), None, None, refused=True), response)

    def _sent(self, start: Start) -> Sent:
        return start.sent(self.meter, start.size(), user=self.user, session=self.session)

    def _begin(self, start: Start) -> None:
        try:
            size = start.size()
            sent = start.sent(self.meter, size, user=self.user, session=self.session)
        except Exception as error:
            if not self.meter.gate.budgets():
                raise
            # Without its text, which may quote the prompt.
            unread = f"a call that cannot be read cannot be held in a budget: {type(error).__name__}"
            raise BudgetUnavailableError(unread) from error
        refusal = None
        try:
            live = self.meter.begin(sent, size)
        except BudgetError as error:
            refusal = translated(error)
            if not isinstance(error, BudgetExceededError) or not _may_be_hit(start):
                current.refuse(start.params, refusal)
                raise refusal from refusal.__cause__
            live = self.meter.late(sent)
        live.strategies = evidence_in(start.metadata)
        if live.sent.budgets:
            current.expect_refusals()
        mark, batch = current.claim(live, start.params), None
        if mark is not None and refusal is not None:
            only_hits(start.run_id, partial(_missed, mark, refusal))
        with self._lock:
            if start.batch > 1 and isinstance(start.prompt, str):
                # The runs of a request share one object of parameters, and nothing else that names the request.
                batch = self._batches.setdefault(id(start.params), _Batch(start.batch))
            self._open[start.run_id] = _Open(start, live, mark, batch, refusal is not None)
            if len(self._open) > _MOST:
                forget(self._open.popitem(last=False)[0])
        if (why := current.will_not_leave(start.params)) is not None and (run := self._pop(start.run_id)) is not None:
            self._released(run, why)

    def _released(self, run: _Open, error: BaseException) -> None:
        if not run.refused:
            self.meter.failed(run.live, error, Answer(usage=Usage()))

    def _pop(self, run_id: UUID) -> _Open | None:
        with self._lock:
            found = self._open.pop(run_id, None)
        if found is not None:
            if found.mark is not None:
                found.mark.done = True
            if found.refused:
                forget(run_id)
        return found

    def _taken(self, wanted: Callable[[_Open], bool]) -> list[_Open]:
        with self._lock:
            found = [run_id for run_id, run in self._open.items() if wanted(run)]
        return [run for run_id in found if (run := self._pop(run_id)) is not None]

    def _left(self, run: _Open, response: LLMResult | None) -> None:
        if run.refused:
            return
        answer, complete = read_partial(response, run.start)
        if (complete or run.hit) and response is not None:
            self._answered(run, response)
        else:
            self.meter.abandoned(run.live, answer)

    def _answered(self, run: _Open, response: LLMResult, *, shared: bool = False) -> None:
        answer = Answer(shared=True) if shared else read_answer(response, run.start, self.meter.prices)
        if run.hit:
            said = {"semantic_cache": run.mark.evidence} if run.mark and run.mark.evidence else {}
            strategies = {**answer.strategies, **said}
            answer = replace(answer, hit=True, usage=answer.usage or Usage(), response_id=None, strategies=strategies)
        self.meter.answered(run.live, answer)


def _may_be_hit(start: Start) -> bool:
    """Whether LangChain will ask a cache before this call leaves, so that the call may go on as far as that."""
    mark = current_call.get()
    return isinstance(mark, Mark) and not mark.done and mark.cached is start.params and start.batch == 1


def _missed(mark: Mark, refusal: BudgetError) -> BudgetError:
    mark.refusal = refusal
    return refusal
