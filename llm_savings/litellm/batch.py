# pyright: standard
"""`submit_batch`: a list of LiteLLM calls, at half price and by tomorrow morning.

LiteLLM's own code makes every request and reads every answer, so parameters are mapped, and errors raised, as in
`litellm.completion`.
"""

from __future__ import annotations

import itertools
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeGuard

import litellm
from litellm.llms.base_llm.base_utils import type_to_response_format_param
from litellm.llms.custom_httpx.http_handler import HTTPHandler

from llm_savings.batch.job import Job
from llm_savings.batch.outcomes import Answered, Outcome
from llm_savings.batch.replay import Handle, Notebook, Noted, Transport, client_over, httpx_over, response, with_beta
from llm_savings.batch.submit import Options, open_job, submit
from llm_savings.batch.text import dumps, loads
from llm_savings.errors import BatchError, ConfigError
from llm_savings.ledger import Sent
from llm_savings.litellm.costs import CostLogger
from llm_savings.meter import Live, Meter, current_call
from llm_savings.semantic_cache.scope import Question

if TYPE_CHECKING:
    from llm_savings.litellm.caching import SemanticCache

_QUESTION = "llm_savings_question"  # in what is kept of a call: under what its answer is to be cached

# Where a call says who makes it, how and for whom: nothing of the answer depends on it, and keys are not kept.
_NOT_KEPT = (
    "api_key", "api_base", "base_url", "api_version", "organization", "client", "metadata", "timeout", "num_retries",
    "max_retries", "stream", "stream_options", "fallbacks", "caching", "cache", "litellm_params",
)  # fmt: skip


def submit_batch(
    calls: Sequence[Mapping[str, Any]],
    *,
    client: Any = None,
    journal: str | Path | None = None,
    options: Options | None = None,
    cached: bool = False,
) -> BatchHandle:
    """Send LiteLLM calls as a batch, at half price.

    Args:
        calls: The arguments of one `litellm.completion` each, all of one model: OpenAI's, Azure's or Anthropic's.
        client: A client of the openai or anthropic package; by default one with the first call's `api_key` and
            `api_base`, or made from the environment.
        journal: Where the job is kept; by default `LLM_SAVINGS_BATCHES`, or a file in the user's data folder.
        options: A cap, a deadline and more; see `llm_savings.batch.Options`.
        cached: What `litellm.cache`, a `SemanticCache`, has word for word is not sent, and costs nothing; what the
            batch answers is put into it by `collect`.

    A `CostLogger` in `litellm.callbacks` meters the job, and its budget holds it.

    Raises:
        ConfigError: The model's provider has no batches here; or `cached`, and `litellm.cache` is no `SemanticCache`.
        BatchError: The job may not or cannot be sent; nothing was.
        BudgetError: A budget has no room for it.

    Example:
        >>> handle = submit_batch([                                                # doctest: +SKIP
        ...     {"model": "gpt-4o-mini", "messages": [{"role": "user", "content": review}]} for review in reviews
        ... ])
        >>> [answer.choices[0].message.content for answer in handle.collect()]     # doctest: +SKIP
    """
    if not calls:
        raise BatchError("there is nothing to send; the list of calls is empty")
    client = client or _client_of(calls[0])
    notebook, meter = Notebook(), _meter()
    over = _over(client, notebook)
    known: dict[bytes, Any] = {}
    cache = litellm.cache if cached and _is_ours(litellm.cache) else None
    if cached and cache is None:
        raise ConfigError("cached=True, but litellm.cache is no SemanticCache; set litellm.cache = SemanticCache(...)")

    def requests() -> Iterator[tuple[Noted, bytes]]:
        for call in calls:
            memo = {name: value for name, value in call.items() if name not in _NOT_KEPT}
            if "response_format" in memo:
                memo["response_format"] = type_to_response_format_param(memo["response_format"])
            with _quiet(meter):
                noted = notebook.of(lambda memo=memo: _complete(memo, over))
            if cache is not None and (answer := cache.exact(call)) is not None:
                known[dumps(noted.body)] = answer
            elif cache is not None and (question := cache.question(call)) is not None:
                control = call.get("cache") or {}
                kept = {name: control[name] for name in ("ttl", "tags") if name in control}
                memo |= {_QUESTION: {"question": asdict(question), "cache": kept}}
            yield noted, dumps(memo)

    found = requests()
    first = next(found)
    lines = ((noted.line(), memo) for noted, memo in itertools.chain([first], found))
    options = replace(options or Options(), host="litellm")
    if cached:
        options = replace(options, known=options.known or (lambda body: known.get(dumps(body))))
    worker = with_beta(client, first[0])
    job = submit(lines, provider=worker, journal=journal, meter=meter, options=options)
    return BatchHandle(job, client)


def open_batch(id: str, *, client: Any = None, journal: str | Path | None = None) -> BatchHandle:
    """A batch that was submitted before, in this process or another one; arguments as for `submit_batch`.

    Raises:
        BatchError: There is no such batch.
    """
    job = open_job(id, provider=client, journal=journal, meter=_meter())
    return BatchHandle(job, client or _client_of({"model": f"{job.provider}/{job.model}"}))


class BatchHandle(Handle):
    """A batch of LiteLLM calls, whose `collect` returns a `ModelResponse` for each. Made by `submit_batch`.

    LiteLLM's success callbacks see every call once, but for what was known (`cached`). The `response_cost` that LiteLLM
    itself reckons is that of the full price; the ledger has what was paid.
    """

    def __init__(self, job: Job, client: Any) -> None:
        super().__init__(job)
        self._client = client

    def _collected(self, *, return_exceptions: bool) -> list[Any]:
        found: list[Any] = []
        playing: list[Outcome] = []
        over = _over(self._client, lambda request: response(playing[-1]))
        for outcome, memo in self.job.outcomes():
            playing[:] = [outcome]
            try:
                response(outcome)  # what has no answer at all is no call
                call = loads(memo or b"{}")
                asked = call.pop(_QUESTION, None)
                if isinstance(outcome, Answered) and outcome.source == "cache":
                    found.append(_hit(outcome.body))
                    continue
                with _quiet(self.job.costs.meter):
                    found.append(_complete(call, over))
                if asked is not None and _is_ours(cache := litellm.cache):
                    cache.keep(Question(**asked["question"]), found[-1], {**call, "cache": asked["cache"]})
            except Exception as error:
                if not return_exceptions:
                    raise
                found.append(error)
        return found


def _complete(call: Mapping[str, Any], client: Any) -> Any:
    return litellm.completion(**call, client=client, api_key="batch", max_retries=0, num_retries=0, caching=False)


def _hit(body: Mapping[str, Any]) -> Any:
    """A known answer, as LiteLLM gives one of its cache."""
    answer = litellm.ModelResponse(**body)
    answer._hidden_params.update(cache_hit=True, response_cost=0.0, llm_savings={"cache": "hit", "tier": "exact"})
    return answer


def _is_ours(cache: Any) -> TypeGuard[SemanticCache]:
    module = sys.modules.get("llm_savings.litellm.caching")  # to import it takes more than LiteLLM itself
    return module is not None and isinstance(cache, module.SemanticCache)


def _client_of(call: Mapping[str, Any]) -> Any:
    """The SDK's client for a call.

    Raises:
        ConfigError: There is none that speaks a batch interface.
    """
    given = {"api_key": call.get("api_key"), "base_url": call.get("api_base") or call.get("base_url")}
    given = {name: value for name, value in given.items() if value}
    _, provider, _, _ = litellm.get_llm_provider(call["model"])
    if provider == "openai":
        import openai

        return openai.OpenAI(**given)
    if provider == "azure":
        import openai

        url = given.pop("base_url", None)
        return openai.AzureOpenAI(**given, **({"azure_endpoint": url} if url else {}))
    if provider == "anthropic":
        import anthropic

        return anthropic.Anthropic(**given)
    raise ConfigError(f"model {call['model']!r} is {provider}'s, whose batches are not spoken here yet")


def _over(client: Any, transport: Transport) -> Any:
    """What `litellm.completion` takes as its client, over a transport of ours."""
    if type(client).__module__.partition(".")[0] == "openai":
        return client_over(client, transport)
    return HTTPHandler(client=httpx_over(sys.modules["httpx"], transport))


@contextmanager
def _quiet(meter: Meter | None) -> Iterator[None]:
    """A call that answers from a batch: a logger of the same ledger takes it for another host's."""
    sent = Sent(call_id="batch", host="litellm", requested_model="")
    if meter is not None:
        sent = meter.gate.charged(sent)  # a logger with budgets stops what nobody holds
    live = Live(sent, "" if meter is None else meter.ledger.identity, time.monotonic())
    token = current_call.set(live)
    try:
        yield
    finally:
        current_call.reset(token)


def _meter() -> Meter | None:
    """The meter of the `CostLogger` that would have metered the calls."""
    found = next((logger for logger in litellm.callbacks if isinstance(logger, CostLogger)), None)
    return found.meter if found else None
