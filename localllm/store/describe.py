"""From files and their origin to a Manifest: what the GGUF itself says fills in what the caller does not know."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import msgspec

from localllm.store.gguf import gguf_summary, read_gguf
from localllm.store.manifest import Blob, Manifest, utc_now


def describe(name: str, origin: str, blobs: Sequence[Blob], paths: Sequence[Path], **known: Any) -> Manifest:
    """The manifest of a model whose `blobs` lie at `paths` (same order). `known` fields win over the file's own.

    Reads headers only. Raises GGUFError for a file llama.cpp must not see.
    """
    weights = [path for blob, path in zip(blobs, paths, strict=True) if blob.role == "model"]
    extras = [path for blob, path in zip(blobs, paths, strict=True) if blob.role == "mmproj"]
    summary = gguf_summary(*weights)
    for path in extras:
        read_gguf(path)
    capabilities = summary.capabilities + (("vision",) if extras else ())
    found = Manifest(
        name=name,
        origin=origin,
        blobs=tuple(blobs),
        created=utc_now(),
        licence=summary.licence,
        architecture=summary.architecture,
        num_params=summary.num_params,
        quant=summary.quant,
        num_ctx_train=summary.num_ctx_train,
        capabilities=capabilities,
    )
    return msgspec.structs.replace(found, **{key: value for key, value in known.items() if value is not None})
