"""Manifest text, and the two places where text becomes a path: digests and model names."""

from __future__ import annotations

import random
import string
from pathlib import Path

import msgspec
import pytest

from localllm.api import SamplingParams
from localllm.errors import CorruptModelError, StoreError
from localllm.store.manifest import (
    Blob,
    Manifest,
    check_digest,
    decode_manifest,
    digest_stem,
    encode_manifest,
    manifest_stem,
)
from localllm.store.store import ModelStore

HEX = "0123456789abcdef" * 4
GOOD = f"sha256:{HEX}"
MANIFEST = Manifest(
    name="qwen3:0.6b",
    origin="hf:a/b/c.gguf@main",
    blobs=(Blob(GOOD, 5, "c.gguf"), Blob(GOOD, 5, "mmproj.gguf", "mmproj")),
    created="2026-01-01T00:00:00+00:00",
    capabilities=("chat", "tools"),
    sampling=SamplingParams(temperature=0.6, stop=("a",)),
    num_ctx=4096,
    system="Be brief.",
)


def test_round_trip() -> None:
    data = encode_manifest(MANIFEST)
    assert decode_manifest(data, "x") == MANIFEST
    assert b'"schema": 1' in data


def test_a_field_of_a_later_version_is_ignored() -> None:
    body = msgspec.json.decode(encode_manifest(MANIFEST))
    body["colour"] = "green"
    assert decode_manifest(msgspec.json.encode(body), "x") == MANIFEST


def test_a_later_schema_is_refused_by_name() -> None:
    body = msgspec.json.decode(encode_manifest(MANIFEST))
    body["schema"] = 2
    with pytest.raises(StoreError, match="newer localllm"):
        decode_manifest(msgspec.json.encode(body), "x")


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b"null", b'{"name": 3}', b"[" * 100_000])
def test_what_does_not_read_is_corrupt(data: bytes) -> None:
    with pytest.raises(CorruptModelError):
        decode_manifest(data, "x")


@pytest.mark.parametrize(
    "change",
    [
        {"name": ""},
        {"blobs": []},
        {"blobs": [{"digest": "sha256:../../x", "size_bytes": 1, "filename": "f"}]},
        {"blobs": [{"digest": GOOD, "size_bytes": -1, "filename": "f"}]},
        {"blobs": [{"digest": GOOD, "size_bytes": 1, "filename": "f", "role": "mmproj"}]},
    ],
)
def test_a_manifest_no_store_may_hold_is_refused(change: dict[str, object]) -> None:
    body = msgspec.json.decode(encode_manifest(MANIFEST)) | change
    with pytest.raises(StoreError):
        decode_manifest(msgspec.json.encode(body), "x")


@pytest.mark.parametrize(
    "digest",
    [
        "sha256:../../x",
        "sha256:" + "a" * 63,
        "sha256:" + "a" * 65,
        "sha256:" + "A" * 64,
        "sha256:" + "a" * 63 + "\0",
        "sha256:" + "a" * 64 + "\n",
        "sha256:" + "a" * 63 + "١",
        "sha256:" + "a" * 63 + "ａ",
        "sha256-" + "a" * 64,
        "SHA256:" + "a" * 64,
        "md5:" + "a" * 64,
        "a" * 64,
        "",
        " sha256:" + "a" * 64,
        "sha256:" + "/" * 64,
        "sha256:" + "..%2f" * 12 + "aaaa",
    ],
)
def test_a_bad_digest_reaches_no_path(digest: str, tmp_path: Path) -> None:
    store = ModelStore(tmp_path / "store")
    with pytest.raises(StoreError):
        digest_stem(digest)
    with pytest.raises(StoreError):
        store.has_blob(digest, 1)
    with pytest.raises(StoreError):
        store.ingest(tmp_path / "x", digest=digest)


def test_digests_at_random() -> None:
    rng = random.Random(39)
    for _ in range(2000):
        text = "".join(rng.choice("0123456789abcdefABg/.\\:\0%é") for _ in range(rng.choice((63, 64, 65))))
        good = len(text) == 64 and all(c in "0123456789abcdef" for c in text)
        if good:
            assert check_digest(f"sha256:{text}")
        else:
            with pytest.raises(StoreError):
                check_digest(f"sha256:{text}")


NAMES = [
    "../a",
    "a/../../b",
    "C:\\x",
    "C:",
    "CON",
    "con",
    "nul.txt",
    "aux:latest",
    "com1",
    "lpt9.gguf",
    "x" * 300,
    "x" * 299 + "y",
    ".",
    "..",
    "-rf",
    "a.",
    "a ",
    " a",
    "a\0b",
    "a\nb",
    "hf:Owner/Repo:File.gguf@main",
    "hf:owner/repo:file.gguf@main",
    "%2e%2e",
    "é",
    "é",
    "ß",
    "ẞ",
    "ſ",
    "s",
    "K",  # Kelvin sign, which some file systems fold to k
    "k",
    "\ud800",
    "a~b",
    "~" * 100,
]


def test_names_stay_inside_and_never_meet(tmp_path: Path) -> None:
    rng = random.Random(41)
    alphabet = string.ascii_letters + string.digits + "._-/\\:@%~ \0\n*?<>|\"'éßſK" + "\U0001f600"
    names = NAMES + ["".join(rng.choice(alphabet) for _ in range(rng.randint(1, 200))) for _ in range(3000)]
    seen: dict[str, str] = {}
    for name in dict.fromkeys(names):
        stem = manifest_stem(name)
        path = tmp_path / f"{stem}.json"
        assert path.resolve().parent == tmp_path.resolve()
        assert stem.isascii()
        assert stem == stem.casefold()
        assert len(stem) <= 120
        assert stem[0] not in ".-"
        assert stem[-1] not in ".- "
        assert not set(stem) & set('<>:"/\\|?* \0')
        assert stem.split(".")[0] not in {"con", "prn", "aux", "nul", "com1", "lpt9"}
        assert seen.setdefault(stem, name) == name


def test_an_empty_name_is_refused() -> None:
    with pytest.raises(StoreError):
        manifest_stem("")


def test_readable_names_stay_readable() -> None:
    assert manifest_stem("smollm2") == "smollm2"
    assert manifest_stem("qwen3:0.6b-q4_k_m") == "qwen3%3a0.6b-q4_k_m"
