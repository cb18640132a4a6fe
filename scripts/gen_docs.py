"""Writes docs/cli.md from the command tree and docs/config.md from the settings, so that neither can rot.

python3 scripts/gen_docs.py            write them
python3 scripts/gen_docs.py --check    only say which are stale; the exit status is 1 if any is
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
DOCS = ROOT / "docs"
GENERATED = "<!-- Written by scripts/gen_docs.py from the code. Changes made here are lost. -->"


def main() -> int:
    """Write or check the pages; the number of stale ones decides the status of a check."""
    sys.path.insert(0, str(ROOT))
    pages = {"cli.md": cli_page(), "config.md": config_page()}
    if sys.argv[1:] not in ([], ["--check"]):
        print(__doc__, file=sys.stderr)
        return 2
    stale = [name for name, text in pages.items() if read(DOCS / name) != text]
    if sys.argv[1:]:
        for name in stale:
            print(f"docs/{name} is stale: run python3 scripts/gen_docs.py")
        return 1 if stale else 0
    DOCS.mkdir(exist_ok=True)
    for name in stale:
        (DOCS / name).write_text(pages[name], encoding="utf-8", newline="\n")
        print(f"docs/{name} written")
    return 0


def read(path: Path) -> str | None:
    """The page as it is, None where there is none."""
    return path.read_text(encoding="utf-8") if path.exists() else None


def cli_page() -> str:
    """Every command with its arguments and options."""
    from localllm.cli.app import build_command

    group = build_command()
    parts = [GENERATED, "# The `localllm` command", EXIT_CODES]
    for name, command in group.commands.items():
        if not command.hidden:
            parts += command_section(name, command)
    return "\n\n".join(parts) + "\n"


EXIT_CODES = """Data goes to standard output, everything else to standard error. `NO_COLOR` turns colours off.

| exit code | meaning |
|---|---|
| 0 | done |
| 1 | failed |
| 2 | the command line or the settings are wrong |
| 3 | failed, but a retry may help |
| 130 | interrupted |"""


def command_section(name: str, command: Any) -> list[str]:
    """One command: usage line, what its docstring says, its options as a table."""
    arguments = [param for param in command.params if not param.opts[0].startswith("-")]
    options = [param for param in command.params if param.opts[0].startswith("-") and "--help" not in param.opts]
    usage = " ".join([f"localllm {name}", "[OPTIONS]", *(argument_words(argument) for argument in arguments)])
    parts = [f"## {name}", f"```\n{usage}\n```", unwrapped(command.help)]
    rows = [(f"`{argument.metavar}`", argument.help) for argument in arguments]
    rows += [(option_words(option), option.help) for option in options]
    table = [
        f"| {words.replace('|', chr(92) + '|')} | {(text or '').replace('|', chr(92) + '|')} |" for words, text in rows
    ]
    return [*parts, "\n".join(["| option | meaning |", "|---|---|", *table])] if rows else parts


def argument_words(argument: Any) -> str:
    """`MODEL`, in brackets where it may be left out."""
    return str(argument.metavar) if argument.required else f"[{argument.metavar}]"


def option_words(option: Any) -> str:
    """Flags and value of an option: `-n, --max-tokens N`."""
    flags = ", ".join(sorted(option.opts, key=lambda flag: (flag.startswith("--"), flag)))
    if option.secondary_opts:
        flags += " / " + ", ".join(option.secondary_opts)
    return f"`{flags}{' ' + option.metavar if option.metavar else ''}`"


def unwrapped(text: str | None) -> str:
    """A docstring with each paragraph on one line."""
    paragraphs = (text or "").strip().split("\n\n")
    return "\n\n".join(" ".join(paragraph.split()) for paragraph in paragraphs)


def config_page() -> str:
    """Every setting: what it is for, its type, default and variable."""
    from localllm import config

    parts = [GENERATED, "# Settings", SETTINGS_INTRO]
    rows = []
    for field in config.Settings.__struct_fields__:
        alias = config.env_alias(field)
        variables = f"`{config.env_name(field)}`" + (f", else `{alias}`" if alias else "")
        cells = (f"`{field}`", config.describe(field), config.kind_words(field), default_words(field), variables)
        rows.append(f"| {' | '.join(cells)} |")
    head = ["| setting | meaning | value | default | variable |", "|---|---|---|---|---|"]
    return "\n\n".join([*parts, "\n".join(head + rows), OTHER_VARIABLES, chat_settings()]) + "\n"


def chat_settings() -> str:
    """What chat.toml may hold."""
    import msgspec
    from localllm_tui.options import ChatSettings

    rows = ["## The chat", CHAT_INTRO, "| setting | meaning | default |\n|---|---|---|"]
    for field in msgspec.structs.fields(ChatSettings):
        described = next((m.description for m in getattr(field.type, "__metadata__", ()) if m.description), "")
        value = getattr(ChatSettings(), field.name)
        default = msgspec.json.encode(value).decode() if value != {} else "none"
        rows[-1] += f"\n| `{field.name}` | {described} | `{default}` |"
    return "\n\n".join(rows)


CHAT_INTRO = """\
`localllm chat` reads `chat.toml`, beside the settings file:

```toml
theme = "localllm-light"

[keys]
"chat.new" = "f12"

[personas.editor]
system = "You mend my {language} without changing its tone."
parameters = { language = "English" }
```"""


SETTINGS_INTRO = """\
A flag wins over an environment variable, a variable over the settings file, the file over the default.

The file is `config.toml` in the per-user configuration directory of the system (`localllm doctor` says where), in TOML:

```toml
default_model = "qwen3:0.6b"
num_ctx = 16384
keep_alive_s = 600
```

A setting that does not exist, or a value of the wrong kind, is an error that names the file, the line and what would be
right."""

OTHER_VARIABLES = """Variables that are no settings:

| variable | meaning |
|---|---|
| `LOCALLLM_HOME` | directory of models, conversations and, with this set, the settings file |
| `LOCALLLM_CONFIG` | another settings file |
| `LOCALLLM_DEBUG` | `1` shows where an error comes from |
| `LOCALLLM_KEY` | the key for `localllm chat --url` |
| `LOCALLLM_OLLAMA_REGISTRY` | another registry for `ollama:` names |
| `LOCALLLM_ALLOW_HOSTS` | hosts, by commas, that may be asked over http or at a private address |
| `HF_TOKEN` | token for Hugging Face |
| `NO_COLOR` | no colours |"""


def default_words(field: str) -> str:
    """The default of a setting as it would be written in the file."""
    from localllm.config import Settings

    if field == "store_dir":
        return "`store` in the data directory"
    value = getattr(Settings(), field)
    if value is None:
        return "chosen for this machine or by the model"
    if isinstance(value, bool):
        return f"`{str(value).lower()}`"
    return f'`"{value}"`' if isinstance(value, str) else f"`{value:g}`"


if __name__ == "__main__":
    sys.exit(main())
