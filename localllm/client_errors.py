"""What a daemon's answer says went wrong, as the error of the class it had there."""

from __future__ import annotations

from typing import Any

import msgspec

from localllm import errors
from localllm.client_http import Response
from localllm.errors import DaemonError, DaemonUnreachableError, LocalLLMError, QueueFullError


class ErrorValue(msgspec.Struct):
    """An error, as the native dialect writes it."""

    message: str
    code: str = ""
    hint: str | None = None
    type: str = ""
    facts: dict[str, Any] = {}


class ErrorBody(msgspec.Struct):
    """The body of a bad answer."""

    error: ErrorValue


async def checked(response: Response) -> bytes:
    """The body of a good answer. Raises the error that a bad one holds."""
    data = await response.read()
    if response.status < 400:
        return data
    try:
        value = msgspec.json.decode(data, type=ErrorBody).error
    except msgspec.DecodeError as exc:
        raise DaemonError(f"no localllm daemon: it answers {response.status}") from exc
    raise error_of(value)


def error_of(value: ErrorValue) -> LocalLLMError:
    """The error of the class it had in the daemon; what the daemon itself refuses is a DaemonError."""
    cls: Any = getattr(errors, value.type, None) if value.type else _BY_CODE.get(value.code, DaemonError)
    if not (isinstance(cls, type) and issubclass(cls, LocalLLMError)):
        cls = DaemonError
    error: LocalLLMError = cls(value.message, hint=value.hint, **value.facts)
    return error


_BY_CODE: dict[str, type[LocalLLMError]] = {"shutting_down": DaemonUnreachableError, "busy": QueueFullError}
