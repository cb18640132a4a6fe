"""What `localllm --version` says. Reads package metadata and one small library; never imports llama_cpp."""

from __future__ import annotations

import os
import sys
from contextlib import AbstractContextManager, nullcontext
from importlib import metadata
from pathlib import Path


def version_line() -> str:
    """`localllm 0.1.0 (llama.cpp 0.5.0-dev, ggml 0.25.3, llama-cpp-python 0.3.36)`; what is unknown is left out."""
    parts = list(llama_build())
    try:
        parts.append(f"llama-cpp-python {metadata.version('llama-cpp-python')}")
    except metadata.PackageNotFoundError:
        parts.append("llama-cpp-python is not installed")
    return f"localllm {own_version()} ({', '.join(parts)})"


def own_version() -> str:
    """The installed version of localllm."""
    try:
        return metadata.version("localllm")
    except metadata.PackageNotFoundError:
        return "unknown"


def llama_build() -> list[str]:
    """Versions that the bundled libraries give themselves, such as "llama.cpp 0.5.0-dev" and "ggml 0.25.3".

    The commit they carry is not asked for: it is that of whatever git repository lay around the build.
    """
    asked = (("llama.cpp", "llama", "llama_version"), ("ggml", "ggml-base", "ggml_version"))
    return [f"{title} {version}" for title, library, symbol in asked if (version := _ask(library, symbol))]


def _ask(library: str, symbol: str) -> str | None:
    import ctypes

    path = _library(library)
    if path is None:
        return None
    try:
        with _dll_directory(path.parent):
            function = getattr(ctypes.CDLL(str(path)), symbol)
        function.restype = ctypes.c_char_p
        return (function() or b"").decode("utf-8", "replace")
    except (OSError, AttributeError):
        return None


def _dll_directory(folder: Path) -> AbstractContextManager[object]:
    """Where Windows looks for the libraries that a library needs; other systems know from the library itself."""
    if sys.platform == "win32":
        return os.add_dll_directory(str(folder))
    return nullcontext()


def _library(name: str) -> Path | None:
    """A library where the llama-cpp-python package keeps it; found without importing the package."""
    from importlib.util import find_spec

    spec = find_spec("llama_cpp")
    folders = [Path(folder) / "lib" for folder in (spec.submodule_search_locations or ())] if spec else []
    names = [f"lib{name}.so", f"lib{name}.dylib", f"{name}.dll", f"lib{name}.dll"]
    return next((folder / file for folder in folders for file in names if (folder / file).is_file()), None)
