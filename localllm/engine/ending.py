"""Words for an engine child that is gone: what its exit status and the last lines of its log say."""

from __future__ import annotations

import re
import signal
from typing import Any

from localllm.engine import frames
from localllm.errors import EngineCrashedError

_BUILD_PATH = re.compile(r"\S*/(?=[^/\s]+\.\w+:\d+:)")


def crash_of(code: int, log: list[str]) -> EngineCrashedError:
    """The error for a child that ended unasked with exit status `code`, with the last line of its log."""
    facts: dict[str, Any] = {"log": log[-10:]}
    if code < 0:
        try:
            name = signal.Signals(-code).name
        except ValueError:
            name = f"signal {-code}"
        facts["signal"] = name
        what = f"was killed by {name}"
    else:
        facts["exit_status"] = code
        what = f"ended with status {code}"
    hint = "the next request starts a new engine"
    if code == frames.NO_MEMORY_STATUS:
        what, hint = "ran out of memory", "try a smaller model or less context (--ctx), or end other programs"
        facts["no_memory"] = True
    elif facts.get("signal") == "SIGKILL":
        hint = "often the system ran out of memory; try a smaller model or less context (--ctx)"
    # Where llama.cpp was built says nothing to anybody.
    last = f": {_BUILD_PATH.sub('', log[-1])}" if log else ""
    return EngineCrashedError(f"the engine {what}{last}", hint=hint, **facts)
