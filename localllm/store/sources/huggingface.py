"""Hugging Face and mirrors of it (HF_ENDPOINT): which files, how large, which digest.

Facts of the interface: `GET /api/models/{repo}/revision/{revision}?blobs=true` answers with `sha` (the commit) and
`siblings` of `rfilename`, `size`, `lfs.sha256`; `GET /{repo}/resolve/{commit}/{path}` redirects to the bytes. Without a
token a repository that is private or absent answers 401, a gated one 401 or 403 with `X-Error-Code: GatedRepo`
(huggingface_hub: hf_api.py, utils/_http.py).
"""

from __future__ import annotations

import logging
import re
from typing import Any
from urllib.parse import quote

import msgspec

from localllm.errors import AccessDeniedError, DownloadError, LocalLLMError, ModelNotFoundError
from localllm.name import ModelName
from localllm.store.addresses import origin_of
from localllm.store.sources.api import ask, typed
from localllm.store.sources.hub_files import HubFile, choose, find_projector
from localllm.store.sources.remote import Context, RemoteFile, Resolved, Role
from localllm.store.web import Reply

log = logging.getLogger(__name__)

_SHA256 = re.compile(r"[0-9a-f]{64}")


class _Lfs(msgspec.Struct):
    size: int | None = None
    sha256: str | None = None
    oid: str | None = None


class _Sibling(msgspec.Struct):
    rfilename: str
    size: int | None = None
    lfs: _Lfs | None = None


class _Model(msgspec.Struct):
    sha: str | None = None
    siblings: list[_Sibling] = []
    tags: list[Any] = []


def resolve(name: ModelName, context: Context) -> Resolved:
    """The files of a repository's model, at the commit its branch points to now."""
    settings = context.settings
    revision = name.revision or "main"
    url = f"{settings.hf_endpoint}/api/models/{name.repo}/revision/{quote(revision, safe='')}?blobs=true"
    secrets = {"Authorization": f"Bearer {settings.hf_token}"} if settings.hf_token else {}
    reply, document = ask(context, url, secrets=secrets)
    if reply.status != 200:
        raise _refusal(name, reply, has_token=bool(secrets))
    model = typed(document, _Model, origin_of(url).host)
    listing = [_hub_file(sibling) for sibling in model.siblings]
    chosen = choose(listing, name)
    commit = model.sha if model.sha and re.fullmatch(r"[0-9a-f]{40,64}", model.sha) else revision
    files = [_remote(file, name, context, commit, "model") for file in chosen.files]
    projector = find_projector(listing)
    if projector is not None and settings.mmproj:
        files.append(_remote(projector, name, context, commit, "mmproj"))
    elif projector is not None:
        log.info("%s has a vision projector, %s; it is not fetched", name.repo, projector.path)
    return Resolved(f"hf:{name.repo}:{chosen.files[0].path}@{commit}", tuple(files), licence=_licence(model.tags))


def _hub_file(sibling: _Sibling) -> HubFile:
    lfs = sibling.lfs or _Lfs()
    digest = (lfs.sha256 or lfs.oid or "").removeprefix("sha256:").lower()
    size = lfs.size if lfs.size is not None else sibling.size
    return HubFile(
        sibling.rfilename,
        size if size is not None and size >= 0 else None,
        digest if _SHA256.fullmatch(digest) else None,
    )


def _remote(file: HubFile, name: ModelName, context: Context, commit: str, role: Role) -> RemoteFile:
    settings = context.settings
    secrets = (("Authorization", f"Bearer {settings.hf_token}"),) if settings.hf_token else ()
    return RemoteFile(
        f"{settings.hf_endpoint}/{name.repo}/resolve/{quote(commit, safe='')}/{quote(file.path)}",
        file.path.rpartition("/")[2],
        size_bytes=file.size_bytes,
        sha256=file.sha256,
        role=role,
        secrets=secrets,
        access_hint=_access_hint(name, has_token=bool(secrets)),
    )


def _licence(tags: list[Any]) -> str | None:
    named = [tag.removeprefix("license:") for tag in tags if isinstance(tag, str) and tag.startswith("license:")]
    return named[0][:100] if named else None


def _refusal(name: ModelName, reply: Reply, *, has_token: bool) -> LocalLLMError:
    host, code = origin_of(reply.url).host, reply.header("x-error-code")
    if code == "GatedRepo" or (reply.status == 403 and code is None):
        hint = _access_hint(name, has_token=has_token)
        return AccessDeniedError(f"{host} gives {name.repo} only to those it knows", hint=hint, name=str(name))
    if code == "RevisionNotFound":
        hint = f"see https://huggingface.co/{name.repo}/commits"
        return ModelNotFoundError(f"{name.repo} has no revision {name.revision}", hint=hint, name=str(name))
    if reply.status == 401 and has_token and code != "RepoNotFound":
        return AccessDeniedError(f"{host} does not accept the token", hint="HF_TOKEN may have run out", name=str(name))
    if reply.status in (401, 404):
        hint = "check the spelling" + ("" if has_token else "; a private one needs HF_TOKEN")
        return ModelNotFoundError(f"{host} has no repository {name.repo}", hint=hint, name=str(name))
    return DownloadError(f"{host} answers {reply.status} for {name.repo}", status=reply.status)


def _access_hint(name: ModelName, *, has_token: bool) -> str:
    page = f"accept its terms at https://huggingface.co/{name.repo}"
    if has_token:
        return f"{page} with the account of your HF_TOKEN"
    return f"{page}, then set HF_TOKEN to a token from https://huggingface.co/settings/tokens"
