"""`localllm tune`: finds what is fastest for a model on this machine, keeps it, shows it, or forgets it."""

from __future__ import annotations

import textwrap
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from localllm.cli.options import Json, Offline, OptionalModel, Quiet, load_options, with_options
from localllm.cli.runtime import Runtime, runtime_of

if TYPE_CHECKING:
    from contextlib import AbstractContextManager

    from localllm.cli.output import Output
    from localllm.config import Settings
    from localllm.store.manifest import Manifest
    from localllm.tuned import Tuning
    from localllm.tuning import Trial

DEFAULT_S = 110.0


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(with_options(tune))


def tune(
    ctx: typer.Context,
    model: OptionalModel = None,
    *,
    seconds: Annotated[
        float,
        typer.Option("--seconds", min=0.1, max=86_400, metavar="S", help="The time it may take, loading included."),
    ] = DEFAULT_S,
    allow_lossy: Annotated[
        bool,
        typer.Option("--allow-lossy", help="Also take what makes answers a little different, where it is faster."),
    ] = False,
    show: Annotated[bool, typer.Option("--show", help="Show what was found before; measure nothing.")] = False,
    reset: Annotated[bool, typer.Option("--reset", help="Forget what was found for this model.")] = False,
    json: Json = False,
    quiet: Quiet = False,
    offline: Offline = False,
    loading: dict[str, Any],
) -> None:
    """Find the fastest settings for a model on this machine, and use them from now on.

    Threads, step sizes, flash attention, cache type and cache layout are tried against the defaults, turn about, by the
    speed of one and of four streams, of a prompt, and of the first token beside streams. Only a gain beyond the noise
    is kept. Options and settings that are given stay as they are, now and later. `--reset` undoes it; `localllm run
    --no-tuned` leaves it out once.

    With --json an object: name, model, machine, device, num_ctx, num_slots, created, outcome (choices, gain,
    ratios, figures, spread, trials, seconds), weights, rule; with --reset: name, num_removed.
    """
    import asyncio

    from localllm import tuned
    from localllm.cli.output import Output
    from localllm.errors import LocalLLMError, UsageError
    from localllm.store.identity import weights_id

    if show and reset:
        raise UsageError("--show and --reset exclude each other")
    runtime = runtime_of(ctx)
    settings = runtime.settings(**loading, offline=offline or None)
    output = Output(json=json, quiet=quiet)
    name = model or settings.default_model
    if not show and not reset:
        show_tuning(output, asyncio.run(_tune(runtime, settings, output, name, seconds, allow_lossy=allow_lossy)))
        return
    manifest, files, _ = _find(runtime, settings, name)
    weights = weights_id(manifest, files)
    if reset:
        _tell_reset(output, manifest.name, tuned.reset(weights))
        return
    own, others = tuned.load(weights)
    if own is None:
        from localllm.machine import this_machine

        hint = f"`localllm tune {name}` measures it"
        why = f": there is one for another {others[-1].machine.differs_in(this_machine())}" if others else ""
        raise LocalLLMError(f"nothing is tuned for {manifest.name} on this machine{why}", hint=hint)
    show_tuning(output, own)


async def _tune(
    runtime: Runtime, settings: Settings, output: Output, name: str, seconds: float, *, allow_lossy: bool
) -> Tuning:
    from localllm import measuring, tuned
    from localllm.errors import ModelNotFoundError

    try:
        manifest, files, hold = _find(runtime, settings, name)
    except ModelNotFoundError:
        await _pull(runtime, settings, output, name)
        manifest, files, hold = _find(runtime, settings, name)
    output.note(f"measuring {manifest.name} for {seconds:g} s at most ...")
    with hold:
        found = await measuring.tune(
            manifest,
            files,
            load_options(settings),
            settings,
            seconds=seconds,
            allow_lossy=allow_lossy,
            tell=output.note,
        )
    tuned.save(found)
    return found


def _find(runtime: Runtime, settings: Settings, name: str) -> tuple[Manifest, list[Path], AbstractContextManager[None]]:
    """The installed model of that name, or the file at a path, and what keeps it there. Raises ModelNotFoundError."""
    import contextlib

    from localllm.cli.installed import find_installed
    from localllm.errors import ModelNotFoundError
    from localllm.loading import manifest_of_file
    from localllm.name import ModelName

    store = runtime.store(settings)
    try:
        manifest = find_installed(store, name)
    except ModelNotFoundError:
        parsed = ModelName.parse(name)
        if parsed.source != "file":
            raise
        return *manifest_of_file(parsed), contextlib.nullcontext()
    return manifest, store.paths(manifest), store.lease(manifest)


async def _pull(runtime: Runtime, settings: Settings, output: Output, name: str) -> None:
    from localllm.cli.progress import ProgressView

    async with runtime.backend(settings) as backend:
        with ProgressView(output) as view:
            async for event in backend.pull(name):
                view.update(event)


def _tell_reset(output: Output, name: str, num_removed: int) -> None:
    if output.json:
        output.document({"name": name, "num_removed": num_removed})
    else:
        output.note(f"{name}: the defaults hold again" if num_removed else f"nothing was tuned for {name}")


def show_tuning(output: Output, tuning: Tuning) -> None:
    """What was measured and what was chosen, and why."""
    from localllm.cli.table import Column, pairs
    from localllm.tuning import FIGURES, RULE

    outcome = tuning.outcome
    if output.json:
        weights = {figure.name: figure.weight for figure in FIGURES}
        output.document({**_document(tuning), "weights": weights, "rule": RULE})
        return
    columns = [Column("CHOICE", keep=9), Column("VERDICT", keep=8), Column("GAIN", True, 7), Column("NOISE", True, 6)]
    columns += [Column(figure.name.upper(), True, 3) for figure in FIGURES if figure.name in outcome.figures]
    output.table(
        columns,
        [_row(output, trial, [f.name for f in FIGURES if f.name in outcome.figures]) for trial in outcome.trials],
    )
    output.line()
    facts = [("model", tuning.name), ("chosen", str(outcome.choices))]
    if outcome.choices.chosen():
        facts.append(("gain", f"{outcome.gain:+.1%} by the score"))
    facts.append(("defaults", ", ".join(
        f"{figure.name} {outcome.figures[figure.name]:.3g} {figure.unit}"
        for figure in FIGURES if figure.name in outcome.figures
    )))  # fmt: skip
    facts.append(("measured", f"{tuning.created[:10]}, in {outcome.seconds:.0f} s, on {tuning.machine.cpu}"))
    output.lines(_wrapped(output, pairs, facts))
    output.line()
    score = "; ".join(f"{figure.name} ({figure.weight:.0%}): {figure.words}" for figure in FIGURES)
    for words in (
        f"The score weighs {score}.",
        RULE,
        f"A round's gain had a standard deviation of {outcome.spread:.1%}.",
        *_notes(outcome.trials),
    ):
        output.lines(_fill(output, words))


def _notes(trials: tuple[Trial, ...]) -> list[str]:
    """Why something was not measured or not taken, and what the choices give up."""
    found = []
    for trial in trials:
        words = "; ".join(word for word in (trial.reason, trial.gives_up and f"it costs: {trial.gives_up}") if word)
        if words:
            found.append(f"{_changed(trial)}: {words}.")
    return found


def _row(output: Output, trial: Trial, figures: list[str]) -> tuple[str, ...]:
    from localllm import terminal_text as text

    gain = f"{trial.gain:+.1%}" if trial.rounds else ""
    noise = f"{trial.noise:.1%}" if trial.rounds else ""
    ratios = (f"{trial.ratios[name]:.2f} x" if name in trial.ratios else "" for name in figures)
    # On a narrow terminal the verdict stays, and the choice is cut.
    choice = text.cut(_changed(trial), max(16, output.columns() - 18)) if output.out_is_tty else _changed(trial)
    return (choice, trial.verdict, gain, noise, *ratios)


def _changed(trial: Trial) -> str:
    from localllm.tuning import changed

    return str(changed(trial))


def _document(tuning: Tuning) -> dict[str, Any]:
    from localllm.cli.output import plain

    found = plain(tuning)
    assert isinstance(found, dict)
    return found


def _wrapped(output: Output, pairs: Any, facts: list[tuple[str, str]]) -> list[str]:
    """Name and value lines, long values broken where the terminal ends."""
    if not output.out_is_tty:
        return list(pairs(facts))
    room = max(20, output.columns() - 12)
    return list(pairs([(name, "\n".join(textwrap.wrap(value, room)) or value) for name, value in facts]))


def _fill(output: Output, words: str) -> list[str]:
    """A sentence, broken where the terminal ends."""
    from localllm.terminal_text import safe_line

    width = output.columns() if output.out_is_tty else 100
    return textwrap.wrap(safe_line(words), width)
