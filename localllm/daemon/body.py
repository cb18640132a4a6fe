"""Request bodies: read up to a limit, decoded by msgspec into typed values, refused in words that name the place."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec
from starlette.requests import Request

from localllm.daemon.body_parts import check_parts
from localllm.daemon.errors import ClientGoneError, HttpError
from localllm.daemon.limits import Limits
from localllm.errors import InvalidRequestError

T = TypeVar("T")
MAX_DEPTH = 64
MAX_NODES = 50_000
_WHERE = re.compile(r"(?P<what>.*) - at `(?P<key>key in )?\$\.?(?P<where>[^`]*)`", re.DOTALL)


class Bodies:
    """Reads bodies; all of them together stay within one bound."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._num_bytes = 0

    async def read_json(self, request: Request, decoder: msgspec.json.Decoder[T], *, any_type: bool = False) -> T:
        """The body as a value. `any_type`: whatever its content type says, unless a web page sent it.

        Raises HttpError 413, 415 or 503, InvalidRequestError with the parameter's name, or ClientGoneError.
        """
        _check_headers(request.headers, any_type=any_type)
        return decode(await self._read(request), decoder)

    async def _read(self, request: Request) -> bytes:
        length = request.headers.get("content-length")
        if length is not None and int(length) > self._limits.body_bytes:
            raise self._too_large()
        body = bytearray()
        try:
            while True:
                message = await request.receive()
                if message["type"] == "http.disconnect":
                    raise ClientGoneError
                piece: bytes = message.get("body", b"")
                body += piece
                self._num_bytes += len(piece)
                if len(body) > self._limits.body_bytes:
                    raise self._too_large()
                if self._num_bytes > self._limits.all_bodies_bytes:
                    raise HttpError(503, "busy", "too many large requests at once", retry_after_s=2.0)
                if not message.get("more_body", False):
                    return bytes(body)
        finally:
            self._num_bytes -= len(body)

    def _too_large(self) -> HttpError:
        return HttpError(413, "body_too_large", f"the body is larger than {self._limits.body_bytes} bytes")


def decode(body: bytes, decoder: msgspec.json.Decoder[T]) -> T:
    """A body as a value. Raises InvalidRequestError; `param` names what has the wrong type or range."""
    check_parts(body)
    try:
        return decoder.decode(body)
    except msgspec.ValidationError as exc:
        parts = _WHERE.fullmatch(str(exc))
        what = parts["what"] if parts else str(exc)
        param = parts["where"] if parts else None
        what = what[:1].lower() + what[1:]
        raise InvalidRequestError(f"{param}: {what}" if param else what, param=param or None) from exc
    except RecursionError as exc:
        raise InvalidRequestError("the JSON is nested too deeply") from exc
    except (msgspec.DecodeError, UnicodeDecodeError) as exc:
        raise InvalidRequestError(f"the body is no valid JSON: {exc}") from exc


def check_free_form(value: Any, param: str) -> None:
    """Bound a JSON value of any shape. Raises InvalidRequestError where it is too deep or has too many parts."""
    level, num_nodes = [value], 0
    for _depth in range(MAX_DEPTH + 1):
        num_nodes += len(level)
        if num_nodes > MAX_NODES:
            raise InvalidRequestError(f"{param} has more than {MAX_NODES} parts", param=param)
        level = [part for node in level for part in _parts(node)]
        if not level:
            return
    raise InvalidRequestError(f"{param} is nested more than {MAX_DEPTH} deep", param=param)


def _parts(node: Any) -> Any:
    if isinstance(node, dict):
        return node.values()
    return node if isinstance(node, list) else ()


def _check_headers(headers: Mapping[str, str], *, any_type: bool) -> None:
    kind = headers.get("content-type", "").partition(";")[0].strip().lower()
    # Without asking first, a page may send forms and plain text anywhere; JSON it may not.
    lenient = (any_type or not kind) and "origin" not in headers
    if not lenient and kind != "application/json" and not kind.endswith("+json"):
        raise HttpError(415, "unsupported_media_type", f"the content type is {kind or 'missing'}", hint="send JSON")
    encoding = headers.get("content-encoding", "identity").strip().lower()
    if encoding != "identity":
        raise HttpError(415, "unsupported_encoding", "compressed bodies are not read", hint="send it uncompressed")
