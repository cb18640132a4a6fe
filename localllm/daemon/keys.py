"""Keys that clients show: read from a file, kept as hashes, compared in constant time. Knows no HTTP."""

from __future__ import annotations

import hashlib
import hmac
import os
import re
import stat
from collections.abc import Collection
from pathlib import Path

from localllm.errors import ConfigError

MIN_KEY_CHARS = 16
MAX_KEY_BYTES = 512
# The name of the key that a daemon makes for the commands of the user who runs it.
OWNER = "localllm"
_LINE = re.compile(r"(?:(?P<name>[\w.-]{1,64})\s*=\s*)?(?P<key>\S+)(?:\s+(?P<scope>infer))?")
_HASH = re.compile(r"sha256:([0-9a-f]{64})")


class KeyRing:
    """The keys that are let in, as SHA-256 hashes by name."""

    def __init__(self, digests: dict[str, bytes], infer_only: Collection[str] = ()) -> None:
        self._digests = digests
        self._infer_only = frozenset(infer_only)

    def with_key(self, name: str, key: str) -> KeyRing:
        """These keys and one more."""
        return KeyRing({**self._digests, name: hashlib.sha256(key.encode()).digest()}, self._infer_only)

    def may_manage(self, name: str) -> bool:
        """Whether a key of that name may also load, pull and change models."""
        return name not in self._infer_only

    def name_of(self, key: bytes) -> str | None:
        """The name of the key, None for one that is not known. Takes the same time whichever it is."""
        digest = hashlib.sha256(key[:MAX_KEY_BYTES]).digest()
        found = None
        for name, known in self._digests.items():
            if hmac.compare_digest(digest, known):
                found = name
        return found if len(key) <= MAX_KEY_BYTES else None


def read_keys(path: Path) -> KeyRing:
    """Read a key file: one `KEY` or `NAME = KEY` a line, KEY plain or `sha256:` and its hash in hex; `#` comments.

    `infer` behind a key bounds it to asking models: it may not load, pull or change any.

    Raises ConfigError where it cannot be read, has no key, a short one, or plain ones that other users could read.
    """
    try:
        text = path.read_text(encoding="utf-8")
        mode = path.stat().st_mode
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"key file {path} cannot be read: {exc}") from exc
    digests: dict[str, bytes] = {}
    infer_only = set()
    has_plain = False
    for number, line in enumerate(text.splitlines(), 1):
        if not line.strip() or line.lstrip().startswith("#"):
            continue
        parts = _LINE.fullmatch(line.strip())
        if parts is None:
            raise ConfigError(f"{path}:{number}: not `KEY` or `NAME = KEY`, with or without `infer` behind it")
        name = parts["name"] or f"key{number}"
        if name == OWNER:
            raise ConfigError(f"{path}:{number}: the name {OWNER} is the daemon's own")
        if name in digests:
            raise ConfigError(f"{path}:{number}: a second key named {name}")
        if parts["scope"]:
            infer_only.add(name)
        if hashed := _HASH.fullmatch(parts["key"]):
            digests[name] = bytes.fromhex(hashed[1])
            continue
        if len(parts["key"]) < MIN_KEY_CHARS:
            raise ConfigError(f"{path}:{number}: a key of fewer than {MIN_KEY_CHARS} characters")
        has_plain = True
        digests[name] = hashlib.sha256(parts["key"].encode()).digest()
    if not digests:
        raise ConfigError(f"key file {path} has no key", hint="one KEY or NAME = KEY a line")
    if has_plain and os.name == "posix" and mode & (stat.S_IRWXG | stat.S_IRWXO):
        raise ConfigError(f"key file {path} can be read by others", hint=f"chmod 600 {path}, or keep hashes in it")
    return KeyRing(digests, infer_only)
