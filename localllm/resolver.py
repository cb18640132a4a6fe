"""Resolver: from a model's name to its manifest and files on this disk, pulled where that is wanted.

Everything but names blocks: call it in a thread.
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from localllm import loading
from localllm.api import ModelInfo
from localllm.config import Settings
from localllm.errors import LocalLLMError, ModelNotFoundError
from localllm.name import ModelName
from localllm.news import Report
from localllm.store.manifest import Manifest
from localllm.store.store import ModelStore

if TYPE_CHECKING:
    from localllm.catalog import Catalog


class Resolver:
    """The models of one store and of the catalogue. Without `pull_missing` a model that is not here is an error."""

    def __init__(self, settings: Settings, *, pull_missing: bool) -> None:
        self.settings = settings
        self.store = ModelStore(settings.store_dir)
        self._pull_missing = pull_missing
        self._catalog: Catalog | None = None
        self._files: dict[str, tuple[tuple[int, int, int], tuple[Manifest, list[Path]]]] = {}

    @property
    def catalog(self) -> Catalog:
        """The models that can be pulled by a short name."""
        if self._catalog is None:
            from localllm.catalog import Catalog

            self._catalog = Catalog.load()
        return self._catalog

    def reload(self, settings: Settings, catalog: Catalog | None = None) -> None:
        """Go by other settings from now on. The store stays where it was."""
        self.settings = msgspec.structs.replace(settings, store_dir=self.settings.store_dir)
        self._catalog = catalog

    def canonical(self, model: str) -> str:
        """The name under which `model` is in the store: what was typed, or what the catalogue calls it."""
        name = ModelName.parse(model)
        if name.source == "catalog" and (variant := self.catalog.find(str(name))) is not None:
            return variant.name
        return str(name)

    def find(self, model: str) -> Manifest:
        """The installed model of that name. Raises ModelNotFoundError."""
        name = ModelName.parse(model)
        try:
            return self.store.get(str(name))
        except ModelNotFoundError:
            canonical = self.canonical(model)
            if canonical == str(name):
                raise
            return self.store.get(canonical)

    def pull(self, name: ModelName, report: Report, stop: threading.Event, *, update: bool = False) -> Manifest:
        """Bring a model into the store, telling how far it is. `update` asks the source for a newer version."""
        from localllm.store.pull import PullSettings, pull

        settings = PullSettings.from_environment(
            offline=self.settings.offline,
            hf_endpoint=self.settings.hf_endpoint,
            connections=self.settings.num_connections,
        )
        return pull(
            name,
            self.store,
            settings=settings,
            catalog=self.catalog,
            on_progress=report,
            cancelled=stop,
            update=update,
        )

    def prepare(self, model: str, report: Report, stop: threading.Event) -> tuple[Manifest, list[Path]]:
        """The manifest and files of a model, pulled where needed. A path to a GGUF file is run where it lies."""
        name = ModelName.parse(model)
        if name.source == "file":
            return self._file(name)
        try:
            manifest = self.find(model)
        except ModelNotFoundError:
            if not self._pull_missing:
                raise
            manifest = self.pull(name, report, stop)
        return manifest, self.store.paths(manifest)

    def _file(self, name: ModelName) -> tuple[Manifest, list[Path]]:
        """A file's manifest. Its header is read again only when the file changed: that takes 30 ms for each request."""
        try:
            state = Path(name.absolute().repo).stat()
        except OSError:
            return loading.manifest_of_file(name)
        key = (state.st_ino, state.st_size, state.st_mtime_ns)
        held = self._files.get(str(name))
        if held is None or held[0] != key:
            held = self._files[str(name)] = key, loading.manifest_of_file(name)
        return held[1]

    @contextlib.contextmanager
    def hold(self, manifests: Sequence[Manifest]) -> Iterator[None]:
        """Keep models from being removed from the store for the block."""
        with contextlib.ExitStack() as stack:
            for manifest in manifests:
                if self._is_installed(manifest):
                    stack.enter_context(self.store.lease(manifest))
            yield

    def _is_installed(self, manifest: Manifest) -> bool:
        """Whether the store knows this manifest: a file that runs where it lies has one too."""
        try:
            return self.store.get(manifest.name) == manifest
        except LocalLLMError:
            return False


def info_of(manifest: Manifest) -> ModelInfo:
    """An installed model, as a listing shows it."""
    first = next(blob for blob in manifest.blobs if blob.role == "model")
    return ModelInfo(
        name=manifest.name,
        size_bytes=manifest.size_bytes,
        digest=first.digest,
        origin=manifest.origin,
        modified=manifest.created,
        architecture=manifest.architecture,
        num_params=manifest.num_params,
        quant=manifest.quant,
        num_ctx_train=manifest.num_ctx_train,
        licence=manifest.licence,
        capabilities=manifest.capabilities,
    )
