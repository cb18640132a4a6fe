"""What every command is given: how settings are read and how the Backend and the store are made. Made once by main."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    import typer

    from localllm.api import Backend, LoadOptions
    from localllm.cli import BackendFactory
    from localllm.config import Settings
    from localllm.store.store import ModelStore


class Runtime:
    """One run of the command. Reads the settings at most once per command; holds nothing open itself."""

    def __init__(self, *, backend_factory: BackendFactory | None = None, args: Sequence[str] = ()) -> None:
        self._backend_factory = backend_factory
        self.args = tuple(args)  # the command line as it was typed

    @property
    def is_given_a_backend(self) -> bool:
        """Whether whoever called main brought the Backend."""
        return self._backend_factory is not None

    def settings(self, **flags: Any) -> Settings:
        """The settings with these flags on top (None: not given); logging is set up by them."""
        from localllm.config import load_settings

        settings = load_settings(flags)
        _set_up_logging(settings.log_level)
        return settings

    def store(self, settings: Settings) -> ModelStore:
        """The model store on disk."""
        from localllm.store.store import ModelStore

        return ModelStore(settings.store_dir)

    @asynccontextmanager
    async def backend(
        self, settings: Settings, load_options: LoadOptions | None = None, *, pull_missing: bool = True
    ) -> AsyncIterator[Backend]:
        """The Backend that answers; closed at the end of the block, also after Ctrl-C.

        Without `pull_missing` a model that is not installed is an error.
        """
        from localllm.api import LoadOptions

        backend = self.make_backend(settings, load_options or LoadOptions(), pull_missing=pull_missing)
        try:
            yield backend
        finally:
            await backend.close()

    def make_backend(self, settings: Settings, load_options: LoadOptions, *, pull_missing: bool = True) -> Backend:
        """The same, to be closed by whoever asked."""
        if self._backend_factory is not None:
            return self._backend_factory(settings, load_options)
        return _in_process(settings, load_options, pull_missing)


def runtime_of(ctx: typer.Context) -> Runtime:
    """The Runtime that main put into the context."""
    assert isinstance(ctx.obj, Runtime)
    return ctx.obj


def _in_process(settings: Settings, load_options: LoadOptions, pull_missing: bool) -> Backend:
    import msgspec

    from localllm.service import Service

    if pull_missing:
        # One command, or one person's conversation: its model stays until it ends. A daemon's go by the setting.
        settings = msgspec.structs.replace(settings, keep_alive_s=-1.0)
    return Service(settings, load_options=load_options, pull_missing=pull_missing)


def _set_up_logging(level: str) -> None:
    import logging

    logging.basicConfig(level=level.upper(), format="%(levelname)s %(name)s: %(message)s")
