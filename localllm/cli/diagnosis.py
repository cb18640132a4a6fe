"""What `localllm doctor` finds out: facts of the installation, the machine and the store, and what is wrong there."""

from __future__ import annotations

import os
import platform
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from localllm import devices, paths
from localllm.cli.version import llama_build, own_version
from localllm.config import Settings, unknown_environ
from localllm.errors import ConfigError, LocalLLMError
from localllm.store.files import free_bytes

if TYPE_CHECKING:
    from localllm.cli.runtime import Runtime
    from localllm.store.store import ModelStore

LOW_DISK_BYTES = 2_000_000_000
_REBUILD = 'pip install --force-reinstall --no-cache-dir --no-binary :all: llama-cpp-python, with CMAKE_ARGS="{}"'


class Problem(msgspec.Struct, frozen=True):
    """Something wrong (`error`) or worth knowing (`warning`)."""

    level: Literal["error", "warning"]
    message: str
    hint: str | None = None


class SystemFacts(msgspec.Struct, frozen=True):
    """The machine, as far as this process may use it."""

    platform: str
    num_cores: int
    memory_bytes: int
    available_bytes: int


class StoreFacts(msgspec.Struct, frozen=True):
    """The model store. `free_bytes`: room on its disk."""

    path: Path
    num_models: int
    size_bytes: int
    free_bytes: int


class SettingsFacts(msgspec.Struct, frozen=True):
    """Where settings come from, and what they are."""

    file: Path
    exists: bool
    values: Settings


class Diagnosis(msgspec.Struct, frozen=True):
    """Everything `doctor` shows."""

    versions: dict[str, str]
    system: SystemFacts
    devices: tuple[devices.Device, ...]
    features: dict[str, str]
    store: StoreFacts
    settings: SettingsFacts
    problems: tuple[Problem, ...]

    @property
    def ok(self) -> bool:
        """No error among the problems."""
        return all(problem.level != "error" for problem in self.problems)


def diagnose(runtime: Runtime) -> Diagnosis:
    """Look at everything; what fails becomes a problem and stops nothing else."""
    problems: list[Problem] = []
    settings = _settings(runtime, problems)
    probe = _probe(problems)
    found = probe.devices if probe else ()
    if probe:
        problems += _unused_hardware([device.kind for device in found])
        problems += _wrong_device(settings, found)
    return Diagnosis(
        versions=_versions(),
        system=SystemFacts(
            platform=f"{platform.system()} {platform.release()} {platform.machine()}",
            num_cores=devices.num_cores(),
            memory_bytes=devices.total_memory(),
            available_bytes=devices.available_memory(),
        ),
        devices=found,
        features=probe.features if probe else {},
        store=_store(runtime.store(settings), problems),
        settings=SettingsFacts(paths.config_file(), paths.config_file().exists(), settings),
        problems=tuple(problems),
    )


def _settings(runtime: Runtime, problems: list[Problem]) -> Settings:
    for name in unknown_environ():
        problems.append(Problem("warning", f"environment variable {name} means nothing", "is it spelled right?"))
    try:
        return runtime.settings()
    except ConfigError as exc:
        problems.append(Problem("error", exc.message, exc.hint))
        return Settings()


def _probe(problems: list[Problem]) -> devices.Probe | None:
    try:
        return devices.probe()
    except LocalLLMError as exc:
        problems.append(Problem("error", exc.message, exc.hint))
        return None


def _unused_hardware(kinds: list[devices.DeviceKind]) -> list[Problem]:
    """A warning where the machine shows an accelerator that this build of llama.cpp does not use."""
    if {"GPU", "IGPU"} & set(kinds):
        return []
    if shutil.which("nvidia-smi"):
        message = "an NVIDIA GPU seems to be here, but this llama.cpp has no CUDA backend"
        return [Problem("warning", message, _REBUILD.format("-DGGML_CUDA=on"))]
    if os.path.exists("/dev/kfd"):
        message = "an AMD GPU seems to be here, but this llama.cpp has no HIP or Vulkan backend"
        return [Problem("warning", message, _REBUILD.format("-DGGML_VULKAN=on"))]
    if sys.platform == "darwin" and platform.machine() == "arm64":
        return [Problem("warning", "this llama.cpp has no Metal backend", _REBUILD.format("-DGGML_METAL=on"))]
    return []


def _wrong_device(settings: Settings, found: tuple[devices.Device, ...]) -> list[Problem]:
    names = ["auto", "cpu", *(device.name for device in found)]
    if settings.device is None or settings.device.lower() in {name.lower() for name in names}:
        return []
    return [Problem("error", f"the settings ask for device {settings.device!r}", "here are " + ", ".join(names))]


def _versions() -> dict[str, str]:
    from importlib import metadata

    versions = {"localllm": own_version(), "python": platform.python_version()}
    for line in llama_build():
        name, _, version = line.partition(" ")
        versions[name] = version
    try:
        versions["llama-cpp-python"] = metadata.version("llama-cpp-python")
    except metadata.PackageNotFoundError:
        pass
    return versions


def _store(store: ModelStore, problems: list[Problem]) -> StoreFacts:
    """Facts of the store; every model's files are looked at, not read."""
    manifests = []
    try:
        manifests = store.list()
        for manifest in manifests:
            try:
                store.paths(manifest)
            except LocalLLMError as exc:
                problems.append(Problem("error", exc.message, exc.hint))
    except (LocalLLMError, OSError) as exc:
        hint = exc.hint if isinstance(exc, LocalLLMError) else None
        problems.append(Problem("error", f"the store cannot be read: {exc}", hint))
    folder = store.root
    while not folder.exists() and folder != folder.parent:
        folder = folder.parent
    if not folder.is_dir() or not os.access(folder, os.W_OK):
        problems.append(
            Problem("error", f"the store {store.root} cannot be written", "LOCALLLM_STORE names another place")
        )
    free = free_bytes(folder)
    if free < LOW_DISK_BYTES:
        problems.append(Problem("warning", f"only {free // 1_000_000} MB are free at {folder}", "`localllm prune`"))
    return StoreFacts(store.root, len(manifests), sum(m.size_bytes for m in manifests), free)
