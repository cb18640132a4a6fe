"""ToolPrompt: how the tools, calls and results of one request get into its prompt."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from localllm.api import ChatRequest, Message
from localllm.errors import TemplateError
from localllm.text.compiled import ChatTemplate, Rendering
from localllm.text.tools.choice import offered_tools
from localllm.text.tools.rendering import ToolSupport, adapted


class ToolPrompt:
    """Renders the messages of a request. Raises InvalidRequestError for tools that cannot be offered.

    `describes`: the template does not show the tools, so that the system message does. `format`: how calls will be
    written; None where no tools are offered.
    """

    def __init__(self, template: ChatTemplate, request: ChatRequest) -> None:
        self._template = template
        self._tools = offered_tools(request)
        called = any(message.role == "tool" or message.tool_calls for message in request.messages)
        self._support = template.tool_support() if self._tools or called else None
        self._name = "tool_use" if self._support is not None and "tool_use" in template.names else None

    @property
    def describes(self) -> bool:
        """Whether the system message has the tools in it."""
        return bool(self._tools) and self._support is not None and not self._support.tools

    @property
    def format(self) -> str | None:
        """The name of the calls' format."""
        return self._template.tool_format.name if self._tools else None

    def render(self, messages: Sequence[Message], args: Mapping[str, Any]) -> Rendering:
        """The prompt. A template that fails on these tools is not shown them: they are described to the model."""
        try:
            return self._render(messages, args)
        except TemplateError as error:
            # Some read keys of a schema that not every schema has.
            if not self._tools or self._support is None or self.describes or error.facts.get("cause") != "failed":
                raise
            before = self._support, self._name
            self._support, self._name = ToolSupport(tools=False, calls=False, results=False), None
            try:
                return self._render(messages, args)
            except TemplateError:
                self._support, self._name = before
                raise error from None

    def _render(self, messages: Sequence[Message], args: Mapping[str, Any]) -> Rendering:
        if self._support is None:
            return self._template.render(messages, args=args)
        turns = adapted(messages, self._tools, self._template.tool_format, self._support)
        shown = self._tools if self._support.tools else ()
        return self._template.render(turns, shown, name=self._name, args=args)
