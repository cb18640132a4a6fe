"""Web: GET requests to model sources, over httpx. Owns redirects, proxies, secrets and the guard on addresses.

Redirects are followed by hand: each hop is checked (`addresses`), and secret headers go to the origin they are for and
to no other. Knows nothing of models, ranges or retries.
"""

from __future__ import annotations

import contextlib
import logging
import re
import socket
import threading
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urljoin

from localllm.errors import ConfigError, DownloadError
from localllm.store.addresses import Origin, Resolver, addresses, check_hop, is_loopback, origin_of, resolve

if TYPE_CHECKING:
    import ssl

    import httpx

log = logging.getLogger(__name__)

MAX_REDIRECTS = 10
_REDIRECTS = (301, 302, 303, 307, 308)
_CONTENT_RANGE = re.compile(r"bytes ([0-9]{1,18})-([0-9]{1,18})/([0-9]{1,18})\Z")
_NUMBER = re.compile(r"[0-9]{1,18}\Z")


class LinkError(Exception):
    """The network failed. `connecting`: before any byte was sent, so the host may be out of reach altogether."""

    def __init__(self, message: str, *, connecting: bool = False) -> None:
        super().__init__(message)
        self.connecting = connecting


class Reply:
    """An answer whose body has not been read. `url` is where it came from, after redirects."""

    def __init__(self, response: httpx.Response, url: str) -> None:
        self._response = response
        self.url = url
        self.status = response.status_code

    def header(self, name: str) -> str | None:
        """A header, or None."""
        value: str | None = self._response.headers.get(name)
        return value

    def next_link(self) -> str | None:
        """The address of the next page, from the Link header."""
        return self._response.links.get("next", {}).get("url")

    def content_range(self) -> tuple[int, int, int] | None:
        """First byte, last byte and total of a partial answer; None where it does not say all three."""
        found = _CONTENT_RANGE.match(self.header("content-range") or "")
        return (int(found[1]), int(found[2]), int(found[3])) if found else None

    def content_length(self) -> int | None:
        """Bytes the body is announced to have."""
        text = self.header("content-length") or ""
        return int(text) if _NUMBER.match(text) else None

    def validator(self) -> str | None:
        """What tells one version of the file from another: a strong ETag, else Last-Modified."""
        etag = self.header("etag")
        return etag if etag and not etag.startswith("W/") else self.header("last-modified")

    def retry_after_s(self) -> float | None:
        """Seconds that Retry-After (a number or a date) asks for."""
        text = (self.header("retry-after") or "").strip()
        if not text or _NUMBER.match(text):
            return float(text) if text else None
        import datetime
        import email.utils

        try:
            when = email.utils.parsedate_to_datetime(text)
        except ValueError:
            return None
        when = when if when.tzinfo is not None else when.replace(tzinfo=datetime.UTC)
        return max((when - datetime.datetime.now(datetime.UTC)).total_seconds(), 0.0)

    def raw(self) -> Iterator[bytes]:
        """The body as it comes. Raises LinkError when it ends early or nothing comes for the stall time."""
        with _link_errors(origin_of(self.url).host):
            yield from self._response.iter_raw()

    def read(self, max_bytes: int) -> bytes:
        """The whole body, decoded; DownloadError beyond `max_bytes`."""
        body = bytearray()
        with _link_errors(origin_of(self.url).host):
            for chunk in self._response.iter_bytes():
                body += chunk
                if len(body) > max_bytes:
                    raise DownloadError(f"{self.url} answers with more than {max_bytes} bytes")
        return bytes(body)

    def interrupt(self) -> None:
        """Make a read that waits in another thread end now."""
        stream = self._response.extensions.get("network_stream")
        sock = stream.get_extra_info("socket") if stream is not None else None
        if sock is not None:
            with contextlib.suppress(OSError):
                sock.shutdown(socket.SHUT_RDWR)


class Web:
    """Connections to sources, kept for reuse until `close`. Threads may share one."""

    def __init__(
        self,
        *,
        allow_hosts: frozenset[str] = frozenset(),
        connect_s: float = 5.0,
        stall_s: float = 30.0,
        resolver: Resolver = resolve,
    ) -> None:
        self._allowed = allow_hosts
        self._connect_s = connect_s
        self._stall_s = stall_s
        self._resolver = resolver
        self._clients: dict[tuple[Origin, str | None], httpx.Client] = {}
        self._addresses: dict[Origin, list[str]] = {}
        self._ssl: ssl.SSLContext | None = None
        self._lock = threading.Lock()

    @contextlib.contextmanager
    def get(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        secrets: Mapping[str, str] | None = None,
        home: str | None = None,
    ) -> Iterator[Reply]:
        """GET, following redirects. `secrets` are sent to the origin of `home` (default: of `url`) only.

        Raises LinkError when the network fails, DownloadError when an address is refused. Any status is returned.
        """
        start = origin_of(home or url)
        for _ in range(MAX_REDIRECTS + 1):
            origin = origin_of(url)
            trusted = check_hop(origin, start, self._allowed)
            sent = {"Accept-Encoding": "identity", **(headers or {})}
            if secrets and origin == start:
                sent.update(secrets)
            with self._send(url, origin, sent, trusted=trusted) as response:
                location = response.headers.get("location")
                if response.status_code not in _REDIRECTS or not location:
                    yield Reply(response, url)
                    return
            url = _join(url, location)
        raise DownloadError(f"{start.host} redirects more than {MAX_REDIRECTS} times")

    def get_json(
        self,
        url: str,
        *,
        headers: Mapping[str, str] | None = None,
        secrets: Mapping[str, str] | None = None,
        max_bytes: int = 32 << 20,
    ) -> tuple[Reply, Any]:
        """GET a JSON document: the reply, and the document of a 200 (None otherwise). Raises DownloadError."""
        import msgspec

        try:
            accept = {"Accept": "application/json", "Accept-Encoding": "gzip, deflate"}
            with self.get(url, headers={**accept, **(headers or {})}, secrets=secrets) as reply:
                if reply.status != 200:
                    return reply, None
                return reply, msgspec.json.decode(reply.read(max_bytes))
        except LinkError as exc:
            raise DownloadError(str(exc), hint="is this machine online?" if exc.connecting else None) from exc
        except (msgspec.DecodeError, UnicodeDecodeError) as exc:
            hint = "a proxy or login page may stand in between"
            raise DownloadError(f"{origin_of(url).host} answers with no JSON", hint=hint) from exc

    def close(self) -> None:
        """End every connection."""
        with self._lock:
            clients, self._clients = list(self._clients.values()), {}
        for client in clients:
            client.close()

    def __enter__(self) -> Web:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @contextlib.contextmanager
    def _send(self, url: str, origin: Origin, headers: dict[str, str], *, trusted: bool) -> Iterator[httpx.Response]:
        import httpx

        with _link_errors(origin.host):
            proxy = _proxy_for(origin)
            client = self._client(origin, proxy)
            target = httpx.URL(url)
            requests = []
            if proxy is not None:
                requests.append(client.build_request("GET", target, headers=headers))
            else:
                headers = {**headers, "Host": target.netloc.decode("ascii")}
                for address in self._look_up(origin, trusted=trusted):
                    # The name still decides certificate and Host; the address is the one that was checked.
                    pinned = target.copy_with(host=address)
                    extensions = {"sni_hostname": origin.host}
                    requests.append(client.build_request("GET", pinned, headers=headers, extensions=extensions))
            response = self._first_answer(client, requests, origin)
        try:
            yield response
        finally:
            response.close()

    def _first_answer(self, client: httpx.Client, requests: list[httpx.Request], origin: Origin) -> httpx.Response:
        import httpx

        for n, request in enumerate(requests):
            try:
                return client.send(request, stream=True)
            except (httpx.ConnectError, httpx.ConnectTimeout):
                if n + 1 == len(requests):
                    raise
                with self._lock:  # the next request begins with the address after this one
                    known = self._addresses.get(origin, [])
                    self._addresses[origin] = known[1:] + known[:1]
        raise LinkError(f"{origin.host} has no address", connecting=True)

    def _look_up(self, origin: Origin, *, trusted: bool) -> list[str]:
        known = self._addresses.get(origin)
        if known is None:
            try:
                known = addresses(origin, trusted=trusted, resolver=self._resolver)
            except OSError as exc:
                raise LinkError(f"{origin.host} cannot be found: {exc.strerror or exc}", connecting=True) from exc
            self._addresses[origin] = known
        return known

    def _client(self, origin: Origin, proxy: str | None) -> httpx.Client:
        # One client an origin: a pooled connection to an address that two names share was verified for one of them.
        import httpx

        with self._lock:
            client = self._clients.get((origin, proxy))
            if client is None:
                verify: ssl.SSLContext | bool = False  # plain http has nothing to verify
                if origin.scheme == "https":  # reading a few hundred certificates is not done for nothing
                    verify = self._ssl = self._ssl or httpx.create_ssl_context()
                timeout = httpx.Timeout(self._stall_s, connect=self._connect_s, pool=None)
                try:
                    client = httpx.Client(
                        trust_env=False,
                        proxy=proxy,
                        verify=verify,
                        timeout=timeout,
                        headers={"User-Agent": "localllm"},
                        follow_redirects=False,
                    )
                except (ImportError, ValueError) as exc:
                    hint = "set HTTPS_PROXY to http://host:port; socks5:// needs `pip install socksio`"
                    raise ConfigError(f"the proxy {_bare(proxy)} cannot be used: {exc}", hint=hint) from exc
                self._clients[origin, proxy] = client
            return client


def _join(url: str, location: str) -> str:
    try:
        return urljoin(url, location)
    except ValueError as exc:
        raise DownloadError(f"{origin_of(url).host} redirects to {location[:200]!r}, which is no address") from exc


def _proxy_for(origin: Origin) -> str | None:
    """The proxy the environment (or, on macOS and Windows, the system) names for a host; this machine needs none."""
    import urllib.request

    proxies = urllib.request.getproxies()
    proxy = proxies.get(origin.scheme) or proxies.get("all")
    if not proxy or is_loopback(origin.host) or urllib.request.proxy_bypass(f"{origin.host}:{origin.port}"):
        return None
    return proxy if "://" in proxy else f"http://{proxy}"


def _bare(proxy: str | None) -> str:
    return (proxy or "").rpartition("@")[2]


@contextlib.contextmanager
def _link_errors(host: str) -> Iterator[None]:
    """Name what httpx raises in plain words."""
    import httpx

    try:
        yield
    except httpx.ConnectTimeout as exc:
        raise LinkError(f"{host} does not answer", connecting=True) from exc
    except httpx.ConnectError as exc:
        raise LinkError(f"{host} cannot be reached: {exc}", connecting=True) from exc
    except httpx.ProxyError as exc:
        raise LinkError(f"the proxy refuses {host}: {exc}", connecting=True) from exc
    except httpx.TimeoutException as exc:
        raise LinkError(f"{host} sends nothing") from exc
    except httpx.DecodingError as exc:
        raise LinkError(f"{host} sends a broken body: {exc}") from exc
    except httpx.TransportError as exc:
        raise LinkError(f"the connection to {host} broke: {str(exc) or type(exc).__name__}") from exc
    except (httpx.InvalidURL, httpx.StreamError) as exc:
        raise LinkError(f"{host}: {exc}") from exc
