"""What identifies this machine and its llama.cpp build, and what a process takes of it. Facts only.

Reads system files and asks `devices`; loads no llama.cpp here.
"""

from __future__ import annotations

import functools
import hashlib
import importlib.metadata
import importlib.util
import os
import platform
import subprocess
import sys
from pathlib import Path
from typing import Any

import msgspec

from localllm import devices
from localllm.errors import LocalLLMError

# Libraries of a build that computes on the CPU only; any other one may bring devices.
_CPU_LIBRARIES = ("ggml", "ggml-base", "ggml-cpu", "llama", "llama-common", "mtmd")


class Machine(msgspec.Struct, frozen=True):
    """What measurements hold for. `build` is a hash of the names and sizes of llama.cpp's libraries."""

    cpu: str
    num_cores: int
    num_logical_cores: int
    devices: tuple[str, ...]
    localllm: str
    llama_cpp_python: str
    build: str

    @property
    def id(self) -> str:
        """A short name for all of it."""
        return hashlib.sha256(msgspec.json.encode(self)).hexdigest()[:12]

    def differs_in(self, other: Machine) -> str:
        """What is not the same, in words; empty where nothing is."""
        words = {"cpu": "CPU", "num_cores": "number of cores", "num_logical_cores": "number of hardware threads"}
        words |= {"devices": "devices", "localllm": "version of localllm", "llama_cpp_python": "llama-cpp-python"}
        words |= {"build": "llama.cpp build"}
        return ", ".join(text for name, text in words.items() if getattr(self, name) != getattr(other, name))


@functools.lru_cache(maxsize=1)
def this_machine() -> Machine:
    """This machine. A build with more than the CPU is asked for its devices in a child, once (about 0.3 s)."""
    libraries = _libraries()
    return Machine(
        cpu=cpu_name(),
        num_cores=devices.num_cores(),
        num_logical_cores=num_logical_cores(),
        devices=_devices(libraries),
        localllm=_version("localllm"),
        llama_cpp_python=_version("llama-cpp-python"),
        build=hashlib.sha256(msgspec.json.encode(sorted(libraries.items()))).hexdigest()[:12],
    )


def cpu_name() -> str:
    """The CPU's model, as the system calls it."""
    name = ""
    if sys.platform == "linux":
        name = _linux_cpu()
    elif sys.platform == "darwin":
        name = _ask("/usr/sbin/sysctl", "-n", "machdep.cpu.brand_string")
    return name or platform.processor() or platform.machine()


def num_logical_cores() -> int:
    """Hardware threads this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def peak_memory_bytes(pid: int) -> int | None:
    """The most main memory a process has held at once so far; None where the system does not tell.

    Mapped files count. macOS says only what is held now.
    """
    if sys.platform == "win32":
        return _windows_peak(pid)
    if sys.platform == "linux":
        try:
            lines = Path(f"/proc/{pid}/status").read_text().splitlines()
        except OSError:
            return None
        return next((int(line.split()[1]) * 1024 for line in lines if line.startswith("VmHWM:")), None)
    resident = _ask("/bin/ps", "-o", "rss=", "-p", str(pid))
    return int(resident) * 1024 if resident.isdigit() else None


def _linux_cpu() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return ""
    facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    # Arm has no names there, only numbers.
    parts = (facts.get("CPU implementer", ""), facts.get("CPU part", ""))
    return facts.get("model name") or facts.get("Model") or " ".join(part for part in parts if part)


def _ask(*command: str) -> str:
    try:
        return subprocess.run(command, capture_output=True, text=True, check=True, timeout=5).stdout.strip()
    except (OSError, subprocess.SubprocessError):
        return ""


def _version(package: str) -> str:
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return ""


def _libraries() -> dict[str, int]:
    """Names and sizes of llama.cpp's libraries, found without loading them."""
    named = os.environ.get("LLAMA_CPP_LIB_PATH")
    if named:
        folders = [Path(named)]
    else:
        spec = importlib.util.find_spec("llama_cpp")
        folders = [Path(place) / "lib" for place in (spec.submodule_search_locations or ())] if spec else []
    found: dict[str, int] = {}
    for folder in folders:
        for path in folder.glob("*"):
            if path.is_file() and {".so", ".dylib", ".dll"} & set(path.suffixes):
                found[path.name] = path.stat().st_size
    return found


def _devices(libraries: dict[str, int]) -> tuple[str, ...]:
    stems = {name.split(".")[0].removeprefix("lib") for name in libraries}
    # Builds for many CPUs have one library for each kind, ggml-cpu-haswell and so on.
    if libraries and all(stem in _CPU_LIBRARIES or stem.startswith("ggml-cpu") for stem in stems):
        return ()
    try:
        found = devices.probe().devices
    except LocalLLMError:
        return ("unknown",)
    return tuple(f"{device.name}: {device.description}" for device in found if device.kind != "CPU")


def _windows_peak(pid: int) -> int | None:
    import ctypes

    class Counters(ctypes.Structure):
        _fields_ = (
            ("size", ctypes.c_ulong),
            ("page_faults", ctypes.c_ulong),
            *((name, ctypes.c_size_t) for name in ("peak", "now", "a", "b", "c", "d", "e", "f")),
        )

    windll: Any = getattr(ctypes, "windll")  # noqa: B009  # the name exists on Windows only
    kernel = windll.kernel32
    kernel.OpenProcess.restype = ctypes.c_void_p
    kernel.CloseHandle.argtypes = (ctypes.c_void_p,)
    kernel.K32GetProcessMemoryInfo.argtypes = (ctypes.c_void_p, ctypes.c_void_p, ctypes.c_ulong)
    handle = kernel.OpenProcess(0x1000, False, pid)  # may ask for limited facts
    if not handle:
        return None
    counters = Counters()
    counters.size = ctypes.sizeof(Counters)
    told = kernel.K32GetProcessMemoryInfo(handle, ctypes.byref(counters), counters.size)
    kernel.CloseHandle(handle)
    return int(counters.peak) if told else None
