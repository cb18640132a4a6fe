"""Weights that other programs hold on this machine, looked up by digest or by name. Reads, and links nothing."""

from __future__ import annotations

from pathlib import Path

from localllm.errors import DownloadError, ModelNotFoundError
from localllm.name import ModelName
from localllm.store.adopt_layouts import Adoptable
from localllm.store.sources.hub_files import HubFile, choose


class Here:
    """What the finders of `adopt` see, looked at when first asked."""

    def __init__(self) -> None:
        self._found: list[Adoptable] | None = None

    def by_digest(self, sha256: str, size_bytes: int | None) -> Path | None:
        """A file that its program says has this digest. Its bytes have not been read."""
        for item in self._items():
            for file in item.files:
                if file.digest == f"sha256:{sha256}" and size_bytes in (None, file.size_bytes):
                    return file.path
        return None

    def by_name(self, name: ModelName) -> Adoptable | None:
        """The model that `name` would mean at its source, as far as the files of it are here."""
        items = {item.name: item for item in self._items()}
        if str(name) in items or name.source not in ("hf", "ms"):
            return items.get(str(name))
        prefix = f"{name.source}:{name.repo}:"
        paths = {text.removeprefix(prefix): item for text, item in items.items() if text.startswith(prefix)}
        try:
            chosen = choose([HubFile(path) for path in paths], name)
        except (ModelNotFoundError, DownloadError):
            return None
        return paths[chosen.files[0].path]

    def _items(self) -> list[Adoptable]:
        if self._found is None:
            from localllm.store.adopt import find_adoptable

            self._found = find_adoptable()
        return self._found
