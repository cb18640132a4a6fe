"""What the Backend behind a daemon can do besides answering: keep models on disk, and find them."""

from __future__ import annotations

from localllm.api.finder import HasFinder, ModelFinder
from localllm.api.keeper import HasKeeper, ModelKeeper
from localllm.daemon.context import Daemon
from localllm.daemon.errors import HttpError


def keeper_of(daemon: Daemon) -> ModelKeeper:
    """The keeper of the models on disk. Raises HttpError 501 where the Backend behind this daemon has none."""
    if isinstance(daemon.backend, HasKeeper):
        return daemon.backend.keeper
    raise HttpError(501, "not_supported", "the models behind this daemon are not its own")


def finder_of(daemon: Daemon) -> ModelFinder:
    """What may be pulled, judged by this machine. Raises HttpError 501 where the Backend has no finder."""
    if isinstance(daemon.backend, HasFinder):
        return daemon.backend.finder
    raise HttpError(501, "not_supported", "this daemon has no catalogue")
