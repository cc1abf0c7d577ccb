"""Batches of both providers: what was handed in, worked on over time, billed at half, and given back in any order.

Sources: platform.openai.com/docs/guides/batch, docs.claude.com/en/docs/build-with-claude/batch-processing.
"""

from __future__ import annotations

import random
import time
import uuid
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, fields, replace
from typing import TYPE_CHECKING, Literal

from .catalog import Provider
from .count import openai_tokens
from .prompt_cache import PromptCache
from .wire import JSON, WireError, check_range, check_types, dumps

if TYPE_CHECKING:
    from .service import Service

WINDOW = 24 * 3600.0
# Requests and bytes of one batch.
LIMITS: dict[Provider, tuple[int, int]] = {"openai": (50_000, 200_000_000), "anthropic": (100_000, 256_000_000)}
Status = Literal["validating", "failed", "in_progress", "cancelling", "completed", "expired", "cancelled"]
ENDED = ("failed", "completed", "expired", "cancelled")


@dataclass(frozen=True, slots=True)
class Conditions:
    """How batches fare.

    Attributes:
        seconds: How long the provider works on a batch; more than a day, and it expires half done.
        speedup: How many of those seconds pass in one; of the day until a batch expires as well.
        line_errors: The chance that a line ends in an error of the provider's own, not billed.
        expire_after: The share of its lines after which a batch expires.
        expiries: How many batches do so.
        queued_tokens: More prompt tokens than this in unfinished batches of a model, and a new one fails.
        max_requests: The most requests of one batch, in place of the provider's own limit.
        max_bytes: The most bytes of one batch, in place of the provider's own limit.
    """

    seconds: float = 0.0
    speedup: float = 1.0
    line_errors: float = 0.0
    expire_after: float | None = None
    expiries: int = 1
    queued_tokens: int | None = None
    max_requests: int | None = None
    max_bytes: int | None = None

    @classmethod
    def from_json(cls, body: JSON) -> Conditions:
        """The conditions that an admin request describes.

        Raises:
            WireError: A field is unknown, of the wrong type or out of range.
        """
        allowed = {f.name: "integer" if "int" in str(f.type) else "number" for f in fields(cls)}
        for name in body:
            if name not in allowed:
                raise WireError(400, f"unknown field {name!r}; known: {', '.join(allowed)}")
        check_types(body, allowed)
        for name, high in (("line_errors", 1), ("expire_after", 1), ("seconds", 1e9), ("speedup", 1e9)):
            check_range(body, name, 0, high)
        return cls(**body)


@dataclass(frozen=True, slots=True)
class Item:
    """One request of a batch."""

    custom_id: str
    endpoint: str
    body: JSON


@dataclass(frozen=True, slots=True)
class Result:
    """How a request of a batch ended: an answer, or an error ("errored", "expired" or "canceled")."""

    custom_id: str
    kind: Literal["succeeded", "errored", "expired", "canceled"]
    body: JSON = field(default_factory=dict[str, object])
    status: int = 200
    request_id: str = ""


@dataclass(slots=True)
class Batch:
    """A batch at work.

    Attributes:
        wrong: Why it cannot be worked on at all; then it fails, some time after it was accepted.
        extra: The provider's own fields (input file, metadata).
    """

    id: str
    provider: Provider
    items: Sequence[Item]
    tokens: int
    extra: JSON
    wrong: tuple[JSON, ...] = ()
    status: Status = "validating"
    created: float = field(default_factory=time.time)
    began: float | None = None
    ended: float | None = None
    cancelled: float | None = None
    expire_at: int | None = None
    order: list[int] = field(default_factory=list[int])
    results: list[Result] = field(default_factory=list[Result])

    def counts(self) -> dict[str, int]:
        """How many requests have ended in which way."""
        found: dict[str, int] = dict.fromkeys(("succeeded", "errored", "expired", "canceled"), 0)
        for result in self.results:
            found[result.kind] += 1
        return found


class Batches:
    """Every batch and file of a sandbox. Work is done when somebody looks, as far as the clock allows by then.

    Args:
        service: What answers and bills the requests.
        render: An error of a line in its provider's format.
    """

    def __init__(self, service: Service, render: Callable[[WireError, Provider], JSON]) -> None:
        self._service, self._render = service, render
        self.reset()

    def reset(self) -> None:
        """Forget all batches, files and conditions."""
        self.conditions = Conditions()
        self.files: dict[str, tuple[JSON, bytes]] = {}
        self.all: dict[str, Batch] = {}
        self._dice = random.Random(0)  # noqa: S311 - repeatable trouble, no secret
        self._expired = 0

    def limits(self, provider: Provider) -> tuple[int, int]:
        """The most requests and bytes of one batch."""
        requests, size = LIMITS[provider]
        return self.conditions.max_requests or requests, self.conditions.max_bytes or size

    def add(self, provider: Provider, items: Sequence[Item], extra: JSON, wrong: Sequence[JSON] = ()) -> Batch:
        """Accept a batch; whether it can be worked on shows later."""
        counted = self.conditions.queued_tokens is not None
        tokens = sum(map(_prompt_tokens, items)) if counted else 0
        name = f"batch_{uuid.uuid4().hex}" if provider == "openai" else f"msgbatch_{uuid.uuid4().hex[:24]}"
        batch = Batch(name, provider, items, tokens, extra, tuple(wrong))
        batch.order = list(range(len(items)))
        self._dice.shuffle(batch.order)
        share = self.conditions.expire_after
        if share is not None and self._expired < self.conditions.expiries:
            self._expired += 1
            batch.expire_at = int(len(items) * share)
        self.all[name] = batch
        return batch

    def get(self, name: str, provider: Provider) -> Batch:
        """A batch as it is now.

        Raises:
            WireError: There is none of that name.
        """
        batch = self.all.get(name)
        if batch is None or batch.provider != provider:
            raise WireError(404, f"No batch found with id '{name}'.", kind="not_found_error", code="not_found")
        self._advance(batch)
        return batch

    def cancel(self, batch: Batch) -> None:
        """Stop working on a batch; what is done stays done."""
        if batch.status not in ENDED:
            batch.status, batch.cancelled = "cancelling", time.time()

    def _advance(self, batch: Batch) -> None:
        if batch.status in ENDED:
            return
        if batch.status == "validating":
            batch.wrong = batch.wrong or self._queue_full(batch)
            if batch.wrong:
                batch.status, batch.ended = "failed", time.time()
                return
            batch.status, batch.began = "in_progress", time.time()
        if batch.status == "cancelling":
            self._end(batch, "cancelled", "canceled")
            return
        passed = (time.time() - (batch.began or 0)) * self.conditions.speedup
        total = self.conditions.seconds
        share = 1.0 if not total else min(passed, WINDOW) / total
        due = min(len(batch.items), int(len(batch.items) * share))
        stop = len(batch.items) if batch.expire_at is None else batch.expire_at
        for number in range(len(batch.results), min(due, stop)):
            batch.results.append(self._work(batch, batch.items[batch.order[number]]))
        if len(batch.results) == len(batch.items):
            batch.status, batch.ended = "completed", time.time()
        elif due > stop or (due == stop and batch.expire_at is not None) or passed >= WINDOW:
            self._end(batch, "expired", "expired")

    def _end(self, batch: Batch, status: Status, kind: Literal["expired", "canceled"]) -> None:
        rest = batch.order[len(batch.results) :]
        batch.results += [Result(batch.items[number].custom_id, kind) for number in rest]
        batch.status, batch.ended = status, time.time()

    def _queue_full(self, batch: Batch) -> tuple[JSON, ...]:
        limit = self.conditions.queued_tokens
        model = batch.items[0].body.get("model") if batch.items else None
        queued = [
            other.tokens
            for other in self.all.values()
            if other.status == "in_progress" and other.items[0].body.get("model") == model
        ]
        if limit is None or batch.provider != "openai" or sum(queued) + batch.tokens <= limit:
            return ()
        message = (
            f"Enqueued token limit reached for {model} in organization org-sandbox. Limit: {limit:,} enqueued tokens. "
            "Please try again once some in_progress batches have been completed."
        )
        return ({"code": "token_limit_exceeded", "message": message, "param": None, "line": None},)

    def _work(self, batch: Batch, item: Item) -> Result:
        from .service import ENDPOINTS

        request_id = f"req_{uuid.uuid4().hex}"
        try:
            if self._dice.random() < self.conditions.line_errors:
                raise WireError(500, "The server had an error while processing your request.", kind="api_error")
            body = {name: value for name, value in item.body.items() if name != "stream"}
            # Batches reach the prompt cache by luck only, and here never.
            work = ENDPOINTS[item.endpoint][1](body, self._service.answers, PromptCache().of(batch.id))
        except WireError as error:
            body = self._render(error, batch.provider)
            return Result(item.custom_id, "errored", body, error.status, request_id)
        self._service.charge(replace(work, tier="batch", request_id=request_id), "ok")
        return Result(item.custom_id, "succeeded", work.body, 200, request_id)


def _prompt_tokens(item: Item) -> int:
    return openai_tokens()(dumps(item.body.get("messages") or item.body.get("input")))
