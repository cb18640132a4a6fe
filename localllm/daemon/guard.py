"""Guard: who may ask. Host, Origin and key of every request, before its body is read. Reads headers, nothing else.

Host: a web page can make a browser send requests to this machine under a name of its own (DNS rebinding); so names
are a fixed list. Origin: pages of other sites may not ask at all, unless configured. Keys: where there are any,
every route but /health wants one.
"""

from __future__ import annotations

import ipaddress
import re
import socket
import time
from collections.abc import Callable, Iterable, Mapping
from typing import Any

import msgspec

from localllm.daemon.errors import HttpError
from localllm.daemon.keys import KeyRing

LOOPBACK_HOSTS = frozenset({"localhost", "127.0.0.1", "::1"})
PUBLIC_PATHS = frozenset({"/health"})
_HOST = re.compile(r"(?:\[(?P<ip6>[0-9A-Fa-f:.]+)\]|(?P<name>[A-Za-z0-9._-]+))(?::\d{1,5})?")
_ORIGIN = re.compile(r"https?://(?P<host>[^/?#@\s]+)")
_MAX_PEERS = 4096
_HOST_HINT = "`serve --allow-host` adds one"
_ORIGIN_HINT = "`serve --cors` adds one"
Headers = Mapping[bytes, bytes]


class Caller(msgspec.Struct, frozen=True):
    """Who asks: the name of the key shown ("" without keys), the peer's address, and what the key is for.

    `is_batch`: a batch of theirs does, and nobody waits.
    """

    key: str
    peer: str
    may_manage: bool = True
    is_batch: bool = False

    @property
    def client(self) -> str:
        """What requests are shared out by: the key, else the address."""
        return self.key or self.peer


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach a server bound to `host`."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


class Guard:
    """Lets requests in or raises HttpError. `bound` is the host that is listened on, None for a unix socket.

    `hosts` are further names under which this machine is reached; `origins` are pages' origins that may ask ("*": all).
    """

    def __init__(
        self,
        bound: str | None,
        *,
        hosts: Iterable[str] = (),
        origins: Iterable[str] = (),
        keys: KeyRing | None = None,
        num_bad_keys: int = 20,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._hosts = {*LOOPBACK_HOSTS, *(host.lower() for host in hosts)}
        # No name can be rebound to an address written out, so any address will do where others may connect.
        self._any_address = bound is not None and not is_loopback(bound)
        if bound is not None:
            self._hosts.add(bound.lower())
        if self._any_address:
            self._hosts.add(socket.gethostname().lower())
        self._origins = frozenset(origin.lower().rstrip("/") for origin in origins)
        self._keys = keys
        self._num_bad_keys = num_bad_keys
        self._clock = clock
        self._bad: dict[str, tuple[float, int]] = {}

    def check_page(self, scope: Mapping[str, Any]) -> tuple[tuple[bytes, bytes], ...]:
        """The headers that the asking page needs in its answer. Raises HttpError 403 for a wrong Host or Origin."""
        headers: Headers = dict(scope["headers"])
        host = headers.get(b"host", b"").decode("latin-1")
        if not self._is_ours(host):
            raise HttpError(403, "host_not_allowed", "this host name is not served", hint=_HOST_HINT)
        origin = headers.get(b"origin")
        return self._check_origin(None if origin is None else origin.decode("latin-1"), host, headers)

    def identify(self, scope: Mapping[str, Any]) -> Caller:
        """Who asks. Raises HttpError 401 without a good key where one is needed, 429 after too many wrong ones."""
        client = scope.get("client")
        peer = client[0] if client else "local"
        if self._keys is None or scope["path"] in PUBLIC_PATHS:
            return Caller("", peer)
        name = self._check_key(self._keys, scope["headers"], peer)
        return Caller(name, peer, self._keys.may_manage(name))

    def preflight(self, scope: Mapping[str, Any]) -> tuple[tuple[bytes, bytes], ...] | None:
        """The headers that answer a page's question beforehand; None where the request is none. Raises HttpError.

        Such questions come without a key.
        """
        headers: Headers = dict(scope["headers"])
        if scope["method"] != "OPTIONS" or b"origin" not in headers or b"access-control-request-method" not in headers:
            return None
        host = headers.get(b"host", b"").decode("latin-1")
        cors = self._check_origin(headers[b"origin"].decode("latin-1"), host, headers) if self._is_ours(host) else ()
        if not cors:
            raise HttpError(403, "origin_not_allowed", "pages of this origin may not ask", hint=_ORIGIN_HINT)
        answer = [*cors, (b"access-control-allow-methods", b"GET, POST, DELETE"), (b"access-control-max-age", b"600")]
        if wanted := headers.get(b"access-control-request-headers"):
            answer.append((b"access-control-allow-headers", wanted))
        if b"access-control-request-private-network" in headers:
            answer.append((b"access-control-allow-private-network", b"true"))
        return tuple(answer)

    def _is_ours(self, host: str) -> bool:
        parts = _HOST.fullmatch(host)
        if parts is None:
            return False
        name = (parts["ip6"] or parts["name"]).lower()
        if name in self._hosts:
            return True
        if not self._any_address:
            return False
        try:
            ipaddress.ip_address(name)
        except ValueError:
            return False
        return True

    def _check_origin(self, origin: str | None, host: str, headers: Headers) -> tuple[tuple[bytes, bytes], ...]:
        if origin is None:
            # Images, scripts and forms of other sites come without Origin, but not without this.
            if headers.get(b"sec-fetch-site") in (b"cross-site", b"same-site"):
                raise HttpError(403, "origin_not_allowed", "pages of other sites may not ask")
            return ()
        lowered = origin.lower()
        if lowered in self._origins or "*" in self._origins:
            return ((b"access-control-allow-origin", origin.encode("latin-1")), (b"vary", b"Origin"))
        parts = _ORIGIN.fullmatch(lowered)
        if parts is not None:
            of_page = _HOST.fullmatch(parts["host"])
            name = of_page and (of_page["ip6"] or of_page["name"])
            if parts["host"] == host.lower() or name in LOOPBACK_HOSTS:
                return ()
        raise HttpError(403, "origin_not_allowed", "pages of this origin may not ask", hint=_ORIGIN_HINT)

    def _check_key(self, keys: KeyRing, fields: list[tuple[bytes, bytes]], peer: str) -> str:
        shown = _shown_keys(fields)
        if len(shown) == 1 and (name := keys.name_of(shown[0])) is not None:
            return name
        message = "more than one key was shown" if shown else "a key is needed"
        if len(shown) == 1:
            self._count_bad(peer)
            message = "this key is not known"
        raise HttpError(
            401,
            "invalid_api_key",
            message,
            hint="send it as `Authorization: Bearer KEY`",
            headers=(("www-authenticate", "Bearer"),),
        )

    def _count_bad(self, peer: str) -> None:
        """Slow down who guesses; whoever shows a good key is never counted."""
        now = self._clock()
        since, count = self._bad.get(peer, (now, 0))
        if now - since > 60.0:
            since, count = now, 0
        if peer not in self._bad and len(self._bad) >= _MAX_PEERS:
            self._bad.pop(next(iter(self._bad)))
        self._bad[peer] = (since, count + 1)
        if count >= self._num_bad_keys:
            raise HttpError(429, "too_many_bad_keys", "too many wrong keys", retry_after_s=max(1.0, since + 60.0 - now))


def _shown_keys(fields: list[tuple[bytes, bytes]]) -> list[bytes]:
    """The keys in a request's headers; the same one under two names counts once, two Authorization headers do not."""
    bearers = [value for name, value in fields if name == b"authorization"]
    shown = [_bearer(value) for value in bearers]
    for name, value in fields:
        if name in (b"x-api-key", b"api-key") and value.strip() not in shown:
            shown.append(value.strip())
    return shown


def _bearer(value: bytes) -> bytes:
    scheme, _, key = value.partition(b" ")
    return key.strip() if scheme.lower() == b"bearer" else value
