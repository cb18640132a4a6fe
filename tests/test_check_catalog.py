"""scripts/check_catalog.py against a local server that speaks both hubs' listing interfaces."""

from __future__ import annotations

import importlib.util
import json
import sys
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import ModuleType
from urllib.parse import urlsplit

import httpx
import msgspec
import pytest

from localllm.catalog import Catalog, Variant

SHA = "ab" * 32


def _script() -> ModuleType:
    path = Path(__file__).parent.parent / "scripts" / "check_catalog.py"
    spec = importlib.util.spec_from_file_location("check_catalog", path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules["check_catalog"] = module
    spec.loader.exec_module(module)
    return module


check_catalog = _script()


class _Hub(BaseHTTPRequestHandler):
    def do_GET(self) -> None:
        path = urlsplit(self.path).path
        link = None
        if path == "/api/models/o/r/tree/main":
            link = f'<http://{self.headers["Host"]}/api/models/o/r/tree/next>; rel="next"'
            body = [{"type": "directory", "path": "d"}, {"type": "file", "path": "x-Q4_K_M.gguf", "size": 10**8}]
        elif path == "/api/models/o/r/tree/next":
            body = [{"type": "file", "path": "d/x-Q8_0.gguf", "size": 2 * 10**8, "lfs": {"oid": SHA}}]
        elif path == "/api/v1/models/o/r/repo/files":
            files = [{"Path": "x-Q4_K_M.gguf", "Size": 10**8, "Sha256": SHA, "Type": "blob"}]
            self._answer(200, {"Data": {"Files": files}}, None)
            return
        else:
            self._answer(404, {}, None)
            return
        self._answer(200, body, link)

    def _answer(self, status: int, body: object, link: str | None) -> None:
        data = json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        if link:
            self.send_header("Link", link)
        self.end_headers()
        self.wfile.write(data)

    def log_message(self, format: str, *args: object) -> None:
        pass


@pytest.fixture
def hubs() -> Iterator[object]:
    server = ThreadingHTTPServer(("127.0.0.1", 0), _Hub)
    thread = threading.Thread(target=server.serve_forever, args=(0.01,))
    thread.start()
    address = f"http://127.0.0.1:{server.server_address[1]}"
    with httpx.Client(trust_env=False) as client:
        yield check_catalog.Hubs(client, address, address)
    server.shutdown()
    thread.join()
    server.server_close()


def variant(*sources: str, **values: object) -> Variant:
    known = Catalog.load().find("smollm2")
    assert known is not None
    values = {"size_bytes": None, "sha256": None, "projector": (), **values}
    return msgspec.structs.replace(known, sources=sources, **values)


def test_what_holds_is_not_mentioned(hubs: object) -> None:
    good = variant("hf:o/r:x-Q4_K_M.gguf", "ms:o/r:x-Q4_K_M.gguf", "pypi:x==1/y.gguf", size_bytes=10**8, sha256=SHA)
    assert list(check_catalog.findings(good, hubs)) == []
    assert list(check_catalog.findings(variant("hf:o/r:Q8_0", projector=("hf:o/r:d/x-Q8_0.gguf",)), hubs)) == []


@pytest.mark.parametrize(
    ("source", "values", "finding"),
    [
        ("hf:o/r:gone.gguf", {}, "no such file"),
        ("hf:o/r:Q6_K", {}, "no file of that quantization"),
        ("hf:o/gone:Q6_K", {}, "the hub answers 404"),
        ("ms:o/gone:Q6_K", {}, "the hub answers 404"),
        ("hf:o/r:x-Q4_K_M.gguf", {"size_bytes": 5}, "100000000 bytes, not 5"),
        ("ms:o/r:x-Q4_K_M.gguf", {"sha256": "cd" * 32}, f"sha256 {SHA}"),
        ("hf:o/r:d/x-Q8_0.gguf@main", {"sha256": "cd" * 32}, f"sha256 {SHA}"),
    ],
)
def test_what_does_not_hold_is_one_line(source: str, values: dict[str, object], finding: str, hubs: object) -> None:
    (line,) = check_catalog.findings(variant(source, **values), hubs)
    assert line.startswith(f"smollm2:135m: {source}: ")
    assert finding in line
