"""Ask the hubs whether the catalogue still holds: does every repository and file exist, with the size and digest noted?

.venv/bin/python scripts/check_catalog.py [WORD ...]     only the variants whose name contains one of the words

Needs the network and changes nothing. Honours HF_ENDPOINT, MODELSCOPE_ENDPOINT, HF_TOKEN and the proxy variables.
Prints a line per finding; the exit status is 1 if there was one.
"""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from typing import Any

import httpx

from localllm.catalog import Catalog, Variant
from localllm.name import ModelName

HF = "https://huggingface.co"
MODELSCOPE = "https://modelscope.cn"

Files = dict[str, tuple[int | None, str | None]]  # path: size, sha256


class Hubs:
    """Listings of repositories, each asked for once."""

    def __init__(self, client: httpx.Client, hf: str = HF, modelscope: str = MODELSCOPE) -> None:
        self._client, self._hf, self._modelscope = client, hf.rstrip("/"), modelscope.rstrip("/")
        self._known: dict[tuple[str, str, str], Files | str] = {}

    def files(self, name: ModelName) -> Files | str:
        """The files of a repository at the name's revision, or why there are none."""
        key = (name.source, name.repo, name.revision or "")
        if key not in self._known:
            try:
                self._known[key] = self._hf_files(name) if name.source == "hf" else self._modelscope_files(name)
            except httpx.HTTPStatusError as exc:
                self._known[key] = f"the hub answers {exc.response.status_code}"
            except (httpx.HTTPError, ValueError, KeyError, TypeError) as exc:
                self._known[key] = f"no listing: {type(exc).__name__} {exc}"
        return self._known[key]

    def _hf_files(self, name: ModelName) -> Files:
        files: Files = {}
        url: str | None = f"{self._hf}/api/models/{name.repo}/tree/{name.revision or 'main'}?recursive=true"
        while url:
            response = self._client.get(url)
            response.raise_for_status()
            for entry in response.json():
                if entry["type"] == "file":
                    files[entry["path"]] = (entry.get("size"), (entry.get("lfs") or {}).get("oid"))
            url = response.links.get("next", {}).get("url")
        return files

    def _modelscope_files(self, name: ModelName) -> Files:
        url = f"{self._modelscope}/api/v1/models/{name.repo}/repo/files"
        response = self._client.get(url, params={"Recursive": "true", "Revision": name.revision or "master"})
        response.raise_for_status()
        entries: list[dict[str, Any]] = response.json()["Data"]["Files"]
        return {e["Path"]: (e.get("Size"), e.get("Sha256") or None) for e in entries if e.get("Type") != "tree"}


def findings(variant: Variant, hubs: Hubs) -> Iterator[str]:
    """What is wrong with a variant, a line each; nothing where all is well."""
    for source in (*variant.sources, *variant.projector):
        name = ModelName.parse(source)
        if name.source not in ("hf", "ms"):
            continue
        files = hubs.files(name)
        if isinstance(files, str):
            yield f"{variant.name}: {source}: {files}"
        elif name.file is None:
            wanted = (name.tag or "").lower()
            if not any(wanted in path.lower() and path.lower().endswith(".gguf") for path in files):
                yield f"{variant.name}: {source}: no file of that quantization"
        elif name.file not in files:
            yield f"{variant.name}: {source}: no such file"
        elif source in variant.sources:
            size, sha256 = files[name.file]
            if variant.size_bytes is not None and size is not None and size != variant.size_bytes:
                yield f"{variant.name}: {source}: {size} bytes, not {variant.size_bytes}"
            if variant.sha256 is not None and sha256 is not None and sha256 != variant.sha256:
                yield f"{variant.name}: {source}: sha256 {sha256}, not {variant.sha256}"


def main() -> int:
    """Check the variants asked for."""
    words = [word.lower() for word in sys.argv[1:]]
    variants = [v for v in Catalog.load().all() if not words or any(word in v.name for word in words)]
    token = os.environ.get("HF_TOKEN")
    num_found = 0
    with httpx.Client(timeout=30, follow_redirects=True) as client:
        hf = os.environ.get("HF_ENDPOINT", HF)
        if token:
            # Only the hub that gave the token sees it, on whatever path a redirect of its own leads to.
            client.event_hooks["request"] = [lambda request: _sign(request, hf, token)]
        hubs = Hubs(client, hf, os.environ.get("MODELSCOPE_ENDPOINT", MODELSCOPE))
        for variant in variants:
            for line in findings(variant, hubs):
                print(line, flush=True)
                num_found += 1
    print(f"{len(variants)} variants asked for, {num_found} findings", file=sys.stderr)
    return 1 if num_found else 0


def _sign(request: httpx.Request, hf: str, token: str) -> None:
    if request.url.host == httpx.URL(hf).host:
        request.headers["Authorization"] = f"Bearer {token}"


if __name__ == "__main__":
    sys.exit(main())
