"""What fits into the context: what a message would take, whether that is near the limit, which turns are older."""

from __future__ import annotations

from typing import NamedTuple

import msgspec
from localllm_tui.history.values import Draft, Node
from localllm_tui.turns.gauges import NEAR
from localllm_tui.turns.loaded import find_loaded
from localllm_tui.turns.open_conversation import OpenConversation
from localllm_tui.turns.reply import request_of

from localllm.api import Backend, ChatRequest, Role
from localllm.errors import ContextLengthError


class Room(NamedTuple):
    """Tokens that a prompt takes, those of the context it goes into, and those the model was trained for."""

    num_prompt: int
    num_ctx: int
    num_ctx_train: int

    @property
    def is_near(self) -> bool:
        """Whether so little is left that a person should be asked."""
        return self.num_prompt > NEAR * self.num_ctx

    @property
    def is_over(self) -> bool:
        """Whether it cannot be sent whole: the answer's first token needs a place, too."""
        return self.num_prompt >= self.num_ctx


def request_with(opened: OpenConversation, draft: Draft) -> ChatRequest:
    """What sending `draft` would ask."""
    path = opened.path_before(draft)
    role: Role = opened.path[len(path)].role if len(path) < len(opened.path) else "user"
    if draft.text.strip() or draft.attachments:
        path = (*path, Node(0, opened.id, None, role, draft.text, attachments=draft.attachments))
    return request_of(path, opened.conversation.system, opened.wishes, opened.specs())


async def count_prompt(backend: Backend, opened: OpenConversation, draft: Draft) -> Room | None:
    """The room there is for sending `draft`. None: its model is not in memory. Raises what the Backend raises."""
    loaded = await find_loaded(backend, opened.wishes.model)
    if loaded is None:
        return None
    request = msgspec.structs.replace(request_with(opened, draft), truncate="error")
    try:
        num_prompt = len((await backend.render(request)).tokens)
    except ContextLengthError as exc:
        num_prompt = int(exc.facts.get("num_prompt_tokens", loaded.num_ctx))
    return Room(num_prompt, loaded.num_ctx, loaded.num_ctx_train)


def older_and_recent(path: tuple[Node, ...], num_recent: int = 2) -> tuple[tuple[Node, ...], tuple[Node, ...]]:
    """A branch in two: what may be summarised, and the last `num_recent` turns of a person with what answers them."""
    starts = [index for index, node in enumerate(path) if node.role == "user"]
    if len(starts) < 2:
        return path, ()
    at = starts[-min(num_recent, len(starts) - 1)]
    return path[:at], path[at:]
