"""Records of answers, and making an answer again from one. Files are small JSON; engines belong to the Backend."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from localllm.api import Backend, ChatRequest, CompletionRequest, Event, Finished, Receipt
from localllm.errors import InvalidRequestError, LocalLLMError
from localllm.store.files import save_json

SCHEMA = 1
MAX_RECORD_BYTES = 64 << 20

_HINT = "`localllm run --receipt FILE` writes one"

# How each part of a receipt is called to a person.
_NAMES = {
    "model": "the weights",
    "template": "the chat template",
    "prompt_tokens": "the prompt's tokens",
    "build": "the build of llama.cpp",
    "load": "how the model is loaded",
    "output_tokens": "the answer's tokens",
}


class Record(msgspec.Struct, frozen=True, omit_defaults=True):
    """A request, one of the two kinds, and the receipt of its answer."""

    receipt: Receipt
    chat: ChatRequest | None = None
    completion: CompletionRequest | None = None
    schema: int = SCHEMA


@dataclass(frozen=True, slots=True)
class Replay:
    """What became of a record: whether the answer is the same, and what differs, in words."""

    same: bool
    differences: tuple[str, ...]
    receipt: Receipt


def record_of(request: ChatRequest | CompletionRequest, receipt: Receipt) -> Record:
    """The record of an answer."""
    if isinstance(request, ChatRequest):
        return Record(receipt, chat=request)
    return Record(receipt, completion=request)


def save_record(record: Record, path: Path) -> None:
    """Write a record, whole or not at all, readable by its owner only: it holds the prompt."""
    save_json(record, path)


def load_record(path: Path) -> Record:
    """Read a record. Raises InvalidRequestError for a file that is none."""
    try:
        with path.open("rb") as file:
            data = file.read(MAX_RECORD_BYTES + 1)
    except OSError as exc:
        raise LocalLLMError(f"{path} cannot be read: {exc.strerror}") from exc
    try:
        record = msgspec.json.decode(data, type=Record)
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise InvalidRequestError(f"{path} is no record of an answer: {exc}", hint=_HINT) from exc
    if (record.chat is None) == (record.completion is None) or record.schema != SCHEMA:
        raise InvalidRequestError(f"{path} is no record of an answer", hint=_HINT)
    return record


async def replay(backend: Backend, record: Record) -> Replay:
    """Ask again what a record holds, with the seed and parameters of its receipt, and compare."""
    old = record.receipt
    async for event in _ask(backend, record):
        if isinstance(event, Finished):
            assert event.receipt is not None
            return _compare(old, event.receipt)
    raise AssertionError("a request ends in Finished or an error")


def _ask(backend: Backend, record: Record) -> AsyncIterator[Event]:
    again = {"sampling": record.receipt.sampling, "deterministic": record.receipt.deterministic, "receipt": True}
    if record.chat is not None:
        return backend.chat(msgspec.structs.replace(record.chat, **again))
    assert record.completion is not None
    return backend.complete(msgspec.structs.replace(record.completion, **again))


def _compare(old: Receipt, new: Receipt) -> Replay:
    differing = [name for part, name in _NAMES.items() if getattr(old, part) != getattr(new, part)]
    if old.load != new.load:
        changed = [key for key in {**old.load, **new.load} if old.load.get(key) != new.load.get(key)]
        details = ", ".join(f"{key} {old.load.get(key)} -> {new.load.get(key)}" for key in sorted(changed))
        differing[differing.index(_NAMES["load"])] += f" ({details})"
    return Replay(old.output_tokens == new.output_tokens, tuple(differing), new)
