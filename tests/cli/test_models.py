"""`list show rm cp verify prune pull search adopt`: over a real store where they read one."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from localllm import paths
from localllm.api import ModelInfo, SamplingParams
from localllm.cli.complete import complete_model
from localllm.store.describe import describe
from localllm.store.store import ModelStore
from localllm.terminal_text import width
from tests.cli.running import localllm
from tests.store.tiny_gguf import TEMPLATE, write_tiny_gguf


@pytest.fixture
def tiny(tmp_path: Path) -> Path:
    """A sound little file."""
    return write_tiny_gguf(tmp_path / "tiny.gguf")


@pytest.fixture
def store(private_home: Path, tiny: Path) -> ModelStore:
    """A store with one model, `tiny:q4`."""
    del private_home
    store = ModelStore(paths.store_dir())
    blob = store.ingest(tiny, digest=None)
    store.add(describe("tiny:q4", "./tiny.gguf", [blob], [tiny], sampling=SamplingParams(temperature=0.2)))
    return store


# --- list


def test_list_as_a_table() -> None:
    ran = localllm("list")
    head, *rows = ran.stdout.splitlines()
    assert head.split() == ["NAME", "SIZE", "QUANT", "PARAMS", "CONTEXT", "MODIFIED"]
    assert [row.split()[0] for row in rows] == ["evil\\x1b]0;owned\\x07", "smollm2:135m", "tiny"]
    assert rows[1].split()[1:6] == ["98.4", "MB", "Q4_1", "135M", "8192"]
    assert "\x1b" not in ran.stdout
    assert localllm("ls").stdout == ran.stdout


def test_list_as_json_has_the_documented_keys() -> None:
    documents = json.loads(localllm("list", "--json").stdout)
    assert all(tuple(document) == ModelInfo.__struct_fields__ for document in documents)
    for key in ModelInfo.__struct_fields__:
        assert key in localllm("list", "--help").stdout


def test_list_quietly_is_names_only() -> None:
    assert localllm("list", "--quiet").stdout.splitlines()[1:] == ["smollm2:135m", "tiny"]


@pytest.mark.parametrize("columns", [20, 40, 80])
def test_list_fits_a_narrow_terminal(columns: int) -> None:
    from tests.cli.running import COMMAND
    from tests.cli.terminal import Terminal

    with Terminal([*COMMAND, "list"], {"NO_COLOR": "1"}, columns=columns) as terminal:
        assert terminal.wait() == 0
    assert max(map(width, terminal.text.splitlines())) <= columns
    assert "\x1b" not in terminal.raw
    assert "smollm2:135m" in terminal.text


# --- show


def test_show_an_installed_model_and_a_file(store: ModelStore, tiny: Path) -> None:
    ran = localllm("show", "tiny:q4")
    assert ran.stdout.splitlines()[:4] == [
        "name          tiny:q4",
        "architecture  llama",
        "parameters    256",
        "quant         F32",
    ]
    assert f"digest        {store.get('tiny:q4').blobs[0].digest}" in ran.stdout
    assert "sampling      temperature 0.2" in ran.stdout
    by_path = localllm("show", str(tiny))
    assert "architecture  llama" in by_path.stdout
    assert "origin" not in by_path.stdout


def test_show_parts(store: ModelStore) -> None:
    del store
    assert localllm("show", "tiny:q4", "--template").stdout == TEMPLATE + "\n"
    assert localllm("show", "tiny:q4", "--licence").stdout == localllm("show", "tiny:q4", "--license").stdout == "mit\n"
    assert "blk.1.weight  F32   32x4   512 B" in localllm("show", "tiny:q4", "--tensors").stdout
    metadata = localllm("show", "tiny:q4", "--metadata").stdout
    assert ["llama.context_length", "512"] in [line.split() for line in metadata.splitlines()]


def test_show_as_json(store: ModelStore, tiny: Path) -> None:
    del store
    document = json.loads(localllm("show", "tiny:q4", "--json").stdout)
    assert document["name"] == "tiny:q4"
    assert document["template"] == TEMPLATE
    assert document["metadata"]["llama.context_length"] == 512
    assert document["sampling"]["temperature"] == 0.2
    assert document["tensors"] is None
    with_tensors = json.loads(localllm("show", str(tiny), "--json", "--tensors").stdout)
    assert set(with_tensors) == set(document)
    assert with_tensors["tensors"][0] == {"name": "blk.0.weight", "type": "F32", "shape": [32, 4], "size_bytes": 512}
    assert with_tensors["origin"] is None


def test_show_what_gives_orders_to_a_terminal(private_home: Path, tmp_path: Path) -> None:
    del private_home
    path = write_tiny_gguf(tmp_path / "evil.gguf", template="a\x1b[2Jb", general__author="x\x1b]0;owned\x07")
    ran = localllm("show", str(path), "--metadata")
    assert "\x1b" not in ran.stdout
    assert "x\\x1b]0;owned\\x07" in ran.stdout


@pytest.mark.parametrize("name", ["none.gguf", "./none.gguf"])
def test_show_a_file_that_is_not_there(name: str) -> None:
    ran = localllm("show", name)
    assert ran.returncode == 1
    assert ran.stderr.startswith(f"error: no file {name}")


def test_show_a_file_that_is_no_gguf(tmp_path: Path) -> None:
    path = tmp_path / "bad.gguf"
    path.write_bytes(b"GGUF" + b"\xff" * 100)
    ran = localllm("show", str(path))
    assert ran.returncode == 1
    assert ran.stderr.startswith("error: ")
    assert "Traceback" not in ran.stderr


def test_show_without_a_template(tmp_path: Path) -> None:
    path = write_tiny_gguf(tmp_path / "plain.gguf", template=None)
    ran = localllm("show", str(path), "--template")
    assert (ran.returncode, ran.stdout) == (1, "")
    assert "names no chat template" in ran.stderr


# --- rm, cp, completion


def test_copy_and_remove(store: ModelStore) -> None:
    assert localllm("cp", "tiny:q4", "mine").returncode == 0
    ran = localllm("rm", "tiny:q4")
    assert (ran.returncode, ran.stderr) == (0, "removed tiny:q4, 0 B freed\n")
    assert [manifest.name for manifest in store.list()] == ["mine"]
    assert "freed" in localllm("rm", "mine", "mine").stderr
    assert store.list() == []


def test_remove_all_or_nothing(store: ModelStore) -> None:
    ran = localllm("rm", "tiny:q4", "other")
    assert ran.returncode == 1
    assert "error: no model other here" in ran.stderr
    assert len(store.list()) == 1


def test_names_that_make_no_sense(store: ModelStore) -> None:
    del store
    assert localllm("rm", "a b").returncode == 2
    ran = localllm("cp", "tiny:q4", "hf:owner/repo")
    assert ran.returncode == 2
    assert "hint: such as my-model" in ran.stderr


def test_completion_names_installed_models(store: ModelStore) -> None:
    del store
    assert complete_model("ti") == ["tiny:q4"]
    assert complete_model("x") == []


def test_completion_never_fails(private_home: Path) -> None:
    private_home.mkdir()
    (private_home / "config.toml").write_text("not = [toml")
    assert complete_model("ti") == []


# --- verify, prune


def test_verify_finds_what_is_corrupt(store: ModelStore) -> None:
    good = localllm("verify")
    assert good.returncode == 0
    assert good.stdout.splitlines()[1].split() == ["tiny:q4", "tiny.gguf", "ok"]
    path = store.paths(store.get("tiny:q4"))[0]
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)
    bad = localllm("verify", "tiny:q4", "--json")
    assert bad.returncode == 1
    document = json.loads(bad.stdout)[0]
    assert (document["name"], document["ok"], document["blobs"][0]["state"]) == ("tiny:q4", False, "corrupt")
    assert "error: tiny:q4 does not hold the bytes it should" in bad.stderr
    assert localllm("verify", "--quiet").stdout == ""


def test_verify_an_empty_store() -> None:
    ran = localllm("verify", "--json")
    assert (ran.returncode, json.loads(ran.stdout)) == (0, [])


def test_prune_tells_and_then_does(store: ModelStore) -> None:
    assert localllm("prune").stderr == "nothing to remove\n"
    document = json.loads(localllm("prune", "--dry-run", "--json").stdout)
    assert document == {"freed_bytes": 0, "blobs": [], "num_leftovers": 0, "num_prefixes": 0, "dry_run": True}
    assert store.list()


# --- pull


def test_pull_tells_what_is_installed() -> None:
    ran = localllm("pull", "new", "smollm2:135m")
    assert ran.returncode == 0
    assert ran.stdout == ""
    assert ran.stderr.splitlines()[-2:] == ["new is installed", "smollm2:135m is installed"]
    documents = json.loads(localllm("pull", "new", "smollm2", "--json", "--quiet").stdout)
    assert [document["name"] for document in documents] == ["new", "smollm2:135m"]


def test_pull_that_fails() -> None:
    ran = localllm("pull", "unreachable", "new")
    assert ran.returncode == 3
    assert "new" not in ran.stderr
    assert localllm("pull", "new", "--offline").returncode == 1


# --- search, adopt


def test_search_marks_what_is_installed(store: ModelStore, tiny: Path) -> None:
    blob = store.ingest(tiny, digest=None)
    store.add(describe("smollm2:135m", "pypi:x", [blob], [tiny]))
    rows = localllm("search", "smollm2").stdout.splitlines()
    assert rows[0].split()[0] == "NAME"
    assert next(row for row in rows if row.startswith("smollm2:135m ")).endswith("yes")
    found = json.loads(localllm("search", "smollm2", "--json").stdout)
    assert {document["name"]: document["installed"] for document in found}["smollm2:135m"] is True
    assert localllm("search", "smollm2", "135m", "--quiet").stdout.splitlines()[0].startswith("smollm2:135m")


def test_search_that_finds_nothing() -> None:
    ran = localllm("search", "smolm2")
    assert (ran.returncode, ran.stdout) == (0, "")
    assert "near to it: smollm2" in ran.stderr
    assert json.loads(localllm("search", "no such thing", "--json").stdout) == []


def _hub_cache(tmp_path: Path, tiny: Path) -> dict[str, str]:
    """A Hugging Face cache with one model, and no other program's models."""
    repo = tmp_path / "hub" / "models--owner--repo"
    snapshot = repo / "snapshots" / ("a" * 40)
    snapshot.mkdir(parents=True)
    (repo / "refs").mkdir()
    (repo / "refs" / "main").write_text("a" * 40)
    (snapshot / "tiny-Q4_0.gguf").write_bytes(tiny.read_bytes())
    return {
        "HF_HUB_CACHE": str(tmp_path / "hub"),
        "HOME": str(tmp_path / "home"),
        "USERPROFILE": str(tmp_path / "home"),
    }


def test_adopt_says_first_and_does_then(private_home: Path, tmp_path: Path, tiny: Path) -> None:
    del private_home
    env = _hub_cache(tmp_path, tiny)
    size = tiny.stat().st_size
    tried = json.loads(localllm("adopt", "--dry-run", "--json", env=env).stdout)
    assert [(item["source"], item["size_bytes"], item["state"], item["error"]) for item in tried] == [
        ("huggingface", size, "new", None)
    ]
    assert ModelStore(paths.store_dir()).list() == []
    done = localllm("adopt", env=env)
    assert done.returncode == 0, done.stderr
    assert "1 adopted" in done.stderr
    assert done.stdout.splitlines()[1].split()[-1] == "adopted"
    assert len(ModelStore(paths.store_dir()).list()) == 1
    again = localllm("adopt", env=env)
    assert again.stdout.splitlines()[1].split()[-1] == "installed"
    assert "0 adopted" in again.stderr


def test_adopt_only_from_some_sources(tmp_path: Path, tiny: Path) -> None:
    env = _hub_cache(tmp_path, tiny)
    ran = localllm("adopt", "--source", "ollama", "--json", env=env)
    assert json.loads(ran.stdout) == []
    assert localllm("adopt", "--source", "nowhere").returncode == 2


def test_adopt_goes_on_after_a_failure(private_home: Path, tmp_path: Path, tiny: Path) -> None:
    del private_home
    env = _hub_cache(tmp_path, tiny)
    bad = tmp_path / "hub" / "models--owner--bad" / "snapshots" / ("b" * 40)
    bad.mkdir(parents=True)
    (bad / "bad.gguf").write_bytes(b"GGUF" + b"\xff" * 100)
    ran = localllm("adopt", "--json", env=env)
    assert ran.returncode == 1
    states = {item["state"]: item["error"] for item in json.loads(ran.stdout)}
    assert states["adopted"] is None
    assert states["failed"]
    assert "error: " in ran.stderr
