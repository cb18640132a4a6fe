"""What names a model's weights, whatever they are called: the digests of their bytes where these are known."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path

from localllm.store.manifest import Manifest

# The digest of a file that is run where it lies and was never read whole.
UNKNOWN_DIGEST = "sha256:" + "0" * 64

_SAMPLE_BYTES = 1 << 20


def weights_id(manifest: Manifest, paths: Sequence[Path]) -> str:
    """The identity of the weights in `paths`, fit for a file name.

    One digest is its own name, several are hashed. Files without one are known by their size, their time of change and
    the first and last MiB: what is quick to get. Raises OSError.
    """
    digests = [blob.digest for blob in manifest.blobs if blob.role == "model"]
    if UNKNOWN_DIGEST in digests:
        return f"seen-{_hash_samples(paths)}"
    if len(digests) > 1:
        return "sha256-" + hashlib.sha256("\n".join(digests).encode()).hexdigest()
    return digests[0].replace(":", "-")


def is_hashed(manifest: Manifest) -> bool:
    """Whether the digests of a model's files are known, so that its identity takes no look at them."""
    return all(blob.digest != UNKNOWN_DIGEST for blob in manifest.blobs)


def _hash_samples(paths: Sequence[Path]) -> str:
    seen = hashlib.sha256()
    for path in paths:
        with path.open("rb") as file:
            stat = os.fstat(file.fileno())
            seen.update(f"{stat.st_size} {stat.st_mtime_ns}\n".encode() + file.read(_SAMPLE_BYTES))
            file.seek(max(0, stat.st_size - _SAMPLE_BYTES))
            seen.update(file.read(_SAMPLE_BYTES))
    return seen.hexdigest()
