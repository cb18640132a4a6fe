"""The dialogs about a conversation in the list: into which folder, and what can be done with it."""

from __future__ import annotations

from collections.abc import Sequence

from localllm_tui.history.values import Conversation
from localllm_tui.screens.pick import Choice, PickScreen

NO_FOLDER = ""


def folder_screen(folders: Sequence[str], current: str) -> PickScreen:
    """Gives the name of a folder, `NO_FOLDER`, or None where the person left."""
    choices = [Choice(name, name, "it is here" if name == current else "") for name in folders]
    if current:
        choices.append(Choice(NO_FOLDER, "No folder"))
    return PickScreen(
        "Move to", choices, placeholder="A folder, there or new", make=lambda name: Choice(name, name, "a new folder")
    )


def menu_screen(conversation: Conversation) -> PickScreen:
    """Gives "rename", "pin", "move", "export", "delete" or None."""
    return PickScreen(
        conversation.title or "Conversation",
        (
            Choice("rename", "Rename"),
            Choice("pin", "Unpin" if conversation.is_pinned else "Pin"),
            Choice("move", "Move to a folder", conversation.folder),
            Choice("export", "Export"),
            Choice("delete", "Delete", "it can be brought back"),
        ),
    )
