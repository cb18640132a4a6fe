"""Our own JSON: whole trees, with everything that is kept of them. What is written is read back without loss."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator

import msgspec
from localllm_tui.exchange.errors import ExchangeError
from localllm_tui.history.values import Bundle

FORMAT = "localllm conversations"
VERSION = 1


class _Head(msgspec.Struct):
    format: str = ""
    version: int = 0
    conversations: list[msgspec.Raw] = []


def write(bundles: Iterable[Bundle]) -> Iterator[bytes]:
    """The file, a conversation at a time."""
    encoder = msgspec.json.Encoder()
    yield b'{"format": %s, "version": %d, "conversations": [' % (encoder.encode(FORMAT), VERSION)
    for number, bundle in enumerate(bundles):
        yield (b",\n" if number else b"\n") + encoder.encode(bundle)
    yield b"\n]}\n"


def is_own(data: bytes) -> bool:
    """Whether the file says it is of this format."""
    return data.lstrip()[:64].startswith(b'{"format": "%s"' % FORMAT.encode())


def read(data: bytes) -> Iterator[Bundle]:
    """The conversations of a file. Raises ExchangeError."""
    try:
        head = msgspec.json.decode(data, type=_Head)
        if head.version > VERSION:
            raise ExchangeError("it was written by a newer localllm", hint="read it with that one")
        decoder = msgspec.json.Decoder(Bundle)
        for raw in head.conversations:
            yield _checked(decoder.decode(raw))
    except (msgspec.DecodeError, RecursionError) as exc:
        raise ExchangeError(f"it is no sound export of localllm: {exc}") from exc


def _checked(bundle: Bundle) -> Bundle:
    seen: set[int] = set()
    for node in bundle.nodes:
        if node.id in seen or (node.parent is not None and node.parent not in seen):
            raise ExchangeError(f"the turns of {bundle.conversation.title!r} are no tree")
        seen.add(node.id)
    times = (bundle.conversation.created, bundle.conversation.updated, *(node.created for node in bundle.nodes))
    if not bundle.uid or not all(math.isfinite(time) for time in times):
        raise ExchangeError(f"{bundle.conversation.title!r} is not sound")
    return bundle
