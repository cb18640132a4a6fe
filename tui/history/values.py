"""What is kept of conversations: values, as the database gives them back."""

from __future__ import annotations

from typing import Literal

from localllm.api import Role, ToolCall
from localllm.api.value import Value

NodeState = Literal["complete", "streaming", "stopped", "failed"]


class Attachment(Value, frozen=True):
    """A file or a long paste that goes with a turn. `num_tokens` None: not counted yet."""

    name: str
    text: str
    path: str | None = None
    num_tokens: int | None = None


class Stats(Value, frozen=True):
    """Figures of one answer, measured: tokens, and seconds from sending to the first token and to the end."""

    num_prompt_tokens: int = 0
    num_cached_tokens: int = 0
    num_output_tokens: int = 0
    queue_s: float = 0.0
    prompt_s: float = 0.0
    decode_s: float = 0.0
    first_token_s: float | None = None
    reasoning_s: float | None = None
    total_s: float = 0.0


class Node(Value, frozen=True):
    """One turn in a conversation's tree. `parent` None: a first turn. `created` is Unix time in seconds.

    `state` "streaming" of a node that nobody writes to is an answer whose program was killed.
    """

    id: int
    conversation: int
    parent: int | None
    role: Role
    content: str = ""
    reasoning: str = ""
    tool_calls: tuple[ToolCall, ...] = ()
    tool_call_id: str | None = None
    name: str | None = None
    model: str | None = None
    state: NodeState = "complete"
    error: str | None = None
    attachments: tuple[Attachment, ...] = ()
    stats: Stats | None = None
    created: float = 0.0


class Conversation(Value, frozen=True):
    """A conversation, as lists show it. `leaf` is the last turn of the branch that is open; "" is no folder.

    `titled_by` says whose the title is: one of a person is never replaced.
    """

    id: int
    title: str = ""
    titled_by: Literal["nobody", "model", "person"] = "nobody"
    folder: str = ""
    is_pinned: bool = False
    model: str = ""
    system: str = ""
    leaf: int | None = None
    created: float = 0.0
    updated: float = 0.0
    num_nodes: int = 0


class Draft(Value, frozen=True):
    """What was typed and not sent. `edits`: the node it would replace."""

    text: str = ""
    attachments: tuple[Attachment, ...] = ()
    edits: int | None = None


class Hit(Value, frozen=True):
    """A place where a search found something. `snippet`: pieces of text, each with whether it is what was found.

    `node` and `role` None: it is the title. `created`: when the turn was, else when the conversation was updated.
    """

    conversation: Conversation
    node: int | None
    snippet: tuple[tuple[str, bool], ...]
    role: Role | None = None
    created: float = 0.0


class Bundle(Value, frozen=True):
    """A whole conversation, for export and import. Turns stand behind the turn above them; `leaf` is one of them.

    `uid` is the same wherever the conversation is kept. Ids mean something inside the bundle only.
    """

    uid: str
    conversation: Conversation
    nodes: tuple[Node, ...] = ()


class TakenIn(Value, frozen=True):
    """What an import did: conversations that are here now, and how many of the file were here before."""

    conversations: tuple[int, ...] = ()
    num_known: int = 0
