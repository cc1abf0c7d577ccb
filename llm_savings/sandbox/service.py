"""What happens to a request at a model endpoint: key, fault, work, bill, and then the answer on its way out."""

from __future__ import annotations

import asyncio
import json
from collections import Counter
from collections.abc import Awaitable, Callable

from starlette.requests import Request
from starlette.types import Receive, Scope, Send

from . import anthropic_wire, openai_embeddings, openai_responses, openai_wire
from .answers import Answers, Replies
from .bill import Bill, BillRow, cost, now
from .catalog import Provider, find
from .faults import Fault, Faults
from .prompt_cache import Account, PromptCache
from .spoil import SPOILS, Spoiled
from .wire import JSON, WireError, Work, dumps, is_object

Read = Callable[[JSON, Replies, Account], Work]
ENDPOINTS: dict[str, tuple[Provider, Read]] = {
    "/v1/chat/completions": ("openai", openai_wire.chat),
    "/v1/responses": ("openai", openai_responses.respond),
    "/v1/embeddings": ("openai", openai_embeddings.embed),
    "/v1/messages": ("anthropic", anthropic_wire.messages),
}
_JSON_TYPE = (b"content-type", b"application/json")
_SSE_TYPE = (b"content-type", b"text/event-stream; charset=utf-8")


class Service:
    """The provider: what it knows, what it served, what trouble is ordered.

    Args:
        answers: Where answers come from.
        seed: Repeats the dice of faults with a probability.
        latency: Seconds before an answer begins.
        pause: Seconds between the pieces of a stream.
    """

    def __init__(self, answers: Answers, *, seed: int = 0, latency: float = 0.0, pause: float = 0.0) -> None:
        self.answers, self.latency, self.pause = answers, latency, pause
        self.faults = Faults(seed)
        self.prompts = PromptCache()
        self.since = now()
        self.rows: list[BillRow] = []
        self.arrived: Counter[str] = Counter()

    def reset(self) -> None:
        """Forget the bill, the counts, the faults and all prompts."""
        self.since = now()
        self.rows.clear()
        self.arrived.clear()
        self.faults.reset()
        self.prompts.reset()

    def export(self) -> str:
        """The bill so far; see `Bill.export`."""
        return Bill(tuple(self.rows)).export(self.since)

    def charge(self, work: Work, outcome: str, usage: JSON | None = None) -> None:
        """Put a request on the bill."""
        used = work.usage if usage is None else usage
        model = find(ENDPOINTS[work.endpoint][0], work.model, embedding=work.endpoint == "/v1/embeddings")
        usd = cost(model, work.tier, used)
        row = BillRow(
            id=work.id,
            endpoint=work.endpoint,
            model=work.model,
            stream=work.stream,
            usage=used,
            usd=usd,
            at=now(),
            outcome=outcome,
            user=work.user,
            tier=work.tier,
            request_id=work.request_id,
        )
        self.rows.append(row)

    async def serve(self, request: Request, provider: Provider, read: Read) -> Reply | HangUp:
        """One request at a model endpoint, from its key to its answer."""
        path = request.url.path
        self.arrived[path] += 1
        body = await read_body(request, provider)
        model = body.get("model")
        fault = self.faults.take(path, model if isinstance(model, str) else None)
        kind = fault.kind if fault else None
        if fault and kind == "disconnect":
            return HangUp()
        if fault and kind in ("429", "500", "stall-unbilled"):
            if kind == "stall-unbilled":
                await asyncio.sleep(fault.seconds)
            raise _failure(fault, provider)
        answers = Spoiled(self.answers, kind) if kind in SPOILS else self.answers
        work = read(body, answers, self.prompts.of(key_of(request)))
        wait = self.latency + (fault.seconds if fault and kind == "stall" else 0)
        if wait:
            await asyncio.sleep(wait)
        if kind == "500-after":
            self.charge(work, "error-after")
            raise WireError(500, "The server had an error while processing your request.", kind=_server_error(provider))
        pause = fault.seconds if fault and kind == "slow" else self.pause
        return Reply(self, request, work, fault=kind, pause=pause)

    async def troubled(self, request: Request, provider: Provider, work: Callable[[], Awaitable[object]]) -> object:
        """What `work` answers at an endpoint that bills nothing itself, with the trouble that was ordered for it."""
        fault = self.faults.take(request.url.path, None)
        kind = fault.kind if fault else None
        if fault and kind == "disconnect":
            return HangUp()
        if fault and kind in ("429", "500"):
            raise _failure(fault, provider)
        answer = await work()
        if fault and kind in ("500-after", "stall"):
            if kind == "stall":
                await asyncio.sleep(fault.seconds)
            else:
                raise _failure(fault, provider)
        return answer


class HangUp:
    """An ASGI response that closes the connection without a word."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hang up."""
        scope["sandbox.hang_up"]()
        await receive()  # returns once the connection is gone


class Reply:
    """An answer on its way out: an ASGI response that bills before the client can have it all.

    Args:
        service: Where it is billed.
        request: What is answered.
        work: The answer.
        fault: A kind of fault that the answer suffers on its way.
        pause: Seconds between the pieces of a stream.
    """

    def __init__(
        self, service: Service, request: Request, work: Work, *, fault: str | None = None, pause: float = 0.0
    ) -> None:
        self._service, self._request, self._work = service, request, work
        self._fault, self._pause = fault, pause

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the answer."""
        if self._work.stream:
            await self._stream(self._service, self._work, receive, send)
        else:
            await self._whole(self._service, self._work, send)

    async def _whole(self, service: Service, work: Work, send: Send) -> None:
        data = dumps(work.body).encode()
        outcome = "ok"
        if self._fault == "garbage":
            data, outcome = data[: len(data) // 2], "garbage"
        elif self._fault == "cut":
            outcome = "cut"
        elif service.latency or self._fault == "stall":
            outcome = "abandoned" if await self._request.is_disconnected() else "ok"
        service.charge(work, outcome)
        headers = [_JSON_TYPE, (b"content-length", str(len(data)).encode()), *_ids(work)]
        await send({"type": "http.response.start", "status": 200, "headers": headers})
        cut = outcome == "cut"
        # Returning with more to come makes the server close the connection.
        await send({"type": "http.response.body", "body": data[: len(data) // 2] if cut else data, "more_body": cut})

    async def _stream(self, service: Service, work: Work, receive: Receive, send: Send) -> None:
        gone = asyncio.ensure_future(receive())  # nothing more can come but the news that the client has left
        sent, billed = "", False
        events = list(work.events())
        cut_at = _middle([bool(event.text) for event in events]) if self._fault in ("cut", "garbage") else None
        try:
            await send({"type": "http.response.start", "status": 200, "headers": [_SSE_TYPE, *_ids(work)]})
            for number, event in enumerate(events):
                if number == cut_at:
                    outcome = str(self._fault)
                    # What was generated is billed; unreadable bytes do not stop the model, a cut does.
                    service.charge(work, outcome, work.partial(sent) if outcome == "cut" else None)
                    billed = True
                    if outcome == "garbage":
                        data = event.data[: len(event.data) // 2] + b"\n\n"
                        await send({"type": "http.response.body", "body": data, "more_body": False})
                    return
                # Without a pause the loop still has to run for the news of a lost client to arrive.
                await asyncio.sleep(self._pause if event.text else 0)
                if gone.done():
                    return
                if event.complete:
                    service.charge(work, "ok")
                    billed = True
                sent += event.text
                await send({"type": "http.response.body", "body": event.data, "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})
        finally:
            gone.cancel()
            if not billed:
                service.charge(work, "abandoned", work.partial(sent))


def key_of(request: Request) -> str:
    """The API key of a request, or nothing."""
    bearer = request.headers.get("authorization", "").removeprefix("Bearer ").strip()
    return bearer or request.headers.get("x-api-key", "")


def check_key(request: Request, provider: Provider) -> None:
    """Refuse a request without any key, or one for Anthropic without its version header."""
    if not key_of(request):
        if provider == "anthropic":
            raise WireError(401, "x-api-key header is required", kind="authentication_error")
        raise WireError(401, "You didn't provide an API key.", code="invalid_api_key")
    if provider == "anthropic" and "anthropic-version" not in request.headers:
        raise WireError(400, "anthropic-version: header is required")


async def read_body(request: Request, provider: Provider) -> JSON:
    """The request's JSON object, once its key and version are in order."""
    check_key(request, provider)
    try:
        raw = await request.body()
        body: object = json.loads(raw)
        if b"\\u" in raw:
            dumps(body).encode()  # half a surrogate pair is no text
    except (ValueError, RecursionError) as error:
        raise WireError(400, f"We could not parse the JSON body of your request: {error}") from error
    if not is_object(body):
        raise WireError(400, "The body of your request is not a JSON object.")
    return body


def _failure(fault: Fault, provider: Provider) -> WireError:
    if fault.kind == "429":
        wait = 1.0 if fault.retry_after is None else fault.retry_after
        if provider == "anthropic":
            message = "This request would exceed your organization's rate limit."
            return WireError(429, message, kind="rate_limit_error", retry_after=wait)
        message = f"Rate limit reached. Please try again in {wait:g}s."
        return WireError(429, message, kind="requests", code="rate_limit_exceeded", retry_after=wait)
    message = "The server had an error while processing your request. Sorry about that!"
    return WireError(500, message, kind=_server_error(provider), retry_after=fault.retry_after)


def _server_error(provider: Provider) -> str:
    return "api_error" if provider == "anthropic" else "server_error"


def _ids(work: Work) -> list[tuple[bytes, bytes]]:
    header = b"request-id" if work.endpoint == "/v1/messages" else b"x-request-id"
    return [(header, work.request_id.encode())]


def _middle(with_text: list[bool]) -> int:
    """Where to break a stream: in the middle of its text, or after its first event when it has none."""
    places = [number for number, has_text in enumerate(with_text) if has_text]
    return places[len(places) // 2] if places else 1
