"""Which web addresses may be asked at all. Resolves names; opens no connection.

A model's address comes from a person, but a redirect from whoever answers, and a name from whoever owns it. So each hop
is looked at again, private addresses are refused unless a person allowed the host, and the connection is then made to
the very address that was looked at, so that a second look-up cannot answer differently.
"""

from __future__ import annotations

import ipaddress
import socket
from collections.abc import Callable
from typing import NamedTuple
from urllib.parse import urlsplit

from localllm.errors import DownloadError

Resolver = Callable[[str, int], list[str]]
_DEFAULT_PORTS = {"http": 80, "https": 443}
# Tunnelling proxies answer look-ups with addresses of this range (RFC 2544), which no real network uses.
_FAKE_IP = ipaddress.ip_network("198.18.0.0/15")
_NAT64 = ipaddress.ip_network("64:ff9b::/96")
_ALLOW_HINT = "LOCALLLM_ALLOW_HOSTS={} allows that host"


class Origin(NamedTuple):
    """Where a request goes, as far as secrets are concerned: they stay with their origin."""

    scheme: str
    host: str
    port: int


def origin_of(url: str) -> Origin:
    """Scheme, host and port of a web address; DownloadError for anything else."""
    try:
        parts = urlsplit(url)
        scheme, host, port = parts.scheme.lower(), (parts.hostname or "").lower(), parts.port
    except ValueError as exc:
        raise DownloadError(f"{url[:200]} is no web address: {exc}") from exc
    if scheme not in _DEFAULT_PORTS or not host or "@" in parts.netloc:
        raise DownloadError(f"{url[:200]} is no address models are fetched from", hint="only https:// is")
    return Origin(scheme, host, port or _DEFAULT_PORTS[scheme])


def is_loopback(host: str) -> bool:
    """True for this machine, written as an address or as localhost."""
    if host == "localhost" or host.endswith(".localhost"):
        return True
    found = _parse(host)
    return found is not None and found.is_loopback


def is_public(address: str) -> bool:
    """True for an address of the open internet."""
    found = _parse(address)
    if found is None:
        return False
    if isinstance(found, ipaddress.IPv6Address):
        inner = found.ipv4_mapped or found.sixtofour
        if inner is None and found in _NAT64:
            inner = ipaddress.IPv4Address(int(found) & 0xFFFFFFFF)
        if inner is not None:
            return is_public(str(inner))
        return found.is_global and not found.is_multicast
    return (found.is_global and not found.is_multicast) or found in _FAKE_IP


def resolve(host: str, port: int) -> list[str]:
    """The addresses of a host, in the system's order of preference. Raises OSError (socket.gaierror)."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    return list(dict.fromkeys(str(entry[4][0]) for entry in found))


def check_hop(origin: Origin, home: Origin, allowed: frozenset[str]) -> bool:
    """Refuse http:// where nobody asked for it; returns whether this host may lie at a private address.

    `home` is where the request started: one that started on this machine may stay on it.
    """
    trusted = origin.host in allowed or (is_loopback(origin.host) and is_loopback(home.host))
    if origin.scheme == "http" and not trusted:
        hint = f"use https://, or {_ALLOW_HINT.format(origin.host)}"
        raise DownloadError(f"http://{origin.host} is not encrypted", hint=hint, host=origin.host)
    if not trusted and is_loopback(origin.host):
        raise _private(origin.host, origin.host)
    if not trusted and _parse(origin.host) is not None and not is_public(origin.host):
        raise _private(origin.host, origin.host)
    return trusted


def addresses(origin: Origin, *, trusted: bool, resolver: Resolver = resolve) -> list[str]:
    """Up to two addresses of a host that may be connected to, of IPv4 and IPv6 where it has both.

    Raises DownloadError when all are private, OSError when the host is unknown.
    """
    found = resolver(origin.host, origin.port)
    good = found if trusted else [address for address in found if is_public(address)]
    if found and not good:
        raise _private(origin.host, found[0])
    other = [address for address in good[1:] if (":" in address) != (":" in good[0])]
    return [*good[:1], *(other or good[1:])[:1]]


def _private(host: str, address: str) -> DownloadError:
    where = host if host == address else f"{host} ({address})"
    return DownloadError(f"{where} is a private address", hint=_ALLOW_HINT.format(host), host=host, address=address)


def _parse(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address | None:
    try:
        return ipaddress.ip_address(host.strip("[]").partition("%")[0])
    except ValueError:
        return None
