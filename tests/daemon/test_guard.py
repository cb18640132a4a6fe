"""Who may ask: names of this machine, origins of pages, keys."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from localllm.daemon.errors import HttpError
from localllm.daemon.guard import Guard, is_loopback
from localllm.daemon.keys import KeyRing, read_keys
from localllm.errors import ConfigError

KEY = b"a-key-of-some-length"
RING = KeyRing({"me": hashlib.sha256(KEY).digest(), "you": hashlib.sha256(b"another-long-key").digest()})
Header = tuple[bytes, bytes]


def scope(*headers: Header, path: str = "/v1/models", method: str = "GET", host: bytes = b"localhost") -> Any:
    return {"method": method, "path": path, "headers": [(b"host", host), *headers], "client": ("127.0.0.1", 5)}


def status_of(guard: Guard, *headers: Header, **how: Any) -> int:
    try:
        guard.check_page(scope(*headers, **how))
        guard.identify(scope(*headers, **how))
    except HttpError as error:
        return error.status
    return 200


@pytest.mark.parametrize("host", ["localhost", "LOCALHOST:11435", "127.0.0.1", "127.0.0.1:1", "[::1]:80"])
def test_names_of_this_machine(host: str) -> None:
    assert status_of(Guard("127.0.0.1"), host=host.encode()) == 200


@pytest.mark.parametrize(
    "host",
    [
        "evil.example",
        "evil.example:11435",
        "localhost.",
        "localhost.evil.com",
        "127.0.0.1.evil.com",
        "127.0.0.1@evil.com",
        "192.168.1.5",
        "",
        "localhost:99999x",
        "[::1",
        "0",
    ],
)
def test_other_names_are_refused(host: str) -> None:
    """T01: a page whose name was made to point here (DNS rebinding) shows its own name."""
    assert status_of(Guard("127.0.0.1"), host=host.encode()) == 403


def test_beyond_loopback_addresses_will_do_but_names_are_listed() -> None:
    guard = Guard("0.0.0.0", hosts=["box.lan"])
    assert status_of(guard, host=b"192.168.1.5:11435") == 200
    assert status_of(guard, host=b"box.lan") == 200
    assert status_of(guard, host=b"evil.example") == 403


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://evil.com", 403),
        ("null", 403),
        ("http://localhost.evil.com", 403),
        ("http://localhost@evil.com", 403),
        ("file://", 403),
        ("chrome-extension://abc", 403),
        ("http://localhost:3000", 200),
        ("http://[::1]:3000", 200),
        ("https://127.0.0.1", 200),
    ],
)
def test_origins(origin: str, status: int) -> None:
    """T02."""
    assert status_of(Guard("127.0.0.1"), (b"origin", origin.encode())) == status


def test_pages_of_other_sites_are_refused_without_an_origin_too() -> None:
    assert status_of(Guard("127.0.0.1"), (b"sec-fetch-site", b"cross-site")) == 403
    assert status_of(Guard("127.0.0.1"), (b"sec-fetch-site", b"same-origin")) == 200


def test_configured_origins_get_headers_and_others_none() -> None:
    guard = Guard("127.0.0.1", origins=["https://app.example/"])
    allowed = dict(guard.check_page(scope((b"origin", b"https://app.example"))))
    assert allowed[b"access-control-allow-origin"] == b"https://app.example"
    assert guard.check_page(scope((b"origin", b"http://localhost:3000"))) == ()


def preflight(guard: Guard, origin: bytes, *more: Header) -> dict[bytes, bytes]:
    asked = scope((b"origin", origin), (b"access-control-request-method", b"POST"), *more, method="OPTIONS")
    answer = guard.preflight(asked)
    assert answer is not None
    return dict(answer)


def test_a_page_asks_beforehand() -> None:
    """T03: no word about private networks to strangers."""
    guard = Guard("127.0.0.1", origins=["https://app.example"], keys=RING)
    private = (b"access-control-request-private-network", b"true")
    with pytest.raises(HttpError) as refused:
        preflight(guard, b"http://evil.com", private)
    assert refused.value.status == 403
    with pytest.raises(HttpError):
        preflight(guard, b"http://localhost:3000", private)
    answer = preflight(guard, b"https://app.example", private)
    assert answer[b"access-control-allow-private-network"] == b"true"
    assert answer[b"access-control-allow-origin"] == b"https://app.example"
    assert guard.preflight(scope(method="OPTIONS")) is None


BEARER = (b"authorization", b"Bearer " + KEY)


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ([], 401),
        ([BEARER], 200),
        ([(b"authorization", b"bearer  " + KEY)], 200),
        ([(b"x-api-key", KEY)], 200),
        ([BEARER, (b"x-api-key", KEY)], 200),
        ([BEARER, (b"x-api-key", b"another-long-key")], 401),
        ([BEARER, BEARER], 401),
        ([(b"authorization", b"Basic " + KEY)], 401),
        ([(b"authorization", KEY)], 200),
        ([(b"authorization", b"Bearer " + KEY[:-1])], 401),
        ([(b"authorization", b"Bearer " + KEY + b"x")], 401),
        ([(b"authorization", b"Bearer " + KEY * 100_000)], 401),
        ([(b"authorization", b"Bearer \xff\x00\xfe")], 401),
        ([(b"authorization", b"Bearer ' OR 1=1--")], 401),
    ],
)
def test_keys(headers: Sequence[Header], status: int) -> None:
    """T07."""
    assert status_of(Guard("127.0.0.1", keys=RING), *headers) == status


@pytest.mark.parametrize("path", ["/v1/models", "//health", "/Health", "/health/", "/health/../v1/models", "/metrics"])
def test_only_health_is_public(path: str) -> None:
    """T05."""
    guard = Guard("127.0.0.1", keys=RING)
    assert status_of(guard, path="/health") == 200
    assert status_of(guard, path=path) == 401


def test_whoever_guesses_is_slowed_down_but_a_good_key_is_not() -> None:
    """T09."""
    now = [0.0]
    guard = Guard("127.0.0.1", keys=RING, num_bad_keys=20, clock=lambda: now[0])
    wrong = (b"authorization", b"Bearer wrong")
    statuses = [status_of(guard, wrong) for _ in range(22)]
    assert statuses == [401] * 20 + [429] * 2
    assert status_of(guard, BEARER) == 200
    now[0] = 61.0
    assert status_of(guard, wrong) == 401


def test_names_of_keys() -> None:
    guard = Guard("127.0.0.1", keys=RING)
    assert guard.identify(scope(BEARER)).key == "me"
    assert guard.identify(scope(BEARER)).client == "me"
    assert Guard("127.0.0.1").identify(scope()).client == "127.0.0.1"


@pytest.mark.parametrize(
    ("host", "expected"),
    [("127.0.0.1", True), ("127.8.8.8", True), ("::1", True), ("localhost", True), ("0.0.0.0", False), ("::", False)],
)
def test_is_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


def write(path: Path, text: str, mode: int = 0o600) -> Path:
    path.write_text(text)
    path.chmod(mode)
    return path


def test_key_file(tmp_path: Path) -> None:
    hashed = hashlib.sha256(b"hashed-key-material").hexdigest()
    file = write(tmp_path / "keys", f"# mine\nlong-enough-for-a-key\n\nbot = sha256:{hashed}\n")
    ring = read_keys(file)
    assert ring.name_of(b"long-enough-for-a-key") == "key2"
    assert ring.name_of(b"hashed-key-material") == "bot"
    assert ring.name_of(hashed.encode()) is None


@pytest.mark.parametrize(
    "text", ["", "# none\n", "short\n", "two words here now\n", "a = 0123456789abcdef\na = x" + "y" * 20]
)
def test_bad_key_files(tmp_path: Path, text: str) -> None:
    with pytest.raises(ConfigError):
        read_keys(write(tmp_path / "keys", text))


@pytest.mark.skipif(os.name != "posix", reason="modes of files")
def test_plain_keys_that_others_can_read_are_refused(tmp_path: Path) -> None:
    """T53."""
    with pytest.raises(ConfigError, match="read by others"):
        read_keys(write(tmp_path / "keys", "long-enough-for-a-key\n", 0o644))
    hashed = hashlib.sha256(KEY).hexdigest()
    assert read_keys(write(tmp_path / "hashes", f"sha256:{hashed}\n", 0o644)).name_of(KEY) == "key1"
