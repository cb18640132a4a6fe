"""StoreKeeper: ModelKeeper over the store of this process. All of it reads or writes disk, so all runs in threads."""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec

from localllm.api import ModelInfo
from localllm.api.keeper import ModelDetails, NewModel, TensorShape
from localllm.errors import GGUFError, InvalidRequestError, ModelNameError
from localllm.name import ModelName
from localllm.store.describe import describe
from localllm.store.files import create_private, os_errors
from localllm.store.gguf import read_gguf
from localllm.store.gguf_parse import ArrayInfo
from localllm.store.manifest import Blob, Manifest, utc_now
from localllm.store.store import ModelStore

_TEMPLATE = "tokenizer.chat_template"
_MAX_ARRAY = 64  # longer arrays are for the vocabulary, not for people
_WRITE_BYTES = 4 << 20


class StoreKeeper:
    """The models of one store. `find` looks a name up as the Service does; `info_of` makes its listing."""

    def __init__(
        self, store: ModelStore, find: Callable[[str], Manifest], info_of: Callable[[Manifest], ModelInfo]
    ) -> None:
        self._store = store
        self._find = find
        self._info_of = info_of

    async def info(self, model: str) -> ModelInfo:
        """See ModelKeeper.info."""
        return self._info_of(await asyncio.to_thread(self._find, model))

    async def details(self, model: str, *, tensors: bool = False) -> ModelDetails:
        """See ModelKeeper.details."""
        return await asyncio.to_thread(self._details, model, tensors)

    async def copy(self, source: str, target: str) -> None:
        """See ModelKeeper.copy."""
        await asyncio.to_thread(lambda: self._store.copy(self._find(source).name, _new_name(target)))

    async def remove(self, model: str) -> None:
        """See ModelKeeper.remove."""
        await asyncio.to_thread(lambda: self._store.remove(self._find(model).name))

    async def create(self, new: NewModel) -> ModelInfo:
        """See ModelKeeper.create."""
        return self._info_of(await asyncio.to_thread(self._create, new))

    async def has_blob(self, digest: str) -> bool:
        """See ModelKeeper.has_blob."""
        return await asyncio.to_thread(lambda: self._blob(digest, "") is not None)

    async def put_blob(self, digest: str, data: AsyncIterator[bytes], size_bytes: int | None = None) -> bool:
        """See ModelKeeper.put_blob."""
        if await self.has_blob(digest):
            return False
        if size_bytes is not None:
            await asyncio.to_thread(self._store.check_free, size_bytes)
        staging = self._store.staging()
        folder = await asyncio.to_thread(staging.__enter__)
        try:
            path = folder / "blob"
            found = await self._write(path, data)
            if found != digest:
                raise InvalidRequestError(f"the bytes are {found}, not {digest}", param="digest", digest=found)
            await asyncio.to_thread(self._store.ingest, path, digest=digest)
        finally:
            await asyncio.to_thread(staging.__exit__, None, None, None)
        return True

    async def _write(self, path: Path, data: AsyncIterator[bytes]) -> str:
        """Write what comes, in pieces worth a thread's time; returns its digest."""
        hashed = hashlib.sha256()

        def put(piece: bytes) -> None:
            with os_errors("write the upload", self._store.root):
                file.write(piece)
            hashed.update(piece)

        with create_private(path) as file:
            pending = bytearray()
            async for chunk in data:
                pending += chunk
                if len(pending) >= _WRITE_BYTES:
                    await asyncio.to_thread(put, bytes(pending))
                    pending.clear()
            await asyncio.to_thread(put, bytes(pending))
        return f"sha256:{hashed.hexdigest()}"

    def _details(self, model: str, tensors: bool) -> ModelDetails:
        manifest = self._find(model)
        files = [read_gguf(path) for path in self._store.paths(manifest)]
        metadata = dict(files[0].metadata)
        metadata.pop(_TEMPLATE, None)
        shapes = (TensorShape(t.name, t.type, t.shape) for file in files for t in file.tensors) if tensors else ()
        return ModelDetails(
            info=self._info_of(manifest),
            metadata={name: _plain(value) for name, value in metadata.items()},
            template=files[0].chat_template,
            system=manifest.system,
            sampling=manifest.sampling,
            num_ctx=manifest.num_ctx,
            tensors=tuple(shapes),
        )

    def _create(self, new: NewModel) -> Manifest:
        name = _new_name(new.name)
        base = self._find(new.source) if new.source is not None else self._of_blobs(name, new.blobs)
        manifest = msgspec.structs.replace(
            base,
            name=name,
            created=utc_now(),
            system=base.system if new.system is None else new.system or None,
            sampling=new.sampling.over(base.sampling),
            num_ctx=new.num_ctx or base.num_ctx,
            licence=new.licence or base.licence,
        )
        self._store.add(manifest)
        return manifest

    def _of_blobs(self, name: str, named: tuple[tuple[str, str], ...]) -> Manifest:
        if not named:
            raise InvalidRequestError("neither a model nor files to make one of", param="from")
        blobs = []
        for filename, digest in sorted(named):
            blob = self._blob(digest, filename)
            if blob is None:
                hint = "send its bytes first"
                raise InvalidRequestError(f"no blob {digest} for {filename}", hint=hint, param="files")
            blobs.append(blob)
        try:
            return describe(name, "upload", blobs, [self._store.blob_path(blob.digest) for blob in blobs])
        except GGUFError as exc:
            raise InvalidRequestError(f"no model: {exc.message}", hint=exc.hint, param="files") from exc

    def _blob(self, digest: str, filename: str) -> Blob | None:
        """A blob of the store, if its bytes are here and right."""
        try:
            size_bytes = self._store.blob_path(digest).stat().st_size
        except OSError:
            return None
        return Blob(digest, size_bytes, filename) if self._store.has_blob(digest, size_bytes) else None


def _new_name(text: str) -> str:
    """The name of a model made here. Raises ModelNameError for one that belongs to a source or a file."""
    name = ModelName.parse(text)
    if name.source != "catalog":
        raise ModelNameError(f"{text[:80]!r} cannot be given here", hint="a name here is name or name:tag", name=text)
    return str(name)


def _plain(value: Any) -> Any:
    """A metadata value as JSON has it; long arrays are left out."""
    if isinstance(value, ArrayInfo) or (isinstance(value, tuple) and len(value) > _MAX_ARRAY):
        return None
    if isinstance(value, tuple):
        return [_plain(item) for item in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value
