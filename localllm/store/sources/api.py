"""Asking a source's JSON interface: patience with a busy server, and limits on what it may answer."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, TypeVar

import msgspec

from localllm.errors import DownloadError
from localllm.store.addresses import origin_of
from localllm.store.sources.remote import Context
from localllm.store.transfer import check_cancelled
from localllm.store.web import Reply

T = TypeVar("T")

_BUSY = (429, 500, 502, 503, 504)
_TRIES = 3
_MAX_WAIT_S = 10.0
MAX_DOCUMENT_BYTES = 32 << 20


def ask(
    context: Context,
    url: str,
    *,
    secrets: Mapping[str, str] | None = None,
    headers: Mapping[str, str] | None = None,
    max_bytes: int = MAX_DOCUMENT_BYTES,
) -> tuple[Reply, Any]:
    """GET a JSON document: the reply, and what a 200 carries (else None). A busy server is asked three times.

    Raises DownloadError when the host is out of reach or stays busy.
    """
    host = origin_of(url).host
    for attempt in range(1, _TRIES + 1):
        check_cancelled(context.cancelled)
        reply, document = context.web.get_json(url, headers=headers, secrets=secrets, max_bytes=max_bytes)
        if reply.status not in _BUSY:
            return reply, document
        wait_s = max(reply.retry_after_s() or 0.0, context.settings.backoff_s * 2**attempt)
        if attempt == _TRIES or wait_s > _MAX_WAIT_S:
            break
        context.cancelled.wait(wait_s)
    hint = f"it wants {wait_s:.0f} s of peace" if wait_s > _MAX_WAIT_S else "try again later"
    raise DownloadError(f"{host} answers {reply.status}", hint=hint, status=reply.status)


def typed(document: Any, kind: type[T], host: str) -> T:
    """The document as the value it should be; DownloadError where the source answers something else."""
    try:
        return msgspec.convert(document, kind)
    except msgspec.ValidationError as exc:
        raise DownloadError(f"{host} answers in an unknown form: {exc}") from exc
