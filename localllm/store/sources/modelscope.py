"""ModelScope: which files, how large, which digest.

Facts of the interface: `GET /api/v1/models/{repo}/repo/files?Revision=..&Recursive=true` answers with `Code` (200 when
well) and `Data.Files` of `Path`, `Type` (blob or tree), `Size`, `Sha256`; `GET /api/v1/models/{repo}/repo?Revision=..&
FilePath=..` gives the bytes. The default branch is `master`; a token travels as the cookie `m_session_id`
(modelscope: hub/api.py, hub/file_download.py).
"""

from __future__ import annotations

import re
from urllib.parse import urlencode

import msgspec

from localllm.errors import AccessDeniedError, DownloadError, ModelNotFoundError
from localllm.name import ModelName
from localllm.store.addresses import origin_of
from localllm.store.sources.api import ask, typed
from localllm.store.sources.hub_files import HubFile, choose, find_projector
from localllm.store.sources.remote import Context, RemoteFile, Resolved, Role

_SHA256 = re.compile(r"[0-9a-f]{64}")


class _File(msgspec.Struct, rename="pascal"):
    path: str
    type: str = "blob"
    size: int | None = None
    sha256: str | None = None


class _Data(msgspec.Struct, rename="pascal"):
    files: list[_File] | None = None


class _Listing(msgspec.Struct, rename="pascal"):
    code: int = 0
    message: str = ""
    data: _Data | None = None


def resolve(name: ModelName, context: Context) -> Resolved:
    """The files of a repository's model."""
    settings = context.settings
    revision = name.revision or "master"
    base = f"{settings.modelscope_endpoint}/api/v1/models/{name.repo}/repo"
    host = origin_of(base).host
    secrets = {"Cookie": f"m_session_id={settings.modelscope_token}"} if settings.modelscope_token else {}
    query = urlencode({"Revision": revision, "Recursive": "true"})
    reply, document = ask(context, f"{base}/files?{query}", secrets=secrets)
    if reply.status in (401, 403):
        hint = f"see https://www.modelscope.cn/models/{name.repo}; MODELSCOPE_API_TOKEN holds your token"
        raise AccessDeniedError(f"{host} refuses {name.repo}", hint=hint, name=str(name))
    if reply.status == 404:
        raise ModelNotFoundError(f"{host} has no {name.repo}@{revision}", hint="check the spelling", name=str(name))
    if reply.status != 200:
        raise DownloadError(f"{host} answers {reply.status} for {name.repo}", status=reply.status)
    listing = typed(document, _Listing, host)
    if listing.code != 200 or listing.data is None or listing.data.files is None:
        message = f"{host} lists no files of {name.repo}: {listing.message[:200] or listing.code}"
        raise ModelNotFoundError(message, hint="check the spelling", name=str(name))
    files = [_hub_file(file) for file in listing.data.files if file.type != "tree"]
    chosen = choose(files, name)

    def remote(file: HubFile, role: Role = "model") -> RemoteFile:
        return RemoteFile(
            f"{base}?{urlencode({'Revision': revision, 'FilePath': file.path})}",
            file.path.rpartition("/")[2],
            size_bytes=file.size_bytes,
            sha256=file.sha256,
            role=role,
            secrets=tuple(secrets.items()),
            access_hint="MODELSCOPE_API_TOKEN holds your token",
        )

    wanted = [remote(file) for file in chosen.files]
    if settings.mmproj and (projector := find_projector(files)) is not None:
        wanted.append(remote(projector, "mmproj"))
    return Resolved(f"ms:{name.repo}:{chosen.files[0].path}@{revision}", tuple(wanted))


def _hub_file(file: _File) -> HubFile:
    digest = (file.sha256 or "").lower()
    size = file.size if file.size is not None and file.size > 0 else None
    return HubFile(file.path, size, digest if _SHA256.fullmatch(digest) else None)
