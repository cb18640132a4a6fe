"""Commands that a running daemon answers: finding it, and being told where there is none.

`localllm run` borrows the daemon's models where it may; `ps`, `load` and `stop` are about nothing else.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from localllm.api import Backend, ChatRequest, CompletionRequest, Event, LoadOptions, Notice, Progress, Status
    from localllm.api.finder import ModelFinder
    from localllm.api.keeper import ModelKeeper
    from localllm.cli.output import Output
    from localllm.cli.runtime import Runtime
    from localllm.client import Client
    from localllm.config import Settings
    from localllm.daemon_file import DaemonFile


def running_daemon() -> Client:
    """The daemon of this user. Raises DaemonUnreachableError where none answers."""
    from localllm import daemon_file
    from localllm.client import Client
    from localllm.errors import DaemonUnreachableError

    found = daemon_file.find()
    if found is None:
        hint = "`localllm serve` starts one, `localllm service install` one that is always there"
        raise DaemonUnreachableError("no daemon is running", hint=hint)
    return Client(found.url, key=found.key)


@asynccontextmanager
async def answering(
    runtime: Runtime,
    settings: Settings,
    load: LoadOptions,
    *,
    model: str,
    output: Output,
    local: bool = False,
    own: Sequence[str] = (),
) -> AsyncIterator[Backend]:
    """The Backend that answers about `model`: the running daemon's, else one of this process.

    `own` are options that take a load of their own: with any of them, or `local`, the daemon is left alone.
    """
    found = None if local or runtime.is_given_a_backend else _find(model)
    if found is not None and (why := _why_not(found, own)) is not None:
        output.note(f"note: not asking the running daemon: {why}")
        found = None
    if found is None:
        async with runtime.backend(settings, load) as backend:
            yield backend
        return
    from localllm.client import Client
    from localllm.engine.children import discard

    discard()
    yield Borrowed(Client(found.url, key=found.key), offline=settings.offline)


def daemon_for(model: str) -> DaemonFile | None:
    """The running daemon, where it may be asked about `model`: it answers and is of this version."""
    found = _find(model)
    return found if found is not None and _why_not(found, ()) is None else None


def _find(model: str) -> DaemonFile | None:
    from localllm import daemon_file
    from localllm.name import ModelName

    if daemon_file.read() is None or ModelName.parse(model).source == "file":
        return None
    return daemon_file.find()


def _why_not(found: DaemonFile, own: Sequence[str]) -> str | None:
    from localllm.cli.version import own_version

    if own:
        return f"{', '.join(own)} takes a load of its own"
    if found.version != own_version():
        return f"it is of version {found.version}"
    return None


class Borrowed:
    """A daemon as Backend of one command. A model that it does not have is fetched by it first, as elsewhere."""

    def __init__(self, client: Client, *, offline: bool) -> None:
        self._client = client
        self._offline = offline

    def __getattr__(self, name: str) -> Any:
        return getattr(self._client, name)

    # What protocols ask for has to be there in so many words: they do not see what `__getattr__` would find.

    @property
    def url(self) -> str:
        """See Watched."""
        return self._client.url

    @property
    def keeper(self) -> ModelKeeper:
        """See HasKeeper."""
        return self._client.keeper

    @property
    def finder(self) -> ModelFinder:
        """See HasFinder."""
        return self._client.finder

    def status(self) -> AsyncIterator[Status]:
        """See Watched.status."""
        return self._client.status()

    async def props(self) -> dict[str, Any]:
        """See Watched.props."""
        return await self._client.props()

    async def log(self) -> list[str]:
        """See Watched.log."""
        return await self._client.log()

    async def chat(self, request: ChatRequest) -> AsyncIterator[Event]:
        """See Backend.chat."""
        async for event in self._with_pull(request.model, lambda: self._client.chat(request)):
            yield event

    async def complete(self, request: CompletionRequest) -> AsyncIterator[Event]:
        """See Backend.complete."""
        async for event in self._with_pull(request.model, lambda: self._client.complete(request)):
            yield event

    async def load(
        self,
        model: str,
        *,
        keep_alive_s: float | None = None,
        pin: bool | None = None,
        num_ctx: int | None = None,
    ) -> AsyncIterator[Progress | Notice]:
        """See Backend.load."""
        ask = lambda: self._client.load(model, keep_alive_s=keep_alive_s, pin=pin, num_ctx=num_ctx)  # noqa: E731
        async for news in self._with_pull(model, ask):
            yield news

    async def close(self) -> None:
        """The daemon goes on."""

    async def _with_pull(self, model: str, ask: Any) -> AsyncIterator[Any]:
        from localllm.closing import closing
        from localllm.errors import ModelNotFoundError

        try:
            async with closing(ask()) as events:
                async for event in events:
                    yield event
                return
        except ModelNotFoundError:
            if self._offline:
                raise
        async for progress in self._client.pull(model):
            yield progress
        async with closing(ask()) as events:
            async for event in events:
                yield event
