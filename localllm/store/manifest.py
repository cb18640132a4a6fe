"""What is known of one installed model, and its text and file name. Values only: no directory is touched.

A manifest is JSON; an unknown field from a later version is ignored, a later `schema` is refused by name.
"""

from __future__ import annotations

import datetime
import hashlib
import re
from typing import Any, Literal

import msgspec

from localllm.api import SamplingParams
from localllm.errors import CorruptModelError, StoreError

SCHEMA = 1
MAX_MANIFEST_BYTES = 4 << 20
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}\Z")
_PLAIN = frozenset("abcdefghijklmnopqrstuvwxyz0123456789._-")
_RESERVED = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\.|\Z)")
_MAX_STEM = 120


class Blob(msgspec.Struct, frozen=True):
    """One file of a model. `digest` is `sha256:<64 lower-case hex digits>`; `filename` is what its source called it."""

    digest: str
    size_bytes: int
    filename: str
    role: Literal["model", "mmproj"] = "model"


class Manifest(msgspec.Struct, frozen=True, omit_defaults=True):
    """One installed model. A split GGUF is several `model` blobs in order.

    `origin` says where the bytes came from, such as "hf:owner/repo/file@rev". `created` is ISO 8601, UTC.
    `sampling`, `num_ctx` and `system` are defaults for requests that name none.
    """

    name: str
    origin: str
    blobs: tuple[Blob, ...]
    created: str
    licence: str | None = None
    architecture: str | None = None
    num_params: int | None = None
    quant: str | None = None
    num_ctx_train: int | None = None
    capabilities: tuple[str, ...] = ()
    sampling: SamplingParams = SamplingParams()
    num_ctx: int | None = None
    system: str | None = None
    schema: int = SCHEMA

    @property
    def size_bytes(self) -> int:
        """Bytes of all blobs together."""
        return sum(blob.size_bytes for blob in self.blobs)


def utc_now() -> str:
    """The time now, as `Manifest.created` wants it."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def check_digest(digest: str) -> str:
    """`digest` itself when it is `sha256:` and 64 lower-case hex digits, else StoreError; every path passes here."""
    if not isinstance(digest, str) or not _DIGEST.match(digest):
        raise StoreError(f"{digest!r} is no digest", hint="a digest is sha256: and 64 lower-case hex digits")
    return digest


def digest_stem(digest: str) -> str:
    """The file name of a blob, `sha256-<hex>`."""
    return check_digest(digest).replace(":", "-")


def manifest_stem(name: str) -> str:
    """The file name (without `.json`) of the model called `name`: one to one, and safe on every file system.

    Upper case and everything outside a-z 0-9 . _ - is percent-encoded, so names that differ in case do not meet on a
    case-insensitive disk. Windows' device names and a dot or dash at an edge are encoded too; long ones end in a hash.
    """
    if not name:
        raise StoreError("a model needs a name")
    raw = name.encode("utf-8", "surrogatepass")
    parts = [chr(byte) if chr(byte) in _PLAIN else f"%{byte:02x}" for byte in raw]
    for edge in (0, -1):
        if parts[edge] in (".", "-"):
            parts[edge] = f"%{ord(parts[edge]):02x}"
    stem = "".join(parts)
    if _RESERVED.match(stem):
        stem = f"%{ord(stem[0]):02x}{stem[1:]}"
    if len(stem) > _MAX_STEM:
        stem = f"{stem[:80]}~{hashlib.sha256(raw).hexdigest()[:32]}"
    return stem


def encode_manifest(manifest: Manifest) -> bytes:
    """The bytes of a manifest file."""
    checked = msgspec.structs.replace(manifest, schema=SCHEMA)
    body: dict[str, Any] = {"schema": SCHEMA, **msgspec.to_builtins(checked)}
    try:
        return msgspec.json.format(msgspec.json.encode(body), indent=2) + b"\n"
    except UnicodeEncodeError as exc:
        hint = "rename the file it came from"
        raise StoreError(f"a name in the manifest of {manifest.name!a} is no UTF-8", hint=hint) from exc


def decode_manifest(data: bytes, what: str) -> Manifest:
    """The manifest in `data`, checked; `what` names the file in errors (CorruptModelError, StoreError)."""
    try:
        manifest = msgspec.json.decode(data, type=Manifest)
    except (msgspec.MsgspecError, UnicodeDecodeError) as exc:
        raise CorruptModelError(
            f"the manifest {what} does not read: {exc}", hint="pull the model again", name=what
        ) from exc
    if manifest.schema > SCHEMA:
        hint = "update localllm, or remove the model and pull it again"
        raise StoreError(f"the manifest {what} was written by a newer localllm (schema {manifest.schema})", hint=hint)
    check_manifest(manifest)
    return manifest


def check_manifest(manifest: Manifest) -> None:
    """Raise StoreError for a manifest no store may hold."""
    manifest_stem(manifest.name)
    if not any(blob.role == "model" for blob in manifest.blobs):
        raise StoreError(f"{manifest.name} names no weights", name=manifest.name)
    for blob in manifest.blobs:
        check_digest(blob.digest)
        if blob.size_bytes < 0:
            raise StoreError(f"{manifest.name} gives a blob of {blob.size_bytes} bytes", name=manifest.name)
