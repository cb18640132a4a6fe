"""The options that bind an answer's form: `--format`, `--regex`, `--choice`, `--grammar`. At most one of them."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from localllm.api import Constraint

MAX_FILE_BYTES = 1 << 20


def answer_form(
    format: str | None = None, regex: str | None = None, choice: list[str] | None = None, grammar: str | None = None
) -> Constraint | None:
    """The constraint that the options ask for. Raises UsageError for what cannot be read."""
    from localllm.api import Choice, Regex, check_constraint
    from localllm.errors import UsageError

    given = {"--format": format, "--regex": regex, "--choice": choice, "--grammar": grammar}
    named = [name for name, value in given.items() if value]
    if len(named) > 1:
        raise UsageError(f"{' and '.join(named)} together", hint="an answer takes one form; give one of them")
    found: Constraint | None = None
    if format:
        found = _format(format)
    elif regex:
        found = Regex(regex)
    elif choice:
        found = Choice(tuple(choice))
    elif grammar:
        found = _grammar(Path(grammar))
    if found is not None:
        check_constraint(found)
    return found


def _format(text: str) -> Constraint:
    """`json`, a schema as JSON, or the path of a file with one."""
    import json

    from localllm.api import as_constraint
    from localllm.errors import UsageError

    if text == "json":
        return as_constraint("json")
    is_inline = text.lstrip().startswith("{") or text in ("true", "false")
    try:
        schema: Any = json.loads(text if is_inline else _read(Path(text)))
    except (ValueError, RecursionError) as exc:
        where = "the schema" if is_inline else text
        raise UsageError(f"{where} is no JSON: {exc}"[:300], hint="a JSON Schema is a JSON object") from exc
    return as_constraint(schema)


def _grammar(path: Path) -> Constraint:
    from localllm.api import Gbnf, Lark
    from localllm.errors import UsageError

    if path.suffix not in (".gbnf", ".lark"):
        raise UsageError(f"{path} is neither .gbnf nor .lark", hint="the ending says which language the grammar is in")
    text = _read(path)
    return Gbnf(text) if path.suffix == ".gbnf" else Lark(text)


def _read(path: Path) -> str:
    from localllm.errors import UsageError

    try:
        with path.open("rb") as file:
            data = file.read(MAX_FILE_BYTES + 1)
    except OSError as exc:
        hint = 'give "json", a JSON Schema, or a file with one'
        raise UsageError(f"cannot read {path}: {exc.strerror or exc}", hint=hint) from exc
    if len(data) > MAX_FILE_BYTES:
        raise UsageError(f"{path} is larger than {MAX_FILE_BYTES} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        raise UsageError(f"{path} is no UTF-8 text") from exc
