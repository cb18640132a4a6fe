"""Says what a file is that is not GGUF, from its first bytes. Looks, and opens nothing."""

from __future__ import annotations

_MAGICS: tuple[tuple[bytes, str], ...] = (
    (b"PK\x03\x04", "a zip archive (perhaps a PyTorch checkpoint, whose pickle could run code; it was not opened)"),
    (b"PK\x05\x06", "an empty zip archive"),
    (b"\x1f\x8b", "a gzip archive"),
    (b"\xfd7zXZ", "an xz archive"),
    (b"7z\xbc\xaf", "a 7z archive"),
    (b"\x28\xb5\x2f\xfd", "a zstd archive"),
    (b"version https://git-lfs", "a Git LFS pointer (the model itself was never fetched)"),
    (b"\x89HDF", "an HDF5 file"),
    (b"\x7fELF", "a program"),
    (b"MZ", "a program"),
    (b"FUGG", "a byte-swapped GGUF"),
    (b"lmgg", "an old GGML file from before GGUF"),
    (b"tjgg", "an old GGML file from before GGUF"),
    (b"fmgg", "an old GGML file from before GGUF"),
    (b"algg", "an old GGML adapter from before GGUF"),
)


def describe_other_format(head: bytes, size_bytes: int) -> str:
    """What a file is, as the end of "it is ...", from its first kilobyte (at least 4 bytes) and its size."""
    for magic, what in _MAGICS:
        if head.startswith(magic):
            return what
    if head[0] == 0x80 and 2 <= head[1] <= 5:
        return "a Python pickle (which could run code; it was not opened)"
    if _is_safetensors(head, size_bytes):
        return "a safetensors file"
    text = head.lstrip().lower()
    if text.startswith((b"<!doctype", b"<html", b"<?xml", b"<head", b"<body")):
        return "a web page (a login or error page, perhaps, that was saved in its place)"
    if text.startswith((b"{", b"[")):
        return "JSON text (an error message, perhaps, that was saved in its place)"
    if not head.strip(b"\0"):
        return "zero bytes (an unfinished download, perhaps)"
    if head[:1] in b"c(]}" and b"\n" in head[:64] and b"torch" in head:
        return "a Python pickle (which could run code; it was not opened)"
    return f"of an unknown format (it starts with {head[:4]!r})"


def _is_safetensors(head: bytes, size_bytes: int) -> bool:
    length = int.from_bytes(head[:8], "little")
    return len(head) > 8 and 2 <= length <= size_bytes - 8 and head[8:9] == b"{"
