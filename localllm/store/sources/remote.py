"""What a source says of a model: which files, where, how large, which digest. Values only."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from localllm.api import Progress, SamplingParams

if TYPE_CHECKING:
    import threading

    from localllm.store.pull_settings import PullSettings
    from localllm.store.web import Web

Role = Literal["model", "mmproj"]


class RemoteFile(msgspec.Struct, frozen=True):
    """One file to be downloaded. `sha256`: 64 hex digits, None where the source does not say.

    `secrets` are header lines for the origin of `url` alone. `access_hint`: what to do when the source refuses.
    """

    url: str
    filename: str
    size_bytes: int | None = None
    sha256: str | None = None
    role: Role = "model"
    secrets: tuple[tuple[str, str], ...] = ()
    access_hint: str | None = None

    def __repr__(self) -> str:
        return f"RemoteFile({self.url!r}, size_bytes={self.size_bytes}, sha256={self.sha256!r})"  # without secrets


class LocalFile(msgspec.Struct, frozen=True):
    """One file that is here already. `link`: it belongs to somebody else and is registered, not moved.

    `sha256` is what its bytes were found to be, None where nobody has hashed them yet.
    """

    path: Path
    filename: str
    sha256: str | None = None
    role: Role = "model"
    link: bool = False


class Resolved(msgspec.Struct, frozen=True):
    """A model at its source. `origin` names the exact bytes, with the revision. The rest is what the source adds."""

    origin: str
    files: tuple[RemoteFile | LocalFile, ...]
    licence: str | None = None
    system: str | None = None
    num_ctx: int | None = None
    sampling: SamplingParams = SamplingParams()


class Context:
    """What a source may use: settings, the web, a private directory, and the caller's progress and cancel.

    `size_bytes` and `sha256` are what the catalogue promises of the wanted file.
    """

    def __init__(
        self,
        settings: PullSettings,
        web: Web,
        staging: Path,
        *,
        report: Callable[[Progress], None],
        cancelled: threading.Event,
        size_bytes: int | None = None,
        sha256: str | None = None,
    ) -> None:
        self.settings = settings
        self.web = web
        self.staging = staging
        self.report = report
        self.cancelled = cancelled
        self.size_bytes = size_bytes
        self.sha256 = sha256
