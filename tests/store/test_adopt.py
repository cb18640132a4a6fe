"""Taking over the models of other programs: every layout built here, no byte copied, nothing of theirs harmed."""

from __future__ import annotations

import errno
import json
import os
import shutil
import sys
from pathlib import Path

import pytest

from localllm.api import Progress
from localllm.errors import CorruptModelError, GGUFError
from localllm.name import ModelName
from localllm.store import blobs
from localllm.store.adopt import Adoptable, adopt, find_adoptable
from localllm.store.store import ModelStore
from tests.store.models import digest_of, tiny
from tests.store.tiny_gguf import write_tiny_gguf, write_tiny_shards

REVISION = "0123456789abcdef0123456789abcdef01234567"


@pytest.fixture
def home(tmp_path: Path) -> Path:
    path = tmp_path / "home"
    path.mkdir()
    return path


@pytest.fixture
def store(tmp_path: Path) -> ModelStore:
    return ModelStore(tmp_path / "store")


def find(home: Path, platform: str = "linux", **env: str) -> list[Adoptable]:
    return find_adoptable({"OLLAMA_SERVICE_HOME": str(home / "none"), **env}, home=home, platform=platform)


def hub_file(hub: Path, repo: str, filename: str, source: Path, revision: str = REVISION) -> Path:
    """Put a file into a Hugging Face cache as huggingface_hub does. Returns the blob."""
    repo_dir = hub / f"models--{repo.replace('/', '--')}"
    blob = repo_dir / "blobs" / digest_of(source.read_bytes()).removeprefix("sha256:")
    link = repo_dir / "snapshots" / revision / filename
    blob.parent.mkdir(parents=True, exist_ok=True)
    link.parent.mkdir(parents=True, exist_ok=True)
    (repo_dir / "refs").mkdir(exist_ok=True)
    (repo_dir / "refs" / "main").write_text(revision)
    shutil.copyfile(source, blob)
    try:
        link.symlink_to(os.path.relpath(blob, link.parent))
    except OSError:
        shutil.move(blob, link)  # what the hub's library does where links are not allowed
        return link
    return blob


def ollama_model(models: Path, name: str, layers: list[tuple[str, bytes]]) -> list[Path]:
    """Put a model into an Ollama store. `name`: host/namespace/model/tag."""
    paths, listed = [], []
    (models / "blobs").mkdir(parents=True, exist_ok=True)
    for kind, data in layers:
        digest = digest_of(data)
        path = models / "blobs" / digest.replace(":", "-")
        path.write_bytes(data)
        paths.append(path)
        listed.append({"mediaType": f"application/vnd.ollama.image.{kind}", "digest": digest, "size": len(data)})
    manifest = models / "manifests" / name
    manifest.parent.mkdir(parents=True, exist_ok=True)
    manifest.write_text(json.dumps({"schemaVersion": 2, "layers": listed}))
    return paths


def one(found: list[Adoptable]) -> Adoptable:
    (item,) = found
    return item


def test_an_empty_machine(home: Path) -> None:
    for platform in ("linux", "darwin", "win32"):
        assert find(home, platform) == []


# -- each program's layout


def test_hugging_face(home: Path, store: ModelStore, tmp_path: Path) -> None:
    hub = home / ".cache" / "huggingface" / "hub"
    blob = hub_file(hub, "owner/repo-GGUF", "sub/model-Q4_K_M.gguf", tiny(tmp_path))
    hub_file(hub, "owner/repo-GGUF", "README.md", tiny(tmp_path, 1))
    (blob.parent / "half.incomplete").write_bytes(b"GGUF")
    item = one(find(home))
    assert (item.source, item.name) == ("huggingface", "hf:owner/repo-GGUF:sub/model-Q4_K_M.gguf")
    assert item.paths == (blob.resolve(),)
    assert item.digest == digest_of(blob.read_bytes())
    assert item.size_bytes == blob.stat().st_size
    assert item.origin == f"hf:owner/repo-GGUF/sub/model-Q4_K_M.gguf@{REVISION}"
    manifest = adopt(store, item)
    assert manifest.name == item.name
    assert manifest.blobs[0].filename == "model-Q4_K_M.gguf"
    assert (manifest.architecture, manifest.licence, manifest.num_params) == ("llama", "mit", 256)


@pytest.mark.parametrize("variable", ["HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE", "HF_HOME", "XDG_CACHE_HOME"])
def test_hugging_face_elsewhere(home: Path, tmp_path: Path, variable: str) -> None:
    base = tmp_path / "elsewhere"
    hub = {"HF_HOME": base / "hub", "XDG_CACHE_HOME": base / "huggingface" / "hub"}.get(variable, base)
    hub_file(hub, "a/b", "m.gguf", tiny(tmp_path))
    assert one(find(home, **{variable: str(base)})).name == "hf:a/b:m.gguf"
    assert find(home) == []


def test_hugging_face_takes_the_revision_of_main(home: Path, tmp_path: Path) -> None:
    hub = home / ".cache" / "huggingface" / "hub"
    hub_file(hub, "a/b", "new.gguf", tiny(tmp_path, 1), revision="f" * 40)
    hub_file(hub, "a/b", "old.gguf", tiny(tmp_path, 2))
    assert one(find(home)).files[0].filename == "old.gguf"
    (hub / "models--a--b" / "refs" / "main").write_text("../../../etc")
    assert len(find(home)) == 1


def test_hugging_face_without_links(home: Path, tmp_path: Path) -> None:
    snapshot = home / ".cache/huggingface/hub/models--a--b/snapshots" / REVISION
    snapshot.mkdir(parents=True)
    shutil.copyfile(tiny(tmp_path), snapshot / "m.gguf")
    item = one(find(home))
    assert item.name == "hf:a/b:m.gguf"
    assert item.digest is None


def test_a_broken_link_and_a_pickle_are_left_out(home: Path, tmp_path: Path) -> None:
    hub = home / ".cache" / "huggingface" / "hub"
    hub_file(hub, "a/b", "m.gguf", tiny(tmp_path)).unlink()
    bad = tmp_path / "bad"
    bad.write_bytes(b"\x80\x04.")
    hub_file(hub, "a/b", "bad.gguf", bad)
    assert find(home) == []


def test_a_split_model_is_one_and_a_projector_comes_along(home: Path, store: ModelStore, tmp_path: Path) -> None:
    hub = home / ".cache" / "huggingface" / "hub"
    shards = write_tiny_shards(tmp_path, "big", 3)
    for shard in shards:
        hub_file(hub, "a/b", shard.name, shard)
    projector = write_tiny_gguf(tmp_path / "mmproj.gguf", architecture="clip", seed=9)
    hub_file(hub, "a/b", "mmproj-F16.gguf", projector)
    item = one(find(home))
    assert [f.role for f in item.files] == ["model", "model", "model", "mmproj"]
    manifest = adopt(store, item)
    assert [b.filename for b in manifest.blobs] == [*(s.name for s in shards), "mmproj-F16.gguf"]
    assert [p.read_bytes() for p in store.paths(manifest)] == [s.read_bytes() for s in shards]
    assert [p.read_bytes() for p in store.paths(manifest, role="mmproj")] == [projector.read_bytes()]
    assert manifest.num_params == 3 * 256
    assert manifest.capabilities == ("chat", "vision")
    assert [s.state for s in store.verify(manifest.name)] == ["ok"] * 4


def test_a_split_model_with_a_part_missing_is_left_out(home: Path, tmp_path: Path) -> None:
    hub = home / ".cache" / "huggingface" / "hub"
    for shard in write_tiny_shards(tmp_path, "big", 3)[:2]:
        hub_file(hub, "a/b", shard.name, shard)
    assert find(home) == []


def test_ollama(home: Path, store: ModelStore, tmp_path: Path) -> None:
    data = tiny(tmp_path).read_bytes()
    params = {"temperature": 0.6, "top_k": 20, "stop": ["<|im_end|>"], "num_ctx": 4096, "num_predict": -1, "odd": 1}
    (weights, *_) = ollama_model(
        home / ".ollama" / "models",
        "registry.ollama.ai/library/qwen3/0.6b",
        [("model", data), ("system", b"Be brief."), ("params", json.dumps(params).encode()), ("template", b"{{ x }}")],
    )
    item = one(find(home))
    assert (item.source, item.name) == ("ollama", "ollama:qwen3:0.6b")
    assert item.paths == (weights.resolve(),)
    assert item.digest == digest_of(data)
    manifest = adopt(store, item)
    assert (manifest.system, manifest.num_ctx) == ("Be brief.", 4096)
    assert (manifest.sampling.temperature, manifest.sampling.top_k) == (0.6, 20)
    assert (manifest.sampling.stop, manifest.sampling.max_tokens) == (("<|im_end|>",), None)
    assert manifest.origin == "ollama:registry.ollama.ai/library/qwen3:0.6b"


def test_ollama_names_projectors_and_places(home: Path, tmp_path: Path) -> None:
    models = tmp_path / "models"
    data = tiny(tmp_path).read_bytes()
    vision = write_tiny_gguf(tmp_path / "v.gguf", architecture="clip").read_bytes()
    ollama_model(models, "registry.ollama.ai/library/llava/latest", [("model", data), ("projector", vision)])
    ollama_model(models, "registry.ollama.ai/someone/else/7b", [("model", tiny(tmp_path, 1).read_bytes())])
    ollama_model(models, "hf.co/bart/Repo-GGUF/Q4_K_M", [("model", tiny(tmp_path, 2).read_bytes())])
    ollama_model(models, "my.host/a/b/c", [("model", tiny(tmp_path, 3).read_bytes())])
    found = {item.name: item for item in find(home, OLLAMA_MODELS=str(models))}
    assert set(found) == {"ollama:llava", "ollama:someone/else:7b", "hf:bart/Repo-GGUF:Q4_K_M", "b-c:ollama"}
    assert [f.role for f in found["ollama:llava"].files] == ["model", "mmproj"]
    service = tmp_path / "svc" / ".ollama" / "models"
    shutil.move(models, service)
    assert len(find(home, OLLAMA_SERVICE_HOME=str(tmp_path / "svc"))) == 4
    assert find(home, "darwin", OLLAMA_SERVICE_HOME=str(tmp_path / "svc")) == []


@pytest.mark.parametrize(
    "manifest",
    [
        b"",
        b"{",
        b"[1]",
        b'{"layers": 3}',
        b'{"layers": [3, {}, {"mediaType": "application/vnd.ollama.image.model"}]}',
        b'{"layers": [{"mediaType": "application/vnd.ollama.image.model", "digest": "sha256:../../../x"}]}',
        b'{"layers": [{"mediaType": "application/vnd.ollama.image.model", "digest": 5}]}',
        b"[" * 100_000,
    ],
)
def test_a_strange_ollama_manifest_is_passed_over(home: Path, manifest: bytes) -> None:
    path = home / ".ollama/models/manifests/registry.ollama.ai/library/x/latest"
    path.parent.mkdir(parents=True)
    path.write_bytes(manifest)
    (home / ".ollama" / "x").write_bytes(b"GGUF")
    assert find(home) == []


def test_ollama_params_of_the_wrong_type_are_dropped(home: Path, tmp_path: Path) -> None:
    layers = [("model", tiny(tmp_path).read_bytes()), ("params", b'{"temperature": "hot", "num_ctx": 5}')]
    ollama_model(home / ".ollama/models", "registry.ollama.ai/library/x/latest", layers)
    item = one(find(home))
    assert (item.num_ctx, item.sampling.temperature) == (None, None)


def test_an_ollama_blob_that_is_not_its_name_is_refused(home: Path, store: ModelStore, tmp_path: Path) -> None:
    (path,) = ollama_model(
        home / ".ollama/models", "registry.ollama.ai/library/x/1", [("model", tiny(tmp_path).read_bytes())]
    )
    path.write_bytes(tiny(tmp_path, 5).read_bytes())
    with pytest.raises(CorruptModelError):
        adopt(store, one(find(home)))
    assert store.list() == []
    assert store.prune(min_age_s=0).blobs
    assert path.exists()


@pytest.mark.parametrize("place", [".lmstudio", ".cache/lm-studio", "pointer", "downloadsFolder"])
def test_lm_studio(home: Path, tmp_path: Path, place: str) -> None:
    root = home / place / "models"
    if place == "pointer":
        (home / ".lmstudio-home-pointer").write_text(f"{home / place}\n")
    if place == "downloadsFolder":
        (home / ".lmstudio").mkdir()
        root = tmp_path / "downloads"
        (home / ".lmstudio" / "settings.json").write_text(json.dumps({"downloadsFolder": str(root)}))
    path = root / "lmstudio-community" / "Qwen-GGUF" / "Qwen-Q4_K_M.gguf"
    path.parent.mkdir(parents=True)
    shutil.copyfile(tiny(tmp_path), path)
    shutil.copyfile(tiny(tmp_path, 1), root / "loose file.gguf")
    (path.parent / "Other.gguf.part").write_bytes(b"GGUF")
    found = {item.name: item for item in find(home)}
    assert set(found) == {"hf:lmstudio-community/Qwen-GGUF:Qwen-Q4_K_M.gguf", "loose-file:lmstudio"}
    item = found["hf:lmstudio-community/Qwen-GGUF:Qwen-Q4_K_M.gguf"]
    assert (item.source, item.digest) == ("lmstudio", None)
    assert item.origin == "lmstudio:lmstudio-community/Qwen-GGUF/Qwen-Q4_K_M.gguf"


@pytest.mark.parametrize(
    ("platform", "place", "variable"),
    [
        ("linux", ".cache/llama.cpp", None),
        ("linux", "xdg/llama.cpp", "XDG_CACHE_HOME"),
        ("linux", "own", "LLAMA_CACHE"),
        ("darwin", "Library/Caches/llama.cpp", None),
        ("win32", "AppData/Local/llama.cpp", None),
    ],
)
def test_llama_cpp(home: Path, tmp_path: Path, platform: str, place: str, variable: str | None) -> None:
    root = home / place
    root.mkdir(parents=True)
    shutil.copyfile(tiny(tmp_path), root / "ggml-org_gemma-GGUF_gemma-Q4_K_M.gguf")
    shutil.copyfile(tiny(tmp_path, 1), root / "some_one_else.gguf")
    (root / "manifest=ggml-org=gemma-GGUF=latest.json").write_text("{}")
    (root / "ggml-org_gemma-GGUF_gemma-Q4_K_M.gguf.etag").write_text("x")
    env = {variable: str(root if variable == "LLAMA_CACHE" else root.parent)} if variable else {}
    found = {item.name: item.source for item in find(home, platform, **env)}
    assert found == {"hf:ggml-org/gemma-GGUF:gemma-Q4_K_M.gguf": "llama.cpp", "some_one_else:llamacpp": "llama.cpp"}


JAN_PLACES = {
    "linux": ".local/share/Jan/data",
    "darwin": "Library/Application Support/Jan/data",
    "win32": "AppData/Roaming/Jan/data",
}


@pytest.mark.parametrize("platform", JAN_PLACES)
def test_jan(home: Path, tmp_path: Path, platform: str) -> None:
    data = home / JAN_PLACES[platform]
    inside = data / "llamacpp" / "models" / "unsloth" / "Qwen3-4B" / "model.gguf"
    inside.parent.mkdir(parents=True)
    shutil.copyfile(tiny(tmp_path), inside)
    (inside.parent / "model.yml").write_text(
        "embedding: false\nmodel_path: llamacpp/models/unsloth/Qwen3-4B/model.gguf\nname: Qwen3\nsize_bytes: 1\n"
    )
    outside = tmp_path / "my models" / "it's.gguf"
    outside.parent.mkdir()
    shutil.copyfile(tiny(tmp_path, 1), outside)
    imported = data / "llamacpp" / "models" / "imported"
    imported.mkdir()
    quoted = str(outside).replace("'", "''")
    (imported / "model.yml").write_text(f"model_path: '{quoted}'\nname: imported\n")
    old = home / "jan" / "models" / "llama3" / "llama3-q4.gguf"
    old.parent.mkdir(parents=True)
    shutil.copyfile(tiny(tmp_path, 2), old)
    found = {item.name: item for item in find(home, platform)}
    assert set(found) == {"qwen3-4b:jan", "imported:jan", "llama3-q4:jan"}
    assert found["imported:jan"].paths == (outside.resolve(),)
    assert found["qwen3-4b:jan"].origin == "jan:unsloth/Qwen3-4B"


def test_jan_moved_and_folded(home: Path, tmp_path: Path) -> None:
    data = tmp_path / "jan data"
    models = data / "llamacpp" / "models" / "m"
    models.mkdir(parents=True)
    shutil.copyfile(tiny(tmp_path), models / "model.gguf")
    vision = write_tiny_gguf(models / "mmproj.gguf", architecture="clip")
    text = "name: >-\n  a long\n  name\nmodel_path: >-\n  llamacpp/models/m/model.gguf\n"
    text += f'mmproj_path: "{vision.as_posix()}"\n'
    (models / "model.yml").write_text(text)
    settings = home / ".local/share/Jan/settings.json"
    settings.parent.mkdir(parents=True)
    settings.write_text(json.dumps({"data_folder": str(data)}))
    item = one(find(home))
    assert [f.filename for f in item.files] == ["model.gguf", "mmproj.gguf"]
    settings.unlink()
    assert find(home) == []
    assert len(find(home, JAN_DATA_FOLDER=str(data))) == 1


@pytest.mark.parametrize("text", ["", "model_path:", "model_path: [", "model_path: nowhere.gguf", "- a\n- b", "\0"])
def test_a_strange_model_yml_is_passed_over(home: Path, text: str) -> None:
    path = home / ".local/share/Jan/data/llamacpp/models/m/model.yml"
    path.parent.mkdir(parents=True)
    path.write_text(text)
    assert find(home) == []


# -- names


def test_every_name_is_one_a_person_can_type(home: Path, tmp_path: Path) -> None:
    root = home / ".lmstudio" / "models"
    for directory, file in [
        ("a/b", "m.gguf"),
        ("a b/c", "m n.gguf"),
        ("-x/y", "-m.gguf"),
        ("con/aux", "nul.gguf"),
        ("ü/é", "ñ.gguf"),
        ("a/b/c/d", "deep.gguf"),
        ("a/b", "x" * 200 + ".gguf"),
        ("a/b", "..gguf"),
        ("a/b", "CON.gguf"),
        ("", "con.gguf"),
        ("", "a..b.gguf"),
    ]:
        path = root / directory / file
        path.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(tiny(tmp_path), path)
    found = find(home)
    assert len(found) == 11
    for item in found:
        assert str(ModelName.parse(item.name)) == item.name


def test_a_taken_name_gets_a_number_and_the_same_bytes_do_not(home: Path, store: ModelStore, tmp_path: Path) -> None:
    for place, seed in ((".lmstudio", 1), (".cache/lm-studio", 2)):
        path = home / place / "models" / "a" / "b" / "Model-Q8_0.gguf"
        path.parent.mkdir(parents=True)
        shutil.copyfile(tiny(tmp_path, seed), path)
    first, second = find(home)
    assert first.name == second.name
    manifests = [adopt(store, item) for item in (first, second, first, second)]
    assert [m.name for m in manifests] == ["hf:a/b:Model-Q8_0.gguf", "model-q8_0:lmstudio-2"] * 2
    assert manifests[0] == manifests[2]
    assert len(store.list()) == 2
    for manifest in manifests:
        assert str(ModelName.parse(manifest.name)) == manifest.name


def test_the_same_files_seen_twice_are_listed_once(home: Path, tmp_path: Path) -> None:
    path = home / ".lmstudio" / "models" / "a" / "b" / "m.gguf"
    path.parent.mkdir(parents=True)
    shutil.copyfile(tiny(tmp_path), path)
    (home / ".lmstudio-home-pointer").write_text(str(home / ".lmstudio"))
    assert len(find(home)) == 1
    try:
        (path.parent / "link.gguf").symlink_to(path)
    except OSError:
        return
    assert len(find(home)) == 1


# -- no copy, and no harm


@pytest.fixture
def theirs(home: Path, tmp_path: Path) -> Path:
    path = home / ".lmstudio" / "models" / "a" / "b" / "m.gguf"
    path.parent.mkdir(parents=True)
    return Path(shutil.copyfile(tiny(tmp_path), path))


def without_links(monkeypatch: pytest.MonkeyPatch) -> None:
    """What happens where their file lies on another file system."""

    def refuse(*_args: object, **_kwargs: object) -> None:
        raise OSError(errno.EXDEV, "another file system")

    monkeypatch.setattr(blobs, "reflink", lambda _source, _target: False)
    monkeypatch.setattr(os, "link", refuse)


def test_bytes_are_linked_not_copied(home: Path, theirs: Path, store: ModelStore) -> None:
    before = theirs.stat()
    seen: list[Progress] = []
    manifest = adopt(store, one(find(home)), on_progress=seen.append)
    (path,) = store.paths(manifest)
    record = blobs.BlobFiles(store.root).record(manifest.blobs[0].digest)
    assert record is not None
    assert record.kind in ("hardlink", "reflink")
    if record.kind == "hardlink":
        assert path.stat().st_ino == before.st_ino
    after = theirs.stat()
    assert (after.st_mode, after.st_mtime_ns, after.st_size) == (before.st_mode, before.st_mtime_ns, before.st_size)
    assert seen[-1].done == seen[-1].total == before.st_size
    assert list((store.root / "work").iterdir()) == []


def test_removing_a_link_frees_nothing_and_leaves_theirs(home: Path, theirs: Path, store: ModelStore) -> None:
    data = theirs.read_bytes()
    manifest = adopt(store, one(find(home)))
    assert store.remove(manifest.name) == 0
    assert theirs.read_bytes() == data
    assert list((store.root / "blobs").iterdir()) == []


def test_a_linked_model_outlives_theirs(home: Path, theirs: Path, store: ModelStore) -> None:
    manifest = adopt(store, one(find(home)))
    size = theirs.stat().st_size
    theirs.unlink()
    assert [s.state for s in store.verify(manifest.name)] == ["ok"]
    assert store.remove(manifest.name) == size


@pytest.mark.skipif(sys.platform == "win32", reason="Windows keeps an open file from being changed")
def test_theirs_written_in_place_is_noticed(home: Path, theirs: Path, store: ModelStore) -> None:
    manifest = adopt(store, one(find(home)))
    record = blobs.BlobFiles(store.root).record(manifest.blobs[0].digest)
    data = bytearray(theirs.read_bytes())
    data[-1] ^= 1
    theirs.write_bytes(data)
    os.utime(theirs, ns=(0, 10**18))
    assert record is not None
    if record.kind == "hardlink":
        with pytest.raises(CorruptModelError):
            store.paths(manifest)
        assert [s.state for s in store.verify(manifest.name)] == ["corrupt"]
    else:
        assert store.paths(manifest)


def test_where_no_link_serves_the_file_is_referenced(
    home: Path, theirs: Path, store: ModelStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_links(monkeypatch)
    data = theirs.read_bytes()
    manifest = adopt(store, one(find(home)))
    assert store.paths(manifest) == [theirs.resolve()]
    assert list((store.root / "blobs").iterdir()) == []
    assert [s.state for s in store.verify(manifest.name)] == ["ok"]
    store.copy(manifest.name, "second")
    assert store.remove(manifest.name) == 0
    assert store.paths(store.get("second"))
    assert store.remove("second") == 0
    assert store.prune(min_age_s=0).blobs == ()
    assert theirs.read_bytes() == data


def test_a_referenced_file_that_goes_or_changes_is_refused_by_name(
    home: Path, theirs: Path, store: ModelStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    without_links(monkeypatch)
    manifest = adopt(store, one(find(home)))
    theirs.unlink()
    with pytest.raises(CorruptModelError) as caught:
        store.paths(manifest)
    assert str(theirs.resolve()) in str(caught.value)
    assert [s.state for s in store.verify(manifest.name)] == ["missing"]
    shutil.copyfile(tiny(tmp_path, 7), theirs)
    with pytest.raises(CorruptModelError):
        store.paths(manifest)
    assert [s.state for s in store.verify(manifest.name)] == ["corrupt"]
    shutil.copyfile(tiny(tmp_path), theirs)
    assert [s.state for s in store.verify(manifest.name)] == ["ok"]
    assert store.paths(manifest)
    theirs.unlink()
    with store.partial("k") as part:  # a pull brings bytes of its own
        shutil.copyfile(tiny(tmp_path), part.path)
        store.ingest(part.path, digest=None)
    (path,) = store.paths(manifest)
    assert path.is_relative_to(store.root)


def test_a_blob_we_have_is_not_taken_again(home: Path, theirs: Path, store: ModelStore, tmp_path: Path) -> None:
    ours = store.ingest(tiny(tmp_path), digest=None)
    manifest = adopt(store, one(find(home)))
    assert manifest.blobs[0].digest == ours.digest
    assert theirs.stat().st_nlink == 1


def test_an_unsound_file_is_refused(home: Path, theirs: Path, store: ModelStore) -> None:
    with theirs.open("r+b") as file:
        file.truncate(200)
    with pytest.raises(GGUFError):
        adopt(store, one(find(home)))
    assert store.list() == []
    assert not store.root.exists()
