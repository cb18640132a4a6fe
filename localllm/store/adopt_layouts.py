"""Where other programs keep their GGUF files, one function a program. Reads names, small text files, magic bytes.

Facts: huggingface_hub's cache layout (models--owner--repo/{refs,snapshots,blobs}, an LFS blob is named by its sha256);
Ollama's `manifests/<host>/<namespace>/<model>/<tag>` JSON and `blobs/sha256-<hex>`; LM Studio's
`models/<publisher>/<repo>/` under its home, which `~/.lmstudio-home-pointer` may move and `downloadsFolder` in
settings.json replace; llama.cpp's flat cache `<owner>_<repo>_<file>.gguf` (newer ones use the Hugging Face cache);
Jan's `<data>/llamacpp/models/<id>/model.yml`, whose paths are absolute or relative to the data folder, and
`~/jan/models/<id>/` of older releases.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, Literal

import msgspec

from localllm.api import SamplingParams
from localllm.errors import GGUFError, ModelNameError
from localllm.name import ModelName
from localllm.store.gguf import find_shards, split_name
from localllm.store.manifest import digest_stem

log = logging.getLogger(__name__)

Source = Literal["huggingface", "ollama", "lmstudio", "llama.cpp", "jan"]
_MAX_TEXT_BYTES = 1 << 20
_MAX_FILES = 100_000
_HEX64 = re.compile(r"[0-9a-f]{64}\Z")


class FoundFile(msgspec.Struct, frozen=True):
    """One file of another program. `path`: where its bytes are, links followed; `digest`: what that program says."""

    path: Path
    filename: str
    size_bytes: int
    digest: str | None = None
    role: Literal["model", "mmproj"] = "model"


class Adoptable(msgspec.Struct, frozen=True):
    """A model that another program holds. `name` is what it would be called here."""

    source: Source
    name: str
    origin: str
    files: tuple[FoundFile, ...]
    system: str | None = None
    num_ctx: int | None = None
    sampling: SamplingParams = SamplingParams()

    @property
    def paths(self) -> tuple[Path, ...]:
        """Its files."""
        return tuple(file.path for file in self.files)

    @property
    def size_bytes(self) -> int:
        """Bytes of all its files: what a copy would cost."""
        return sum(file.size_bytes for file in self.files)

    @property
    def digest(self) -> str | None:
        """The first file's digest, as the other program says."""
        return self.files[0].digest


class Places(msgspec.Struct, frozen=True):
    """The machine as the finders see it: environment, home directory and `sys.platform`."""

    env: Mapping[str, str]
    home: Path
    platform: str

    def of(self, *variables: str) -> Path | None:
        """The path in the first of these environment variables that is set."""
        for variable in variables:
            if value := self.env.get(variable):
                return Path(value).expanduser()
        return None

    def cache_dir(self) -> Path:
        """Where programs of this system keep caches."""
        if self.platform == "win32":
            return self.of("LOCALAPPDATA") or self.home / "AppData" / "Local"
        if self.platform == "darwin":
            return self.home / "Library" / "Caches"
        return self.of("XDG_CACHE_HOME") or self.home / ".cache"

    def app_data_dir(self) -> Path:
        """Where programs of this system keep data."""
        if self.platform == "win32":
            return self.of("APPDATA") or self.home / "AppData" / "Roaming"
        if self.platform == "darwin":
            return self.home / "Library" / "Application Support"
        return self.of("XDG_DATA_HOME") or self.home / ".local" / "share"


def find_huggingface(places: Places) -> Iterator[Adoptable]:
    """GGUF files of the Hugging Face hub cache: of each repository the snapshot `main` points at, else the newest."""
    hub = places.of("HF_HUB_CACHE", "HUGGINGFACE_HUB_CACHE")
    if hub is None:
        home = places.of("HF_HOME")
        xdg = places.of("XDG_CACHE_HOME")
        hub = (home if home else (xdg or places.home / ".cache") / "huggingface") / "hub"
    for repo_dir in _subdirs(hub):
        parts = repo_dir.name.split("--")
        if parts[0] != "models" or len(parts) < 2:
            continue
        repo = "/".join(parts[1:])
        snapshot = _snapshot(repo_dir)
        if snapshot is None:
            continue
        groups = _group(_walk(snapshot), snapshot)
        for relative, files in groups:
            origin = f"hf:{repo}/{relative}@{snapshot.name}"
            name = canonical_name(f"hf:{repo}:{relative}", relative, "hf")
            yield Adoptable("huggingface", name, origin, files)


def find_ollama(places: Places) -> Iterator[Adoptable]:
    """Models of Ollama's store, with the system text and parameters it gives them."""
    roots = [places.of("OLLAMA_MODELS") or places.home / ".ollama" / "models"]
    if places.platform.startswith("linux"):
        roots.append(Path(places.env.get("OLLAMA_SERVICE_HOME", "/usr/share/ollama")) / ".ollama" / "models")
    for root in roots:
        for path in _walk(root / "manifests"):
            parts = path.relative_to(root / "manifests").parts
            if len(parts) == 4 and (found := _ollama_model(root, path, parts)):
                yield found


def find_lmstudio(places: Places) -> Iterator[Adoptable]:
    """GGUF files under LM Studio's models directories."""
    homes = [places.home / ".lmstudio", places.home / ".cache" / "lm-studio"]
    if pointed := _read_text(places.home / ".lmstudio-home-pointer"):
        homes.insert(0, Path(pointed.strip()).expanduser())
    for home in homes:
        moved = _read_json(home / "settings.json").get("downloadsFolder")
        for root in [Path(moved)] if isinstance(moved, str) and moved else [home / "models"]:
            for relative, files in _group(_walk(root), root):
                parts = relative.split("/")
                name = canonical_name(f"hf:{'/'.join(parts[:2])}:{'/'.join(parts[2:])}", relative, "lmstudio")
                yield Adoptable("lmstudio", name, f"lmstudio:{relative}", files)


def find_llamacpp(places: Places) -> Iterator[Adoptable]:
    """GGUF files of llama.cpp's own flat cache."""
    root = places.of("LLAMA_CACHE") or places.cache_dir() / "llama.cpp"
    repos = []
    for path in _listed(root):
        if path.name.startswith("manifest=") and len(parts := path.stem.split("=")) == 4:
            repos.append((f"{parts[1]}_{parts[2]}_", f"{parts[1]}/{parts[2]}"))
    for relative, files in _group(_listed(root), root):
        prefix, repo = next((pair for pair in repos if relative.startswith(pair[0])), ("", ""))
        name = canonical_name(f"hf:{repo}:{relative.removeprefix(prefix)}", relative, "llamacpp")
        yield Adoptable("llama.cpp", name, f"llama.cpp:{relative}", files)


def find_jan(places: Places) -> Iterator[Adoptable]:
    """Models of Jan: those with a model.yml, and GGUF files of older releases."""
    app = places.app_data_dir() / "Jan"
    data = places.of("JAN_DATA_FOLDER")
    if data is None:
        moved = _read_json(app / "settings.json").get("data_folder")
        data = Path(moved) if isinstance(moved, str) and moved else app / "data"
    models = data / "llamacpp" / "models"
    for path in _walk(models):
        if path.name == "model.yml" and (found := _jan_model(data, models, path)):
            yield found
    for old in (data / "models", places.home / "jan" / "models"):
        for relative, files in _group(_walk(old), old):
            yield Adoptable("jan", plain_name(relative, "jan"), f"jan:{relative}", files)


FINDERS = (find_huggingface, find_ollama, find_lmstudio, find_llamacpp, find_jan)


def _snapshot(repo_dir: Path) -> Path | None:
    main = (_read_text(repo_dir / "refs" / "main") or "").strip()
    if re.fullmatch(r"[0-9a-f]{40}", main) and (repo_dir / "snapshots" / main).is_dir():
        return repo_dir / "snapshots" / main
    return max(_subdirs(repo_dir / "snapshots"), key=lambda path: path.stat().st_mtime, default=None)


def _ollama_model(root: Path, path: Path, parts: tuple[str, ...]) -> Adoptable | None:
    host, namespace, model, tag = parts
    texts: dict[str, str] = {}
    files: list[FoundFile] = []
    layers = _read_json(path).get("layers")
    for layer in layers if isinstance(layers, list) else ():
        kind = str(layer.get("mediaType", "")) if isinstance(layer, dict) else ""
        try:
            blob = root / "blobs" / digest_stem(layer["digest"])
        except Exception:
            continue
        role = {"image.model": "model", "image.projector": "mmproj"}.get(kind.removeprefix("application/vnd.ollama."))
        if role is not None:
            if (found := _found(blob, f"{model}-{tag}.gguf", role)) is None:
                return None
            files.append(found)
        elif kind.endswith((".system", ".params")):
            texts[kind.rpartition(".")[2]] = _read_text(blob) or ""
    if not any(file.role == "model" for file in files):
        return None
    short = model if namespace == "library" else f"{namespace}/{model}"
    name = f"ollama:{short}:{tag}" if host == "registry.ollama.ai" else f"ollama:{host}/{namespace}/{model}:{tag}"
    if host in ("hf.co", "huggingface.co"):
        name = f"hf:{namespace}/{model}:{tag}"
    name = canonical_name(name, f"{model}-{tag}", "ollama")
    origin = f"ollama:{host}/{namespace}/{model}:{tag}"
    num_ctx, sampling = _ollama_params(texts.get("params", ""))
    return Adoptable("ollama", name, origin, tuple(files), texts.get("system") or None, num_ctx, sampling)


def _ollama_params(text: str) -> tuple[int | None, SamplingParams]:
    """Ollama's parameters that mean the same here; one of the wrong type drops them all."""
    renamed = {"num_predict": "max_tokens"}
    try:
        params = {renamed.get(key, key): value for key, value in json.loads(text or "{}").items()}
        if params.get("max_tokens", 1) < 0:
            del params["max_tokens"]
        num_ctx = params.get("num_ctx")
        known = {key: value for key, value in params.items() if key in SamplingParams.__struct_fields__}
        return num_ctx if type(num_ctx) is int else None, msgspec.convert(known, SamplingParams)
    except (ValueError, TypeError, AttributeError, msgspec.MsgspecError):
        return None, SamplingParams()


def _jan_model(data: Path, models: Path, path: Path) -> Adoptable | None:
    fields = _flat_yaml(_read_text(path) or "")
    model_id = path.parent.relative_to(models).as_posix()
    files: list[FoundFile] = []
    for key, role in (("model_path", "model"), ("mmproj_path", "mmproj")):
        if value := fields.get(key):
            first = data / value
            with contextlib.suppress(GGUFError):
                found = [_found(shard, shard.name, role) for shard in find_shards(first)]
                files += [file for file in found if file is not None]
    if not files or files[0].role != "model":
        return None
    return Adoptable("jan", plain_name(model_id, "jan"), f"jan:{model_id}", tuple(files))


def _flat_yaml(text: str) -> dict[str, str]:
    """Top-level `key: value` lines of a YAML file, which is all that model.yml needs; a folded value is joined."""
    found: dict[str, str] = {}
    folded: str | None = None
    for line in text.splitlines():
        if folded is not None and line.startswith((" ", "\t")):
            found[folded] = f"{found[folded]} {line.strip()}".strip()
            continue
        folded = None
        match = re.match(r"([A-Za-z_]\w*):(?:\s+(.*))?\Z", line)
        if match:
            value = (match[2] or "").strip()
            if value in (">", ">-", "|", "|-"):
                folded, value = match[1], ""
            if len(value) > 1 and value[0] == value[-1] == '"':
                with contextlib.suppress(ValueError):
                    value = str(json.loads(value))
            elif len(value) > 1 and value[0] == value[-1] == "'":
                value = value[1:-1].replace("''", "'")
            found[match[1]] = value
    return found


def _group(paths: list[Path], root: Path) -> Iterator[tuple[str, tuple[FoundFile, ...]]]:
    """Whole models among files: shards together, with the projector beside them. Names are relative to `root`."""
    ggufs = [path for path in paths if path.name.lower().endswith(".gguf")]
    projectors = [path for path in ggufs if "mmproj" in path.name.lower()]
    for path in ggufs:
        parts = split_name(path.name)
        if path in projectors or (parts is not None and parts[1] != 1):
            continue
        try:
            files = [_found(shard, shard.name, "model") for shard in find_shards(path)]
        except GGUFError as exc:
            log.info("left out: %s", exc)
            continue
        whole = [file for file in files if file is not None]
        if len(whole) != len(files):
            continue
        beside = next((p for p in projectors if p.parent == path.parent and _same_family(p.name, path.name)), None)
        if beside is not None and (projector := _found(beside, beside.name, "mmproj")):
            whole.append(projector)
        yield path.relative_to(root).as_posix(), tuple(whole)


def _same_family(projector: str, model: str) -> bool:
    """In a directory of one repository any projector fits; in a flat cache its prefix must be the model's."""
    prefix = projector[: projector.lower().index("mmproj")]
    return model.startswith(prefix)


def _found(path: Path, filename: str, role: str) -> FoundFile | None:
    """The file behind `path` when it is one and starts like a GGUF."""
    try:
        real = path.resolve(strict=True)
        f"{path}{real}".encode()  # a name that is no UTF-8 fits no manifest
        with real.open("rb") as file:
            if not real.is_file() or file.read(4) != b"GGUF":
                return None
            size = os.fstat(file.fileno()).st_size
    except (OSError, RuntimeError, UnicodeEncodeError):
        return None
    stem = real.name.removeprefix("sha256-")
    digest = f"sha256:{stem}" if _HEX64.match(stem) else None
    return FoundFile(real, filename, size, digest, "mmproj" if role == "mmproj" else "model")


def canonical_name(text: str, path: str, tag: str) -> str:
    """`text` as ModelName spells it; a plain name made from `path` where it is none."""
    try:
        return str(ModelName.parse(text))
    except ModelNameError:
        return plain_name(path, tag)


def plain_name(path: str, tag: str) -> str:
    """A plain model name, `stem:tag`, from a path or id."""
    last = path.rpartition("/")[2]
    parts = split_name(last)
    stem = (parts[0] if parts else last.removesuffix(".gguf")).lower()
    stem = re.sub(r"\.{2,}", ".", re.sub(r"[^a-z0-9._-]+", "-", stem)).strip("._-")[:58].strip("._-") or "model"
    try:
        return str(ModelName.parse(f"{stem}:{tag}"))
    except ModelNameError:  # a device name of Windows
        return f"model-{stem}:{tag}"


def _walk(root: Path) -> list[Path]:
    """Files below `root`, links to directories not entered."""
    found: list[Path] = []
    for directory, names, files in os.walk(root):
        names[:] = sorted(name for name in names if not name.startswith("."))
        found += [Path(directory, name) for name in sorted(files)]
        if len(found) > _MAX_FILES:
            log.warning("%s holds over %d files; the rest is not looked at", root, _MAX_FILES)
            break
    return found


def _listed(root: Path) -> list[Path]:
    try:
        return sorted(path for path in root.iterdir() if path.is_file())
    except OSError:
        return []


def _subdirs(root: Path) -> list[Path]:
    try:
        return sorted(path for path in root.iterdir() if path.is_dir())
    except OSError:
        return []


def _read_text(path: Path) -> str | None:
    try:
        if not path.is_file() or path.stat().st_size > _MAX_TEXT_BYTES:
            return None
        return path.read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None


def _read_json(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(_read_text(path) or "{}")
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}
