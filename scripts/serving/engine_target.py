"""EngineTarget: localllm's engine, driven through `localllm.service.Service` in this process; no HTTP."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import msgspec

from localllm.api import (
    ChatRequest,
    Finished,
    JsonSchema,
    LoadOptions,
    Message,
    ReasoningDelta,
    SamplingParams,
    TextDelta,
    ToolCall,
    ToolCallEvent,
    ToolSpec,
)
from localllm.closing import closing
from localllm.errors import LocalLLMError
from localllm.service import Service
from serving.target import Answer, Call, Json, Mark, TargetError, failed_answer


class EngineTarget:
    """A model (name or GGUF file), loaded with `options`: `key=value` of LoadOptions."""

    def __init__(self, name: str, model: str, options: dict[str, str], *, request_s: float = 120.0) -> None:
        self.name = name
        self.notes: list[str] = []
        self.model = str(Path(model).resolve()) if Path(model).is_file() else model
        self._options = msgspec.convert(options, LoadOptions, strict=False)
        self._request_s = request_s
        self._service: Service | None = None

    async def open(self) -> None:
        """Load the model and answer once."""
        self._service = Service(load_options=self._options)
        try:
            async for _ in self._service.load(self.model):
                pass
        except LocalLLMError as error:
            raise TargetError(f"{self.name}: {error}") from error
        answer = await self.ask(Call(({"role": "user", "content": "hello"},), 4))
        if answer.failed:
            raise TargetError(f"{self.name} gives no answer: {answer.error or 'no text'}")

    async def close(self) -> None:
        """End the engine."""
        if self._service is not None:
            await self._service.close()

    async def ask(self, call: Call, mark: Mark | None = None) -> Answer:
        """See Target.ask."""
        request = self._request(call)
        began = time.perf_counter()
        try:
            async with asyncio.timeout(self._request_s):
                return await self._answer(request, mark, began)
        except TimeoutError:
            return failed_answer(began, time.perf_counter(), f"no end after {self._request_s:g} s")
        except LocalLLMError as error:
            return failed_answer(began, time.perf_counter(), f"{type(error).__name__}: {error}")
        finally:
            if mark is not None:
                mark.reached.set()

    async def _answer(self, request: ChatRequest, mark: Mark | None, began: float) -> Answer:
        assert self._service is not None
        arrivals: list[float] = []
        texts: list[str] = []
        async with closing(self._service.chat(request)) as events:
            async for event in events:
                if isinstance(event, TextDelta | ReasoningDelta | ToolCallEvent):
                    arrivals.append(time.perf_counter())
                    if isinstance(event, TextDelta):
                        texts.append(event.text)
                    if mark is not None and len(arrivals) >= mark.num_pieces:
                        mark.reached.set()
                elif isinstance(event, Finished):
                    usage = event.usage
                    return Answer(
                        began,
                        time.perf_counter(),
                        tuple(arrivals),
                        "".join(texts),
                        num_prompt=usage.num_prompt_tokens,
                        num_cached=usage.num_cached_tokens,
                        num_output=usage.num_output_tokens,
                    )
        return failed_answer(began, time.perf_counter(), "the stream ended without Finished")

    def _request(self, call: Call) -> ChatRequest:
        sampling = SamplingParams(temperature=0, max_tokens=call.max_tokens, ignore_eos=call.ignore_eos or None)
        return ChatRequest(
            self.model,
            tuple(_message(message) for message in call.messages),
            sampling,
            tuple(_tool(tool) for tool in call.tools),
            constraint=None if call.schema is None else JsonSchema(call.schema),
        )


def _message(message: Json) -> Message:
    calls = tuple(
        ToolCall(call["id"], call["function"]["name"], call["function"]["arguments"])
        for call in message.get("tool_calls", ())
    )
    return Message(
        message["role"], message.get("content") or "", tool_calls=calls, tool_call_id=message.get("tool_call_id")
    )


def _tool(tool: Json) -> ToolSpec:
    function = tool["function"]
    return ToolSpec(function["name"], function.get("description", ""), function.get("parameters", {}))
