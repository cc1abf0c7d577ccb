"""The HTTP side: the routes, errors in each provider's format, and the admin endpoints under `/_sandbox`."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Awaitable, Callable
from dataclasses import asdict

from starlette.applications import Starlette
from starlette.requests import ClientDisconnect, Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from . import anthropic_wire
from .batch_routes import batch_routes
from .batches import Batches
from .bill import Bill
from .catalog import Provider, find, models
from .faults import Fault
from .service import ENDPOINTS, HangUp, Read, Service, check_key, read_body
from .wire import JSON, WireError, dumps, mapping

_log = logging.getLogger(__name__)
Endpoint = Callable[[Request], Awaitable[ASGIApp]]


def build(service: Service) -> Starlette:
    """The application that serves a service."""

    def guarded(provider: Provider, work: Endpoint) -> Endpoint:
        async def endpoint(request: Request) -> ASGIApp:
            try:
                return await work(request)
            except WireError as error:
                return _error(error, provider)
            except ClientDisconnect:  # it went away in the middle of its request
                return HangUp()
            except Exception as error:  # noqa: BLE001 - a fault of ours must not look like one of the network
                _log.exception("the sandbox failed")
                return _error(WireError(500, f"The sandbox failed: {error!r}", kind="api_error"), provider)

        return endpoint

    def model_endpoint(provider: Provider, read: Read) -> Endpoint:
        return guarded(provider, lambda request: service.serve(request, provider, read))

    async def count_tokens(request: Request) -> Response:
        return JSONResponse(anthropic_wire.count_tokens(await read_body(request, "anthropic")))

    async def list_models(request: Request) -> Response:
        provider = _caller(request)
        try:
            check_key(request, provider)
            name = request.path_params.get("name")
            return JSONResponse(_model(provider, name) if name else _models(provider))
        except WireError as error:
            return _error(error, provider)

    async def bill(request: Request) -> Response:
        since = request.query_params.get("since", "0")
        start = int(since) if since.isdecimal() else 0
        text = Bill(tuple(service.rows[start:])).to_jsonl()
        return PlainTextResponse(text, media_type="application/jsonl")

    async def export(_: Request) -> Response:
        return PlainTextResponse(service.export(), media_type="application/jsonl")

    async def faults(request: Request) -> Response:
        if request.method == "POST":
            try:
                service.faults.arm(Fault.from_json(mapping(json.loads(await request.body()))))
            except (WireError, ValueError) as error:
                return JSONResponse({"error": str(error)}, 400)
        elif request.method == "DELETE":
            service.faults.reset()
        return JSONResponse([asdict(fault) for fault in service.faults.armed])

    async def stats(_: Request) -> Response:
        total = Bill(tuple(service.rows)).total
        by_path = dict(service.arrived)
        return JSONResponse(
            {"requests": sum(by_path.values()), "by_path": by_path, "billed": len(service.rows), "usd": str(total)}
        )

    async def advance(request: Request) -> Response:
        service.prompts.ahead += float(json.loads(await request.body())["seconds"])
        return JSONResponse({})

    batches = Batches(service, _rendered)

    async def reset(_: Request) -> Response:
        service.reset()
        batches.reset()
        return JSONResponse({})

    routes = [Route(path, model_endpoint(*how), methods=["POST"]) for path, how in ENDPOINTS.items()]
    routes += [
        Route("/v1/messages/count_tokens", guarded("anthropic", count_tokens), methods=["POST"]),
        Route("/v1/models", list_models),
        Route("/v1/models/{name:path}", list_models),
        Route("/_sandbox/bill", bill),
        Route("/_sandbox/export", export),
        Route("/_sandbox/faults", faults, methods=["GET", "POST", "DELETE"]),
        Route("/_sandbox/stats", stats),
        Route("/_sandbox/advance", advance, methods=["POST"]),
        Route("/_sandbox/reset", reset, methods=["POST"]),
    ]
    routes += batch_routes(service, batches, guarded)
    return Starlette(routes=routes, exception_handlers={404: _no_such_place, 405: _no_such_place})


async def _no_such_place(request: Request, error: Exception) -> Response:
    del error
    path = request.url.path
    hint = " OpenAI's clients want a base URL that ends in /v1." if f"/v1{path}" in ENDPOINTS else ""
    message = f"Invalid URL ({request.method} {path}).{hint}"
    return _error(WireError(404, message, code="unknown_url"), _caller(request))


def _error(error: WireError, provider: Provider) -> Response:
    request_id = f"req_{uuid.uuid4().hex}"
    body = _rendered(error, provider)
    if provider == "anthropic":
        body["request_id"] = request_id
        headers = {"request-id": request_id}
    else:
        headers = {"x-request-id": request_id}
    if error.retry_after is not None:
        headers["retry-after"] = f"{error.retry_after:g}"
        headers["retry-after-ms"] = f"{error.retry_after * 1000:.0f}"
    return Response(dumps(body), error.status, headers, media_type="application/json")


def _rendered(error: WireError, provider: Provider) -> JSON:
    if provider == "anthropic":
        return {"type": "error", "error": {"type": error.kind, "message": error.message}}
    return {"error": {"message": error.message, "type": error.kind, "param": error.param, "code": error.code}}


def _caller(request: Request) -> Provider:
    """Both providers list their models under one path; only Anthropic's clients send a version."""
    return "anthropic" if "anthropic-version" in request.headers else "openai"


def _models(provider: Provider) -> JSON:
    found = [_model(provider, model.name) for key, model in models().items() if key == (provider, model.name)]
    if provider == "openai":
        return {"object": "list", "data": found}
    return {"data": found, "has_more": False, "first_id": found[0]["id"], "last_id": found[-1]["id"]}


def _model(provider: Provider, name: str) -> JSON:
    model = models().get((provider, name)) or find(provider, name)
    if provider == "openai":
        return {"id": model.name, "object": "model", "created": 1715367049, "owned_by": "openai"}
    return {"type": "model", "id": model.snapshot, "display_name": model.name, "created_at": "2025-09-29T00:00:00Z"}
