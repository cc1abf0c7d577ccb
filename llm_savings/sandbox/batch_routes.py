"""The endpoints of batches: OpenAI's /v1/files and /v1/batches, Anthropic's /v1/messages/batches.

Sources: platform.openai.com/docs/api-reference/batch and /files, docs.claude.com/en/api/creating-message-batches.
"""

from __future__ import annotations

import json
import re
import time
import uuid
from collections.abc import Awaitable, Callable
from datetime import UTC, datetime
from typing import Any

from starlette.datastructures import UploadFile
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp

from .batches import ENDED, WINDOW, Batch, Batches, Conditions, Item, Result
from .catalog import Provider, models
from .service import Service, check_key, read_body
from .wire import JSON, WireError, dumps, is_object, mapping, sequence

Work = Callable[[Request], Awaitable[ASGIApp]]
Guard = Callable[[Provider, Work], Work]
_ENDPOINTS = ("/v1/chat/completions", "/v1/responses", "/v1/embeddings")
_NAME = re.compile(r"[a-zA-Z0-9_-]{1,64}")
_PAGE = 20


def batch_routes(service: Service, batches: Batches, guarded: Guard) -> list[Route]:
    """The routes of both providers, and the one where conditions are set."""

    def route(path: str, provider: Provider, method: str, work: Callable[[Request], Awaitable[Any]]) -> Route:
        async def endpoint(request: Request) -> ASGIApp:
            check_key(request, provider)
            found: Any = await service.troubled(request, provider, lambda: work(request))
            return JSONResponse(found) if is_object(found) else found

        return Route(path, guarded(provider, endpoint), methods=[method])

    async def upload(request: Request) -> JSON:
        async with request.form() as form:
            file = form.get("file")
            if form.get("purpose") != "batch" or not isinstance(file, UploadFile):
                raise WireError(400, "This sandbox keeps files of purpose 'batch' only.", param="purpose")
            content, name = await file.read(), file.filename
        _, most = batches.limits("openai")
        if len(content) > most:
            raise WireError(413, f"File is too large: {len(content)} bytes, at most {most}.", code="file_too_large")
        return _keep(batches, content, name or "batch.jsonl", "batch")

    async def files(request: Request) -> JSON:
        found = [head for head, _ in reversed(list(batches.files.values()))]
        return _page(found, request, "after")

    async def file(request: Request) -> JSON:
        return _file(batches, request)[0]

    async def content(request: Request) -> Response:
        return Response(_file(batches, request)[1], media_type="application/octet-stream")

    async def forget(request: Request) -> JSON:
        head, _ = _file(batches, request)
        del batches.files[head["id"]]
        return {"id": head["id"], "object": "file", "deleted": True}

    async def create(request: Request) -> JSON:
        body = await read_body(request, "openai")
        if body.get("completion_window") != "24h" or body.get("endpoint") not in _ENDPOINTS:
            raise WireError(400, "Invalid 'endpoint' or 'completion_window'.", param="endpoint")
        source = batches.files.get(str(body.get("input_file_id")))
        if source is None:
            raise WireError(400, f"No such File object: {body.get('input_file_id')}", param="input_file_id")
        metadata = mapping(body.get("metadata"))
        if len(metadata) > 16 or any(len(str(value)) > 512 for value in metadata.values()):
            raise WireError(400, "Invalid 'metadata': up to 16 pairs of up to 512 characters.", param="metadata")
        items, wrong = _read(source[1], body["endpoint"], batches.limits("openai")[0])
        extra = {"input_file_id": body["input_file_id"], "endpoint": body["endpoint"], "metadata": metadata}
        return _openai(batches, batches.add("openai", items, extra, wrong))

    async def cancel(request: Request) -> JSON:
        batch = batches.get(request.path_params["name"], "openai")
        batches.cancel(batch)
        return _openai(batches, batch)

    async def one(request: Request) -> JSON:
        return _openai(batches, batches.get(request.path_params["name"], "openai"))

    async def several(request: Request) -> JSON:
        found = [batches.get(b.id, "openai") for b in reversed(list(batches.all.values())) if b.provider == "openai"]
        return _page([_openai(batches, batch) for batch in found], request, "after")

    async def create_messages(request: Request) -> JSON:
        raw = await request.body()
        most, size = batches.limits("anthropic")
        if len(raw) > size:
            raise WireError(413, f"Request exceeds the maximum size of {size} bytes", kind="request_too_large")
        wanted = sequence((await read_body(request, "anthropic")).get("requests"))
        if not 1 <= len(wanted) <= most:
            raise WireError(400, f"requests: expected 1 to {most} items, got {len(wanted)}")
        items = [_message_item(entry, number) for number, entry in enumerate(wanted)]
        if twice := _twice(items):
            raise WireError(400, f"requests: custom_id {twice!r} is not unique")
        return _anthropic(batches.add("anthropic", items, {}), request)

    async def one_of_messages(request: Request) -> JSON:
        return _anthropic(batches.get(request.path_params["name"], "anthropic"), request)

    async def cancel_messages(request: Request) -> JSON:
        batch = batches.get(request.path_params["name"], "anthropic")
        batches.cancel(batch)
        return _anthropic(batch, request)

    async def all_of_messages(request: Request) -> JSON:
        found = [batches.get(b.id, "anthropic") for b in reversed(list(batches.all.values())) if b.provider != "openai"]
        return _page([_anthropic(batch, request) for batch in found], request, "after_id")

    async def results(request: Request) -> Response:
        batch = batches.get(request.path_params["name"], "anthropic")
        if batch.status not in ENDED:
            raise WireError(404, "The batch has no results yet.", kind="not_found_error")
        text = "".join(dumps(_message_result(result)) + "\n" for result in batch.results)
        return Response(text.encode(), media_type="application/x-jsonl")

    async def forget_messages(request: Request) -> JSON:
        batch = batches.get(request.path_params["name"], "anthropic")
        if batch.status not in ENDED:
            raise WireError(400, "Only a batch that has ended can be deleted.")
        del batches.all[batch.id]
        return {"id": batch.id, "type": "message_batch_deleted"}

    async def conditions(request: Request) -> Response:
        try:
            batches.conditions = Conditions.from_json(mapping(json.loads(await request.body())))
        except (WireError, ValueError) as error:
            return JSONResponse({"error": str(error)}, 400)
        return JSONResponse({})

    messages = "/v1/messages/batches"
    return [
        route("/v1/files", "openai", "POST", upload),
        route("/v1/files", "openai", "GET", files),
        route("/v1/files/{name}", "openai", "GET", file),
        route("/v1/files/{name}", "openai", "DELETE", forget),
        route("/v1/files/{name}/content", "openai", "GET", content),
        route("/v1/batches", "openai", "POST", create),
        route("/v1/batches", "openai", "GET", several),
        route("/v1/batches/{name}", "openai", "GET", one),
        route("/v1/batches/{name}/cancel", "openai", "POST", cancel),
        route(messages, "anthropic", "POST", create_messages),
        route(messages, "anthropic", "GET", all_of_messages),
        route(f"{messages}/{{name}}", "anthropic", "GET", one_of_messages),
        route(f"{messages}/{{name}}", "anthropic", "DELETE", forget_messages),
        route(f"{messages}/{{name}}/results", "anthropic", "GET", results),
        route(f"{messages}/{{name}}/cancel", "anthropic", "POST", cancel_messages),
        Route("/_sandbox/batches", conditions, methods=["POST"]),
    ]


def _keep(batches: Batches, content: bytes, name: str, purpose: str) -> JSON:
    head: JSON = {
        "id": f"file-{uuid.uuid4().hex[:24]}",
        "object": "file",
        "bytes": len(content),
        "created_at": int(time.time()),
        "filename": name,
        "purpose": purpose,
        "status": "processed",
    }
    batches.files[head["id"]] = head, content
    return head


def _file(batches: Batches, request: Request) -> tuple[JSON, bytes]:
    name = request.path_params["name"]
    if name not in batches.files:
        raise WireError(404, f"No such File object: {name}", param="id")
    return batches.files[name]


def _page(found: list[JSON], request: Request, after: str) -> JSON:
    limit = int(request.query_params.get("limit", _PAGE))
    last = request.query_params.get(after)
    start = next((place + 1 for place, item in enumerate(found) if item["id"] == last), 0)
    page = found[start : start + limit]
    ids = {"first_id": page[0]["id"] if page else None, "last_id": page[-1]["id"] if page else None}
    return {"object": "list", "data": page, "has_more": start + limit < len(found), **ids}


def _read(content: bytes, endpoint: str, most: int) -> tuple[list[Item], list[JSON]]:
    """The requests of a file, and what is wrong with it: OpenAI looks only after it has accepted the batch."""
    items: list[Item] = []
    wrong: list[JSON] = []

    def refuse(line: int | None, code: str, message: str) -> None:
        wrong.append({"code": code, "line": line, "message": message, "param": None})

    seen: set[str] = set()
    for number, line in enumerate(filter(None, content.split(b"\n")), 1):
        try:
            entry = mapping(json.loads(line))
        except ValueError:
            refuse(number, "invalid_json_line", "This line is not parseable as valid JSON.")
            continue
        name, body = entry.get("custom_id"), entry.get("body")
        if not isinstance(name, str) or not is_object(body) or entry.get("method") != "POST":
            refuse(number, "missing_required_parameter", "custom_id, method or body is missing or wrong.")
        elif name in seen:
            refuse(number, "duplicate_custom_id", f"The custom_id {name} is used more than once.")
        elif entry.get("url") != endpoint:
            refuse(number, "mismatched_endpoint", f"The url is not the batch's endpoint {endpoint}.")
        else:
            seen.add(name)
            items.append(Item(name, endpoint, body))
    asked = {str(item.body.get("model")) for item in items}
    if len(asked) > 1:
        refuse(None, "mismatched_model", "The provided file contains requests for more than one model.")
    elif asked and ("openai", next(iter(asked))) not in models():
        refuse(None, "model_not_found", f"The provided model {next(iter(asked))!r} is not supported by the Batch API.")
    if len(items) > most:
        refuse(None, "too_many_requests", f"The batch has {len(items)} requests, the limit is {most}.")
    if not items and not wrong:
        refuse(None, "empty_file", "The input file is empty.")
    return items, wrong


def _openai(batches: Batches, batch: Batch) -> JSON:
    counts = batch.counts()
    done = batch.status in ENDED
    if done and "output_file_id" not in batch.extra:
        sides = [[r for r in batch.results if (r.kind == "succeeded") is good] for good in (True, False)]
        for name, side in zip(("output", "error"), sides, strict=True):
            text = "".join(dumps(_line(result)) + "\n" for result in side).encode()
            kept = _keep(batches, text, f"{batch.id}_{name}.jsonl", "batch_output") if side else None
            batch.extra[f"{name}_file_id"] = kept and kept["id"]
    ended = {f"{batch.status}_at": int(batch.ended)} if batch.ended else {}
    return {
        "id": batch.id,
        "object": "batch",
        "completion_window": "24h",
        "status": batch.status,
        "errors": {"object": "list", "data": list(batch.wrong)} if batch.status == "failed" else None,
        "output_file_id": None,
        "error_file_id": None,
        **batch.extra,
        "created_at": int(batch.created),
        "in_progress_at": batch.began and int(batch.began),
        "expires_at": int(batch.created + WINDOW),
        **ended,
        "request_counts": {
            "total": len(batch.items),
            "completed": counts["succeeded"],
            "failed": sum(counts.values()) - counts["succeeded"],
        },
    }


def _line(result: Result) -> JSON:
    head: JSON = {"id": f"batch_req_{uuid.uuid4().hex}", "custom_id": result.custom_id}
    if result.kind in ("expired", "canceled"):
        code = "batch_expired" if result.kind == "expired" else "batch_cancelled"
        message = "This request could not be executed before the completion window expired."
        return {**head, "response": None, "error": {"code": code, "message": message}}
    answer = {"status_code": result.status, "request_id": result.request_id, "body": result.body}
    return {**head, "response": answer, "error": None}


def _message_item(entry: object, number: int) -> Item:
    name, params = mapping(entry).get("custom_id"), mapping(entry).get("params")
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise WireError(400, f"requests.{number}.custom_id: String should match pattern '^[a-zA-Z0-9_-]{{1,64}}$'")
    if not is_object(params):
        raise WireError(400, f"requests.{number}.params: Field required")
    return Item(name, "/v1/messages", params)


def _twice(items: list[Item]) -> str | None:
    seen: set[str] = set()
    for item in items:
        if item.custom_id in seen:
            return item.custom_id
        seen.add(item.custom_id)
    return None


def _anthropic(batch: Batch, request: Request) -> JSON:
    counts = batch.counts()
    done = batch.status in ENDED
    url = f"{request.url.scheme}://{request.url.netloc}/v1/messages/batches/{batch.id}/results"
    return {
        "id": batch.id,
        "type": "message_batch",
        "processing_status": "ended" if done else "canceling" if batch.status == "cancelling" else "in_progress",
        "request_counts": {"processing": len(batch.items) - sum(counts.values()), **counts},
        "created_at": _iso(batch.created),
        "expires_at": _iso(batch.created + WINDOW),
        "ended_at": _iso(batch.ended),
        "cancel_initiated_at": _iso(batch.cancelled),
        "archived_at": None,
        "results_url": url if done else None,
    }


def _message_result(result: Result) -> JSON:
    found: JSON = {"type": result.kind}
    if result.kind == "succeeded":
        found["message"] = result.body
    elif result.kind == "errored":
        found["error"] = result.body
    return {"custom_id": result.custom_id, "result": found}


def _iso(moment: float | None) -> str | None:
    return None if moment is None else datetime.fromtimestamp(moment, UTC).isoformat().replace("+00:00", "Z")
