"""A summary of older turns, made by the model: piece by piece where they are more than its context takes."""

from __future__ import annotations

import uuid
from collections.abc import Callable

from localllm_tui.history.values import Node

from localllm.api import Backend, ChatRequest, Message, SamplingParams, TextDelta
from localllm.closing import closing
from localllm.errors import LocalLLMError

MAX_TOKENS = 700
HEAD = "What was said before, in short:"
_ASK = (
    "Below is the beginning of a conversation. Write a summary that lets it be gone on with: facts, names, numbers, "
    "decisions, code that matters, and what is still open. No introduction."
)
_GO_ON = "This is the summary so far:\n\n{summary}\n\nRewrite it so that it covers what follows, too."
_NUM_ASKING = 200  # tokens of the words around, and of the template
_NAMES = {"user": "Person", "assistant": "Assistant", "system": "Instructions", "tool": "Tool"}


async def summarise(
    backend: Backend, model: str, turns: tuple[Node, ...], num_ctx: int, say: Callable[[str], None]
) -> str:
    """The turns in short. `say` is given the text as it comes. Raises what the Backend raises."""
    summary = ""
    max_tokens = min(MAX_TOKENS, max(64, num_ctx // 4))
    room = num_ctx - 2 * max_tokens - _NUM_ASKING  # beside the summary so far and the one to come
    for piece in await _pieces(backend, model, turns, max(64, room)):
        asked = f"{_ASK}\n\n{_GO_ON.format(summary=summary)}" if summary else _ASK
        summary = await _answer(backend, model, f"{asked}\n\n{piece}", max_tokens, say)
    if not summary:
        raise LocalLLMError("the model gave no summary", hint="try again, or drop the oldest turns instead")
    return summary


async def _pieces(backend: Backend, model: str, turns: tuple[Node, ...], num_tokens: int) -> list[str]:
    """The turns as text, in pieces of at most about so many tokens."""
    text = "\n\n".join(f"{_NAMES[turn.role]}: {turn.content.strip()}" for turn in turns if turn.content.strip())
    counted = len(await backend.tokenize(model, text))
    if counted <= num_tokens:
        return [text]
    num_pieces = -(-counted // num_tokens)
    num_chars = -(-len(text) // num_pieces)
    return [text[start : start + num_chars] for start in range(0, len(text), num_chars)]


async def _answer(backend: Backend, model: str, asked: str, max_tokens: int, say: Callable[[str], None]) -> str:
    request = ChatRequest(
        model=model,
        messages=(Message("user", asked),),
        sampling=SamplingParams(max_tokens=max_tokens, temperature=0.3),
        think=False,
        reasoning_budget=0,
        end_runaway=True,
        request_id=uuid.uuid4().hex,
    )
    pieces: list[str] = []
    async with closing(backend.chat(request)) as events:
        async for event in events:
            if isinstance(event, TextDelta):
                pieces.append(event.text)
                say("".join(pieces))
    return "".join(pieces).strip()
