"""A request's messages to the tokens of its prompt. The way into this package; runs inside the engine child.

Owns `prepare`: rendering, tokenizing and fitting one request. Imports jinja only once a template is compiled.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from localllm.api import ChatRequest, Message, Notice
from localllm.errors import ContextLengthError, InvalidRequestError
from localllm.text.compiled import ChatTemplate, Rendering, render_chat
from localllm.text.limits import RunawayTemplate
from localllm.text.messages import split_turns
from localllm.text.parsers import reasoning_format_in
from localllm.text.segments import Segment
from localllm.text.tokens import Encoder, SpecialToken, Tokenizer
from localllm.text.tools.prompt import ToolPrompt

__all__ = [
    "ChatTemplate",
    "Encoder",
    "Prepared",
    "RunawayTemplate",
    "Segment",
    "SpecialToken",
    "Tokenizer",
    "prepare",
    "render_chat",
]


# How far a prompt that does not fit is counted: the figure is of use near the limit, and megabytes take seconds.
_COUNTED_CONTEXTS = 4
_COUNTED_TOKENS = 65536


@dataclass(frozen=True, slots=True)
class Prepared:
    """A prompt ready for the scheduler. `reasoning_format` is for `parsers.parser_for`.

    `tool_format` is for `tools.families.tool_format_named`; None: no tools are offered.
    """

    tokens: list[int]
    notices: list[Notice]
    reasoning_format: str
    starts_in_reasoning: bool
    tool_format: str | None = None


def prepare(template: ChatTemplate, tokenizer: Tokenizer, request: ChatRequest, num_ctx: int) -> Prepared:
    """Render, tokenize and fit a request.

    Raises ContextLengthError (with both counts) when the prompt and one token more do not fit in `num_ctx` and the
    request does not ask to drop turns; TemplateError; InvalidRequestError; RunawayTemplate.
    """
    if not request.messages:
        raise InvalidRequestError("a chat without messages", hint="send at least one message", param="messages")
    encoder = template.encoder_for(tokenizer)
    args = _arguments(template, request)

    most = max(_COUNTED_CONTEXTS * num_ctx, _COUNTED_TOKENS)
    prompt = ToolPrompt(template, request)

    def attempt(messages: Sequence[Message]) -> tuple[Rendering, list[int]]:
        rendering = prompt.render(messages, args)
        return rendering, encoder.encode(rendering.segments, max_tokens=most)

    rendering, tokens = attempt(request.messages)
    notices = _notices(template, rendering, describes_tools=prompt.describes)
    if len(tokens) + 1 > num_ctx:
        num_prompt_tokens = len(tokens)
        fitting = _drop_oldest(request, num_ctx, attempt) if request.truncate == "oldest" else None
        if fitting is None:
            more = "more than " if num_prompt_tokens > most else ""
            raise ContextLengthError(
                f"the prompt has {more}{num_prompt_tokens} tokens, the context {num_ctx}",
                hint="shorten the conversation, load the model with a larger context, or ask for truncate=oldest",
                num_prompt_tokens=num_prompt_tokens,
                num_ctx=num_ctx,
            )
        rendering, tokens, num_dropped = fitting
        notices.append(_truncated(num_dropped, num_prompt_tokens, len(tokens), num_ctx))
    form = rendering.reasoning_format
    if form == "none":
        form = reasoning_format_in(encoder.special_texts).name
    return Prepared(tokens, notices, form, rendering.starts_in_reasoning, prompt.format)


def _arguments(template: ChatTemplate, request: ChatRequest) -> dict[str, Any]:
    """The request's template_args, and `think` under the names that templates know it by."""
    args = dict(request.template_args)
    if request.think is not None:
        args.setdefault("enable_thinking", request.think)
        args.setdefault("thinking", request.think)
        if request.think is False and "thinking_budget" in template.source:
            args.setdefault("thinking_budget", 0)
    return args


Attempt = Callable[[Sequence[Message]], tuple[Rendering, list[int]]]


def _drop_oldest(request: ChatRequest, num_ctx: int, attempt: Attempt) -> tuple[Rendering, list[int], int] | None:
    """The longest end of the conversation that fits, by whole turns, and how many messages that leaves out."""
    system, turns = split_turns(request.messages)
    best: tuple[Rendering, list[int], int] | None = None
    low, high = 1, len(turns) - 1
    while low <= high:
        middle = (low + high) // 2
        rendering, tokens = attempt([*system, *(message for turn in turns[middle:] for message in turn)])
        if len(tokens) + 1 <= num_ctx:
            best = rendering, tokens, sum(map(len, turns[:middle]))
            high = middle - 1
        else:
            low = middle + 1
    return best


def _notices(template: ChatTemplate, rendering: Rendering, *, describes_tools: bool) -> list[Notice]:
    notices = []
    if template.is_fallback:
        message = "the model brings no chat template; ChatML is used, which it may not know"
        notices.append(Notice(kind="template", message=message, facts={"template": "chatml"}))
    if rendering.merged_system:
        message = "the model's chat template has no place for a system message; its text goes before the user's"
        notices.append(Notice(kind="template", message=message, facts={"system": "merged"}))
    if describes_tools:
        message = "the model's chat template does not show these tools; they are described to it in the system message"
        notices.append(Notice(kind="template", message=message, facts={"tools": "described"}))
    return notices


def _truncated(num_dropped: int, num_before: int, num_after: int, num_ctx: int) -> Notice:
    return Notice(
        kind="truncated",
        message=f"{num_dropped} oldest messages were left out to fit {num_before} tokens into a context of {num_ctx}",
        facts={
            "num_dropped_messages": num_dropped,
            "num_prompt_tokens": num_after,
            "num_prompt_tokens_before": num_before,
            "num_ctx": num_ctx,
        },
    )
