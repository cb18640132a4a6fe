"""The command tree: which commands there are, in which order, and how a usage error is told.

A command line that names its command pays for that one only: the modules of the others are not even imported. What a
command needs beyond its signature is imported when it runs.
"""

from __future__ import annotations

import difflib
import importlib
import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

import typer

from localllm.cli.runtime import Runtime
from localllm.errors import LocalLLMError, UsageError

if TYPE_CHECKING:
    from localllm.cli import BackendFactory

PROG = "localllm"
# Each module beside this one that has commands, in the order of the help.
MODULES: dict[str, tuple[str, ...]] = {
    "run": ("run",),
    "chat": ("chat",),
    "serve": ("serve",),
    "ps": ("ps",),
    "load": ("load",),
    "stop": ("stop",),
    "service": ("service",),
    "logs": ("logs",),
    "embed": ("embed", "rerank"),
    "pull": ("pull",),
    "models": ("list", "ls", "show", "rm", "cp"),
    "adopt": ("adopt",),
    "care": ("verify", "prune"),
    "search": ("search",),
    "doctor": ("doctor",),
    "bench": ("bench",),
    "replay": ("replay",),
    "tune": ("tune",),
}
# typer carries its own click since 0.20 and used the package before; this class is the one it raises in either.
_ClickException: type[Exception] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "ClickException")


def build_app(command: str | None = None) -> typer.Typer:
    """The command tree: all of it, or the part that has `command` where there is such a command."""
    app = typer.Typer(
        name=PROG,
        help="Run open language models on this machine.",
        epilog="Exit codes: 0 ok, 1 failed, 2 usage or settings, 3 a retry may help, 130 interrupted.",
        no_args_is_help=False,
        invoke_without_command=True,
        rich_markup_mode=None,
        pretty_exceptions_enable=False,
        context_settings={"help_option_names": ["-h", "--help"]},
    )
    app.callback()(_root)
    needed = [module for module, names in MODULES.items() if command in names] or list(MODULES)
    for module in needed:
        importlib.import_module(f"localllm.cli.{module}").register(app)
    return app


def build_command(command: str | None = None) -> Any:
    """The tree as typer's click group, which has the names, options and help of its commands."""
    return typer.main.get_command(build_app(command))


def run_command(args: Sequence[str], backend_factory: BackendFactory | None) -> int:
    """Run one command line; returns its exit code or raises."""
    result = build_command(args[0] if args else None).main(
        args=list(args), prog_name=PROG, standalone_mode=False, obj=Runtime(backend_factory=backend_factory, args=args)
    )
    return result if isinstance(result, int) else 0


def as_usage_error(exc: Exception) -> LocalLLMError | None:
    """A mistake on the command line as our error; None where `exc` is something else."""
    if isinstance(exc, typer.Abort):
        return LocalLLMError("aborted")
    if not isinstance(exc, _ClickException):
        return None
    words = exc.format_message().rstrip(".")  # type: ignore[attr-defined]
    message, _, suggestion = words.partition(" (Possible options: ")
    message, _, near = message.partition(". Did you mean ")
    context = getattr(exc, "ctx", None)
    path = context.command_path if context is not None else PROG
    hint = f"`{path} --help` shows what it takes"
    if near or suggestion:
        found = re.findall(r"'([^']+)'", near) or suggestion.rstrip(")").split(", ")
        nearest = difflib.get_close_matches(message.split()[-1].strip("'"), found, n=1, cutoff=0.0)
        hint = f"did you mean {nearest[0]}? {hint}"
    return UsageError(message[:1].lower() + message[1:], hint=hint)


def _show_version(wanted: bool) -> None:
    if wanted:
        from localllm.cli.version import version_line

        typer.echo(version_line())
        raise typer.Exit


def _root(
    ctx: typer.Context,
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and the llama.cpp build.", callback=_show_version, is_eager=True
        ),
    ] = False,
) -> None:
    """Run open language models on this machine."""
    del version
    if ctx.invoked_subcommand is None:
        typer.echo(ctx.get_help())
