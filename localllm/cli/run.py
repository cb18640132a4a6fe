"""`localllm run`: one answer, or a conversation at the line REPL."""

from __future__ import annotations

import os
import sys
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from localllm.cli.options import (
    Adapters,
    Json,
    Offline,
    OptionalModel,
    Quiet,
    adapter,
    load_options,
    own_load,
    with_options,
)
from localllm.cli.runtime import Runtime, runtime_of

if TYPE_CHECKING:
    from localllm.api import SamplingParams
    from localllm.cli.answer import Answer
    from localllm.cli.conversation import Conversation
    from localllm.cli.output import Output
    from localllm.config import Settings


class TruncateChoice(StrEnum):
    error = "error"
    oldest = "oldest"


def register(app: typer.Typer) -> None:
    """Add the commands of this module."""
    app.command()(with_options(run))


def run(
    ctx: typer.Context,
    model: OptionalModel = None,
    prompt: Annotated[
        str | None, typer.Argument(metavar="PROMPT", help="What to ask; without it, a conversation.")
    ] = None,
    *,
    system: Annotated[str | None, typer.Option("--system", "-s", metavar="TEXT", help="System prompt.")] = None,
    think: Annotated[
        bool | None, typer.Option("--think/--no-think", help="Ask the model to think first, or not to.")
    ] = None,
    truncate: Annotated[
        TruncateChoice,
        typer.Option(
            "--truncate",
            metavar="error|oldest",
            help="When a conversation outgrows the context: fail, or drop its oldest turns.",
        ),
    ] = TruncateChoice.error,
    raw: Annotated[
        bool, typer.Option("--raw", help="Continue the prompt as plain text, without the chat template.")
    ] = False,
    verbose: Annotated[
        bool, typer.Option("--verbose", "-v", help="Say afterwards how long loading, prompt and answer took.")
    ] = False,
    receipt: Annotated[
        Path | None,
        typer.Option("--receipt", metavar="FILE", help="Record what the answer was made from, for `localllm replay`."),
    ] = None,
    json: Json = False,
    quiet: Quiet = False,
    offline: Offline = False,
    suffix: Annotated[
        str | None,
        typer.Option("--suffix", metavar="TEXT", help="With --raw: fill in what stands between the prompt and this."),
    ] = None,
    adapters: Adapters = None,
    draft_model: Annotated[
        str | None,
        typer.Option("--draft-model", metavar="NAME", help="A small model of the same family that guesses ahead."),
    ] = None,
    local: Annotated[
        bool, typer.Option("--local", help="Run the model in this process, even where a daemon is running.")
    ] = False,
    form: dict[str, Any],
    generation: dict[str, Any],
    sampling: SamplingParams,
    loading: dict[str, Any],
) -> None:
    """Ask a model, or talk with it. The model is fetched on first use.

    With PROMPT the answer goes to standard output and the command ends; piped standard input is appended to it.
    Without PROMPT a conversation begins on a terminal; elsewhere standard input is the prompt. Where a daemon runs, it
    answers; with options that say how a model is loaded, this process loads it.

    With --json an object: model, content, reasoning, tool_calls, finish_reason, stop, usage, timings, notices and
    logprobs.
    """
    import asyncio

    from localllm.cli.answer_form import answer_form
    from localllm.cli.conversation import Conversation
    from localllm.cli.output import Output
    from localllm.errors import UsageError

    if suffix is not None and not raw:
        raise UsageError("--suffix goes with --raw", hint="a chat has no text behind the answer")
    constraint = answer_form(**form)
    runtime = runtime_of(ctx)
    settings = runtime.settings(**loading, offline=offline or None)
    output = Output(json=json, quiet=quiet)
    talk = Conversation(
        model=model or settings.default_model,
        system=system,
        sampling=sampling,
        think=think,
        truncate=truncate.value,
        verbose=verbose,
        draft_model=draft_model,
        local=local,
        own_load=own_load(loading, draft_model, adapters),
        generation={
            **generation,
            "constraint": constraint,
            "receipt": receipt is not None,
            "adapters": tuple(map(adapter, adapters or ())),
        },
    )
    asked = read_prompt(prompt, alone=json or raw or receipt is not None)
    if asked is not None:
        asyncio.run(_answer_once(runtime, output, talk, asked, settings, raw=raw, suffix=suffix, receipt=receipt))
    else:
        from localllm.cli.repl import talk_at_terminal

        raise typer.Exit(asyncio.run(talk_at_terminal(runtime, output, talk, settings)))


async def _answer_once(
    runtime: Runtime,
    output: Output,
    talk: Conversation,
    prompt: str,
    settings: Settings,
    *,
    raw: bool,
    suffix: str | None,
    receipt: Path | None,
) -> None:
    from localllm.api import ChatRequest, CompletionRequest
    from localllm.cli.answer import Answer, AnswerView, tell_end
    from localllm.cli.borrowed import answering

    answer = Answer()
    load = load_options(settings, num_slots=1, draft_model=talk.draft_model)
    async with answering(
        runtime, settings, load, model=talk.model, output=output, local=talk.local, own=talk.own_load
    ) as backend:
        request: ChatRequest | CompletionRequest
        if raw:
            request = CompletionRequest(talk.model, prompt, talk.sampling, suffix=suffix, **talk.generation)
            events = backend.complete(request)
        else:
            request = talk.request(prompt)
            events = backend.chat(request)
        await AnswerView(output, silent=output.json).show(events, answer)
        if receipt is not None and answer.finished is not None and answer.finished.receipt is not None:
            from localllm.replay import record_of, save_record

            save_record(record_of(request, answer.finished.receipt), receipt)
        if output.json:
            output.document(answer_document(talk.model, answer))
        output.flush()
        await tell_end(backend, output, talk.model, answer, verbose=talk.verbose)


def answer_document(model: str, answer: Answer) -> dict[str, Any]:
    """What `run --json` writes."""
    finished = answer.finished
    return {
        "model": model,
        "content": answer.content,
        "reasoning": answer.reasoning or None,
        "tool_calls": answer.tool_calls,
        "finish_reason": finished.reason if finished else None,
        "stop": finished.stop if finished else None,
        "usage": finished.usage if finished else None,
        "timings": finished.timings if finished else None,
        "notices": answer.notices,
        "logprobs": [
            {"token": p.token, "text": p.text.decode("utf-8", "replace"), "logprob": p.logprob,
             "top": [{"token": t, "text": b.decode("utf-8", "replace"), "logprob": v} for t, b, v in p.top]}
            for p in answer.logprobs
        ] or None,
    }  # fmt: skip


def read_prompt(prompt: str | None, *, alone: bool) -> str | None:
    """The prompt with piped standard input appended; None where neither is there and a conversation may begin.

    Raises UsageError when there is nothing to ask, or when it stands `alone`: no conversation can take its place.
    """
    from localllm.errors import UsageError

    piped = _read_piped()
    if prompt is not None:
        prompt = os.fsencode(prompt).decode("utf-8", "replace")
        return f"{prompt}\n\n{piped}" if piped and piped.strip() else prompt
    if piped is not None:
        if not piped.strip():
            raise UsageError(
                "nothing to ask: no prompt, and standard input is empty", hint='localllm run MODEL "a question"'
            )
        return piped
    if alone:
        raise UsageError("--json, --raw and --receipt need a prompt", hint='localllm run MODEL "a question"')
    return None


def _read_piped() -> str | None:
    """Standard input as text where it is no terminal; None where it is one, or is closed."""
    stream = sys.stdin
    if stream is None or stream.closed or stream.isatty():
        return None
    return stream.buffer.read().decode("utf-8-sig", "replace")
