"""Any web server: an address of a .gguf file. The size and, without `#sha256=`, the digest come with the bytes."""

from __future__ import annotations

import re
from urllib.parse import unquote, urlsplit

from localllm.errors import ModelNameError
from localllm.name import ModelName
from localllm.store.sources.remote import Context, RemoteFile, Resolved

_SPLIT = re.compile(r"-([0-9]{5})-of-([0-9]{5})(?=\.gguf\Z)", re.IGNORECASE)
_MAX_PARTS = 999


def resolve(name: ModelName, context: Context) -> Resolved:
    """The file itself, or all files of a split model when the address names one of them."""
    path = urlsplit(name.repo).path
    found = _SPLIT.search(path)
    sha256 = name.sha256 or context.sha256
    size = context.size_bytes
    if found is None:
        return Resolved(str(name), (_remote(name.repo, size, sha256),))
    total = int(found[2])
    if sha256 is not None and total > 1:
        raise ModelNameError(f"{name}: one digest for {total} files", hint="leave #sha256= out for a split model")
    if not 1 <= total <= _MAX_PARTS:
        raise ModelNameError(f"{name}: a model in {total} files", hint="look at the address again")
    files = []
    for number in range(1, total + 1):
        part = path[: found.start()] + f"-{number:05d}-of-{found[2]}" + path[found.end() :]
        files.append(_remote(name.repo.replace(path, part), None, None))
    return Resolved(str(name), tuple(files))


def _remote(url: str, size_bytes: int | None, sha256: str | None) -> RemoteFile:
    filename = unquote(urlsplit(url).path).rpartition("/")[2]
    return RemoteFile(url, filename, size_bytes=size_bytes, sha256=sha256)
