"""OpenConversation: a conversation that is open. Its branch, the reply under way, the message that waits for its end.

It goes on where nobody looks: a person may open another one meanwhile. All methods belong to the event loop.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import msgspec
from localllm_tui.history.history import History
from localllm_tui.history.values import Conversation, Draft, Node
from localllm_tui.turns.reply import ANY_CHOICE, Reply, Tools, Wishes
from localllm_tui.turns.title import ask_title, first_words
from localllm_tui.turns.watcher import CallState, ConversationWatcher

from localllm.api import Backend, Event, ToolCall, ToolSpec
from localllm.errors import InvalidRequestError, LocalLLMError


class OpenConversation:
    """`conversation.id` 0: it comes into being with its first message. `path` is the branch that is shown.

    `waiting` is the message to be sent when the reply has ended. `typed` is what was in the prompt when a person went
    to another conversation meanwhile. `watcher` None: nobody looks. `on_over` is called with this whenever a reply has
    ended, `on_asking` when a tool call waits for a person's word. `on_due` is called when what waits has its turn, and
    then says `send_waiting`; meanwhile `is_due`. Without it what waits is sent at once.
    """

    def __init__(
        self,
        backend: Callable[[], Awaitable[Backend]],
        history: History,
        conversation: Conversation,
        wishes: Wishes,
        *,
        tools: Tools | None = None,
        on_over: Callable[[OpenConversation], None] | None = None,
        on_asking: Callable[[OpenConversation], None] | None = None,
        on_due: Callable[[OpenConversation], object] | None = None,
    ) -> None:
        self.conversation = conversation
        self.wishes = wishes
        self.watcher: ConversationWatcher | None = None
        self.reply: Reply | None = None
        self.waiting: Draft | None = None
        self.is_due = False
        self.choice = ANY_CHOICE  # what of its tools the next answer has to call
        self.typed: Draft | None = None
        self.path: tuple[Node, ...] = () if conversation.leaf is None else history.path(conversation.leaf)
        self._backend = backend
        self._history = history
        self._tools = tools
        self._on_over = on_over
        self._on_asking = on_asking
        self._on_due = on_due
        self._task: asyncio.Task[None] | None = None
        self._titling: asyncio.Task[None] | None = None
        self._is_left = False

    # --- what it is ---------------------------------------------------------------------------------------------------

    @property
    def id(self) -> int:
        """The conversation's id; 0 before its first message."""
        return self.conversation.id

    @property
    def is_busy(self) -> bool:
        """Whether a reply is under way."""
        return self._task is not None and not self._task.done()

    def place(self, node: Node) -> tuple[int, int]:
        """Which of its siblings a node is, and how many there are."""
        siblings = [sibling.id for sibling in self._history.siblings(node.id)]
        return (siblings.index(node.id) + 1, len(siblings)) if node.id in siblings else (1, 1)

    def specs(self) -> tuple[ToolSpec, ...]:
        """The tools that a request carries."""
        return self._tools.specs(self.id) if self._tools is not None else ()

    def path_before(self, draft: Draft) -> tuple[Node, ...]:
        """The turns that stand before `draft` once it is sent."""
        at = next((index for index, node in enumerate(self.path) if node.id == draft.edits), len(self.path))
        return self.path[:at]

    def now(self) -> tuple[Node, ...]:
        """The branch, with what came of the answer under way."""
        turn = self.reply.turn if self.reply is not None and self.is_busy else None
        if turn is None:
            return self.path
        under_way = turn.node()
        return tuple(under_way if node.id == under_way.id else node for node in self.path)

    # --- what a person does with it -----------------------------------------------------------------------------------

    def send(self, draft: Draft) -> None:
        """Add a turn and have it answered; while a reply is under way it waits. One that edits becomes a sibling.

        Raises HistoryError where it cannot be kept, and InvalidRequestError where one waits already.
        """
        if self.is_busy or self.is_due:
            if self.waiting is not None:
                hint = "take it back to change it, or stop the answer"
                raise InvalidRequestError("a message waits already", hint=hint)
            self.waiting = draft
            self._changed()
            return
        node = self.add_turn(draft)
        if node.role != "assistant":
            self._start(node)

    def add_turn(self, draft: Draft) -> Node:
        """Add a turn that nobody answers yet. Raises HistoryError, and InvalidRequestError while an answer comes."""
        self._check_idle()
        self._ensure(draft)
        edited = None if draft.edits is None else self._history.node(draft.edits)
        parent = (self.path[-1].id if self.path else None) if edited is None else edited.parent
        role = "user" if edited is None else edited.role
        fields: dict[str, Any] = {"model": edited.model} if edited is not None and edited.model else {}
        node = self._history.add(self.id, parent, role, draft.text, attachments=draft.attachments, **fields)
        self._go_to(node)
        return node

    def answer_again(self, node: Node) -> None:
        """Another answer beside `node`, or to a turn of a person. One that failed without a word is written anew.

        Raises InvalidRequestError where there is nothing to answer.
        """
        self._check_idle()
        if node.role != "assistant":
            self._go_to(node)
            self._start(node)
            return
        if node.parent is None:
            raise InvalidRequestError("this turn answers nothing", hint="write what it should answer")
        parent = self._history.node(node.parent)
        is_empty = node.state == "failed" and not (node.content or node.reasoning or node.tool_calls)
        self._go_to(node if is_empty else parent)
        self._start(parent, node if is_empty else None)

    def go_on(self) -> None:
        """Go on where the branch ends: with an answer that was stopped, or with the next answer of a row of calls."""
        self._check_idle()
        if not self.path:
            raise InvalidRequestError("there is nothing to go on with", hint="write something first")
        last = self.path[-1]
        if last.role != "assistant" or last.tool_calls:
            self._start(last)
        elif last.parent is not None and last.state in ("stopped", "failed"):
            self._start(self._history.node(last.parent), last)
        else:
            raise InvalidRequestError("the answer is whole", hint="ask it to go on in words of your own")

    def walk(self, node: Node, step: int) -> bool:
        """Show the version before (-1) or after (1) `node`, and what followed it. False: there is none."""
        siblings = self._history.siblings(node.id)
        index = next((i for i, sibling in enumerate(siblings) if sibling.id == node.id), 0) + step
        if not 0 <= index < len(siblings):
            return False
        self.go_to_leaf(self._history.newest_leaf(siblings[index].id))
        return True

    def go_to_leaf(self, leaf: int) -> None:
        """Show the branch that ends in this node."""
        self.conversation = self._history.change(self.id, leaf=leaf)
        self.path = self._history.path(leaf)
        self._changed()

    def begin_with(self, summary: str, recent: tuple[Node, ...]) -> None:
        """Another branch: a summary as its first turn, then copies of `recent`. What was there stays beside it."""
        last = self._history.add(self.id, None, "system", summary, name="summary", model=self.wishes.model)
        for node in recent:
            kept = ("content", "reasoning", "tool_calls", "tool_call_id", "name", "model", "state", "attachments")
            fields = {name: getattr(node, name) for name in kept}
            last = self._history.add(self.id, last.id, node.role, fields.pop("content"), **fields)
        self._go_to(last)

    def branch(self, node: Node) -> Conversation:
        """The branch up to `node` as a conversation of its own."""
        return self._history.branch(node.id)

    def take_back(self) -> Draft | None:
        """The message that waits, waiting no longer."""
        waiting, self.waiting, self.is_due = self.waiting, None, False
        if waiting is not None:
            self._changed()
        return waiting

    def send_waiting(self) -> None:
        """Send what waits; where it cannot be kept it goes on waiting."""
        waiting, self.waiting, self.is_due = self.waiting, None, False
        if waiting is None:
            return
        try:
            self.send(waiting)
        except LocalLLMError as exc:
            self.waiting = waiting
            if self.watcher is not None:
                self.watcher.trouble(exc)

    def change(self, **fields: Any) -> None:
        """Change the conversation: its model, its system prompt, its title."""
        if "model" in fields:
            self.wishes = msgspec.structs.replace(self.wishes, model=fields["model"])
        if self.id:
            self.conversation = self._history.change(self.id, **fields)
        else:
            self.conversation = msgspec.structs.replace(self.conversation, **fields)
        self._changed()

    def answer_call(self, call_id: str, allowed: bool, extent: Any) -> None:
        """What a person says to a tool call that asks."""
        if self.reply is not None:
            self.reply.answer_call(call_id, allowed, extent)

    async def stop(self) -> None:
        """End the reply with what it has; what waits is not sent, and can be taken back."""
        task, reply = self._task, self.reply
        if task is None or task.done():
            return
        if reply is None:
            task.cancel()
        else:
            await reply.stop()
        await asyncio.wait({task})

    def leave(self) -> None:
        """Tell nobody any more, and begin nothing of its own."""
        self.watcher = self._on_over = self._on_asking = self._on_due = self.waiting = None
        self._is_left = True

    async def close(self) -> None:
        """End everything that is under way; what came is kept."""
        if self._titling is not None:
            self._titling.cancel()
            await asyncio.wait({self._titling})
        await self.stop()

    # --- the reply ----------------------------------------------------------------------------------------------------

    def _ensure(self, draft: Draft) -> None:
        if self.id:
            return
        made = self._history.new(
            model=self.wishes.model, system=self.conversation.system, folder=self.conversation.folder
        )
        title = self.conversation.title or first_words(draft.text)
        titled_by = self.conversation.titled_by
        self.conversation = self._history.change(made.id, title=title, titled_by=titled_by)
        self._history.set_last_open(made.id)

    def _check_idle(self) -> None:
        if self.is_busy:
            raise InvalidRequestError("an answer is under way", hint="stop it first")

    def _go_to(self, node: Node) -> None:
        self.conversation = self._history.change(self.id, leaf=node.id)
        self.path = self._history.path(node.id)
        self._changed()

    def _start(self, leaf: Node, into: Node | None = None) -> None:
        if self._titling is not None:
            self._titling.cancel()
        self.reply = None
        self._task = asyncio.ensure_future(self._run(leaf, into))
        self._changed()

    async def _run(self, leaf: Node, into: Node | None) -> None:
        ending = "failed"
        try:
            backend = await self._backend()
            choice, self.choice = self.choice, ANY_CHOICE
            reply = Reply(
                backend, self._history, self.conversation, self.wishes, self, tools=self._tools, choice=choice
            )
            self.reply = reply
            await reply.run(leaf, into)
            ending = reply.ending
        except LocalLLMError as exc:
            if self.watcher is not None:
                self.watcher.trouble(exc)
        except asyncio.CancelledError:
            ending = "stopped"
        asyncio.get_running_loop().call_soon(self._over, ending)

    def _over(self, ending: str) -> None:
        if self._is_left:
            return
        if self.waiting is not None and ending == "person":
            if self._on_due is None:
                self.send_waiting()
            else:
                self.is_due = True
                self._on_due(self)
        elif ending == "person" and self.conversation.titled_by == "nobody":
            self._titling = asyncio.ensure_future(self._title())
        self._changed()
        if self._on_over is not None:
            self._on_over(self)

    async def _title(self) -> None:
        title = await ask_title(await self._backend(), self.wishes.model, self.path)
        try:
            now = self._history.conversation(self.id)
            if title is not None and now.titled_by == "nobody":
                self.conversation = self._history.change(self.id, title=title, titled_by="model")
                self._changed()
        except LocalLLMError:
            return  # a title is a nicety

    # --- what the reply tells -----------------------------------------------------------------------------------------

    def began(self, node: Node) -> None:
        """See Watcher."""
        if any(node.id == known.id for known in self.path):
            self._replace(node)
        elif self.path and self.path[-1].id == node.parent:
            self.path = (*self.path, node)
        if self.watcher is not None:
            self.watcher.began(node)

    def came(self, node_id: int, event: Event) -> None:
        """See Watcher."""
        if self.watcher is not None:
            self.watcher.came(node_id, event)

    def call(self, node_id: int, call: ToolCall, state: CallState, result: str | None) -> None:
        """See Watcher."""
        if self.watcher is not None:
            self.watcher.call(node_id, call, state, result)
        if state == "asking" and self._on_asking is not None:
            self._on_asking(self)

    def ended(self, node: Node) -> None:
        """See Watcher."""
        self._replace(node)
        if self.watcher is not None:
            self.watcher.ended(node)

    def not_kept(self, error: LocalLLMError) -> None:
        """See Watcher."""
        if self.watcher is not None:
            self.watcher.not_kept(error)

    def _replace(self, node: Node) -> None:
        self.path = tuple(node if known.id == node.id else known for known in self.path)

    def _changed(self) -> None:
        if self.watcher is not None:
            self.watcher.changed()
