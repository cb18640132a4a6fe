"""The Ollama registry: a model's manifest, its weights, and the defaults stored with them.

Facts of the interface: `GET /v2/{namespace}/{name}/manifests/{tag}` answers with `layers` of `mediaType`, `digest`,
`size`; `GET /v2/{namespace}/{name}/blobs/{digest}` redirects to the bytes. A 401 names in WWW-Authenticate where to get
a token; only the registry's own host is believed there (ollama: server/images.go, server/auth.go, manifest/).
Templates of the registry are Go templates: the one inside the GGUF is used instead.
"""

from __future__ import annotations

import hashlib
import logging
import re
from typing import Annotated, Any
from urllib.parse import urlencode

import msgspec
from msgspec import Meta

from localllm.api import SamplingParams, check_sampling
from localllm.errors import (
    AccessDeniedError,
    DigestMismatchError,
    DownloadError,
    InvalidRequestError,
    ModelNotFoundError,
)
from localllm.name import ModelName
from localllm.store.addresses import origin_of
from localllm.store.sources.api import ask, typed
from localllm.store.sources.remote import Context, RemoteFile, Resolved, Role
from localllm.store.web import LinkError

log = logging.getLogger(__name__)

_KIND = "application/vnd.ollama.image."
_ACCEPT = {"Accept": "application/vnd.docker.distribution.manifest.v2+json"}
_MAX_MANIFEST_BYTES = 4 << 20
_MAX_TEXT_BYTES = 1 << 20
_WEIGHTS: dict[str, Role] = {"model": "model", "projector": "mmproj"}
_UNUSABLE = {"adapter": "a LoRA adapter", "tensor": "weights that are no GGUF", "draft": "a draft model"}
_OPTIONS = frozenset(
    {
        "temperature",
        "top_k",
        "top_p",
        "min_p",
        "typical_p",
        "repeat_penalty",
        "repeat_last_n",
        "presence_penalty",
        "frequency_penalty",
        "mirostat",
        "mirostat_tau",
        "mirostat_eta",
        "seed",
    }
)


class _Layer(msgspec.Struct, rename="camel"):
    media_type: str
    digest: Annotated[str, Meta(pattern=r"^sha256:[0-9a-f]{64}\Z")]
    size: Annotated[int, Meta(ge=0, le=1 << 44)]

    @property
    def kind(self) -> str:
        return self.media_type.removeprefix(_KIND)


class _Manifest(msgspec.Struct, rename="camel"):
    layers: Annotated[list[_Layer], Meta(max_length=1024)]


def resolve(name: ModelName, context: Context) -> Resolved:
    """The layers of a tag: weights (and projector), and what its author set."""
    base = f"{context.settings.ollama_registry}/v2/{name.repo}"
    host, tag = origin_of(base).host, name.tag or "latest"
    url = f"{base}/manifests/{tag}"
    secrets: dict[str, str] = {}
    reply, document = ask(context, url, headers=_ACCEPT, max_bytes=_MAX_MANIFEST_BYTES)
    if reply.status == 401:
        secrets = _login(reply.header("www-authenticate") or "", url, context)
        reply, document = ask(context, url, headers=_ACCEPT, secrets=secrets, max_bytes=_MAX_MANIFEST_BYTES)
    if reply.status in (401, 403):
        raise AccessDeniedError(f"{host} refuses {name}", hint="private models are not supported", name=str(name))
    if reply.status == 404:
        hint = f"see https://ollama.com/{name.repo}/tags"
        raise ModelNotFoundError(f"{host} has no {name.repo}:{tag}", hint=hint, name=str(name))
    if reply.status != 200:
        raise DownloadError(f"{host} answers {reply.status} for {name}", status=reply.status)
    manifest = typed(document, _Manifest, host)
    files: dict[str, RemoteFile] = {}
    for layer in manifest.layers:
        if layer.kind in _UNUSABLE:
            raise DownloadError(f"{name} has {_UNUSABLE[layer.kind]}, which localllm does not run", name=str(name))
        role = _WEIGHTS.get(layer.kind)
        if role is not None:
            files[layer.digest] = _remote(layer, role, base, name, secrets)
    if not any(file.role == "model" for file in files.values()):
        hint = "it may run only in its vendor's cloud"
        raise ModelNotFoundError(f"{name} has no weights", hint=hint, name=str(name))
    texts = {layer.kind: _text(layer, base, context, secrets) for layer in manifest.layers if _is_text(layer)}
    sampling, num_ctx = _options(texts.get("params", ""), name)
    return Resolved(
        f"ollama:{name.repo}:{tag}@{next(iter(files))}",
        tuple(files.values()),
        licence=_first_line(texts.get("license")),
        system=texts.get("system"),
        num_ctx=num_ctx,
        sampling=sampling,
    )


def _remote(layer: _Layer, role: Role, base: str, name: ModelName, secrets: dict[str, str]) -> RemoteFile:
    model = name.repo.rpartition("/")[2]
    suffix = "" if role == "model" else f"-{role}"
    return RemoteFile(
        f"{base}/blobs/{layer.digest}",
        f"{model}-{name.tag or 'latest'}{suffix}.gguf",
        size_bytes=layer.size,
        sha256=layer.digest.removeprefix("sha256:"),
        role=role,
        secrets=tuple(secrets.items()),
        access_hint="private models are not supported",
    )


def _login(challenge: str, url: str, context: Context) -> dict[str, str]:
    """An anonymous token, from the registry's own host only: another host's would get what is meant for this one."""
    said = {key.lower(): value for key, value in re.findall(r'([A-Za-z]+)="([^"]*)"', challenge)}
    realm = said.get("realm", "")
    if not realm or origin_of(realm) != origin_of(url):
        where = origin_of(realm).host if realm else "nowhere"
        message = f"{origin_of(url).host} sends for a token to {where}"
        raise AccessDeniedError(message, hint="only the registry's own host is asked for one")
    query = urlencode({key: said[key] for key in ("service", "scope") if key in said})
    reply, document = ask(context, f"{realm}{'&' if '?' in realm else '?'}{query}", max_bytes=_MAX_TEXT_BYTES)
    token = document.get("token") if reply.status == 200 and isinstance(document, dict) else None
    if not isinstance(token, str) or not token.isascii() or not token.isprintable():
        raise AccessDeniedError(f"{origin_of(url).host} gives no token", hint="private models are not supported")
    return {"Authorization": f"Bearer {token}"}


def _is_text(layer: _Layer) -> bool:
    return layer.kind in ("params", "system", "license") and layer.size <= _MAX_TEXT_BYTES


def _text(layer: _Layer, base: str, context: Context, secrets: dict[str, str]) -> str:
    url = f"{base}/blobs/{layer.digest}"
    host = origin_of(url).host
    try:
        with context.web.get(url, secrets=secrets) as reply:
            if reply.status != 200:
                raise DownloadError(f"{host} answers {reply.status} for a layer", status=reply.status)
            body = reply.read(_MAX_TEXT_BYTES)
    except LinkError as exc:
        raise DownloadError(str(exc)) from exc
    if f"sha256:{hashlib.sha256(body).hexdigest()}" != layer.digest:
        raise DigestMismatchError(f"{host} sent other bytes for a layer than promised", expected=layer.digest)
    return body.decode("utf-8", "replace")


def _options(text: str, name: ModelName) -> tuple[SamplingParams, int | None]:
    """Sampling defaults and context length of a `params` layer; what does not fit is left out and said."""
    try:
        found: Any = msgspec.json.decode(text) if text else {}
    except msgspec.DecodeError:
        found = None
    if not isinstance(found, dict):
        log.warning("the parameters of %s do not read; its defaults are not used", name)
        return SamplingParams(), None
    wanted = {key: value for key, value in found.items() if key in _OPTIONS}
    if isinstance(found.get("num_predict"), int) and found["num_predict"] > 0:
        wanted["max_tokens"] = found["num_predict"]
    stop = found.get("stop")
    if stop:
        wanted["stop"] = stop if isinstance(stop, list) else [stop]
    num_ctx = found.get("num_ctx")
    try:
        sampling = msgspec.convert(wanted, SamplingParams)
        check_sampling(sampling)
    except (msgspec.ValidationError, InvalidRequestError) as exc:
        log.warning("the parameters of %s are not used: %s", name, exc)
        sampling = SamplingParams()
    return sampling, num_ctx if isinstance(num_ctx, int) and num_ctx > 0 else None


def _first_line(text: str | None) -> str | None:
    lines = [line.strip() for line in (text or "").splitlines() if line.strip()]
    return lines[0][:100] if lines else None
