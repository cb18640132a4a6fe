"""This machine: cores, memory, and the ggml devices that llama.cpp sees. Facts only, no policy.

The parent may import this at any time. llama.cpp itself is loaded only by `python -m localllm.devices`, the short-lived
child that `probe` runs: a broken backend then breaks a probe, not its caller.
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any, Literal

import msgspec

from localllm.errors import EngineError

PROBE_TIMEOUT_S = 60.0
DeviceKind = Literal["CPU", "GPU", "IGPU", "ACCEL", "META"]
_KINDS: tuple[DeviceKind, ...] = ("CPU", "GPU", "IGPU", "ACCEL", "META")


class Device(msgspec.Struct, frozen=True):
    """A ggml device. Memory is what the backend reports, 0 where it reports none."""

    name: str
    description: str
    kind: DeviceKind
    free_bytes: int
    total_bytes: int


class Probe(msgspec.Struct, frozen=True):
    """What llama.cpp says of itself and this machine. `features` is its own line of SIMD and backend features."""

    llama_cpp_python: str
    llama_commit: str
    features: dict[str, str]
    devices: tuple[Device, ...]
    max_devices: int
    supports_mmap: bool
    supports_mlock: bool


def probe() -> Probe:
    """Ask llama.cpp in a child of its own. Raises EngineError when it cannot even start."""
    command = [sys.executable, "-P", "-m", "localllm.devices"]
    try:
        done = subprocess.run(command, capture_output=True, timeout=PROBE_TIMEOUT_S, check=False)
    except subprocess.TimeoutExpired as exc:
        raise EngineError(f"llama.cpp did not answer within {PROBE_TIMEOUT_S:.0f} s") from exc
    if done.returncode != 0:
        last = done.stderr.decode("utf-8", "replace").strip().splitlines()[-1:]
        hint = "reinstall it: pip install --force-reinstall --no-cache-dir llama-cpp-python"
        raise EngineError("llama.cpp does not load: " + "".join(last), hint=hint, exit_status=done.returncode)
    return msgspec.json.decode(done.stdout, type=Probe)


def num_cores() -> int:
    """Physical cores this process may use: the thread count at which llama.cpp is fastest."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    limit = _cgroup_cpus()
    if limit is not None:
        allowed = min(allowed, limit)
    return max(1, min(allowed, _physical_cores() or allowed))


def total_memory() -> int:
    """Bytes of memory this process may use at most, whatever is used now."""
    return min(filter(None, (_system_memory()[0], _cgroup_bytes("memory.max"))), default=0)


def available_memory() -> int:
    """Bytes that can be taken now without swapping; a container's limit counts."""
    free = _system_memory()[1]
    limit, used = _cgroup_bytes("memory.max"), _cgroup_bytes("memory.current")
    if limit is not None and used is not None:
        # The page cache counts as used there but is given back on demand.
        free = min(free, limit - used + (_cgroup_cache() or 0))
    return max(0, free)


def _system_memory() -> tuple[int, int]:
    """(total, available) bytes of the machine."""
    if sys.platform == "win32":
        return _windows_memory()
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
    except OSError:
        return _sysconf_memory()
    facts = {line.split(":")[0]: int(line.split()[1]) * 1024 for line in lines if line.endswith("kB")}
    return facts["MemTotal"], facts.get("MemAvailable", facts["MemFree"])


def _sysconf_memory() -> tuple[int, int]:
    """macOS: total from sysconf; free, inactive, speculative and purgeable pages from vm_stat."""
    page = os.sysconf("SC_PAGE_SIZE")
    total = page * os.sysconf("SC_PHYS_PAGES")
    try:
        text = subprocess.run(["/usr/bin/vm_stat"], capture_output=True, text=True, check=True, timeout=5).stdout
    except (OSError, subprocess.SubprocessError):
        return total, total // 2
    pages = 0
    for line in text.splitlines():
        name, _, count = line.partition(":")
        if name in ("Pages free", "Pages inactive", "Pages speculative", "Pages purgeable"):
            pages += int(count.strip().rstrip("."))
    return total, page * pages


def _windows_memory() -> tuple[int, int]:
    class Status(ctypes.Structure):
        _fields_ = (
            ("length", ctypes.c_ulong),
            ("load", ctypes.c_ulong),
            *((name, ctypes.c_ulonglong) for name in ("total", "available", "p1", "p2", "v1", "v2", "v3")),
        )

    status = Status()
    status.length = ctypes.sizeof(Status)
    windll: Any = getattr(ctypes, "windll")  # noqa: B009  # the name exists on Windows only
    windll.kernel32.GlobalMemoryStatusEx(ctypes.byref(status))
    return int(status.total), int(status.available)


def _cgroup_bytes(name: str) -> int | None:
    """A byte count of this process's cgroup (v2), None where there is none or no limit."""
    try:
        text = (_cgroup_dir() / name).read_text().strip()
    except OSError:
        return None
    return int(text) if text.isdigit() else None


def _cgroup_cache() -> int | None:
    try:
        lines = (_cgroup_dir() / "memory.stat").read_text().splitlines()
    except OSError:
        return None
    return next((int(line.split()[1]) for line in lines if line.startswith("file ")), None)


def _cgroup_cpus() -> int | None:
    """Whole CPUs that the cgroup's quota allows."""
    try:
        quota, period = (_cgroup_dir() / "cpu.max").read_text().split()
    except (OSError, ValueError):
        return None
    return max(1, int(quota) // int(period)) if quota.isdigit() else None


def _cgroup_dir() -> Path:
    root = Path("/sys/fs/cgroup")
    try:
        lines = Path("/proc/self/cgroup").read_text().splitlines()
    except OSError:
        return root
    own = next((line[3:] for line in lines if line.startswith("0::")), "/")
    path = root / own.lstrip("/")
    return path if (path / "memory.max").exists() else root


def _physical_cores() -> int | None:
    """Cores without their hyper-threads; None where that cannot be told cheaply."""
    siblings: set[str] = set()
    for cpu in Path("/sys/devices/system/cpu").glob("cpu[0-9]*/topology/thread_siblings_list"):
        try:
            siblings.add(cpu.read_text())
        except OSError:
            return None
    if siblings:
        return len(siblings)
    if sys.platform == "darwin":
        try:
            # Only the performance cores: the efficiency cores hold the others back.
            command = ["/usr/sbin/sysctl", "-n", "hw.perflevel0.physicalcpu"]
            return int(subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout)
        except (OSError, ValueError, subprocess.SubprocessError):
            return None
    return None


# --- the probing child ------------------------------------------------------------------------------------------------


def _main() -> None:
    from importlib.metadata import version

    from localllm.binding import C, library_function, set_log

    set_log(None)
    C.llama_backend_init()
    raw: bytes = C.llama_print_system_info() or b""
    facts = Probe(
        llama_cpp_python=version("llama-cpp-python"),
        llama_commit=_commit(library_function),
        features=_features(raw.decode("utf-8", "replace")),
        devices=tuple(_devices(library_function)),
        max_devices=C.llama_max_devices(),
        supports_mmap=C.llama_supports_mmap(),
        supports_mlock=C.llama_supports_mlock(),
    )
    sys.stdout.buffer.write(msgspec.json.encode(facts))


def _devices(function: Any) -> list[Device]:
    count = function("ggml_backend_dev_count", ctypes.c_size_t)
    get = function("ggml_backend_dev_get", ctypes.c_void_p, ctypes.c_size_t)
    name = function("ggml_backend_dev_name", ctypes.c_char_p, ctypes.c_void_p)
    description = function("ggml_backend_dev_description", ctypes.c_char_p, ctypes.c_void_p)
    kind = function("ggml_backend_dev_type", ctypes.c_int, ctypes.c_void_p)
    size = ctypes.POINTER(ctypes.c_size_t)
    memory = function("ggml_backend_dev_memory", None, ctypes.c_void_p, size, size)
    devices = []
    for index in range(count()):
        handle = get(index)
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        memory(handle, ctypes.byref(free), ctypes.byref(total))
        text = description(handle).decode("utf-8", "replace")
        label = name(handle).decode("utf-8", "replace")
        devices.append(Device(label, text, _KINDS[kind(handle)], free.value, total.value))
    return devices


def _commit(function: Any) -> str:
    """The llama.cpp commit, where the build says it."""
    try:
        text = function("ggml_commit", ctypes.c_char_p)()
    except AttributeError:
        return "unknown"
    return str(text.decode("utf-8", "replace")) if text else "unknown"


def _features(line: str) -> dict[str, str]:
    """llama.cpp's line `CPU : SSE3 = 1 | AVX = 1 | ...`, one entry a backend."""
    features: dict[str, list[str]] = {}
    backend = "CPU"
    for part in line.split("|"):
        item = part.strip()
        if " : " in item:
            backend, _, item = item.partition(" : ")
        name, _, value = item.partition(" = ")
        if name and value:
            features.setdefault(backend.strip(), []).append(name if value == "1" else f"{name}={value}")
    return {backend: " ".join(names) for backend, names in features.items()}


if __name__ == "__main__":
    if len(sys.argv) > 1:
        sys.exit(f"localllm.devices takes no arguments, got {json.dumps(sys.argv[1:])}")
    _main()
