"""Bytes on their way into the store, each by its digest: whether they are here, and taking them. For every dialect."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator

from starlette.requests import Request
from starlette.responses import Response

from localllm.daemon.abilities import keeper_of
from localllm.daemon.dialect import KEEPING, Call, Endpoint, Reply, Returns
from localllm.daemon.errors import ClientGoneError, HttpError
from localllm.errors import InvalidRequestError

_DIGEST = re.compile(r"sha256[:-](?P<hex>[0-9a-f]{64})")


async def has_blob(call: Call) -> Reply:
    """200 where the bytes are in the store, else 404."""
    digest = read_digest(call.request.path_params["digest"], "digest")
    if not await keeper_of(call.daemon).has_blob(digest):
        raise HttpError(404, "blob_not_found", f"no blob {digest}")
    return Response()


async def put_blob(call: Call) -> Reply:
    """Take bytes into the store: 201, or 200 where they were there."""
    call.daemon.check_open()
    digest = read_digest(call.request.path_params["digest"], "digest")
    length = call.request.headers.get("content-length")
    with call.daemon.admission.place(call.caller.key):
        size_bytes = int(length) if length is not None else None
        is_new = await keeper_of(call.daemon).put_blob(digest, _pieces(call.request), size_bytes)
    return Response(status_code=201 if is_new else 200)


def read_digest(text: str, param: str) -> str:
    """A digest as the store has it. Raises InvalidRequestError, which names `param`."""
    found = _DIGEST.fullmatch(text)
    if found is None:
        hint = "it is sha256: and 64 lower-case hex digits"
        raise InvalidRequestError(f"{text[:80]!r} is no digest", hint=hint, param=param)
    return f"sha256:{found['hex']}"


async def _pieces(request: Request) -> AsyncIterator[bytes]:
    """The body as it comes. Raises ClientGoneError when the rest will not."""
    while True:
        message = await request.receive()
        if message["type"] == "http.disconnect":
            raise ClientGoneError
        yield message.get("body", b"")
        if not message.get("more_body", False):
            return


def endpoints(prefix: str) -> tuple[Endpoint, ...]:
    """The routes, below a dialect's prefix."""
    put = (Returns(media=""), Returns(media="", status=201))
    return (
        Endpoint("HEAD", f"{prefix}blobs/{{digest}}", has_blob, returns=(Returns(media=""),), fails=(404, 501)),
        Endpoint(
            "POST",
            f"{prefix}blobs/{{digest}}",
            put_blob,
            manages=True,
            body=bytes,
            body_media="application/octet-stream",
            returns=put,
            fails=KEEPING,
        ),
    )
