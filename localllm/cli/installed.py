"""Which installed model a typed name means. Reads the store at most; fetches nothing."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from localllm.store.manifest import Manifest
    from localllm.store.store import ModelStore


def find_installed(store: ModelStore, typed: str) -> Manifest:
    """The model of that name. Raises ModelNotFoundError with names near to it."""
    names = [manifest.name for manifest in store.list()]
    return store.get(matching(names, typed) or spellings(typed)[-1])


def matching(names: Collection[str], typed: str) -> str | None:
    """Which of `names` is meant by `typed`; None where none is."""
    return next((name for name in spellings(typed) if name in names), None)


def spellings(typed: str) -> list[str]:
    """Names a model called `typed` can have in the store: as typed, in canonical form, as the catalogue says."""
    from localllm.catalog import Catalog
    from localllm.name import ModelName

    name = ModelName.parse(typed)
    found = [typed, str(name), str(name.absolute())]
    if name.source == "catalog" and (variant := Catalog.load().find(str(name))) is not None:
        found.append(variant.name)
    return found
