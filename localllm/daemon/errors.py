"""What an error is over HTTP: its status, its code, whether asking again may help. Each dialect gives it its shape.

No error that a client can cause is a 500. A class of the error tree that is not in the table fails a test.
"""

from __future__ import annotations

import errno
import math
from typing import Any

import msgspec

from localllm import errors
from localllm.errors import LocalLLMError


class HttpError(LocalLLMError):
    """A request refused by the daemon itself, before any dialect read it. Carries its own status and code."""

    def __init__(
        self,
        status: int,
        code: str,
        message: str,
        *,
        hint: str | None = None,
        headers: tuple[tuple[str, str], ...] = (),
        **facts: Any,
    ) -> None:
        super().__init__(message, hint=hint, **facts)
        self.status = status
        self.code = code
        self.headers = headers


class ClientGoneError(Exception):
    """The client hung up while its request was read: nobody is left to answer."""


class Problem(msgspec.Struct, frozen=True):
    """An error as HTTP sees it. `retry_after_s`: when to ask again; `retry` False: asking again is useless.

    `type` is the class in `localllm.errors` ("": the daemon's own), `facts` what it carries and a client may know.
    """

    status: int
    code: str
    message: str
    hint: str | None = None
    param: str | None = None
    retry_after_s: float | None = None
    retry: bool = True
    headers: tuple[tuple[str, str], ...] = ()
    counts: dict[str, int] = {}
    type: str = ""
    facts: dict[str, Any] = {}


class _Kind(msgspec.Struct, frozen=True):
    status: int
    code: str
    retry_after_s: float | None = None
    retry: bool = True


KINDS: dict[type[LocalLLMError], _Kind] = {
    errors.LocalLLMError: _Kind(500, "internal_error"),
    errors.UsageError: _Kind(400, "invalid_request"),
    errors.ConfigError: _Kind(503, "bad_configuration", retry=False),
    errors.ModelNameError: _Kind(400, "invalid_model_name"),
    errors.InvalidRequestError: _Kind(400, "invalid_request"),
    errors.AdapterError: _Kind(400, "bad_adapter"),
    errors.ContextLengthError: _Kind(400, "context_length_exceeded"),
    errors.TemplateError: _Kind(400, "template_error"),
    errors.ModelNotFoundError: _Kind(404, "model_not_found"),
    errors.StoreError: _Kind(503, "store_error", retry=False),
    errors.CorruptModelError: _Kind(503, "corrupt_model", retry=False),
    errors.DiskFullError: _Kind(507, "disk_full", retry=False),
    errors.ModelInUseError: _Kind(409, "model_in_use", retry=False),
    errors.GGUFError: _Kind(503, "corrupt_model", retry=False),
    errors.DownloadError: _Kind(502, "download_failed"),
    errors.OfflineError: _Kind(404, "model_not_found"),
    errors.AccessDeniedError: _Kind(403, "source_denied_access"),
    errors.DigestMismatchError: _Kind(502, "digest_mismatch"),
    errors.OutOfMemoryError: _Kind(503, "out_of_memory", retry=False),
    errors.DaemonError: _Kind(502, "daemon_error"),
    errors.DaemonUnreachableError: _Kind(503, "daemon_unreachable", retry_after_s=5.0),
    errors.EngineError: _Kind(503, "engine_error", retry_after_s=1.0),
    errors.EngineLoadError: _Kind(503, "model_failed_to_load", retry=False),
    errors.DraftModelError: _Kind(503, "bad_draft_model", retry=False),
    errors.EngineCrashedError: _Kind(503, "engine_crashed", retry_after_s=2.0),
    errors.ModelCrashingError: _Kind(503, "model_keeps_crashing", retry_after_s=60.0),
    errors.QueueFullError: _Kind(503, "queue_full", retry_after_s=1.0),
}
UNEXPECTED = Problem(500, "internal_error", "the daemon failed; its log says more")
SHORTAGE = Problem(
    503,
    "out_of_resources",
    "this machine gives the daemon no more threads, files or memory",
    "ask again when other programs have ended",
    retry_after_s=5.0,
)
SHUTTING_DOWN = Problem(503, "shutting_down", "the daemon is shutting down", retry_after_s=5.0)
_FULL = frozenset({errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EAGAIN})
_COUNTS = ("num_prompt_tokens", "num_ctx", "needed_bytes", "available_bytes")
# What says more of this machine than a client needs to know.
_OURS = frozenset({"path", "log", "blob"})


def problem_of(error: LocalLLMError) -> Problem:
    """The problem that an error is to a client."""
    if isinstance(error, HttpError):
        return Problem(
            error.status,
            error.code,
            error.message,
            error.hint,
            error.facts.get("param"),
            error.facts.get("retry_after_s"),
            headers=error.headers,
        )
    kind = next(KINDS[cls] for cls in type(error).__mro__ if cls in KINDS)
    retry_after_s = error.facts.get("retry_after_s", kind.retry_after_s)
    return Problem(
        kind.status,
        kind.code,
        error.message,
        error.hint,
        _text(error.facts.get("param")),
        retry_after_s if isinstance(retry_after_s, int | float) else None,
        kind.retry,
        counts={name: fact for name in _COUNTS if isinstance(fact := error.facts.get(name), int)},
        type=type(error).__name__,
        facts={n: f for n, f in error.facts.items() if n not in _OURS and isinstance(f, int | float | str)},
    )


def problem_of_defect(error: Exception) -> Problem:
    """The problem that an error nobody raised on purpose is: mostly a defect, sometimes a machine that is full."""
    is_thread = isinstance(error, RuntimeError) and "new thread" in str(error)
    is_full = isinstance(error, OSError) and error.errno in _FULL
    return SHORTAGE if isinstance(error, MemoryError) or is_thread or is_full else UNEXPECTED


def headers_of(problem: Problem) -> dict[str, str]:
    """The headers that go with a problem's answer."""
    headers = dict(problem.headers)
    if problem.retry_after_s is not None:
        headers["retry-after"] = str(max(1, math.ceil(problem.retry_after_s)))
    if not problem.retry and problem.status >= 409:
        headers["x-should-retry"] = "false"
    return headers


def _text(fact: object) -> str | None:
    return fact if isinstance(fact, str) else None
