"""How setup speaks and ends: its one exception, its exit statuses (those of `localllm`), its narration on stderr."""

from __future__ import annotations

import sys
from collections.abc import Callable

EXIT_FAILED, EXIT_USAGE, EXIT_RETRY, EXIT_INTERRUPTED = 1, 2, 3, 130


class SetupError(Exception):
    """Setup cannot go on: what is wrong, what to do about it, and the exit status."""

    def __init__(self, message: str, hint: str = "", status: int = EXIT_FAILED) -> None:
        super().__init__(message)
        self.hint = hint
        self.status = status


def say(text: str) -> None:
    """Tell the person at the terminal; stdout stays free for answers."""
    print(text, file=sys.stderr, flush=True)


def guarded(main: Callable[[], int | None]) -> None:
    """Run a script's `main` and exit with what it returns; a SetupError becomes a sentence, a hint and its status."""
    try:
        sys.exit(main())
    except SetupError as exc:
        say(f"error: {exc}")
        if exc.hint:
            say(f"hint: {exc.hint}")
        sys.exit(exc.status)
    except KeyboardInterrupt:
        say("interrupted; the same command picks up again")
        sys.exit(EXIT_INTERRUPTED)
