"""The agent loop: tools, a growing history, and whether a target takes tools by itself."""

from __future__ import annotations

import json

from serving.prompts import Prompts
from serving.target import Answer, Call, Json, Target

NAMES = ("search", "read_file", "write_file", "run_tests")


def tools_of(prompts: Prompts, num_tokens: int) -> tuple[Json, ...]:
    """Tool definitions of about `num_tokens` tokens together."""
    own = max(8, num_tokens // len(NAMES) - 60)
    return tuple(
        {
            "type": "function",
            "function": {
                "name": name,
                "description": prompts.text(own),
                "parameters": {
                    "type": "object",
                    "properties": {"text": {"type": "string", "description": prompts.text(8)}},
                    "required": ["text"],
                },
            },
        }
        for name in NAMES
    )


async def takes_tools(target: Target) -> bool:
    """Whether a target accepts tools and their results, and shows the tools to its model."""
    prompts = Prompts("probe")
    tools = tools_of(prompts, 300)
    question: Json = {"role": "user", "content": "What is in the file?"}
    history = (question, *_step(prompts, "I will look.", 16, 0, native_tools=True))
    plain = await target.ask(Call((question,), 1))
    with_tools = await target.ask(Call((question,), 1, tools=tools))
    with_results = await target.ask(Call(history, 1, tools=tools))
    if plain.error or with_tools.error or with_results.error:
        return False
    return plain.num_prompt < with_tools.num_prompt - 100


async def agent_loop(
    target: Target,
    prompts: Prompts,
    *,
    num_turns: int,
    num_system: int,
    num_result: int,
    num_output: int,
    native_tools: bool,
) -> list[Answer]:
    """One answer a turn. Each turn's prompt is the last one, its answer, and a tool's result."""
    tools = tools_of(prompts, num_system)
    system = "You are an agent. Call tools until the task is done."
    if not native_tools:
        system += "\nTools, one a line:\n" + "\n".join(json.dumps(tool["function"]) for tool in tools)
    history: list[Json] = [
        {"role": "system", "content": system},
        {"role": "user", "content": f"The task: {prompts.text(24)}"},
    ]
    answers: list[Answer] = []
    for turn in range(num_turns):
        call = Call(tuple(history), num_output, tools=tools if native_tools else ())
        answers.append(await target.ask(call))
        history += _step(prompts, answers[-1].text or "none", num_result, turn, native_tools=native_tools)
    return answers


def _step(prompts: Prompts, said: str, num_result: int, turn: int, *, native_tools: bool) -> list[Json]:
    """What the agent said and called, and the tool's result."""
    name, result = NAMES[turn % len(NAMES)], prompts.text(num_result)
    if not native_tools:
        return [{"role": "assistant", "content": said}, {"role": "user", "content": f"Result of {name}: {result}"}]
    identity = f"call{turn:05d}"
    function = {"name": name, "arguments": json.dumps({"text": "x"})}
    return [
        {
            "role": "assistant",
            "content": said,
            "tool_calls": [{"id": identity, "type": "function", "function": function}],
        },
        {"role": "tool", "tool_call_id": identity, "content": result},
    ]
