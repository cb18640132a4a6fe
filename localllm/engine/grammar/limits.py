"""Caps on what a constraint may ask for. Native code gets to see only what is within them.

They lie far above what people write and far below what costs a second or a stack: recursion in native parsers goes as
deep as the input, and bounds multiply.
"""

from __future__ import annotations

from typing import NoReturn

from localllm.errors import InvalidRequestError

MAX_BYTES = 512 * 1024
MAX_DEPTH = 100
MAX_SCHEMAS = 5_000
MAX_REF_DEPTH = 128
MAX_VALUES = 5_000
MAX_VALUE_BYTES = 64 * 1024
MAX_ALTERNATIVES = 512
MAX_ITEMS = 10_000
MAX_LENGTH = 100_000
MAX_PROPERTIES = 1_000

MAX_PATTERN_CHARS = 4_096
MAX_PATTERN_DEPTH = 32
MAX_REPEATS = 10_000
MAX_NESTED_REPEATS = 100_000

MAX_RULES = 1_000
MAX_CHOICES = 5_000

COMPILE_DEADLINE_S = 2.0


def refuse(what: str, *, hint: str | None = None, path: str | None = None, **facts: object) -> NoReturn:
    """Raise the InvalidRequestError of a constraint; `path` is a JSON pointer into a schema."""
    message = f"{what} at {path}" if path else what
    if path:
        facts["path"] = path
    raise InvalidRequestError(message, hint=hint, param="constraint", **facts)


def within(size: int, most: int, what: str, *, path: str | None = None) -> None:
    """Refuse a size above its cap."""
    if size > most:
        refuse(f"{what}: {size}", hint=f"at most {most}", path=path)
