"""Options that several commands share, each written once: the sampling table, loading options, `--json`, `--quiet`.

`with_options` turns the parameters `sampling` and `loading` of a command into their options.
"""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple, get_type_hints

import typer

from localllm.cli.complete import complete_model
from localllm.sampling_words import MEANINGS

if TYPE_CHECKING:
    from localllm.api import Adapter, LoadOptions, SamplingParams

Json = Annotated[bool, typer.Option("--json", help="Write one JSON document to standard output.")]
Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="No narration; errors only.")]
Adapters = Annotated[
    list[str] | None,
    typer.Option("--adapter", metavar="FILE[:SCALE]", help="Apply a LoRA adapter, a GGUF file or a name (repeatable)."),
]
Offline = Annotated[bool, typer.Option("--offline", help="Do not use the network.")]
DryRun = Annotated[bool, typer.Option("--dry-run", "-n", help="Only say what would be done.")]
Model = Annotated[str, typer.Argument(metavar="MODEL", help="Name of a model.", autocompletion=complete_model)]
OptionalModel = Annotated[
    str | None,
    typer.Argument(
        metavar="MODEL", help="Name of a model; without it, the default model.", autocompletion=complete_model
    ),
]
Models = Annotated[
    list[str], typer.Argument(metavar="MODEL...", help="Names of models.", autocompletion=complete_model)
]


class Choice(NamedTuple):
    """One option: the type of its value, its flags beyond the field's own name, and its help."""

    kind: Any
    help: str
    flags: tuple[str, ...] = ()
    metavar: str | None = None


def _repeatable(name: str) -> str:
    return MEANINGS[name][:-1] + " (repeatable)."


# Keyed by field of SamplingParams, in the order of the help.
SAMPLING: dict[str, Choice] = {
    "temperature": Choice(float, MEANINGS["temperature"], ("-t",)),
    "top_k": Choice(int, MEANINGS["top_k"]),
    "top_p": Choice(float, MEANINGS["top_p"]),
    "min_p": Choice(float, MEANINGS["min_p"]),
    "typical_p": Choice(float, MEANINGS["typical_p"]),
    "top_n_sigma": Choice(float, MEANINGS["top_n_sigma"]),
    "xtc_probability": Choice(float, MEANINGS["xtc_probability"]),
    "xtc_threshold": Choice(float, MEANINGS["xtc_threshold"]),
    "dry_multiplier": Choice(float, MEANINGS["dry_multiplier"]),
    "dry_base": Choice(float, MEANINGS["dry_base"]),
    "dry_allowed_length": Choice(int, MEANINGS["dry_allowed_length"]),
    "dry_penalty_last_n": Choice(int, MEANINGS["dry_penalty_last_n"]),
    "dry_sequence_breakers": Choice(list[str], _repeatable("dry_sequence_breakers")),
    "mirostat": Choice(int, MEANINGS["mirostat"]),
    "mirostat_tau": Choice(float, MEANINGS["mirostat_tau"]),
    "mirostat_eta": Choice(float, MEANINGS["mirostat_eta"]),
    "repeat_penalty": Choice(float, MEANINGS["repeat_penalty"]),
    "repeat_last_n": Choice(int, MEANINGS["repeat_last_n"]),
    "presence_penalty": Choice(float, MEANINGS["presence_penalty"]),
    "frequency_penalty": Choice(float, MEANINGS["frequency_penalty"]),
    "logit_bias": Choice(list[str], _repeatable("logit_bias"), (), "TOKEN=VALUE"),
    "seed": Choice(int, MEANINGS["seed"]),
    "max_tokens": Choice(int, MEANINGS["max_tokens"], ("-n",)),
    "stop": Choice(list[str], _repeatable("stop")),
    "ignore_eos": Choice(bool, MEANINGS["ignore_eos"]),
    "logprobs": Choice(int, MEANINGS["logprobs"][:-1] + " (only with --json)."),
}

# Keyed by field of GenerationRequest.
GENERATION: dict[str, Choice] = {
    "reasoning_budget": Choice(int, "Tokens of thinking before the model is made to answer."),
    "deadline_s": Choice(float, "End the answer after so many seconds.", ("--deadline",)),
    "end_runaway": Choice(bool, "End an answer that repeats itself for ever."),
    "speculate": Choice(
        bool | None,
        "Guess tokens ahead where that pays, or never; without it, only with a draft model.",
        ("--speculate/--no-speculate",),
    ),
    "deterministic": Choice(bool, "Compute in a way that gives the same answer for the same seed; slower."),
}

# Keyed by parameter of `answer_form`.
FORM: dict[str, Choice] = {
    "format": Choice(str, "Answer in JSON: any object, or what a JSON Schema asks for.", (), "json|SCHEMA|FILE"),
    "regex": Choice(str, "Answer with what a regular expression matches as a whole.", (), "REGEX"),
    "choice": Choice(list[str], "Answer with this text, or another one given (repeatable)."),
    "grammar": Choice(str, "Answer with what a grammar allows.", (), "FILE.gbnf|FILE.lark"),
}

# Keyed by field of LoadOptions; these have a setting of the same name too.
LOADING: dict[str, Choice] = {
    "num_ctx": Choice(int, "Tokens of context a request may use.", ("--ctx", "-c")),
    "num_threads": Choice(int, "CPU threads.", ("--threads",)),
    "device": Choice(str, '"cpu", "auto", or a device that `localllm doctor` lists.', ("--device",), "NAME"),
    "num_gpu_layers": Choice(int, "Layers kept on the device; -1: all.", ("--gpu-layers", "-ngl")),
    "kv_type": Choice(str, 'Type of the cache: "f16", "q8_0" (half the memory), "q4_0" and so on.', (), "TYPE"),
    "flash_attn": Choice(bool | None, "Use flash attention, or not.", ("--flash-attn/--no-flash-attn",)),
    "tuned": Choice(bool | None, "Whether to use what `localllm tune` found.", ("--tuned/--no-tuned",)),
}


def with_options(command: Callable[..., None]) -> Callable[..., None]:
    """The command with `sampling: SamplingParams` and the dicts `form`, `generation`, `loading` spread into options."""
    signature = inspect.signature(command)
    hints = get_type_hints(command, localns={"SamplingParams": Any}, include_extras=True)
    kept = [p.replace(annotation=hints[n]) for n, p in signature.parameters.items() if n not in _TABLES]
    tables = {name: table for name, table in _TABLES.items() if name in signature.parameters}
    spread = [_parameter(field, choice) for table in tables.values() for field, choice in table.items()]

    def run(**values: Any) -> None:
        for name, table in tables.items():
            given = {field: values.pop(field) for field in table}
            if name == "sampling":
                values[name] = sampling_params(given)
            elif name == "generation":
                values[name] = {field: value for field, value in given.items() if value is not None}
            else:
                values[name] = given
        command(**values)

    run.__name__ = command.__name__
    run.__doc__ = command.__doc__
    run.__annotations__ = {p.name: p.annotation for p in (*kept, *spread)}
    run.__signature__ = inspect.Signature([*kept, *spread])  # type: ignore[attr-defined]
    return run


_TABLES = {"form": FORM, "generation": GENERATION, "loading": LOADING, "sampling": SAMPLING}


def _parameter(field: str, choice: Choice) -> inspect.Parameter:
    own = "--" + field.replace("_", "-")
    flags = choice.flags if any(f.startswith("--") for f in choice.flags) else (own, *choice.flags)
    metavar = choice.metavar or {int: "N", float: "X", bool: None, bool | None: None}.get(choice.kind, "TEXT")
    option = typer.Option(*flags, help=choice.help, metavar=metavar, show_default=False)
    kind = bool if choice.kind is bool else choice.kind | None
    default = False if choice.kind is bool else None
    return inspect.Parameter(field, inspect.Parameter.KEYWORD_ONLY, default=default, annotation=Annotated[kind, option])


def sampling_params(given: dict[str, Any]) -> SamplingParams:
    """SamplingParams from option values; raises InvalidRequestError for one out of range, before anything is loaded."""
    from localllm.api import SamplingParams, check_sampling

    values = {
        field: value for field, value in given.items() if value is not None and value != [] and value is not False
    }
    for field in ("stop", "dry_sequence_breakers"):
        if field in values:
            values[field] = tuple(values[field])
    if "logit_bias" in values:
        values["logit_bias"] = dict(_bias(text) for text in values["logit_bias"])
    params = SamplingParams(**values)
    check_sampling(params)
    return params


def _bias(text: str) -> tuple[int, float]:
    from localllm.errors import InvalidRequestError

    token, _, value = text.partition("=")
    try:
        return int(token), float(value)
    except ValueError as exc:
        raise InvalidRequestError(
            f"logit bias {text!r} is not TOKEN=VALUE", hint="for example --logit-bias 15=-1.5"
        ) from exc


def load_options(settings: Any, *, num_slots: int | None = None, draft_model: str | None = None) -> LoadOptions:
    """How models are loaded, from settings that have the flags in them already.

    `num_slots` wins over the settings: one conversation needs one, and every further one costs time and memory at load.
    """
    from localllm.api import LoadOptions

    names = ("num_ctx", "num_threads", "device", "num_gpu_layers", "tuned", "flash_attn", "prefix_disk_bytes")
    return LoadOptions(
        num_slots=num_slots or settings.num_slots,
        draft_model=draft_model,
        kv_type_k=settings.kv_type,
        kv_type_v=settings.kv_type,
        **{name: getattr(settings, name) for name in names},
    )


def adapter(text: str) -> Adapter:
    """FILE or FILE:SCALE; what stands behind the last colon and is no number belongs to the file's name."""
    from localllm.api import Adapter

    path, _, scale = text.rpartition(":")
    try:
        return Adapter(path, float(scale)) if path else Adapter(text)
    except ValueError:
        return Adapter(text)


def own_load(
    loading: dict[str, Any], draft_model: str | None = None, adapters: list[str] | None = None
) -> tuple[str, ...]:
    """The options given that a running daemon's models were not loaded with."""
    given = [field for field, value in loading.items() if value is not None]
    names = [next((f for f in LOADING[field].flags if f.startswith("--")), f"--{field}") for field in given]
    names = [name.partition("/")[0].replace("_", "-") for name in names]
    return (*names, *(["--draft-model"] if draft_model else []), *(["--adapter"] if adapters else []))
