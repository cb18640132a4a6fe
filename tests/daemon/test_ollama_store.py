"""Ollama's routes about models on disk, over a real store and tiny models; and what the keeper does beneath them."""

from __future__ import annotations

import hashlib
import http.client
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from localllm.api import LoadOptions, ModelInfo
from localllm.config import Settings
from localllm.finder import CatalogFinder
from localllm.keeper import StoreKeeper
from localllm.resolver import Resolver, info_of
from localllm.speeds import Speeds
from localllm.store.store import ModelStore
from tests.clients.conftest import install_model
from tests.daemon.serving import Answer, ScriptedBackend, Served, serving

TinyModel = Callable[..., Path]


class KeptBackend(ScriptedBackend):
    """The script over models that a real store has."""

    def __init__(self, store: ModelStore) -> None:
        super().__init__(Settings(), LoadOptions())
        self.store = store
        self.keeper = StoreKeeper(store, store.get, info_of)
        resolver = Resolver(Settings(store_dir=store.root), pull_missing=False)
        self.finder = CatalogFinder(resolver, lambda: 8 * 2**30, Speeds())

    async def list_models(self) -> list[ModelInfo]:
        return [info_of(manifest) for manifest in self.store.list()]


@pytest.fixture
def store(tmp_path: Path, tiny_model: TinyModel) -> ModelStore:
    made = ModelStore(tmp_path / "store")
    install_model(made, "base", tiny_model())
    return made


@pytest.fixture
def daemon(store: ModelStore) -> Iterator[Served]:
    with serving(KeptBackend(store)) as served:
        yield served


def names(daemon: Served) -> set[str]:
    return {model["name"] for model in daemon.ask("GET", "/api/tags").json["models"]}


def create(daemon: Served, **fields: Any) -> Answer:
    return daemon.ask("POST", "/api/create", {name.rstrip("_"): value for name, value in fields.items()})


def statuses(answer: Answer) -> list[str]:
    assert answer.status == 200, answer.body
    return [json.loads(line)["status"] for line in answer.body.splitlines()]


def digest_of(path: Path) -> str:
    return f"sha256:{hashlib.sha256(path.read_bytes()).hexdigest()}"


def test_a_derived_model_stays_in_the_store(daemon: Served, store: ModelStore) -> None:
    made = create(
        daemon, model="mario", from_="base", system="Be Mario.", parameters={"temperature": 0.5, "num_ctx": 99}
    )
    assert statuses(made)[-1] == "success"
    kept = ModelStore(store.root).get("mario")
    assert (kept.system, kept.sampling.temperature, kept.num_ctx) == ("Be Mario.", 0.5, 99)
    assert kept.blobs == store.get("base").blobs
    again = create(daemon, model="mario", from_="mario", parameters={"stop": ["x"]}, stream=False)
    assert again.json == {"status": "success"}
    kept = store.get("mario")
    assert (kept.system, kept.sampling.temperature, kept.sampling.stop) == ("Be Mario.", 0.5, ("x",))
    emptied = create(daemon, model="mario", from_="mario", system="", stream=False)
    assert emptied.status == 200
    assert store.get("mario").system is None
    shown = daemon.ask("POST", "/api/show", {"model": "mario"}).json
    assert shown["parameters"].split() == ["num_ctx", "99", "temperature", "0.5", "stop", '"x"']
    assert store.get("base").system is None


def test_a_missing_base_is_pulled_or_said(daemon: Served) -> None:
    assert create(daemon, model="mario", from_="absent").status == 404
    assert create(daemon, model="mario", from_="/etc/passwd.gguf").status == 404
    assert create(daemon, model="hf:owner/repo", from_="base").status == 400
    assert names(daemon) == {"base"}


def test_show(daemon: Served) -> None:
    shown = daemon.ask("POST", "/api/show", {"model": "base"}).json
    assert shown["model_info"]["general.architecture"] == "llama"
    assert shown["model_info"]["llama.context_length"] == 4096
    assert shown["model_info"]["tokenizer.ggml.tokens"] is None, "a vocabulary is not for people"
    assert "tokenizer.chat_template" not in shown["model_info"]
    assert "tensors" not in shown
    verbose = daemon.ask("POST", "/api/show", {"name": "base:latest", "verbose": True}).json
    assert {"name", "type", "shape"} == set(verbose["tensors"][0])
    assert daemon.ask("POST", "/api/show", {"model": "absent"}).status == 404
    assert daemon.ask("POST", "/api/show", {}).json["error"] == "model is required"


def test_copy_and_delete(daemon: Served, store: ModelStore) -> None:
    copied = daemon.ask("POST", "/api/copy", {"source": "base", "destination": "second"})
    assert (copied.status, copied.body) == (200, b"")
    assert names(daemon) == {"base", "second"}
    assert daemon.ask("POST", "/api/copy", {"source": "absent", "destination": "x"}).status == 404
    assert daemon.ask("POST", "/api/copy", {"source": "base", "destination": "../x"}).status == 400
    assert daemon.ask("POST", "/api/copy", {"source": "base"}).status == 400
    deleted = daemon.ask("DELETE", "/api/delete", {"model": "base"})
    assert (deleted.status, deleted.body) == (200, b"")
    assert store.paths(store.get("second")), "the bytes are shared"
    assert daemon.ask("DELETE", "/api/delete", {"name": "base"}).status == 404


def test_a_loaded_model_is_unloaded_before_it_is_deleted(daemon: Served, store: ModelStore) -> None:
    daemon.backend.loaded.append("base")
    assert daemon.ask("DELETE", "/api/delete", {"model": "base"}).status == 200
    assert daemon.backend.loaded == []
    assert store.list() == []


def test_a_model_in_use_is_not_deleted(daemon: Served, store: ModelStore) -> None:
    with store.lease(store.get("base")):
        refused = daemon.ask("DELETE", "/api/delete", {"model": "base"})
    assert refused.status == 409
    assert names(daemon) == {"base"}


def test_a_model_of_uploaded_bytes(daemon: Served, tiny_model: TinyModel) -> None:
    path = tiny_model("hybrid")
    digest = digest_of(path)
    assert daemon.ask("HEAD", f"/api/blobs/{digest}").status == 404
    assert create(daemon, model="mine", files={"m.gguf": digest}).status == 400
    assert daemon.ask("POST", f"/api/blobs/{digest}", path.read_bytes()).status == 201
    head = daemon.ask("HEAD", f"/api/blobs/{digest.replace(':', '-')}")
    assert (head.status, head.body) == (200, b"")
    assert daemon.ask("POST", f"/api/blobs/{digest}", path.read_bytes()).status == 200
    assert statuses(create(daemon, model="mine", files={"m.gguf": digest}, license="mit"))[-1] == "success"
    shown = daemon.ask("POST", "/api/show", {"model": "mine"}).json
    assert (shown["details"]["family"], shown["license"]) == ("lfm2", "mit")


def test_an_upload_in_chunks_and_larger_than_other_bodies(daemon: Served, store: ModelStore) -> None:
    """Bytes of no known length, in pieces; the limit of JSON bodies is not theirs."""
    piece = b"\x07" * (1 << 20)
    digest = f"sha256:{hashlib.sha256(piece * 34).hexdigest()}"
    connection = http.client.HTTPConnection("127.0.0.1", daemon.port, timeout=20)
    connection.request(
        "POST",
        f"/api/blobs/{digest}",
        iter([piece] * 34),
        encode_chunked=True,
        headers={"transfer-encoding": "chunked"},
    )
    assert connection.getresponse().status == 201
    connection.close()
    assert store.blob_path(digest).stat().st_size == 34 << 20


def test_bytes_that_are_no_model(daemon: Served) -> None:
    data = b"GGUF" + b"\xff" * 64
    digest = f"sha256:{hashlib.sha256(data).hexdigest()}"
    assert daemon.ask("POST", f"/api/blobs/{digest}", data).status == 201
    refused = create(daemon, model="mine", files={"m.gguf": digest})
    assert refused.status == 400
    assert refused.json["param"] == "files"
    assert names(daemon) == {"base"}


def test_bytes_of_another_digest_leave_nothing(daemon: Served, store: ModelStore) -> None:
    digest = "sha256:" + "0" * 64
    refused = daemon.ask("POST", f"/api/blobs/{digest}", b"other bytes")
    assert refused.status == 400
    assert refused.json["param"] == "digest"
    assert daemon.ask("HEAD", f"/api/blobs/{digest}").status == 404
    assert [path for path in (store.root / "work").iterdir() if path.is_dir()] == []
    for name in ("sha256:abc", "md5:" + "0" * 32, "sha256:" + "A" * 64, "..%2f..%2fetc%2fpasswd", "sha256:" + "0" * 65):
        assert daemon.ask("POST", f"/api/blobs/{name}", b"x").status in (400, 404)


def test_an_upload_that_breaks_off_leaves_nothing(daemon: Served, store: ModelStore) -> None:
    digest = "sha256:" + "0" * 64
    with daemon.connect() as sock:
        head = f"POST /api/blobs/{digest} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
        sock.sendall(head.encode() + b"x" * 1000)
    assert daemon.ask("HEAD", f"/api/blobs/{digest}").status == 404
    for _ in range(200):
        if not [path for path in (store.root / "work").iterdir() if path.is_dir()]:
            break
        daemon.is_alive()
    assert [path for path in (store.root / "work").iterdir() if path.is_dir()] == []


def test_without_a_store_of_its_own() -> None:
    with serving() as daemon:
        for method, path, body in [
            ("POST", "/api/show", {"model": "tiny"}),
            ("POST", "/api/create", {"model": "mario", "from": "tiny"}),
            ("DELETE", "/api/delete", {"model": "tiny"}),
        ]:
            refused = daemon.ask(method, path, body)
            assert refused.status == 501
            assert isinstance(refused.json["error"], str)
