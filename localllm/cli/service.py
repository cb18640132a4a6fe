"""`localllm service`: the daemon as a service of this user, started at login."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated

import typer

from localllm.cli.options import DryRun, Quiet

if TYPE_CHECKING:
    from collections.abc import Sequence

    from localllm.cli.output import Output
    from localllm.cli.service_units import Unit

ServeArgs = Annotated[
    list[str] | None, typer.Argument(metavar="[-- SERVE OPTIONS]", help="Options for `localllm serve`, after `--`.")
]


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    group = typer.Typer(
        name="service", help="Run the daemon at login, as a service of this user.", no_args_is_help=True,
        rich_markup_mode=None,
    )  # fmt: skip
    group.command("install")(install)
    group.command("uninstall")(uninstall)
    group.command("status")(status)
    app.add_typer(group)


def install(args: ServeArgs = None, *, dry_run: DryRun = False, quiet: Quiet = False) -> None:
    """Let the daemon run from now on and after each login, by systemd, launchd or the Task Scheduler.

    It is `localllm serve` of this very installation, with the options given after `--`.
    """
    from localllm.cli.output import Output
    from localllm.errors import LocalLLMError

    unit = _unit(args or [])
    output = Output(quiet=quiet)
    if dry_run:
        _show(output, unit, unit.install)
        return
    try:
        unit.path.parent.mkdir(parents=True, exist_ok=True)
        unit.path.write_text(unit.text, encoding=unit.encoding)
    except OSError as exc:
        raise LocalLLMError(f"{unit.path} cannot be written: {exc.strerror}") from exc
    _run(unit.install)
    output.note(f"the daemon runs, also after the next login ({unit.path}); `localllm logs -f` shows what it does")


def uninstall(*, dry_run: DryRun = False, quiet: Quiet = False) -> None:
    """End the service and forget it. Models and settings stay."""
    from localllm.cli.output import Output
    from localllm.errors import LocalLLMError

    unit = _unit([])
    output = Output(quiet=quiet)
    if dry_run:
        output.line(f"remove {unit.path}")
        _show(output, None, unit.uninstall)
        return
    if not unit.path.exists():
        raise LocalLLMError("the service is not installed", hint=f"{unit.path} is not there")
    _run(unit.uninstall)
    try:
        unit.path.unlink()
    except OSError as exc:
        raise LocalLLMError(f"{unit.path} cannot be removed: {exc.strerror}") from exc
    output.note("the service is gone; models and settings are as they were")


def status() -> None:
    """Say whether the service is installed and what its system says of it. Exit code 1 where it is not installed."""
    import subprocess

    from localllm import daemon_file
    from localllm.cli.output import Output

    unit = _unit([])
    output = Output()
    found = daemon_file.find()
    output.line(f"daemon     {'answers at ' + found.url if found is not None else 'does not answer'}")
    if not unit.path.exists():
        output.line("service    not installed")
        raise typer.Exit(1)
    output.line(f"service    installed ({unit.path})")
    output.flush()
    try:
        subprocess.run(unit.status, check=False)
    except OSError as exc:
        output.warn(f"{unit.status[0]} cannot be run: {exc.strerror}")


def _unit(args: Sequence[str]) -> Unit:
    import os
    from pathlib import Path

    from localllm.cli import service_units

    system: service_units.System = "systemd"
    if sys.platform == "darwin":
        system = "launchd"
    elif sys.platform == "win32":
        system = "windows"
    command = (sys.executable, "-P", "-m", "localllm", "serve", *args)
    user = service_units.account(os.environ) if system == "windows" else ""
    return service_units.unit(system, command, service_units.carried(os.environ), Path.home(), user)


def _show(output: Output, unit: Unit | None, commands: Sequence[Sequence[str]]) -> None:
    from localllm.cli.service_units import shown

    if unit is not None:
        output.line(f"write {unit.path}:")
        output.lines([f"  {line}" for line in unit.text.splitlines()])
    output.lines([f"run {shown(command)}" for command in commands])


def _run(commands: Sequence[Sequence[str]]) -> None:
    """Run a system's commands. Raises LocalLLMError with what the first that fails said."""
    import subprocess

    from localllm.cli.service_units import shown
    from localllm.errors import LocalLLMError

    for command in commands:
        try:
            done = subprocess.run(command, capture_output=True, text=True, check=False)
        except OSError as exc:
            hint = "this system has no such service manager; run `localllm serve` yourself"
            raise LocalLLMError(f"{command[0]} cannot be run: {exc.strerror}", hint=hint) from exc
        if done.returncode:
            said = (done.stderr or done.stdout).strip().splitlines()
            raise LocalLLMError(f"`{shown(command)}` failed: {said[-1] if said else f'status {done.returncode}'}")
