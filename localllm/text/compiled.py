"""A model's chat templates, compiled once, and what they can do. Owns rendering: messages to segments.

Jinja is imported when the first template is compiled, not before.
"""

from __future__ import annotations

import traceback
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn, TypeVar

from localllm.api import Message, ToolCall, ToolSpec
from localllm.errors import InvalidRequestError, TemplateError
from localllm.text.limits import (
    MAX_SOURCE_CHARS,
    RENDER_LIMIT_S,
    Buffer,
    DeadlineExceeded,
    LimitExceeded,
    run_limited,
)
from localllm.text.messages import copied, merge_system, message_variables, reasoning_names, tool_variables
from localllm.text.parsers import ReasoningFormat, reasoning_format_of
from localllm.text.segments import Segment, join_pieces, to_segments, trusted
from localllm.text.tokens import Encoder, Tokenizer
from localllm.text.tools.families import tool_format_of
from localllm.text.tools.form import ToolFormat
from localllm.text.tools.rendering import ToolSupport

if TYPE_CHECKING:
    import jinja2

T = TypeVar("T")

CHATML = """{%- for message in messages -%}
{{ '<|im_start|>' + message['role'] + '\n' + message['content'] + '<|im_end|>\n' }}
{%- endfor -%}
{%- if add_generation_prompt -%}
{{ '<|im_start|>assistant\n' }}
{%- endif -%}"""
_NEEDLE = "qzjvkx"
_RESERVED = frozenset(
    {"messages", "tools", "documents", "add_generation_prompt", "bos_token", "eos_token", "chat_template"}
)


class Rendering(NamedTuple):
    """A rendered prompt. `starts_in_reasoning`: it ends with the reasoning opened."""

    segments: list[Segment]
    reasoning_format: str
    starts_in_reasoning: bool
    merged_system: bool


class ChatTemplate:
    """A compiled chat template.

    `source` None: the GGUF has none, ChatML is used and `prepare` says so. `bos`, `eos`: the text of those tokens.
    `named`: other templates of the file by name ("tool_use", "rerank"), the part after `tokenizer.chat_template.`.
    Raises TemplateError where a source does not compile.
    """

    def __init__(
        self, source: str | None, *, bos: str = "", eos: str = "", named: Mapping[str, str] | None = None
    ) -> None:
        from localllm.text.sandbox import TemplateEnvironment

        self.is_fallback = source is None
        self._environment = TemplateEnvironment()
        self._tokens = {"bos_token": trusted(bos), "eos_token": trusted(eos)}
        sources: dict[str | None, str] = {None: CHATML if source is None else source}
        sources.update(named or {})
        self._variants = {name: self._compile(text) for name, text in sources.items()}
        self._encoder: Encoder | None = None
        self.source = "\n".join([*sources.values(), bos, eos])

    @property
    def names(self) -> frozenset[str]:
        """The named templates."""
        return frozenset(name for name in self._variants if name is not None)

    def render(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        *,
        add_generation_prompt: bool = True,
        name: str | None = None,
        args: Mapping[str, Any] | None = None,
    ) -> Rendering:
        """The prompt of a conversation. A last assistant message is continued, where a prompt is to be generated."""
        if name is None and tools and "tool_use" in self._variants:
            name = "tool_use"
        if name not in self._variants:
            raise InvalidRequestError(f"the model has no chat template named {name!r}")
        return self._variants[name].render(messages, tools, add_generation_prompt, dict(args or {}))

    @property
    def tool_format(self) -> ToolFormat:
        """How the model writes calls."""
        return tool_format_of(self.source)

    def tool_support(self) -> ToolSupport:
        """What the template that is taken for tools shows of them."""
        return self._variants["tool_use" if "tool_use" in self._variants else None].tool_support()

    def encoder_for(self, tokenizer: Tokenizer) -> Encoder:
        """The encoder for a vocabulary; kept, since a model has one."""
        if self._encoder is None or self._encoder.tokenizer is not tokenizer:
            self._encoder = Encoder(tokenizer, self.source)
        return self._encoder

    def _compile(self, source: str) -> _Variant:
        if len(source) > MAX_SOURCE_CHARS:
            raise TemplateError(
                f"the model's chat template has {len(source)} characters",
                hint=f"the largest in use have a tenth of the {MAX_SOURCE_CHARS} that are read",
                cause="limit",
            )
        compiled = _translated(lambda: self._environment.from_string(source), None)
        return _Variant(compiled, source, self._tokens)


class _Variant:
    """One template of a model, and what it was found to support."""

    def __init__(self, compiled: jinja2.Template, source: str, tokens: Mapping[str, str]) -> None:
        self._compiled = compiled
        self._tokens = tokens
        self._reasoning_names = reasoning_names(source)
        self._format = reasoning_format_of(source)
        self._wants_parts: bool | None = None
        self._takes_system: bool | None = None
        self._tool_support: ToolSupport | None = None

    def render(
        self, messages: Sequence[Message], tools: Sequence[ToolSpec], add_generation_prompt: bool, args: dict[str, Any]
    ) -> Rendering:
        reserved = sorted(_RESERVED & args.keys() | {name for name in args if name in self._compiled.globals})
        if reserved:
            raise InvalidRequestError(
                f"template_args must not set {', '.join(reserved)}",
                hint="a chat template, and what it is given by name, come from the model only",
                param="template_args",
            )
        merged = any(message.role == "system" for message in messages) and not self._supports_system()
        if merged:
            messages = merge_system(messages)
        prefill = None
        if add_generation_prompt and messages and messages[-1].role == "assistant" and not messages[-1].tool_calls:
            messages, prefill = messages[:-1], messages[-1]
        text = self._run(messages, tools, add_generation_prompt, args)
        opened = add_generation_prompt and self._format.is_opened_by(to_segments(text))
        if prefill is not None:
            pieces, opened = _continue(prefill, self._format, opened)
            text = join_pieces([text, *pieces])
        return Rendering(to_segments(text), self._format.name, opened, merged)

    def _run(
        self,
        messages: Sequence[Message],
        tools: Sequence[ToolSpec] = (),
        add_generation_prompt: bool = True,
        args: Mapping[str, Any] | None = None,
        *,
        as_parts: bool | None = None,
    ) -> str:
        parts = self._expects_parts() if as_parts is None else as_parts

        def work() -> str:
            variables = {
                **copied(dict(args or {})),
                **self._tokens,
                "messages": [message_variables(message, self._reasoning_names, as_parts=parts) for message in messages],
                "tools": [tool_variables(tool) for tool in tools] or None,
                "documents": None,
                "add_generation_prompt": add_generation_prompt,
            }
            pieces = Buffer()
            pieces.extend(self._compiled.root_render_func(self._compiled.new_context(variables)))
            return join_pieces(pieces)

        return _translated(work, self._compiled)

    def tool_support(self) -> ToolSupport:
        """What the template shows of tools, of calls and of their results; found out once."""
        if self._tool_support is None:
            asked = Message(role="user", content="a")
            # A name and an id that every family takes.
            call = ToolCall(id="qzjvkxabc", name="get", arguments='{"k": "vwqjzc"}')
            called = [asked, Message(role="assistant", tool_calls=(call,))]
            result = Message(role="tool", content="jqzvwk", name="get", tool_call_id=call.id)
            schema = {
                "type": "object",
                "properties": {"k": {"type": "string", "description": "A key."}},
                "required": ["k"],
                "additionalProperties": False,
            }
            tools = (ToolSpec(name=_NEEDLE, description="Gets.", parameters=schema),)
            both = self._attempt([*called, result], tools)
            self._tool_support = ToolSupport(
                tools=_NEEDLE in self._attempt([asked], tools),
                calls="vwqjzc" in (both or self._attempt(called, tools)),
                results="jqzvwk" in both,
            )
        return self._tool_support

    def _attempt(self, messages: list[Message], tools: Sequence[ToolSpec]) -> str:
        """A rendering to look at; nothing where the template refuses."""
        try:
            return self._run(messages, tools, as_parts=self._expects_parts())
        except TemplateError as exc:
            if exc.facts.get("cause") == "limit":
                raise
            return ""

    def _expects_parts(self) -> bool:
        """Whether the template drops a plain string and takes a list of parts."""
        if self._wants_parts is None:
            self._wants_parts = not self._shows(
                [Message(role="user", content=_NEEDLE)], as_parts=False
            ) and self._shows([Message(role="user", content=_NEEDLE)], as_parts=True)
        return self._wants_parts

    def _supports_system(self) -> bool:
        """Whether the template shows a system message. One that fails on any message is left to say so itself."""
        if self._takes_system is None:
            conversation = [Message(role="system", content=_NEEDLE), Message(role="user", content="a")]
            parts = self._expects_parts()
            works = self._shows([Message(role="user", content=_NEEDLE)], as_parts=parts)
            self._takes_system = not works or self._shows(conversation, as_parts=parts)
        return self._takes_system

    def _shows(self, messages: list[Message], *, as_parts: bool) -> bool:
        try:
            return _NEEDLE in self._run(messages, as_parts=as_parts)
        except TemplateError as exc:
            if exc.facts.get("cause") == "limit":
                raise
            return False


def render_chat(
    template: ChatTemplate,
    messages: Sequence[Message],
    tools: Sequence[ToolSpec] = (),
    *,
    add_generation_prompt: bool = True,
    name: str | None = None,
    args: Mapping[str, Any] | None = None,
) -> list[Segment]:
    """The prompt's text in segments. `name` picks a named template. Raises TemplateError, InvalidRequestError."""
    return template.render(messages, tools, add_generation_prompt=add_generation_prompt, name=name, args=args).segments


def _continue(prefill: Message, form: ReasoningFormat, opened: bool) -> tuple[list[str], bool]:
    """What follows the generation prompt so that the model goes on with `prefill`, and whether that is reasoning."""
    pieces: list[str] = []
    if prefill.reasoning and form.start:
        pieces += [] if opened else [trusted(form.start + "\n")]
        pieces.append(prefill.reasoning)
        opened = True
    if opened and prefill.content:
        pieces.append(trusted(form.closing))
        opened = False
    elif not opened:
        pieces.append(trusted(form.answer))
    return [*pieces, prefill.content], opened


def _translated(work: Callable[[], T], compiled: jinja2.Template | None) -> T:
    """What `work` returns within the limits; whatever it raises as a TemplateError."""
    try:
        return run_limited(work)
    except InvalidRequestError:
        raise
    except (DeadlineExceeded, Exception) as exc:
        _fail(exc, compiled)


def _fail(exc: BaseException, compiled: jinja2.Template | None) -> NoReturn:
    from jinja2.exceptions import SecurityError, TemplateSyntaxError

    from localllm.text.filters import RefusedByTemplate

    hint = "the template comes with the model's file; another build of the model may have a sound one"
    cause = "failed"
    if isinstance(exc, DeadlineExceeded):
        message, cause = f"the chat template ran longer than {RENDER_LIMIT_S} s", "limit"
    elif isinstance(exc, (LimitExceeded, MemoryError)):
        message, cause = f"the chat template builds {exc or 'too much'}", "limit"
    elif isinstance(exc, RecursionError):
        message, cause = "the chat template, or a value given to it, nests without end", "limit"
    elif isinstance(exc, RefusedByTemplate):
        message, cause = f"the chat template refuses these messages: {exc}", "refused"
        hint = "change the order or the kind of the messages"
    elif isinstance(exc, SecurityError):
        message, cause = f"the chat template does what the sandbox forbids: {exc}", "sandbox"
    elif isinstance(exc, TemplateSyntaxError):
        message = f"the chat template does not compile: line {exc.lineno}: {exc}"
    else:
        message = f"the chat template failed{_line(exc, compiled)}: {type(exc).__name__}: {exc}"
    raise TemplateError(message, hint=hint, cause=cause) from exc


def _line(exc: BaseException, compiled: jinja2.Template | None) -> str:
    if compiled is None:
        return ""
    lines = [frame.lineno or 1 for frame in traceback.extract_tb(exc.__traceback__) if frame.filename == "<template>"]
    return f" at line {compiled.get_corresponding_lineno(lines[-1])}" if lines else ""
