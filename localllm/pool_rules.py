"""What the pool decides: who leaves for whom, when a model has crashed too often. Pure: no clock, no engine, no I/O."""

from __future__ import annotations

import re
from collections.abc import Sequence

import msgspec

from localllm.errors import EngineCrashedError, EngineError, LocalLLMError, ModelCrashingError
from localllm.memory import Resident, which_to_evict

# A context of so many tokens is worth more beside a running model than a larger one after it has ended.
COMFORTABLE_CTX = 4096
MAX_CRASHES = 3
CRASH_WINDOW_S = 300.0
_NO_MEMORY = re.compile(
    r"no memory|out of memory|insufficient memory|MemoryError|(failed|unable) to allocate|bad_alloc|cannot allocate"
    r"|GGML_ASSERT\(ctx->mem_buffer",
    re.IGNORECASE,
)


def who_leaves(residents: Sequence[Resident], missing_bytes: int) -> list[str]:
    """Whom to ask to leave so that `missing_bytes` more are free: idle ones first, the longest unused first.

    A busy one in the answer leaves when it has ended what it runs. Pinned ones stay. Empty where nothing would suffice.
    """
    if missing_bytes <= 0:
        return []
    if chosen := which_to_evict(residents, missing_bytes):
        return chosen
    idle = [resident for resident in residents if not resident.busy and not resident.pinned]
    idle.sort(key=lambda resident: resident.last_used)
    busy = [msgspec.structs.replace(resident, busy=False) for resident in residents if resident.busy]
    rest = which_to_evict(busy, missing_bytes - sum(resident.size_bytes for resident in idle))
    return [*(resident.name for resident in idle), *rest] if rest else []


def leaving_bytes(residents: Sequence[Resident], *, busy_too: bool) -> int:
    """What would be free if all that may leave did."""
    return sum(r.size_bytes for r in residents if not r.pinned and (busy_too or not r.busy))


def is_worth_it(num_ctx: int, best_num_ctx: int) -> bool:
    """Whether to load with `num_ctx` now, and not with more once others have ended their work."""
    return num_ctx >= min(best_num_ctx, COMFORTABLE_CTX)


def is_out_of_memory(error: LocalLLMError) -> bool:
    """Whether a load failed for want of memory: llama.cpp said so, or the system killed the child."""
    if not isinstance(error, EngineError):
        return False
    if isinstance(error, EngineCrashedError) and error.facts.get("signal") == "SIGKILL":
        return not error.facts.get("hung")
    if error.facts.get("no_memory"):
        return True
    log = error.facts.get("log")
    return any(_NO_MEMORY.search(str(line)) for line in (error.message, *(log if isinstance(log, list) else ())))


class Crashes:
    """How often each model's engine died lately. Times are any clock in seconds that grows."""

    def __init__(self, most: int = MAX_CRASHES, window_s: float = CRASH_WINDOW_S) -> None:
        self._most = most
        self._window_s = window_s
        self._times: dict[str, list[float]] = {}
        self._reasons: dict[str, str] = {}

    def add(self, name: str, now: float, reason: str) -> None:
        """An engine of `name` died."""
        self._times[name] = [*self._recent(name, now), now][-self._most :]
        self._reasons[name] = reason

    def forget(self, name: str) -> None:
        """Begin anew: somebody asked for it in so many words."""
        self._times.pop(name, None)
        self._reasons.pop(name, None)

    def check(self, name: str, now: float) -> None:
        """Raise ModelCrashingError for a model that is not loaded again for now."""
        times = self._recent(name, now)
        if len(times) < self._most:
            return
        wait_s = times[0] + self._window_s - now
        raise ModelCrashingError(
            f"{name} crashed {len(times)} times within {self._window_s / 60:.0f} minutes: {self._reasons[name]}",
            hint=f"it is tried again in {wait_s:.0f} s; `localllm load {name}` tries at once",
            name=name,
            retry_after_s=round(wait_s, 1),
        )

    def _recent(self, name: str, now: float) -> list[float]:
        return [time for time in self._times.get(name, ()) if now - time < self._window_s]
