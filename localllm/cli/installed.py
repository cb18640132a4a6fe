"""Which installed model a typed name means. Reads the store at most; fetches nothing."""

from __future__ import annotations

from collections.abc import Collection
from typing import TYPE_CHECKING

from localllm.errors import ModelNameError

if TYPE_CHECKING:
    from localllm.store.manifest import Manifest
    from localllm.store.store import ModelStore


def find_installed(store: ModelStore, typed: str) -> Manifest:
    """The model of that name, or the only one that a name without its tag can mean.

    Raises ModelNotFoundError with names near to it, ModelNameError where several would do.
    """
    names = [manifest.name for manifest in store.list()]
    return store.get(matching(names, typed) or canonical(typed))


def matching(names: Collection[str], typed: str) -> str | None:
    """Which of `names` is meant by `typed`; None where none is, ModelNameError where several could be."""
    name = canonical(typed)
    for candidate in (typed, name):
        if candidate in names:
            return candidate
    if ":" in name:
        return None
    if (default := _default_tag(name)) in names:
        return default
    tagged = sorted(other for other in names if other.startswith(f"{name}:"))
    if len(tagged) > 1:
        raise ModelNameError(f"{name} can mean several models", hint="one of " + ", ".join(tagged), name=name)
    return tagged[0] if tagged else None


def canonical(typed: str) -> str:
    """A typed name as the store spells it."""
    from localllm.name import ModelName

    return str(ModelName.parse(typed).absolute())


def _default_tag(name: str) -> str | None:
    """What the catalogue takes a name without a tag for."""
    from localllm.catalog import Catalog

    variant = Catalog.load().find(name)
    return variant.name if variant is not None else None
