"""A code block into a file: which name it gets, and that nothing that is there is ever overwritten."""

from __future__ import annotations

from pathlib import Path

from localllm.errors import LocalLLMError, UsageError

_ENDINGS = {
    "bash": "sh", "c": "c", "c++": "cpp", "cpp": "cpp", "csharp": "cs", "css": "css", "csv": "csv", "go": "go",
    "html": "html", "java": "java", "javascript": "js", "js": "js", "json": "json", "kotlin": "kt", "lua": "lua",
    "markdown": "md", "md": "md", "php": "php", "py": "py", "python": "py", "r": "r", "ruby": "rb", "rust": "rs",
    "sh": "sh", "shell": "sh", "sql": "sql", "swift": "swift", "toml": "toml", "ts": "ts", "typescript": "ts",
    "xml": "xml", "yaml": "yaml", "yml": "yaml",
}  # fmt: skip


def free_name(language: str, folder: Path) -> str:
    """A name for code of that language that no file in `folder` has."""
    ending = _ENDINGS.get(language.lower(), "txt")
    names = ["code", *(f"code-{number}" for number in range(2, 1000))]
    return next((f"{name}.{ending}" for name in names if not (folder / f"{name}.{ending}").exists()), f"code.{ending}")


def save_new(text: str, name: str, folder: Path) -> Path:
    """Write `text` into a file that does not exist yet; `name` is taken from `folder` where it is relative.

    Raises UsageError for one that exists, and LocalLLMError where it cannot be written.
    """
    path = folder / Path(name.strip()).expanduser()
    try:
        with path.open("x", encoding="utf-8", newline="\n") as file:
            file.write(text if text.endswith("\n") else f"{text}\n")
    except FileExistsError as exc:
        raise UsageError(f"{path} exists", hint="give another name; nothing is overwritten") from exc
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) else None
        raise LocalLLMError(f"{path} cannot be written: {reason or exc}", hint="choose another place") from exc
    return path
