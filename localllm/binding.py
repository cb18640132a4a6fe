"""The door to llama.cpp: the one importer of `llama_cpp`, and the few calls that fit nowhere else.

`llama_cpp/__init__.py` pulls in the high-level API (templates, disk cache, server types), about 0.1 s that the engine
has no use for; so the low-level module is imported past it. Only child processes import this.
"""

from __future__ import annotations

import ctypes
import functools
import hashlib
import importlib
import importlib.util
import sys
import types
from collections.abc import Callable
from pathlib import Path
from typing import Any

from localllm.errors import EngineLoadError


def _import_low_level() -> Any:
    if "llama_cpp" not in sys.modules:
        spec = importlib.util.find_spec("llama_cpp")
        if spec is None or spec.submodule_search_locations is None:
            raise EngineLoadError("llama-cpp-python is not installed", hint="pip install llama-cpp-python==0.3.36")
        package = types.ModuleType("llama_cpp")
        package.__path__ = list(spec.submodule_search_locations)
        package.__spec__ = spec
        sys.modules["llama_cpp"] = package
    return importlib.import_module("llama_cpp.llama_cpp")


C: Any = _import_low_level()

_keep_alive: list[Any] = []

_LEVEL_DEBUG = 1
_LEVEL_CONT = 5


def set_log(sink: Callable[[int, str], None] | None) -> None:
    """Send llama.cpp's log to `sink(level, text)`: 1 debug, 2 info, 3 warning, 4 error. None: drop it all."""
    last = _LEVEL_DEBUG

    def log(level: int, text: bytes, _user: Any) -> None:
        nonlocal last
        last = last if level == _LEVEL_CONT else level
        if sink is not None:
            sink(last, text.decode("utf-8", "replace"))

    callback = C.llama_log_callback(log)
    _keep_alive[:] = [callback]
    C.llama_log_set(callback, ctypes.c_void_p(0))


def library_function(name: str, restype: Any, *argtypes: Any) -> Any:
    """A function of libllama or of the ggml libraries it is linked to, which the binding does not declare."""
    function = getattr(C._lib, name)
    function.restype = restype
    function.argtypes = list(argtypes)
    return function


@functools.cache
def extension_function(name: str) -> Any:
    """A function of llama.cpp's own extensions, whose C++ names the binding knows for each compiler."""
    return getattr(importlib.import_module("llama_cpp.llama_cpp_ext"), name)


@functools.cache
def library_digest() -> str:
    """SHA-256 of the llama.cpp library that is loaded, in hex: what names a build, whoever made it."""
    return hashlib.sha256(Path(C._lib._name).read_bytes()).hexdigest()
