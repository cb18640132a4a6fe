"""What a person does with conversations in the list: opened, found, named, pinned, moved, deleted."""

from __future__ import annotations

from typing import ClassVar

from localllm_tui.history.values import Conversation
from localllm_tui.screens.whole import WholeScreen
from localllm_tui.widgets.conversation_list import ConversationList
from localllm_tui.widgets.sidebar import Sidebar
from localllm_tui.widgets.transcript import Transcript
from textual import on, work
from textual.binding import Binding, BindingType
from textual.timer import Timer

from localllm.errors import LocalLLMError

# What is seen at once; the rest of the list follows in a thread.
_FIRST = 100
_ALL = 1_000_000
_SOON_S = 0.05


class ListedScreen(WholeScreen):
    """Needs a Sidebar on it. Its class `-listing` shows the list where room is scarce."""

    BINDING_GROUP_TITLE = "Conversations"
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("ctrl+f", "search", "Search all conversations", id="chat.search", priority=True),
        Binding("ctrl+o", "conversations", "The list of conversations", id="chat.list", priority=True),
    ]

    _list_timer: Timer | None = None

    def action_new(self) -> None:
        """A new conversation."""
        raise NotImplementedError

    # --- the list -----------------------------------------------------------------------------------------------------

    def list_first(self) -> None:
        """Fill the list for the first frame."""
        try:
            self.query_one(ConversationList).restore_folders(self.history.folders_open())
            self.query_one(Sidebar).show(self.history.conversations(limit=_FIRST), self.open.id)
        except LocalLLMError as exc:
            self.say_error(exc)
        self.list_changed()

    def list_changed(self) -> None:
        """Something of what the list shows is another one; it follows soon."""
        if self._list_timer is None and self.is_running:
            self._list_timer = self.set_timer(_SOON_S, self._list_due)

    def _list_due(self) -> None:
        self._list_timer = None
        self._load_list()

    @work(thread=True, group="list", exclusive=True, exit_on_error=False)
    def _load_list(self) -> None:
        conversations = self.history.conversations(limit=_ALL)
        self.app.call_from_thread(self._show_list, conversations)

    def _show_list(self, conversations: tuple[Conversation, ...]) -> None:
        if self.is_mounted:
            self.query_one(Sidebar).show(conversations, self.open.id)

    def action_conversations(self) -> None:
        """Into the list, shown if it was not; from there back to the prompt, with the list out of the way."""
        sidebar = self.query_one(Sidebar)
        is_inside = self.focused is not None and sidebar in self.focused.ancestors
        self.set_class(not is_inside, "-listing")
        self.set_class(is_inside, "-unlisted")
        if is_inside:
            self.composer.focus()
        else:
            sidebar.focus_list()

    @on(Sidebar.Left)
    def _list_left(self) -> None:
        self.remove_class("-listing")
        self.composer.focus()

    # --- what is asked of one -----------------------------------------------------------------------------------------

    @on(Sidebar.Opened)
    def _opened(self, event: Sidebar.Opened) -> None:
        self.remove_class("-listing")
        self.show_conversation(event.id)

    @on(Sidebar.NewAsked)
    def _new_asked(self) -> None:
        self.remove_class("-listing")
        self.action_new()

    @on(ConversationList.FolderTurned)
    def _folder_turned(self, event: ConversationList.FolderTurned) -> None:
        try:
            self.history.set_folder_open(event.name, event.is_open)
        except LocalLLMError as exc:
            self.say_error(exc)

    @on(Sidebar.DeleteAsked)
    def _delete_asked(self, event: Sidebar.DeleteAsked) -> None:
        self._delete(event.id)

    @on(Sidebar.UndoAsked)
    def _undo_asked(self) -> None:
        self.action_undelete()

    @on(Sidebar.PinAsked)
    def _pin_asked(self, event: Sidebar.PinAsked) -> None:
        self._toggle_pin(event.id)

    @on(Sidebar.RenameAsked)
    def _rename_asked(self, event: Sidebar.RenameAsked) -> None:
        self._rename(event.id)

    @on(Sidebar.MoveAsked)
    def _move_asked(self, event: Sidebar.MoveAsked) -> None:
        self._move(event.id)

    @on(Sidebar.MenuAsked)
    @work(group="dialog", exclusive=True)
    async def _menu_asked(self, event: Sidebar.MenuAsked) -> None:
        from localllm_tui.screens.folder import menu_screen

        conversation = self._find(event.id)
        if conversation is None:
            return
        match await self.app.push_screen_wait(menu_screen(conversation)):
            case "rename":
                self._rename(event.id)
            case "pin":
                self._toggle_pin(event.id)
            case "move":
                self._move(event.id)
            case "export":
                self.export_conversation(event.id)
            case "delete":
                self._delete(event.id)

    def export_conversation(self, id_: int, to: str = "") -> object:
        """Write one to a file."""
        raise NotImplementedError

    def action_pin(self) -> None:
        """Pin the conversation, or take it off."""
        self._toggle_pin(self.open.id)

    def action_move(self, folder: str = "") -> None:
        """Into another folder; asks for it where none is said."""
        if folder:
            self.change_conversation(self.open.id, folder=folder.strip())
            self.say(f"Now in the folder {self.open.conversation.folder}.")
        else:
            self._move(self.open.id)

    def _toggle_pin(self, id_: int) -> None:
        conversation = self._find(id_)
        if conversation is not None:
            self.change_conversation(id_, is_pinned=not conversation.is_pinned)

    @work(group="dialog", exclusive=True)
    async def _rename(self, id_: int) -> None:
        from localllm_tui.screens.words import LineScreen

        conversation = self._find(id_)
        if conversation is not None:
            title = await self.app.push_screen_wait(LineScreen("Title", conversation.title))
            if title and title.strip():
                self.change_conversation(id_, title=title.strip(), titled_by="person")

    @work(group="dialog", exclusive=True)
    async def _move(self, id_: int) -> None:
        from localllm_tui.screens.folder import folder_screen

        conversation = self._find(id_)
        if conversation is not None:
            folders = self.history.folders()
            folder = await self.app.push_screen_wait(folder_screen(folders, conversation.folder))
            if folder is not None:
                self.change_conversation(id_, folder=folder)

    @work(group="deleting")
    async def _delete(self, id_: int) -> None:
        await self.delete_conversation(id_).wait()
        self.list_changed()

    def _find(self, id_: int) -> Conversation | None:
        if not id_:
            return self.open.conversation
        try:
            return self.history.conversation(id_)
        except LocalLLMError as exc:
            self.say_error(exc)
            return None

    def change_conversation(self, id_: int, **fields: str | bool) -> None:
        """Change one, open or not."""
        try:
            if id_ == self.open.id:
                self.open.change(**fields)
            else:
                self.history.change(id_, **fields)
        except LocalLLMError as exc:
            self.say_error(exc)
        self.list_changed()

    # --- search -------------------------------------------------------------------------------------------------------

    @on(Sidebar.SearchAsked)
    def _search_asked(self, event: Sidebar.SearchAsked) -> None:
        self.action_search(event.text)

    @work(group="dialog", exclusive=True)
    async def action_search(self, words: str = "") -> None:
        """Look for words in all conversations, and go to where they are."""
        from localllm_tui.screens.search import SearchScreen

        place = await self.app.push_screen_wait(SearchScreen(self.history.search, words))
        if place is not None:
            self.remove_class("-listing")
            self.show_conversation(place[0])
            if place[1] is not None:
                self.show_turn(place[1])

    def show_turn(self, node_id: int) -> None:
        """Bring a turn of the open conversation into sight, on its branch, with the keys on it."""
        try:
            if all(node.id != node_id for node in self.open.path):
                self.open.go_to_leaf(self.history.newest_leaf(node_id))
        except LocalLLMError as exc:
            self.say_error(exc)
            return
        self.call_after_refresh(self._focus_turn, node_id)

    def _focus_turn(self, node_id: int) -> None:
        self.query_one(Transcript).go_to(node_id)
