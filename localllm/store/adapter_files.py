"""Which files adapters mean, and whether they fit a model: all that can be said before an engine is started.

A plain name stands for a file in the adapters' folder. Everything else is a path, which whoever speaks for others, such
as a server for its clients, does not take from them.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from pathlib import Path

import msgspec

from localllm import paths
from localllm.api import Adapter
from localllm.errors import AdapterError
from localllm.store.gguf import GGUF, read_gguf
from localllm.store.lora import check_lora, read_lora

# A name has no separator, no drive and no hidden file's dot, and does not end like a file that was named in full.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,99}(?<!\.gguf)(?<!\.GGUF)")


def resolve_adapters(
    adapters: Sequence[Adapter], *, folder: Path | None = None, allow_paths: bool = True
) -> tuple[Adapter, ...]:
    """The adapters, each with the absolute path of its file. `folder` defaults to the adapters' folder.

    Raises AdapterError for a name that is not in the folder, and without `allow_paths` for whatever is no name.
    """
    folder = paths.adapter_dir() if folder is None else folder
    return tuple(_resolve(adapter, folder, allow_paths) for adapter in adapters)


def check_adapters(adapters: Iterable[Adapter], model_paths: Sequence[Path]) -> int:
    """Raise AdapterError for the first that does not fit the model; return the bytes of all of them."""
    headers: list[GGUF] = []
    num_bytes = 0
    for adapter in adapters:
        headers = headers or [read_gguf(path) for path in model_paths]
        path = Path(adapter.path)
        file = read_lora(path)
        check_lora(path, file, headers)
        num_bytes += file.size_bytes
    return num_bytes


def _resolve(adapter: Adapter, folder: Path, allow_paths: bool) -> Adapter:
    if _NAME.fullmatch(adapter.path):
        path = folder / f"{adapter.path}.gguf"
        if not path.is_file():
            hint = f"adapters with a name lie in {folder}; write a path with its ending .gguf" if allow_paths else None
            raise AdapterError(f"there is no adapter {adapter.path}", hint=hint)
    elif allow_paths:
        path = Path(adapter.path).expanduser().absolute()
    else:
        raise AdapterError(f"{adapter.path!r} is no name of an adapter", hint="name one without a path")
    return msgspec.structs.replace(adapter, path=str(path))
