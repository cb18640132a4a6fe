"""`localllm bench`: how fast a model runs here, as its callers see it: through the same Backend as `run`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from localllm.cli.options import Json, Offline, OptionalModel, Quiet, load_options, with_options
from localllm.cli.runtime import Runtime, runtime_of

if TYPE_CHECKING:
    from localllm.api import Backend, LoadedModel
    from localllm.cli.bench_meter import Plan
    from localllm.cli.output import Output
    from localllm.config import Settings

_LEAST_CTX = 2048


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(with_options(bench))


def bench(
    ctx: typer.Context,
    model: OptionalModel = None,
    *,
    streams: Annotated[
        str, typer.Option("--streams", metavar="N,N...", help="How many requests at once, one test each.")
    ] = "1,4,8,16",
    prompt_tokens: Annotated[
        int, typer.Option("--prompt-tokens", "-p", min=1, metavar="N", help="Tokens of the prompt.")
    ] = 512,
    output_tokens: Annotated[
        int, typer.Option("--output-tokens", "-n", min=2, metavar="N", help="Tokens of each answer.")
    ] = 128,
    rounds: Annotated[int, typer.Option("--rounds", "-r", min=1, metavar="N", help="Take the median of N.")] = 3,
    compare: Annotated[
        str | None,
        typer.Option(
            "--compare", metavar="FILE|MODEL", help="Compare with what --json wrote before, or with another model."
        ),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    offline: Offline = False,
    loading: dict[str, Any],
) -> None:
    """Measure prefill and decode speed in tokens a second, the first token, and memory.

    pp512 is a prompt of 512 tokens, alone; tg128 are answers of 128 tokens after short prompts, timed from the first
    token to the last, over all streams together. Another model is measured in the same run, turn about.

    With --json an object: model, load_s, num_ctx, num_slots, device, peak_rss_bytes, bytes_by_device, tests (each:
    test, num_streams, tokens_per_s, least, most, samples), num_prompt_tokens, first_token_s, first_token_busy_s,
    rounds, compared (the same of the other, or null) and ratios (by test and number of streams, or null).
    """
    import asyncio

    from localllm.cli.bench_meter import Plan
    from localllm.cli.output import Output

    runtime = runtime_of(ctx)
    settings = runtime.settings(**loading, offline=offline or None)
    plan = Plan(_counts(streams), prompt_tokens, output_tokens, rounds)
    output = Output(json=json, quiet=quiet)
    earlier = _read_report(Path(compare)) if compare and Path(compare).suffix == ".json" else None
    names = [model or settings.default_model, *([compare] if compare and earlier is None else [])]
    reports = asyncio.run(_bench(runtime, settings, output, names, plan))
    _show(output, reports[0], earlier or (reports[1] if len(reports) > 1 else None))


def _counts(streams: str) -> list[int]:
    from localllm.errors import UsageError

    try:
        counts = [int(word) for word in streams.split(",")]
    except ValueError:
        counts = []
    if not counts or any(not 1 <= count <= 256 for count in counts):
        raise UsageError(f"--streams cannot be {streams!r}", hint="numbers from 1 to 256, such as 1,4,8")
    return list(dict.fromkeys(counts))


def _read_report(path: Path) -> dict[str, Any]:
    """What `bench --json` wrote. Raises UsageError."""
    import msgspec

    from localllm.errors import UsageError

    hint = "a file that `localllm bench --json` wrote, or the name of a model"
    try:
        found = msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
        tests = [(test["test"], test["num_streams"], test["tokens_per_s"] / 1) for test in found["tests"]]
    except OSError as exc:
        raise UsageError(f"{path} cannot be read: {exc.strerror}", hint=hint) from exc
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError, TypeError) as exc:
        raise UsageError(f"{path} is no report of a benchmark", hint=hint) from exc
    return {"model": str(path), **found, "tests": [dict(zip(_TEST_FIELDS, test, strict=True)) for test in tests]}


_TEST_FIELDS = ("test", "num_streams", "tokens_per_s")


async def _bench(
    runtime: Runtime, settings: Settings, output: Output, models: list[str], plan: Plan
) -> list[dict[str, Any]]:
    """A report for each model; their rounds take turns."""
    import msgspec

    from localllm.cli.bench_meter import WORDS, Meter, describe_load
    from localllm.cli.progress import show_load

    options = load_options(settings)
    slots = max(plan.counts)
    longest = max(_LEAST_CTX, plan.num_prompt + plan.num_output + 64, slots * (plan.num_output + 16))
    options = msgspec.structs.replace(
        options, num_slots=options.num_slots or slots, num_ctx=options.num_ctx or longest, prefix_disk_bytes=0
    )
    async with runtime.backend(settings, options) as backend:
        meters, names = [], []
        for model in models:
            before = {loaded.name for loaded in await backend.list_loaded()}
            await show_load(backend, output, model)
            names.append(next((now.name for now in await backend.list_loaded() if now.name not in before), model))
            meter = Meter(backend, model, await backend.tokenize(model, WORDS), plan)
            await meter.warm_up()
            meters.append(meter)
        for number in range(plan.rounds):
            for meter in meters:
                output.note(f"round {number + 1} of {plan.rounds}: {meter.model} ...")
                await meter.round()
        return [
            {"model": meter.model, **describe_load(await _loaded(backend, name)), **meter.report()}
            for meter, name in zip(meters, names, strict=True)
        ]


async def _loaded(backend: Backend, name: str) -> LoadedModel | None:
    return next((loaded for loaded in await backend.list_loaded() if loaded.name == name), None)


def _show(output: Output, report: dict[str, Any], other: dict[str, Any] | None) -> None:
    ratios = _ratios(report, other) if other else None
    if output.json:
        output.document({**report, "compared": other, "ratios": ratios})
        return
    from localllm.cli.table import Column

    columns = [Column("TEST", keep=9), Column("STREAMS", True, 7), Column("tok/s", True, 8), Column("FROM", True, 2)]
    columns += [Column("TO", True, 1)]
    columns += [Column("OTHER", True, 5), Column("RATIO", True, 6)] if other else []
    rows = []
    for test in report["tests"]:
        row = [test["test"], str(test["num_streams"]), *(f"{test[name]:.1f}" for name in _RATES)]
        if other:
            found = _test_of(other, test)
            row += ["", ""] if found is None else [f"{found:.1f}", f"{test['tokens_per_s'] / found:.2f}"]
        rows.append(row)
    output.table(columns, rows)
    output.line()
    output.lines(_facts(report, other))


_RATES = ("tokens_per_s", "least", "most")


def _facts(report: dict[str, Any], other: dict[str, Any] | None) -> list[str]:
    from localllm.cli.table import pairs
    from localllm.terminal_text import size

    def one(name: str, words: Any) -> str:
        found = [words(each[name]) if each and each.get(name) else "unknown" for each in (report, other)]
        return found[0] + (f" (other: {found[1]})" if other else "")

    def seconds(value: float) -> str:
        return f"{value:.3f} s"

    facts = [("first token", f"{one('first_token_s', seconds)}, prompt of {report['num_prompt_tokens']} tokens")]
    if report["first_token_busy_s"]:
        facts.append(("", f"{one('first_token_busy_s', seconds)}, the same beside three streams"))
    facts.append(("memory", f"{one('peak_rss_bytes', size)} at most in the engine's process"))
    by_device = ", ".join(f"{name} {size(count)}" for name, count in report["bytes_by_device"].items())
    facts.append(("", f"planned: {by_device}" if by_device else ""))
    facts.append(("loaded", f"in {one('load_s', seconds)}, {report['num_slots']} slots, context {report['num_ctx']}"))
    return list(pairs([fact for fact in facts if fact[1]]))


def _ratios(report: dict[str, Any], other: dict[str, Any]) -> list[dict[str, Any]]:
    """How many times as fast as the other each test is, where both have it."""
    return [
        {"test": test["test"], "num_streams": test["num_streams"], "ratio": test["tokens_per_s"] / found}
        for test in report["tests"]
        if (found := _test_of(other, test))
    ]


def _test_of(report: dict[str, Any], wanted: dict[str, Any]) -> float | None:
    """The rate of the same test in another report."""
    same = (wanted["test"], wanted["num_streams"])
    return next((test["tokens_per_s"] for test in report["tests"] if (test["test"], test["num_streams"]) == same), None)
