"""The `localllm` command. `main` is its entry and the only place that catches; the commands are in the modules beside.

Nothing slow is imported here: the engine child is started before even the command line is read in full, so that both
import at once.
"""

from __future__ import annotations

import errno
import gc
import os
import sys
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from localllm.api import Backend, LoadOptions
    from localllm.config import Settings

    BackendFactory = Callable[[Settings, LoadOptions], Backend]

EXIT_FAILED = 1
EXIT_USAGE = 2
EXIT_INTERRUPTED = 130
_STARTS_AN_ENGINE = frozenset({"run", "bench", "tune"})
_STARTS_NONE = frozenset({"--help", "-h", "--show", "--reset"})


def main(argv: Sequence[str] | None = None, *, backend_factory: BackendFactory | None = None) -> int:
    """Run one command and return its exit code: 0 ok, 1 failed, 2 usage or config, 3 retry may help, 130 interrupted.

    `backend_factory` makes the Backend that answers, in place of the Service of this process.
    """
    try:
        return _run(list(sys.argv[1:] if argv is None else argv), backend_factory)
    except KeyboardInterrupt:
        return EXIT_INTERRUPTED
    except OSError:
        from localllm.cli.output import discard_stdout

        discard_stdout()
        return EXIT_FAILED


def _run(args: list[str], backend_factory: BackendFactory | None) -> int:
    """Run the command and report its failure; what is left to the caller is Ctrl-C and a reader that has gone."""
    if backend_factory is None and args[:1] and args[0] in _STARTS_AN_ENGINE and not _STARTS_NONE & set(args):
        _prestart_engine()
    # Nothing of what the chat loads at its start is garbage, and looking for some takes a tenth of it. It turns the
    # collector on when its first frame is seen.
    if args[:1] == ["chat"]:
        gc.disable()
    from localllm.cli.app import run_command
    from localllm.cli.output import prepare_streams

    prepare_streams()
    try:
        code = run_command(args, backend_factory)
        sys.stdout.flush()
    except Exception as exc:
        if _reader_has_gone(exc):
            raise
        return _report(exc)
    finally:
        gc.enable()
    return code


def _reader_has_gone(exc: Exception) -> bool:
    """Whether standard output was closed by whoever read it; Windows says EINVAL for that."""
    return isinstance(exc, BrokenPipeError) or (
        sys.platform == "win32" and isinstance(exc, OSError) and exc.errno == errno.EINVAL and not sys.stdout.isatty()
    )


def _prestart_engine() -> None:
    """Let the engine child import its libraries while this process imports its own; without it all works, but later."""
    try:
        from localllm.engine.children import prestart

        prestart()
    except (ImportError, OSError):
        return


def _report(exc: Exception) -> int:
    """Say what went wrong in one or two lines and return the exit code."""
    from localllm.cli.app import as_usage_error
    from localllm.cli.output import Output
    from localllm.errors import LocalLLMError

    error = exc if isinstance(exc, LocalLLMError) else as_usage_error(exc)
    debug = bool(os.environ.get("LOCALLLM_DEBUG"))
    if debug and (error is None or error is exc):
        import traceback

        traceback.print_exception(exc)
    output = Output()
    if error is not None:
        output.warn(error.message, "error:", "red")
        if error.hint:
            output.warn(error.hint, "hint:", "dim")
        return error.exit_code
    output.warn(f"unexpected {type(exc).__name__}: {exc}", "error:", "red")
    if not debug:
        output.warn("LOCALLLM_DEBUG=1 shows where it happened; please report it with that", "hint:", "dim")
    return EXIT_FAILED
