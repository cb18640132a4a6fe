"""The routes of files and batches."""

from __future__ import annotations

import re
import secrets
import time
from collections.abc import AsyncIterator
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta
from starlette.responses import FileResponse

from localllm.daemon.context import Daemon
from localllm.daemon.dialect import Call, Endpoint, Reply, Returns
from localllm.daemon.errors import ClientGoneError, HttpError
from localllm.daemon.native import json_reply
from localllm.daemon.openai.batches.files import MAX_FILE_BYTES, Files, StoredFile
from localllm.daemon.openai.batches.lines import ENDPOINTS as LINE_ENDPOINTS
from localllm.daemon.openai.batches.multipart import Begin, Data, Multipart
from localllm.daemon.openai.batches.runner import Batches
from localllm.daemon.openai.batches.shapes import BatchList, BatchValue, FileList, FileValue, UploadForm
from localllm.daemon.openai.batches.store import UNFINISHED, Batch
from localllm.daemon.openai.shapes import Deleted, FilePageQuery, PageQuery
from localllm.errors import InvalidRequestError

_MAX_FIELD_BYTES = 4096
_MAX_PAGE = 10_000
_WINDOW = re.compile(r"(\d{1,3})([hd])")
_UNITS = {"h": 3600, "d": 86400}
ExpirySeconds = Annotated[int, Meta(ge=3600, le=2_592_000)]


class ExpiryBody(msgspec.Struct, frozen=True):
    """When something is to be forgotten."""

    seconds: ExpirySeconds
    anchor: Literal["created_at"] = "created_at"


class BatchBody(msgspec.Struct, frozen=True):
    """The body of /v1/batches."""

    input_file_id: str
    endpoint: str
    completion_window: str
    metadata: (
        Annotated[dict[Annotated[str, Meta(max_length=64)], Annotated[str, Meta(max_length=512)]], Meta(max_length=16)]
        | None
    ) = None
    output_expires_after: ExpiryBody | None = None


_batch_decoder = msgspec.json.Decoder(BatchBody)


class _Form:
    """An upload as it is read: its fields, and then the bytes of its file as they come."""

    def __init__(self, call: Call) -> None:
        self._call = call
        self._parser = Multipart(call.request.headers.get("content-type", ""))
        self._events: list[Begin | Data] = []
        self._num_bytes = 0
        self._is_over = False
        self.fields: dict[str, bytes] = {}
        self.filename: str | None = None
        self._field: str | None = None

    async def read_to_file(self) -> None:
        """Read fields up to the file, or to the end."""
        while self.filename is None and await self._next_event():
            pass

    async def pieces(self) -> AsyncIterator[bytes]:
        """The file's bytes; the fields behind it are read too."""
        while (event := await self._next_event()) is not None:
            if isinstance(event, Data) and self._field is None:
                yield event.data

    async def _next_event(self) -> Begin | Data | None:
        """The next event; None at the end of the body."""
        while not self._events:
            if self._is_over:
                return None
            message = await self._call.request.receive()
            if message["type"] == "http.disconnect":
                raise ClientGoneError
            data = message.get("body", b"")
            self._num_bytes += len(data)
            if self._num_bytes > MAX_FILE_BYTES + (1 << 20):
                raise HttpError(413, "file_too_large", f"the file is larger than {MAX_FILE_BYTES} bytes")
            self._events += self._parser.feed(data)
            self._is_over = not message.get("more_body", False)
            if self._is_over and not self._parser.is_whole:
                raise InvalidRequestError("the form has no end")
        event = self._events.pop(0)
        self._take(event)
        return event

    def _take(self, event: Begin | Data) -> None:
        if isinstance(event, Begin):
            if event.name == "file":
                if self.filename is not None:
                    raise InvalidRequestError("the form has two files", param="file")
                self.filename, self._field = event.filename or "upload", None
            else:
                self._field = event.name
                self.fields[event.name] = b""
        elif self._field is not None:
            self.fields[self._field] += event.data
            if len(self.fields[self._field]) > _MAX_FIELD_BYTES:
                raise InvalidRequestError(f"{self._field} is too long", param=self._field)


async def upload(call: Call) -> Reply:
    """Keep a file."""
    form = _Form(call)
    await form.read_to_file()
    if form.filename is None:
        raise InvalidRequestError("the form has no file", param="file")
    files = call.daemon.part(Files)
    made = await files.create(call.caller.key, form.pieces(), filename=form.filename, purpose="batch")
    try:
        purpose = form.fields.get("purpose", b"").decode("utf-8", "replace")
        if purpose != "batch":
            raise InvalidRequestError(
                f"the purpose is {purpose!r}", hint="files are taken for batches", param="purpose"
            )
        if seconds := form.fields.get("expires_after[seconds]"):
            made = await files.expire(made, _expiry(seconds))
    except InvalidRequestError:
        await files.delete(made.id)
        raise
    return json_reply(_file_value(made))


async def list_files(call: Call) -> Reply:
    """The client's files."""
    files = await call.daemon.part(Files).list(call.caller.key)
    query = call.request.query_params
    if purpose := query.get("purpose"):
        files = [file for file in files if file.purpose == purpose]
    if query.get("order") == "asc":
        files.reverse()
    return json_reply(_page(call, [_file_value(file) for file in files], _MAX_PAGE))


async def show_file(call: Call) -> Reply:
    """One file's data."""
    return json_reply(_file_value(await _file(call)))


async def file_content(call: Call) -> Reply:
    """A file's bytes."""
    found = await _file(call)
    path = call.daemon.part(Files).path(found.id)
    if not path.is_file():
        raise HttpError(404, "file_not_found", f"the bytes of {found.id} are gone")
    # Never a page or a script to a browser, whatever is in it.
    return FileResponse(path, media_type="application/octet-stream", headers={"x-content-type-options": "nosniff"})


async def delete_file(call: Call) -> Reply:
    """Forget a file."""
    found = await _file(call)
    if await call.daemon.part(Batches).store.uses(found.id):
        raise HttpError(409, "file_in_use", "a batch reads this file", hint="cancel the batch first")
    await call.daemon.part(Files).delete(found.id)
    return json_reply({"id": found.id, "object": "file", "deleted": True})


async def create_batch(call: Call) -> Reply:
    """Begin a batch."""
    daemon, owner = call.daemon, call.caller.key
    body = await daemon.bodies.read_json(call.request, _batch_decoder)
    if body.endpoint not in LINE_ENDPOINTS:
        hint = f"it is one of {', '.join(LINE_ENDPOINTS)}"
        raise InvalidRequestError(f"batches of {body.endpoint!r} are not offered", hint=hint, param="endpoint")
    window = _WINDOW.fullmatch(body.completion_window)
    if window is None or not int(window[1]):
        raise InvalidRequestError("completion_window is like 24h or 7d", param="completion_window")
    found = await daemon.part(Files).get(body.input_file_id, owner)
    if found.purpose != "batch":
        raise InvalidRequestError(f"the purpose of {found.id} is {found.purpose}", param="input_file_id")
    now = int(time.time())
    batch: Batch = {
        "id": f"batch_{secrets.token_hex(12)}",
        "object": "batch",
        "endpoint": body.endpoint,
        "errors": None,
        "input_file_id": found.id,
        "completion_window": body.completion_window,
        "status": "validating",
        "output_file_id": None,
        "error_file_id": None,
        "created_at": now,
        "in_progress_at": None,
        "expires_at": now + int(window[1]) * _UNITS[window[2]],
        "finalizing_at": None,
        "completed_at": None,
        "failed_at": None,
        "expired_at": None,
        "cancelling_at": None,
        "cancelled_at": None,
        "request_counts": {"total": 0, "completed": 0, "failed": 0},
        "metadata": body.metadata,
    }
    if body.output_expires_after is not None:
        batch["output_expires_after"] = {"seconds": body.output_expires_after.seconds}
    batches = daemon.part(Batches)
    await batches.store.put(batch, owner)
    batches.go_on()
    return json_reply(batch)


async def list_batches(call: Call) -> Reply:
    """The client's batches, the newest first."""
    return json_reply(_page(call, await call.daemon.part(Batches).store.list(call.caller.key), 100))


async def show_batch(call: Call) -> Reply:
    """One batch."""
    return json_reply(await _batch(call))


async def cancel_batch(call: Call) -> Reply:
    """End a batch; the answers it has by now stay."""
    batch = await _batch(call)
    if batch["status"] not in UNFINISHED:
        raise HttpError(409, "batch_finished", f"this batch is {batch['status']} already")
    batches = call.daemon.part(Batches)
    now = int(time.time())
    batch = await batches.store.change(
        batch["id"], ("validating", "in_progress", "finalizing"), status="cancelling", cancelling_at=now
    )
    batches.cancel(batch["id"])
    return json_reply(batch)


async def _file(call: Call) -> StoredFile:
    return await call.daemon.part(Files).get(call.request.path_params["id"], call.caller.key)


async def _batch(call: Call) -> Batch:
    return await call.daemon.part(Batches).store.get(call.request.path_params["id"], call.caller.key)


def _file_value(file: StoredFile) -> dict[str, Any]:
    value = {
        "id": file.id,
        "object": "file",
        "bytes": file.num_bytes,
        "created_at": file.created,
        "filename": file.filename,
        "purpose": file.purpose,
        "status": "processed",
    }
    return value | ({"expires_at": file.expires} if file.expires is not None else {})


def _page(call: Call, values: list[dict[str, Any]], most: int) -> dict[str, Any]:
    """The part of a list behind one id."""
    query = call.request.query_params
    limit = query.get("limit", str(most if most > 100 else 20))
    if not limit.isascii() or not limit.isdigit() or not 1 <= int(limit[:9]) <= most:
        raise InvalidRequestError(f"limit lies between 1 and {most}", param="limit")
    ids = [value["id"] for value in values]
    start = ids.index(query["after"]) + 1 if query.get("after") in ids else 0
    page = values[start : start + int(limit)]
    return {
        "object": "list",
        "data": page,
        "first_id": page[0]["id"] if page else None,
        "last_id": page[-1]["id"] if page else None,
        "has_more": start + len(page) < len(values),
    }


def _expiry(given: bytes) -> int:
    try:
        return msgspec.convert(int(given), ExpirySeconds)
    except (ValueError, msgspec.ValidationError) as exc:
        hint = "it lies between 3600 and 2592000"
        raise InvalidRequestError("expires_after[seconds] is no such number", hint=hint, param="expires_after") from exc


def start(daemon: Daemon) -> None:
    """Go on with batches that an earlier daemon left."""
    daemon.part(Batches).resume()


_FILE = (Returns(FileValue),)
_BATCH = (Returns(BatchValue),)
_BYTES = (Returns(media="application/octet-stream"),)
_FORM = "multipart/form-data"
ENDPOINTS = (
    Endpoint("POST", "/v1/files", upload, body=UploadForm, body_media=_FORM, returns=_FILE, fails=(507,)),
    Endpoint("GET", "/v1/files", list_files, query=FilePageQuery, returns=(Returns(FileList),)),
    Endpoint("GET", "/v1/files/{id}", show_file, returns=_FILE, fails=(404,)),
    Endpoint("GET", "/v1/files/{id}/content", file_content, returns=_BYTES, fails=(404,)),
    Endpoint("DELETE", "/v1/files/{id}", delete_file, returns=(Returns(Deleted),), fails=(404, 409)),
    Endpoint("POST", "/v1/batches", create_batch, body=BatchBody, returns=_BATCH, fails=(404, 507)),
    Endpoint("GET", "/v1/batches", list_batches, query=PageQuery, returns=(Returns(BatchList),)),
    Endpoint("GET", "/v1/batches/{id}", show_batch, returns=_BATCH, fails=(404,)),
    Endpoint("POST", "/v1/batches/{id}/cancel", cancel_batch, returns=_BATCH, fails=(404, 409)),
)
