"""`localllm logs`: what the daemon logged."""

from __future__ import annotations

from typing import Annotated

import typer


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(logs)


def logs(
    *,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what comes, until Ctrl-C.")] = False,
    lines: Annotated[int, typer.Option("--lines", "-n", min=0, metavar="N", help="How many of the last lines.")] = 50,
) -> None:
    """Show what the daemon logged: starts, loads, requests by their routes, failures. Prompts are never in it."""
    from localllm.cli import daemon_log
    from localllm.cli.output import Output
    from localllm.errors import LocalLLMError

    output = Output()
    path = daemon_log.log_file()
    try:
        for line in daemon_log.last_lines(path, lines):
            output.line(line)
        if follow:
            output.flush()
            for line in daemon_log.follow(path):
                output.line(line)
                output.flush()
    except FileNotFoundError as exc:
        raise LocalLLMError(f"there is no log at {path}", hint="`localllm serve` writes one") from exc
