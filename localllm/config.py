"""Settings: defaults, then the TOML file, then the environment, then flags; read once and passed down.

Owns which settings exist, what they mean and how they are read. Keeps no global state and creates no file.
"""

from __future__ import annotations

import difflib
import os
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from msgspec import Meta

from localllm import paths
from localllm.errors import ConfigError

LogLevel = Literal["debug", "info", "warning", "error"]
Positive = Annotated[int, Meta(ge=1)]

DEFAULT_MODEL = "smollm2:135m"
DEFAULT_HF_ENDPOINT = "https://huggingface.co"


class Settings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What a person may set once for every command. None means: chosen for this machine or by the model."""

    store_dir: Annotated[Path, Meta(description="Where models are kept.")] = msgspec.field(
        default_factory=paths.store_dir
    )
    default_model: Annotated[str, Meta(description="The model that is used where none is named.")] = DEFAULT_MODEL
    offline: Annotated[bool, Meta(description="Never use the network; what is not on this machine is an error.")] = (
        False
    )
    hf_endpoint: Annotated[str, Meta(description="Address of Hugging Face or of a mirror of it.")] = DEFAULT_HF_ENDPOINT
    num_connections: Annotated[int, Meta(ge=1, le=32, description="Parallel connections of one download, at most.")] = 4
    keep_alive_s: Annotated[
        float, Meta(ge=-1, description="Seconds an idle model stays in memory; -1 keeps it, 0 unloads it at once.")
    ] = 300.0
    memory_bytes: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        Meta(description="Memory that all loaded models may take together; what is free, where it is not set."),
    ] = None
    device: Annotated[
        str | None, Meta(description='"cpu", "auto", or a device that `localllm doctor` lists, such as "CUDA0".')
    ] = None
    num_gpu_layers: Annotated[
        Annotated[int, Meta(ge=-1)] | None, Meta(description="Layers kept on the device; -1 is all of them.")
    ] = None
    num_threads: Annotated[Positive | None, Meta(description="CPU threads of the engine.")] = None
    num_ctx: Annotated[Positive | None, Meta(description="Tokens of context a request may use.")] = None
    num_slots: Annotated[
        Annotated[int, Meta(ge=1, le=256)] | None, Meta(description="Requests that one model runs at once.")
    ] = None
    kv_type: Annotated[
        str | None, Meta(description='Type of the cache, such as "q8_0": half the memory of the default "f16".')
    ] = None
    flash_attn: Annotated[bool | None, Meta(description="Use flash attention, or not; a quantized cache needs it.")] = (
        None
    )
    tuned: Annotated[bool, Meta(description="Use what `localllm tune` found for a model on this machine.")] = True
    prefix_disk_bytes: Annotated[
        Annotated[int, Meta(ge=0)] | None,
        Meta(description="What prefixes kept on disk may take; 0 keeps none, a share of what is free by default."),
    ] = None
    host: Annotated[str, Meta(description="Address that `localllm serve` listens on.")] = "127.0.0.1"
    port: Annotated[
        int, Meta(ge=0, le=65535, description="Port that `localllm serve` listens on; 0 takes a free one.")
    ] = 11435
    key_file: Annotated[
        Path | None, Meta(description="Keys that clients of `localllm serve` must show: KEY or NAME = KEY a line.")
    ] = None
    log_level: Annotated[LogLevel, Meta(description="What is logged to standard error.")] = "warning"


# Names other tools already taught people; each stands in when ours is not set.
_ENV_ALIASES = {"hf_endpoint": "HF_ENDPOINT", "offline": "HF_HUB_OFFLINE"}
# Read elsewhere (paths, cli, store, tests): no settings, so no spelling mistakes either.
_OTHER_ENV = {
    "LOCALLLM_HOME",
    "LOCALLLM_CONFIG",
    "LOCALLLM_DEBUG",
    "LOCALLLM_KEY",
    "LOCALLLM_LONG",
    "LOCALLLM_TEST_MODEL",
    "LOCALLLM_TEST_MINILM",
    "LOCALLLM_OLLAMA_REGISTRY",
    "LOCALLLM_ALLOW_HOSTS",
}
_WORDS = {"yes": True, "on": True, "no": False, "off": False}


def env_name(field: str) -> str:
    """The environment variable of a setting: `num_ctx` is `LOCALLLM_NUM_CTX`, `store_dir` is `LOCALLLM_STORE`."""
    return "LOCALLLM_STORE" if field == "store_dir" else f"LOCALLLM_{field.upper()}"


def env_alias(field: str) -> str | None:
    """The variable of another tool that stands in for ours, if there is one."""
    return _ENV_ALIASES.get(field)


def load_settings(
    flags: Mapping[str, Any] | None = None,
    *,
    environ: Mapping[str, str] | None = None,
    file: Path | None = None,
) -> Settings:
    """Read the settings: defaults < `file` (default: paths.config_file()) < `environ` < `flags` that are not None.

    Raises ConfigError naming the file or variable, the key and, in a file, the line.
    """
    environ = os.environ if environ is None else environ
    named = file is not None or bool(environ.get("LOCALLLM_CONFIG"))
    values = _from_file(file or paths.config_file(), must_exist=named)
    values |= _from_environ(environ)
    for key, value in (flags or {}).items():
        if value is not None:
            values[key] = _convert(key, value, where="on the command line")
    return Settings(**values)


def unknown_environ(environ: Mapping[str, str] | None = None) -> list[str]:
    """Variables that begin with LOCALLLM_ and mean nothing: most likely spelled wrong."""
    known = _OTHER_ENV | {env_name(name) for name in Settings.__struct_fields__}
    return sorted(
        n for n in (os.environ if environ is None else environ) if n.startswith("LOCALLLM_") and n not in known
    )


def _from_file(file: Path, *, must_exist: bool) -> dict[str, Any]:
    try:
        text = file.read_text(encoding="utf-8-sig")
    except FileNotFoundError as exc:
        if must_exist:
            raise ConfigError(f"settings file {file} is not there", hint="LOCALLLM_CONFIG names it") from exc
        return {}
    except (OSError, UnicodeDecodeError) as exc:
        raise ConfigError(f"settings file {file} cannot be read: {exc}") from exc
    import tomllib

    try:
        document = tomllib.loads(text)
    except tomllib.TOMLDecodeError as exc:
        raise ConfigError(f"{file} is no valid TOML: {exc}", hint='text needs quotes: key = "value"') from exc
    values: dict[str, Any] = {}
    for key, value in document.items():
        where = f"{file}{_line_of(key, text)}"
        if key not in Settings.__struct_fields__:
            raise ConfigError(f"{where}: unknown setting {key!r}", hint=_near(key), path=str(file), key=key)
        values[key] = _convert(key, value, where=where)
    return values


def _from_environ(environ: Mapping[str, str]) -> dict[str, Any]:
    values: dict[str, Any] = {}
    for field in Settings.__struct_fields__:
        for name in (env_name(field), _ENV_ALIASES.get(field)):
            text = environ.get(name, "").strip() if name else ""
            if text:
                values[field] = _convert(field, text, where=f"environment variable {name}", strict=False)
                break
    return values


def _convert(key: str, value: Any, *, where: str, strict: bool = True) -> Any:
    kind = field_types()[key]
    if not strict and isinstance(value, str) and _is_bool(kind):
        value = _WORDS.get(value.lower(), value)
    if isinstance(value, int) and not isinstance(value, bool) and _bare(kind) is float:
        value = float(value)
    try:
        return msgspec.convert(value, kind, strict=strict, dec_hook=_decode_path)
    except (msgspec.ValidationError, ValueError) as exc:
        hint = f"{key} is {kind_words(key)}: {describe(key)}".rstrip(".")
        raise ConfigError(f"{where}: {key} cannot be {value!r}", hint=hint, key=key) from exc


def _decode_path(kind: type, value: Any) -> Any:
    if kind is Path and isinstance(value, str | Path):
        return Path(value).expanduser()
    raise ValueError(f"expected a path, got {type(value).__name__}")


def field_types() -> dict[str, Any]:
    """The annotated type of each setting, by name."""
    return {field.name: field.type for field in msgspec.structs.fields(Settings)}


def describe(field: str) -> str:
    """What a setting is for, in one sentence."""
    kind = field_types()[field]
    return next((m.description for m in getattr(kind, "__metadata__", ()) if m.description), "")


def choices(field: str) -> tuple[str, ...]:
    """The words a setting accepts, or none where any value of its type will do."""
    kind = _bare(field_types()[field])
    return get_args(kind) if get_origin(kind) is Literal else ()


def _bare(kind: Any) -> Any:
    return get_args(kind)[0] if get_origin(kind) is Annotated else kind


def _is_bool(kind: Any) -> bool:
    return _bare(kind) is bool


def kind_words(field: str) -> str:
    """What a setting accepts, in plain words: "a whole number of at least 1", "debug, info, warning or error"."""
    words = choices(field)
    if words:
        return ", ".join(words[:-1]) + " or " + words[-1]
    kind, low, high = _range(field_types()[field])
    text = {bool: "true or false", int: "a whole number", float: "a number", Path: "a path"}.get(kind, "text")
    if low is not None and high is not None:
        return f"{text} from {low:g} to {high:g}"
    return text if low is None else f"{text} of at least {low:g}"


def _range(kind: Any) -> tuple[Any, float | None, float | None]:
    """The plain type under annotations and `| None`, with its bounds."""
    if get_origin(kind) is Annotated:
        inner, low, high = _range(get_args(kind)[0])
        for meta in kind.__metadata__:
            low, high = (low if meta.ge is None else meta.ge), (high if meta.le is None else meta.le)
        return inner, low, high
    plain = [member for member in get_args(kind) if member is not type(None)]
    return _range(plain[0]) if plain else (kind, None, None)


def _near(key: str) -> str:
    near = difflib.get_close_matches(key, Settings.__struct_fields__, n=1, cutoff=0.5)
    return f"did you mean {near[0]!r}?" if near else "the settings are " + ", ".join(Settings.__struct_fields__)


def _line_of(key: str, text: str) -> str:
    """`:12` where the key stands at the start of line 12; nothing where it is written in another way."""
    pattern = re.compile(rf"""\s*(\[\s*)?["']?{re.escape(key)}["']?\s*[=.\]]""")
    number = next((n for n, line in enumerate(text.splitlines(), 1) if pattern.match(line)), None)
    return f":{number}" if number else ""
