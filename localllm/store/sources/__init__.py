"""Where models come from: one module a source, each with `resolve(name, context) -> Resolved`.

A source says which files make up a model and where they are; it writes nothing into the store.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, cast

if TYPE_CHECKING:
    from localllm.name import ModelName
    from localllm.store.sources.remote import Context, Resolved

# ModelName.source: module. Imported when used: most need what an installed model does not.
_MODULES = {
    "hf": "huggingface",
    "ms": "modelscope",
    "ollama": "ollama",
    "pypi": "pypi",
    "url": "url",
    "file": "file",
}
# Sources that may be asked under --offline, because they use no network.
LOCAL = frozenset({"file"})


def resolve(name: ModelName, context: Context) -> Resolved:
    """Ask the source of `name` for its files. Raises DownloadError, ModelNotFoundError and their kin."""
    module = importlib.import_module(f"{__name__}.{_MODULES[name.source]}")
    return cast("Resolved", module.resolve(name, context))
