"""What files and batches look like, as types. For the OpenAPI document. Values only."""

from __future__ import annotations

from typing import Any, Literal, NotRequired, TypedDict

from localllm.daemon.openai.shapes import _Page

UploadForm = TypedDict(
    "UploadForm",
    {
        "file": bytes,
        "purpose": Literal["batch"],
        "expires_after[anchor]": NotRequired[Literal["created_at"]],
        "expires_after[seconds]": NotRequired[int],
    },
)


class FileValue(TypedDict):
    """A file's data."""

    id: str
    object: Literal["file"]
    bytes: int
    created_at: int
    filename: str
    purpose: Literal["batch", "batch_output"]
    status: Literal["processed"]
    expires_at: NotRequired[int]


class FileList(_Page):
    """A client's files."""

    data: list[FileValue]


class Counts(TypedDict):
    """A batch's requests."""

    total: int
    completed: int
    failed: int


class BatchValue(TypedDict):
    """A batch, as far as it has come. Times are in seconds since 1970."""

    id: str
    object: Literal["batch"]
    endpoint: str
    errors: dict[str, Any] | None
    input_file_id: str
    completion_window: str
    status: Literal[
        "validating", "in_progress", "finalizing", "cancelling", "completed", "failed", "expired", "cancelled"
    ]
    output_file_id: str | None
    error_file_id: str | None
    created_at: int
    in_progress_at: int | None
    expires_at: int
    finalizing_at: int | None
    completed_at: int | None
    failed_at: int | None
    expired_at: int | None
    cancelling_at: int | None
    cancelled_at: int | None
    request_counts: Counts
    metadata: dict[str, str] | None
    output_expires_after: NotRequired[dict[str, int]]
    usage: NotRequired[dict[str, Any]]


class BatchList(_Page):
    """A client's batches."""

    data: list[BatchValue]
