"""A file of this machine, registered where it lies: nothing is copied where a link serves."""

from __future__ import annotations

from pathlib import Path

from localllm.errors import ModelNotFoundError
from localllm.name import ModelName
from localllm.store.gguf import find_shards
from localllm.store.sources.remote import Context, LocalFile, Resolved


def resolve(name: ModelName, context: Context) -> Resolved:
    """The file, or all files of the split model it is one of."""
    del context
    path = Path(str(name.absolute()))
    if not path.is_file():
        what = "is a directory" if path.is_dir() else "is not there"
        raise ModelNotFoundError(f"{path} {what}", hint="name the .gguf file itself", name=str(name))
    files = tuple(LocalFile(shard, shard.name, link=True) for shard in find_shards(path))
    return Resolved(str(path), files)
