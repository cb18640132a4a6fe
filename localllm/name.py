"""ModelName: what a person may call a model. The one parser and the one formatter; touches no file and no network.

Forms (canonical; `parse` also takes what people paste: hub pages, `owner/repo`, `hf.co/...`, a bare `x.gguf`):
    smollm2   qwen3:0.6b   qwen3:0.6b-q4_k_m            a catalogue entry
    hf:owner/repo[:QUANT|:dir/file.gguf][@revision]     Hugging Face; `ms:` is the same on ModelScope
    ollama:[namespace/]name[:tag]                       the Ollama registry
    pypi:dist[==version][/dir/member.gguf]              a file in a wheel
    https://host/x.gguf[#sha256=...]                    any web server
    ./x.gguf  ../x.gguf  /x.gguf  ~/x.gguf  C:\\x.gguf   a file here; a store's blob sha256-<hex> is one too
"""

from __future__ import annotations

import os
import re
import unicodedata
from typing import Literal, NoReturn

import msgspec

from localllm.errors import ModelNameError

Source = Literal["catalog", "hf", "ms", "ollama", "pypi", "url", "file"]

_PREFIXES: dict[str, Source] = {
    "hf": "hf",
    "huggingface": "hf",
    "ms": "ms",
    "modelscope": "ms",
    "ollama": "ollama",
    "pypi": "pypi",
}
_HUB_HOSTS: dict[str, Source] = {
    "hf.co": "hf",
    "www.hf.co": "hf",
    "huggingface.co": "hf",
    "www.huggingface.co": "hf",
    "modelscope.cn": "ms",
    "www.modelscope.cn": "ms",
    "modelscope.ai": "ms",
    "www.modelscope.ai": "ms",
    "ollama.com": "ollama",
    "www.ollama.com": "ollama",
    "registry.ollama.ai": "ollama",
}
_FORMS = "write smollm2:135m, hf:owner/repo:Q4_K_M, ms:owner/repo, ollama:name:tag, https://host/x.gguf or ./x.gguf"

_MAX_PATH, _MAX_URL, _MAX_FILE, _MAX_REPO = 4096, 2048, 255, 96
_WORD = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_HUB_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]*")
_HUB = re.compile(r"(?P<repo>[^:@]+)(?:@(?P<early>[^:@]+))?(?::(?P<what>[^:@]+))?(?:@(?P<late>[^:@]+))?")
_QUANT = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_REVISION = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._/+-]{0,254}")
_OLLAMA_NAMESPACE = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_-]{0,79}")
_OLLAMA_PART = re.compile(r"[A-Za-z0-9_][A-Za-z0-9._-]{0,79}")
_DIST = re.compile(r"[A-Za-z0-9](?:[A-Za-z0-9._-]{0,98}[A-Za-z0-9])?")
_VERSION = re.compile(r"[A-Za-z0-9][A-Za-z0-9.!+_-]{0,63}")
_SHA256 = re.compile(r"[0-9a-f]{64}")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")
_PATH_START = re.compile(r"\.{1,2}[\\/]|[\\/]|~[\\/]|[A-Za-z]:[\\/]")
_DEVICE = re.compile(r"(con|prn|aux|nul|com[0-9]|lpt[0-9])(\..*)?")
_HIDDEN = {"Cc", "Cf", "Cs", "Co", "Zl", "Zp"}


class ModelName(msgspec.Struct, frozen=True, omit_defaults=True):
    """A parsed name. `str()` is its canonical text, and parses back to the same value.

    `repo`: the catalogue's or registry's name, "owner/repo", the distribution, the URL without fragment, or the path.
    `tag`: catalogue or registry tag, or the wanted quantization in upper case. `file`: path inside the repo or wheel.
    `revision`: branch, tag or commit of a hub, or the version of a distribution. `sha256`: 64 hex digits (URL only).
    """

    source: Source
    repo: str
    tag: str | None = None
    file: str | None = None
    revision: str | None = None
    sha256: str | None = None

    @classmethod
    def parse(cls, text: str) -> ModelName:
        """Read a name as a person typed or pasted it. Raises ModelNameError with a hint."""
        return _parse(text)

    def __str__(self) -> str:
        tag, file, revision = self.tag, self.file, self.revision
        match self.source:
            case "catalog":
                return self.repo + (f":{tag}" if tag else "")
            case "hf" | "ms":
                what = file if file is not None else tag
                return (
                    f"{self.source}:{self.repo}" + (f":{what}" if what else "") + (f"@{revision}" if revision else "")
                )
            case "ollama":
                return f"ollama:{self.repo.removeprefix('library/')}" + (f":{tag}" if tag else "")
            case "pypi":
                return f"pypi:{self.repo}" + (f"=={revision}" if revision else "") + (f"/{file}" if file else "")
            case "url":
                return self.repo + (f"#sha256={self.sha256}" if self.sha256 else "")
            case "file":
                return self.repo

    def absolute(self) -> ModelName:
        """The same name whatever the working directory: the path of a file made absolute, `~` replaced."""
        if self.source != "file" or _DRIVE.match(self.repo) or self.repo.startswith("\\\\"):
            return self
        return msgspec.structs.replace(self, repo=os.path.abspath(os.path.expanduser(self.repo)))


def _parse(text: str) -> ModelName:
    if not isinstance(text, str):
        raise ModelNameError(f"a model name is text, not {type(text).__name__}", hint=_FORMS)
    text = text.strip(" \t\r\n")
    if not text:
        raise ModelNameError("the model name is empty", hint=_FORMS)
    if len(text) > _MAX_PATH:
        raise ModelNameError(f"a model name of {len(text)} characters", hint=_FORMS)
    if any(unicodedata.category(char) in _HIDDEN for char in text):
        _bad(text, "it has a character that cannot be seen", "type the name instead of pasting it")
    if text.startswith("-"):
        _bad(text, "it starts with '-'", "options come with two dashes and before or after the name")
    if _PATH_START.match(text):
        return _file(text)
    head, colon, rest = text.partition(":")
    if colon and (source := _PREFIXES.get(head.lower())) is not None:
        return _of_source(source, rest.removeprefix("//"), text)
    if colon and rest.startswith("//"):
        if head.lower() in ("http", "https"):
            return _web_address(text)
        _bad(text, f"{head}:// is not a source", "write ./x.gguf for a file here" if head == "file" else None)
    host, slash, path = text.partition("/")
    if slash and (source := _HUB_HOSTS.get(host.lower())) is not None:
        return _hub_page(source, path, text)
    if text.lower().endswith(".gguf") and not colon:
        return _file(f"./{text}")
    if slash:
        return _hub("hf", text, text)
    return _catalog(text)


def _of_source(source: Source, rest: str, text: str) -> ModelName:
    host, slash, path = rest.partition("/")
    if slash and _HUB_HOSTS.get(host.lower()) == source:
        return _hub_page(source, path, text)
    if source == "ollama":
        return _ollama(rest, text)
    if source == "pypi":
        return _pypi(rest, text)
    return _hub(source, rest, text)


def _catalog(text: str) -> ModelName:
    name, colon, tag = text.lower().partition(":")
    if not _WORD.fullmatch(name) or (colon and not _WORD.fullmatch(tag)) or ".." in text:
        _bad(text, "it is no model name")
    if _DEVICE.fullmatch(name):
        _bad(text, f"{name} is a device of Windows")
    return ModelName("catalog", name, tag=tag or None)


def _hub(source: Source, rest: str, text: str) -> ModelName:
    """`owner/repo[:what][@revision]`, also `owner/repo@revision:what` and `owner/repo/dir/file.gguf`."""
    found = _HUB.fullmatch(rest)
    if found is None or (found["early"] and found["late"]):
        _bad(text, "it is not owner/repo, owner/repo:QUANT or owner/repo:file.gguf")
    owner, _, repo = found["repo"].partition("/")
    repo, _, file = repo.partition("/")
    what, revision = found["what"], found["early"] or found["late"]
    if file and what:
        _bad(text, "it names two files")
    if what and what.lower().endswith(".gguf"):
        file = what
    return _hub_name(source, owner, repo, text, file=file, quant=None if file else what, revision=revision)


def _hub_name(
    source: Source, owner: str, repo: str, text: str, *, file: str = "", quant: str | None, revision: str | None
) -> ModelName:
    name = f"{owner}/{repo}"
    for part in (owner, repo):
        if not _HUB_PART.fullmatch(part) or ".." in part or part.endswith("."):
            _bad(text, f"{part!r} is no owner or repository" if part else "the repository is missing")
    if len(name) > _MAX_REPO:
        _bad(text, f"owner and repository have {len(name)} characters, a hub allows {_MAX_REPO}")
    if quant is not None and quant.lower() == "latest":
        quant = None
    if quant is not None and not _QUANT.fullmatch(quant):
        _bad(text, f"{quant!r} is no quantization", "such as Q4_K_M or Q8_0")
    if revision is not None and (not _REVISION.fullmatch(revision) or ".." in revision or "//" in revision):
        _bad(text, f"{revision!r} is no branch, tag or commit")
    return ModelName(
        source,
        name,
        tag=quant.upper() if quant else None,
        file=_inner_path(file, text) if file else None,
        revision=revision,
    )


def _hub_page(source: Source, path: str, text: str) -> ModelName:
    """The address of a page of a hub, without its host."""
    from urllib.parse import unquote

    path = path.partition("?")[0].partition("#")[0].strip("/")
    if source == "ollama":
        return _ollama(path, text)
    if source == "ms":
        path = path.removeprefix("models/")
    parts = path.split("/")
    if len(parts) < 3:
        return _hub(source, path, text)
    owner, repo, kind, *rest = parts
    if kind == "file" and rest[:1] == ["view"]:  # ModelScope's page of a file
        rest = rest[1:]
    elif kind not in ("blob", "resolve", "raw", "tree"):
        rest = []
    revision = unquote(rest[0]) if rest else None
    file = unquote("/".join(rest[1:])) if kind != "tree" else ""
    if revision in ("main", "master"):
        revision = None
    return _hub_name(source, owner, repo, text, file=file, quant=None, revision=revision)


def _ollama(rest: str, text: str) -> ModelName:
    rest, colon, tag = rest.partition(":")
    namespace, slash, model = rest.rpartition("/")
    namespace = namespace if slash else "library"
    if not _OLLAMA_NAMESPACE.fullmatch(namespace) or not _OLLAMA_PART.fullmatch(model) or ".." in rest:
        _bad(text, "it is not ollama:name:tag or ollama:namespace/name:tag")
    if colon and (not _OLLAMA_PART.fullmatch(tag) or ".." in tag):
        _bad(text, f"{tag!r} is no tag")
    return ModelName("ollama", f"{namespace}/{model}", tag=tag if tag and tag != "latest" else None)


def _pypi(rest: str, text: str) -> ModelName:
    spec, slash, member = rest.partition("/")
    dist, equals, version = spec.partition("==")
    if not _DIST.fullmatch(dist) or (equals and not _VERSION.fullmatch(version)):
        _bad(text, "it is not pypi:distribution==version/path/in/wheel.gguf")
    return ModelName(
        "pypi",
        re.sub(r"[-_.]+", "-", dist).lower(),
        file=_inner_path(member, text) if slash else None,
        revision=version or None,
    )


def _web_address(text: str) -> ModelName:
    from urllib.parse import quote, urlsplit

    if len(text) > _MAX_URL:
        _bad(text, f"it has {len(text)} characters, an address at most {_MAX_URL}")
    try:
        parts = urlsplit(text)
        host, port = parts.hostname or "", parts.port
    except ValueError as exc:
        raise ModelNameError(f"{_show(text)} is no web address: {exc}", hint=_FORMS) from exc
    if "@" in parts.netloc:
        _bad(text, "it carries a user name or password", "leave them out: tokens come from the environment")
    if (source := _HUB_HOSTS.get(host)) is not None and port is None:
        return _hub_page(source, parts.path.lstrip("/"), text)
    if not host or not host.isascii() or not re.fullmatch(r"[a-z0-9.:_-]+", host):
        _bad(text, "its host is not plain ASCII" if host else "it has no host")
    segments = parts.path.split("/")
    if ".." in segments or "." in segments or re.search(r"[\s\\\"<>^`{|}]", parts.path + parts.query):
        _bad(text, "its path is no clean path")
    if not segments[-1].lower().endswith(".gguf"):
        _bad(text, "it does not end in .gguf", "an address of a model is https://host/path/x.gguf")
    sha256 = None
    if parts.fragment:
        key, _, value = parts.fragment.partition("=")
        sha256 = value.lower()
        if key != "sha256" or not _SHA256.fullmatch(sha256):
            _bad(text, "what follows # is not sha256= and 64 hex digits")
    shown = f"[{host}]" if ":" in host else host
    base = f"{parts.scheme.lower()}://{shown}{'' if port is None else f':{port}'}"
    keep = "/%:@!$&'()*+,;=~-._"
    query = f"?{quote(parts.query, safe=keep + '?')}" if parts.query else ""
    return ModelName("url", base + quote(parts.path, safe=keep) + query, sha256=sha256)


def _file(text: str) -> ModelName:
    name = re.split(r"[\\/]", text)[-1].lower()
    is_blob = re.fullmatch(r"sha256-[0-9a-f]{64}", name)  # as stores of this program and of Ollama keep weights
    if not is_blob and (not name.endswith(".gguf") or name == ".gguf"):
        _bad(text, "a file here is named with its ending .gguf", "`localllm adopt` finds the models of other programs")
    return ModelName("file", text)


def _inner_path(path: str, text: str) -> str:
    parts = path.split("/")
    if any(part in ("", ".", "..") or part != part.strip() for part in parts) or re.search(r"[\\:@?#*\"<>|]", path):
        _bad(text, f"{path!r} is no path inside it")
    if not path.lower().endswith(".gguf") or parts[-1].lower() == ".gguf":
        _bad(text, f"{path!r} is no .gguf file")
    if path.startswith("-") or len(path) > _MAX_FILE:
        _bad(text, f"{_show(path)} is no path inside it")
    return path


def _bad(text: str, why: str, hint: str | None = None) -> NoReturn:
    raise ModelNameError(f"{_show(text)}: {why}", hint=hint or _FORMS, name=text[:200])


def _show(text: str) -> str:
    return repr(text if len(text) <= 80 else text[:77] + "...")
