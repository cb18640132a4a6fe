"""Making room: what follows from the choice a person makes near the end of the context."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import msgspec
from localllm_tui.history.values import Draft
from localllm_tui.look.names import shown_model
from localllm_tui.screens.limit import Choice, LimitScreen
from localllm_tui.screens.under_way import UnderWay
from localllm_tui.turns import summary
from localllm_tui.turns.context import Room, count_prompt, older_and_recent
from localllm_tui.turns.loaded import find_loaded

from localllm.errors import ContextLengthError, LocalLLMError

if TYPE_CHECKING:
    from localllm_tui.screens.chat import ChatScreen
    from localllm_tui.turns.open_conversation import OpenConversation

# How long sending may wait for a Backend that is being made, and for a prompt to be counted.
_READY_S = 0.05
_COUNTED_S = 2.0


async def has_room(screen: ChatScreen, draft: Draft) -> bool:
    """Whether `draft` may be sent: it fits well, or the person chose what is to be done. Never keeps anybody waiting
    for a model: one that is not in memory judges by itself, once it is.
    """
    room = await _scarce(screen, screen.open, draft)
    return room is None or await _choose(screen, room, draft)


async def has_room_for_waiting(screen: ChatScreen, opened: OpenConversation, draft: Draft) -> bool:
    """The same for a message that waited in `opened`. Whoever looks at something else meanwhile is told, not asked."""
    room = await _scarce(screen, opened, draft)
    if room is None or opened.waiting is not draft:
        return True
    if screen.open is opened and screen.app.screen is screen:
        return await _choose(screen, room, draft)
    title = opened.conversation.title or "a conversation"
    screen.say(f"{title}: the message that waited was not sent, there is little room left. It is in the prompt.")
    return False


async def _scarce(screen: ChatScreen, opened: OpenConversation, draft: Draft) -> Room | None:
    """The room for `draft` where it is little; None where it is enough, and where nobody can say."""
    if opened.wishes.truncate == "oldest":
        return None
    try:
        async with asyncio.timeout(_READY_S):
            backend = await screen.backend()
        async with asyncio.timeout(_COUNTED_S):
            room = await count_prompt(backend, opened, draft)
    except (LocalLLMError, TimeoutError):
        return None  # sending says it better
    return room if room is not None and room.is_near else None


async def has_room_after(screen: ChatScreen, error: ContextLengthError) -> bool:
    """The same once the model has refused: whether to ask again."""
    num_prompt, num_ctx = error.facts.get("num_prompt_tokens"), error.facts.get("num_ctx")
    if not isinstance(num_prompt, int) or not isinstance(num_ctx, int):
        return False
    try:
        loaded = await find_loaded(await screen.backend(), screen.open.wishes.model)
    except LocalLLMError:
        loaded = None
    return await _choose(screen, Room(num_prompt, num_ctx, loaded.num_ctx_train if loaded else num_ctx), Draft())


async def _choose(screen: ChatScreen, room: Room, draft: Draft) -> bool:
    chosen = await screen.app.push_screen_wait(LimitScreen(room, _ruled_out(screen, room, draft)))
    match chosen:
        case "send":
            return True
        case "oldest":
            screen.open.wishes = msgspec.structs.replace(screen.open.wishes, truncate="oldest")
            return True
        case "summarise":
            return await _summarise(screen, room, draft)
        case "larger":
            return await _enlarge(screen, room, draft)
    screen.composer.focus()
    return False


def _ruled_out(screen: ChatScreen, room: Room, draft: Draft) -> dict[Choice, str]:
    why_not: dict[Choice, str] = {}
    older, _ = older_and_recent(screen.open.path_before(draft))
    if not older:
        why_not["summarise"] = "there are no older turns"
        why_not["oldest"] = "there are no older turns: this message alone is too long"
    if room.num_ctx >= room.num_ctx_train:
        why_not["larger"] = f"the model was made for {room.num_ctx_train:,} tokens, and has them"
    return why_not


async def _summarise(screen: ChatScreen, room: Room, draft: Draft) -> bool:
    """The older turns in short, as the start of a new branch that ends as this one does."""
    opened = screen.open
    path = opened.path_before(draft)
    older, recent = older_and_recent(path)
    backend = await screen.backend()
    made = await screen.app.push_screen_wait(
        UnderWay[str](
            f"Summarising {len(older)} turns",
            lambda say: summary.summarise(backend, opened.wishes.model, older, room.num_ctx, say),
        )
    )
    if made is None:
        return False
    if isinstance(made, LocalLLMError):
        screen.say_error(made)
        return False
    try:
        opened.begin_with(f"{summary.HEAD}\n\n{made}", recent)
    except LocalLLMError as exc:
        screen.say_error(exc)
        return False
    return True


async def _enlarge(screen: ChatScreen, room: Room, draft: Draft) -> bool:
    """Load the model again with twice the context, or what the message needs."""
    needed = max(2 * room.num_ctx, room.num_prompt * 5 // 4)
    num_ctx = min(room.num_ctx_train, -(-needed // 256) * 256)
    model = screen.open.wishes.model
    backend = await screen.backend()

    async def load(_say: object) -> int:
        async for _ in backend.load(model, num_ctx=num_ctx):
            pass
        loaded = await find_loaded(backend, model)
        return loaded.num_ctx if loaded is not None else 0

    what = f"Loading {shown_model(model)} with {num_ctx:,} tokens of context"
    got = await screen.app.push_screen_wait(UnderWay[int](what, load))
    if got is None:
        return False
    if isinstance(got, LocalLLMError):
        screen.say_error(got)
        return False
    await screen.meter.look_at_model()
    if got <= room.num_ctx:
        screen.say(f"There was no memory for more: the context has {got:,} tokens.")
    return await has_room(screen, draft)
