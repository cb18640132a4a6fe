"""What other threads tell the engine's, as values."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from localllm.api import Control
from localllm.engine.batch import DiskNews
from localllm.engine.job import Job
from localllm.engine.pooled_work import PooledJob


@dataclass(frozen=True, slots=True)
class Submit:
    """Run a job that came at `at`."""

    job: Job
    at: float


@dataclass(frozen=True, slots=True)
class Steer:
    """Change the course of a request."""

    request_id: int
    control: Control


@dataclass(frozen=True, slots=True)
class Pool:
    """Texts to be embedded or ranked."""

    job: PooledJob


@dataclass(frozen=True, slots=True)
class Heard:
    """What became of a prefix on disk; a state that was read."""

    news: DiskNews
    state: Any


@dataclass(frozen=True, slots=True)
class Stop:
    """Leave the loop."""


Message = Submit | Steer | Pool | Heard | Stop
