"""The workloads: what is sent, how much at once, and which figures come of it. Knows targets by their protocol only.

A workload gets a target and its prompts and returns figures; texts depend on the seed alone, so that all targets of a
round get the same. Conversations carry on with what the target itself answered.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from serving import schemas
from serving.agent import agent_loop
from serving.figures import Figures, figures_of
from serving.prompts import Prompts
from serving.target import Answer, Call, Json, Mark, Target


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large the workloads are; tests use smaller ones."""

    one_stream_tokens: int = 128
    shared_streams: int = 8
    shared_prompt_tokens: int = 700
    shared_output_tokens: int = 64
    conversations: int = 10
    turns: int = 3
    app_prompt_tokens: int = 200
    turn_prompt_tokens: int = 30
    turn_output_tokens: int = 48
    late_streams: int = 3
    late_stream_tokens: int = 256
    late_prompt_tokens: int = 2600
    schema_tokens: int = 200
    agent_turns: int = 6
    agent_system_tokens: int = 500
    agent_result_tokens: int = 150
    agent_output_tokens: int = 32


@dataclass(frozen=True, slots=True)
class Plan:
    """What one run of a workload needs besides the target. `native_tools`: the targets take tools by themselves."""

    prompts: Prompts
    sizes: Sizes
    native_tools: bool = False


def _say(role: str, content: str) -> Json:
    return {"role": role, "content": content}


async def one_stream(target: Target, plan: Plan) -> Figures:
    """One user, a short prompt."""
    call = Call((_say("user", f"Write a long story about {plan.prompts.text(16)}"),), plan.sizes.one_stream_tokens)
    return figures_of([await target.ask(call)])


async def shared_prompt(target: Target, plan: Plan) -> Figures:
    """Several users at the same instant, with one long system prompt in common."""
    system = _say("system", plan.prompts.text(plan.sizes.shared_prompt_tokens))
    calls = [
        Call((system, _say("user", f"Tell me about {plan.prompts.text(12)}")), plan.sizes.shared_output_tokens)
        for _ in range(plan.sizes.shared_streams)
    ]
    return figures_of(await asyncio.gather(*(target.ask(call) for call in calls)))


async def conversations(target: Target, plan: Plan) -> Figures:
    """Conversations of one app, two at a time: between two turns of one, all others have had theirs."""
    app = _say("system", plan.prompts.text(plan.sizes.app_prompt_tokens))
    texts = [
        [plan.prompts.text(plan.sizes.turn_prompt_tokens) for _ in range(plan.sizes.turns)]
        for _ in range(plan.sizes.conversations)
    ]
    histories: list[list[Json]] = [[app] for _ in texts]
    waiting = deque(range(len(texts)))
    answers: list[Answer] = []

    async def take_turns() -> None:
        while waiting:
            at = waiting.popleft()
            histories[at].append(_say("user", texts[at].pop(0)))
            answer = await target.ask(Call(tuple(histories[at]), plan.sizes.turn_output_tokens))
            answers.append(answer)
            histories[at].append(_say("assistant", answer.text or "none"))
            if texts[at]:
                waiting.append(at)

    await asyncio.gather(take_turns(), take_turns())
    return figures_of(answers)


async def late_prompt(target: Target, plan: Plan) -> Figures:
    """A long prompt comes while streams run: how long do they stand still, and how long does it wait?"""
    calls = [
        Call((_say("user", f"Write a long story about {plan.prompts.text(16)}"),), plan.sizes.late_stream_tokens)
        for _ in range(plan.sizes.late_streams)
    ]
    late_call = Call((_say("user", plan.prompts.text(plan.sizes.late_prompt_tokens)),), 8)
    marks = [Mark(plan.sizes.late_stream_tokens // 8) for _ in calls]
    running = [asyncio.ensure_future(target.ask(call, mark)) for call, mark in zip(calls, marks, strict=True)]
    try:
        for mark in marks:
            await mark.reached.wait()
        late = await target.ask(late_call)
        streams = await asyncio.gather(*running)
    finally:
        for task in running:
            task.cancel()
    figures = figures_of([*streams, late], streams=streams, since=late.began)
    if not late.failed:
        figures["late_first_token_s"] = late.first_token_s
    return figures


async def schema_bound(target: Target, plan: Plan) -> Figures:
    """Four answers at once, each bound to a schema of its own; every answer is checked."""
    wanted = list(schemas.SCHEMAS.values())
    calls = [
        Call(
            (_say("user", f"Give {what} as JSON. Notes: {plan.prompts.text(24)}"),),
            plan.sizes.schema_tokens,
            False,
            schema,
        )
        for what, schema in schemas.SCHEMAS.items()
    ]
    answers = await asyncio.gather(*(target.ask(call) for call in calls))
    figures = figures_of(answers)
    checked = [schemas.invalid(answer.text, schema) for answer, schema in zip(answers, wanted, strict=True)]
    return figures | {"num_schema_bound": len(wanted), "num_valid": sum(wrong is None for wrong in checked)}


async def agent(target: Target, plan: Plan) -> Figures:
    """An agent's turns: its tools, then question, answer, result, answer, and so on; the prompt only ever grows."""
    answers = await agent_loop(
        target,
        plan.prompts,
        num_turns=plan.sizes.agent_turns,
        num_system=plan.sizes.agent_system_tokens,
        num_result=plan.sizes.agent_result_tokens,
        num_output=plan.sizes.agent_output_tokens,
        native_tools=plan.native_tools,
    )
    figures = figures_of(answers)
    later = [answer.first_token_s for answer in answers[1:] if not answer.failed]
    if later:
        figures["later_turns_first_token_s"] = sum(later) / len(later)
    return figures


WORKLOADS: dict[str, Callable[[Target, Plan], Awaitable[Figures]]] = {
    "one stream": one_stream,
    "shared prompt": shared_prompt,
    "conversations": conversations,
    "late prompt": late_prompt,
    "schema-bound": schema_bound,
    "agent": agent,
}
