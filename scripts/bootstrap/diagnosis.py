"""Says in a sentence why pip or the compiler failed, from what they printed. Pure: lines in, SetupError out."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable

from bootstrap.outcome import EXIT_FAILED, EXIT_RETRY, SetupError

_COMPILER_HINTS = {
    "linux": "Debian, Ubuntu: sudo apt install build-essential; Fedora: sudo dnf install gcc-c++; "
    "Arch: sudo pacman -S base-devel; then run this again",
    "darwin": "run: xcode-select --install; then run this again",
    "win32": "install the Build Tools for Visual Studio with the workload 'Desktop development with C++', "
    "then run this again in a new terminal",
}

# The first that matches anywhere in the output wins, so causes stand above what they lead to.
_CAUSES = (
    (
        r"No space left on device|Errno 28|not enough space on the disk",
        "the disk is full",
        "about 1.5 GB are needed while installing; free some, or point TMPDIR to a larger disk",
        EXIT_FAILED,
    ),
    (
        r"Killed signal terminated program|internal compiler error: Killed|Cannot allocate memory|C1060",
        "the compiler ran out of memory",
        "set CMAKE_BUILD_PARALLEL_LEVEL=1 and run this again",
        EXIT_RETRY,
    ),
    (
        r"CMAKE_C(XX)?_COMPILER|not able to compile a simple test program|could not find any instance of Visual Studio"
        r"|invalid active developer path|No such file or directory: '(cc|c\+\+|gcc|g\+\+)'",
        "no working C and C++ compiler was found, and llama.cpp has to be compiled",
        "{compiler}",
        EXIT_FAILED,
    ),
    (
        r"CERTIFICATE_VERIFY_FAILED",
        "the package index shows a certificate that this Python does not trust",
        "behind a company proxy: python3 -m pip config set global.cert /path/to/ca.pem",
        EXIT_FAILED,
    ),
    (
        r"NameResolutionError|name resolution|getaddrinfo failed|nodename nor servname|Name or service not known"
        r"|Failed to establish a new connection|Network is unreachable|No route to host|ProxyError"
        r"|Read timed out|ConnectTimeoutError|Connection (refused|aborted|reset)",
        "the package index cannot be reached",
        "check the network and `python3 -m pip config list`, then run this again",
        EXIT_RETRY,
    ),
)
_NOT_THERE = re.compile(r"No matching distribution found for (.+)")


def explain(lines: Iterable[str], platform: str = sys.platform) -> SetupError | None:
    """The known cause behind the printed `lines`, or None."""
    text = "\n".join(lines)
    for pattern, message, hint, status in _CAUSES:
        if re.search(pattern, text):
            compiler = _COMPILER_HINTS.get(platform, "install a C++17 compiler")
            return SetupError(message, hint.format(compiler=compiler), status)
    missing = _NOT_THERE.search(text)
    if missing:
        hint = "it is not at the configured index for this Python: see `python3 -m pip config list`"
        return SetupError(f"pip finds no {missing[1].strip()}", hint)
    return None
