"""Reply: the model has the word. An answer, the tools it calls, the next answer, until a person has it again."""

from __future__ import annotations

import asyncio
import uuid
from typing import Literal, Protocol

import msgspec
from localllm_tui.history.history import History
from localllm_tui.history.values import Conversation, Node
from localllm_tui.tools.values import Extent, ToolResult
from localllm_tui.turns.messages import NOT_RUN, messages_of
from localllm_tui.turns.turn import Turn
from localllm_tui.turns.watcher import CallState, Watcher

from localllm.api import Backend, ChatRequest, SamplingParams, ToolCall, ToolChoice, ToolSpec, Truncate

# Answers in a row that call tools; then a person says whether to go on.
MAX_ROUNDS = 8
ANY_CHOICE = ToolChoice()
REFUSED = "The person does not allow this call."


class Tools(Protocol):
    """What of the toolbox a reply needs."""

    def specs(self, conversation: int) -> tuple[ToolSpec, ...]:
        """The tools that a request of this conversation carries."""
        ...

    def needs_approval(self, conversation: int, name: str) -> bool:
        """Whether a person has to be asked before this tool runs."""
        ...

    def approve(self, conversation: int, name: str, extent: Extent) -> None:
        """A person allows a tool."""
        ...

    async def call(self, call: ToolCall) -> ToolResult:
        """Run a tool; what goes wrong is a result, too."""
        ...


class Wishes(msgspec.Struct, frozen=True):
    """How a person wants answers of one conversation made."""

    model: str
    sampling: SamplingParams = SamplingParams()
    truncate: Truncate = "error"
    think: bool | None = None


def request_of(
    path: tuple[Node, ...],
    system: str,
    wishes: Wishes,
    tools: tuple[ToolSpec, ...] = (),
    choice: ToolChoice = ANY_CHOICE,
) -> ChatRequest:
    """The request that has a branch answered; its `request_id` is a new one."""
    return ChatRequest(
        model=wishes.model,
        messages=messages_of(path, system),
        sampling=wishes.sampling,
        tools=tools,
        tool_choice=choice,
        # Made to call, a small model would go on calling for as long as a grammar lets it.
        parallel_tool_calls=choice.mode != "required",
        truncate=wishes.truncate,
        think=wishes.think,
        request_id=uuid.uuid4().hex,
        end_runaway=True,
        prompt_usage=True,
    )


class Reply:
    """The model's word after the end of one branch. `turn` is the answer that comes just now.

    After `run`: `ending` "person" is the common one; "rounds": tools were called so often that a person should look.
    """

    def __init__(
        self,
        backend: Backend,
        history: History,
        conversation: Conversation,
        wishes: Wishes,
        watcher: Watcher,
        *,
        tools: Tools | None = None,
        choice: ToolChoice = ANY_CHOICE,
    ) -> None:
        self.turn: Turn | None = None
        self.ending: Literal["person", "rounds", "stopped", "failed"] = "person"
        self._backend = backend
        self._history = history
        self._tools = tools
        self._choice = choice
        self._conversation = conversation
        self._wishes = wishes
        self._watcher = watcher
        self._asked: dict[str, asyncio.Future[tuple[bool, Extent]]] = {}
        self._calling: Node | None = None
        self._running: asyncio.Future[ToolResult] | None = None
        self._is_stopped = False

    async def run(self, leaf: Node, into: Node | None = None) -> Node:
        """Answer what `leaf` ends; returns the last node. Raises HistoryError where not even the start can be kept.

        `into`: a node below `leaf` that failed or was stopped, to be written anew or gone on with. A `leaf` that is an
        answer with calls has them run first.
        """
        last = leaf
        if leaf.role == "assistant" and leaf.tool_calls:
            last = await self._call_all(leaf)
            if self._is_stopped:
                self.ending = "stopped"
                return last
        for _ in range(MAX_ROUNDS):
            answer = await self._answer(last, into)
            into = None
            if answer.state != "complete":
                self.ending = "failed" if answer.state == "failed" else "stopped"
                return answer
            if not answer.tool_calls:
                return answer
            last = await self._call_all(answer)
            if self._is_stopped:
                self.ending = "stopped"
                return last
        self.ending = "rounds"
        return last

    async def _answer(self, leaf: Node, into: Node | None) -> Node:
        model = self._wishes.model
        if into is None:
            node = self._history.add(self._conversation.id, leaf.id, "assistant", model=model, state="streaming")
        else:
            node = self._history.update(into.id, model=model, state="streaming", error=None)
        path = self._history.path(leaf.id)
        if node.content:
            path = (*path, node)
        tools = self._tools.specs(self._conversation.id) if self._tools is not None else ()
        # Only the first answer: what comes after its calls is about their results.
        choice, self._choice = self._choice, ANY_CHOICE
        if not tools or not set(choice.names) <= {spec.name for spec in tools}:
            choice = ANY_CHOICE
        request = request_of(path, self._conversation.system, self._wishes, tools, choice)
        self.turn = Turn(self._backend, self._history, request, node, self._watcher)
        self._watcher.began(node)
        return await self.turn.run()

    async def _call_all(self, answer: Node) -> Node:
        """Run the calls of an answer, asking first where that is needed. Returns the last result's node."""
        self._calling = answer
        known = {spec.name for spec in self._tools.specs(self._conversation.id)} if self._tools is not None else set()
        for call in answer.tool_calls:
            if call.name in known and self._needs_approval(call):
                self._asked[call.id] = asyncio.get_running_loop().create_future()
                self._watcher.call(answer.id, call, "asking", None)
        last = answer
        for call in answer.tool_calls:
            state, result = await self._call(answer, call)
            if self._is_stopped:
                self._watcher.call(answer.id, call, "failed", NOT_RUN)
                continue
            last = self._history.add(
                self._conversation.id,
                last.id,
                "tool",
                result,
                name=call.name,
                tool_call_id=call.id,
                state={"failed": "failed", "refused": "stopped"}.get(state, "complete"),
            )
            self._watcher.began(last)
            self._watcher.call(answer.id, call, state, result)
        self._asked.clear()
        self._calling = None
        return last

    def asking(self) -> tuple[tuple[int, ToolCall], ...]:
        """The calls that wait for a person's word, with the node that made them."""
        if (answer := self._calling) is None:
            return ()
        waiting = {call_id for call_id, asked in self._asked.items() if not asked.done()}
        return tuple((answer.id, call) for call in answer.tool_calls if call.id in waiting)

    def _needs_approval(self, call: ToolCall) -> bool:
        return self._tools is not None and self._tools.needs_approval(self._conversation.id, call.name)

    async def _call(self, answer: Node, call: ToolCall) -> tuple[CallState, str]:
        asked = self._asked.get(call.id)
        if self._tools is None or self._is_stopped:
            return "failed", "there are no tools here"
        try:
            if asked is not None and (asked.done() or self._needs_approval(call)):
                allowed, extent = await asked
                if not allowed:
                    return "refused", REFUSED
                self._tools.approve(self._conversation.id, call.name, extent)
            self._watcher.call(answer.id, call, "running", None)
            self._running = asyncio.ensure_future(self._tools.call(call))
            result = await self._running
        except asyncio.CancelledError:
            if not self._is_stopped:
                raise
            return "failed", ""
        return ("failed" if result.is_error else "done"), result.text

    def answer_call(self, call_id: str, allowed: bool, extent: Extent) -> None:
        """What a person says to a call that asks; a call that asks no longer is passed over."""
        asked = self._asked.get(call_id)
        if asked is not None and not asked.done():
            asked.set_result((allowed, extent))

    async def stop(self) -> None:
        """End the answer and the calls under way with what they have."""
        self._is_stopped = True
        for waiting in (*self._asked.values(), self._running):
            if waiting is not None and not waiting.done():
                waiting.cancel()
        if self.turn is not None:
            await self.turn.stop()
