"""pull: bring a model into the store from the first source that delivers the right bytes.

Owns what a name means to a pull, whether there is anything to do, and that two pulls of one model do not meet. The work
is `pull_job`'s; it is imported when there is some, so that an installed model never waits for an HTTP library.
"""

from __future__ import annotations

import datetime
import logging
import threading
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from localllm.api import Progress
from localllm.errors import CorruptModelError, ModelNotFoundError
from localllm.name import ModelName
from localllm.store.manifest import Manifest
from localllm.store.pull_settings import PullSettings
from localllm.store.store import ModelStore

if TYPE_CHECKING:
    from localllm.catalog import Catalog, Variant

__all__ = ["PullSettings", "pull"]

log = logging.getLogger(__name__)


def pull(
    name: ModelName,
    store: ModelStore,
    *,
    settings: PullSettings,
    catalog: Catalog | None = None,
    on_progress: Callable[[Progress], None] | None = None,
    cancelled: threading.Event | None = None,
    update: bool = False,
) -> Manifest:
    """The manifest of a model that is in the store when this returns.

    A model that is here and whole is returned without asking anybody; `update` asks its source again. `on_progress` is
    called in this thread. Once `cancelled` is set it raises concurrent.futures.CancelledError; what arrived is kept for
    the next pull. Raises DownloadError with the fact `tried` (and its kin), ModelNotFoundError, GGUFError, StoreError.
    """
    name = name.absolute()
    variant = _variant(name, store, catalog) if name.source == "catalog" else None
    if isinstance(variant, Manifest):
        return variant
    key = variant.name if variant is not None else str(name)
    if not update and (present := _installed(store, key, name)) is not None:
        return present
    from localllm.store.pull_job import PullJob

    stop = cancelled or threading.Event()
    job = PullJob(key, store, settings, variant=variant, report=on_progress or _ignore, cancelled=stop)
    with store.partial(f"model {key}", on_wait=job.wait):
        if not update and (present := _installed(store, key, name)) is not None:
            return present  # another process has pulled it while this one waited
        sources = [ModelName.parse(text) for text in variant.sources] if variant is not None else [name]
        return job.run(sources)


def _ignore(progress: Progress) -> None:
    del progress


def _variant(name: ModelName, store: ModelStore, catalog: Catalog | None) -> Variant | Manifest:
    """The catalogue's entry; or the installed model of a name that only this store knows (`localllm cp`)."""
    if catalog is None:
        from localllm.catalog import Catalog

        catalog = Catalog.load()
    variant = catalog.find(str(name))
    if variant is not None:
        return variant
    present = _installed(store, str(name), name)
    if present is not None:
        return present
    near = catalog.suggest(str(name))
    hint = (
        f"did you mean {', '.join(near)}?" if near else "`localllm search` lists what there is; hf:owner/repo works too"
    )
    raise ModelNotFoundError(f"no model {name} in the catalogue", hint=hint, name=str(name))


def _installed(store: ModelStore, key: str, name: ModelName) -> Manifest | None:
    """The model when it is here and whole. One with damaged bytes is none: it is pulled again, which mends it."""
    try:
        manifest = store.get(key)
    except (ModelNotFoundError, CorruptModelError):
        return None
    if name.source == "file" and _is_newer(Path(name.repo), manifest):
        return None
    damaged = [blob for blob in manifest.blobs if not store.has_blob(blob.digest, blob.size_bytes)]
    for blob in damaged:
        log.warning("%s: %s is damaged or gone; it is fetched again", key, blob.filename)
    return None if damaged else manifest


def _is_newer(path: Path, manifest: Manifest) -> bool:
    """True when the file a model was made of has been written since."""
    try:
        found = path.stat()
        created = datetime.datetime.fromisoformat(manifest.created).timestamp()
    except (OSError, ValueError):
        return False
    sizes = {blob.size_bytes for blob in manifest.blobs if blob.filename == path.name}
    return found.st_size not in sizes or found.st_mtime > created
