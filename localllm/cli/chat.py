"""`localllm chat`: the terminal chat, with a Backend in this process, the running daemon's, or one elsewhere."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from localllm.cli.options import Offline, OptionalModel, own_load, with_options
from localllm.cli.runtime import Runtime, runtime_of

if TYPE_CHECKING:
    from localllm_tui.options import ChatOptions, ChatSettings

    from localllm.api import Backend, SamplingParams
    from localllm.config import Settings
    from localllm.daemon_file import DaemonFile

_NUM_SLOTS = 2  # the conversation, and its title or a second answer beside it


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(with_options(chat))


def chat(
    ctx: typer.Context,
    model: OptionalModel = None,
    *,
    resume: Annotated[bool, typer.Option("--continue", help="Go on where you were; so without MODEL anyway.")] = False,
    new: Annotated[bool, typer.Option("--new", help="Begin a new conversation; so with MODEL anyway.")] = False,
    conversation: Annotated[
        int | None, typer.Option("--conversation", min=1, metavar="ID", help="Open this conversation.")
    ] = None,
    system: Annotated[
        str | None, typer.Option("--system", "-s", metavar="TEXT", help="System prompt of a new conversation.")
    ] = None,
    url: Annotated[
        str | None,
        typer.Option("--url", metavar="URL", help="Ask the daemon there: http(s)://HOST[:PORT], or unix:PATH."),
    ] = None,
    key_file: Annotated[
        Path | None,
        typer.Option("--key-file", metavar="PATH", help="Where the key for --url stands; else LOCALLLM_KEY is it."),
    ] = None,
    local: Annotated[
        bool, typer.Option("--local", help="Run the model in this process, even where a daemon is running.")
    ] = False,
    web: Annotated[bool, typer.Option("--web", help="Show the chat in a browser of this machine.")] = False,
    port: Annotated[
        int | None, typer.Option("--port", "-p", min=0, max=65535, metavar="N", help="Port for --web; else a free one.")
    ] = None,
    plain: Annotated[
        bool, typer.Option("--plain", help="Without boxes, animation and colour: fit for a screen reader.")
    ] = False,
    theme: Annotated[
        str | None, typer.Option("--theme", metavar="NAME", help="Colours: localllm-dark, -light, -contrast or -mono.")
    ] = None,
    offline: Offline = False,
    sampling: SamplingParams,
    loading: dict[str, Any],
) -> None:
    """Chat in the terminal: conversations that stay, branches, search, models. F1 there shows every key.

    Where a daemon runs, it answers; with options that say how a model is loaded, this process loads it. Piped standard
    input waits in the prompt as an attachment. chat.toml, beside the settings file, keeps theme, keys, personas and
    snippets.
    """
    from localllm.errors import UsageError

    if resume + new + (conversation is not None) > 1:
        raise UsageError("--continue, --new and --conversation exclude each other")
    if port is not None and not web:
        raise UsageError("--port goes with --web")
    if key_file is not None and url is None:
        raise UsageError("--key-file goes with --url", hint="the running daemon of this user needs no key")
    runtime = runtime_of(ctx)
    settings = runtime.settings(**loading, offline=offline or None)
    chat_settings = _chat_settings(theme, plain)
    where = _where(runtime, settings, model, url=url, key_file=key_file, local=local, own=own_load(loading))
    if web:
        import gc

        from localllm.cli.chat_web import serve_chat

        gc.enable()
        serve_chat(runtime.args, port or 0)
        return
    from localllm.cli.chat_terminal import take_terminal

    attached = take_terminal()
    from localllm_tui.options import ChatOptions

    from localllm import paths

    opens = conversation if conversation is not None else (0 if new or ((model or system) and not resume) else None)
    options = ChatOptions(
        model=model or settings.default_model,
        database=paths.chat_database(),
        settings=chat_settings,
        conversation=opens,
        url=where.url if where is not None else None,
        system=system or "",
        attached=attached,
        sampling=sampling,
    )
    raise typer.Exit(_run(options, _backend_maker(runtime, settings, where)))


def _run(options: ChatOptions, make_backend: Callable[[], Backend]) -> int:
    from localllm_tui.app import ChatApp

    app = ChatApp(make_backend, options)
    code = app.run(mouse=True)
    return code if isinstance(code, int) else (app.return_code or 0)


def _chat_settings(theme: str | None, plain: bool) -> ChatSettings:
    """The person's settings with the flags on top. Raises ConfigError."""
    import msgspec
    from localllm_tui.options import load_chat_settings

    changes: dict[str, Any] = {}
    if theme is not None:
        changes["theme"] = theme
    if plain:
        changes["plain"] = True
    return msgspec.structs.replace(load_chat_settings(), **changes)


def _where(
    runtime: Runtime,
    settings: Settings,
    model: str | None,
    *,
    url: str | None,
    key_file: Path | None,
    local: bool,
    own: tuple[str, ...],
) -> DaemonFile | None:
    """The daemon that is to answer; None: this process does."""
    from localllm.errors import UsageError

    if url is not None:
        if local or own:
            given = ", ".join(own) or "--local"
            raise UsageError(f"{given} and --url exclude each other", hint="the daemon there loads its models")
        from localllm.client_http import Address
        from localllm.daemon_file import DaemonFile

        Address.parse(url)
        return DaemonFile(pid=0, version="", url=url, key=_key(key_file))
    if local or own or runtime.is_given_a_backend:
        return None
    from localllm.cli.borrowed import daemon_for

    return daemon_for(model or settings.default_model)


def _key(key_file: Path | None) -> str | None:
    """The key a daemon elsewhere wants: the first of the file, else what the environment says. Raises ConfigError."""
    import os

    from localllm.errors import ConfigError

    if key_file is None:
        return os.environ.get("LOCALLLM_KEY", "").strip() or None
    try:
        lines = key_file.expanduser().read_text(encoding="utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"key file {key_file} cannot be read: {exc}") from exc
    for line in lines:
        words = line.partition("=")[2] or line
        if words.strip() and not line.lstrip().startswith("#"):
            return words.split()[0]
    raise ConfigError(f"key file {key_file} has no key", hint="one KEY or NAME = KEY a line")


def _backend_maker(runtime: Runtime, settings: Settings, where: DaemonFile | None) -> Callable[[], Backend]:
    """What makes the Backend, in a thread, once the first frame is seen."""

    def make() -> Backend:
        if where is not None:
            from localllm.cli.borrowed import Borrowed
            from localllm.client import Client

            return Borrowed(Client(where.url, key=where.key), offline=settings.offline)
        from localllm.cli.options import load_options

        if not runtime.is_given_a_backend:
            from localllm.engine.children import prestart

            prestart()
        return runtime.make_backend(settings, load_options(settings, num_slots=settings.num_slots or _NUM_SLOTS))

    return make
