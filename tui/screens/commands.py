"""What may be asked for by name: one table, for slash commands, the command palette and help."""

from __future__ import annotations

from typing import NamedTuple

from localllm_tui.prompt.commands import CommandWords


class Command(NamedTuple):
    """`name` is typed after a slash; `action` is the screen's `action_<action>`, given what `takes` names."""

    name: str
    action: str
    help: str
    takes: str = ""
    hidden: bool = False

    def words(self) -> CommandWords:
        """As the prompt lists it."""
        return CommandWords(self.name, self.takes, self.help, self.hidden)


# One line a command, by what it is about. A screen of its own adds its line here and its action to the chat screen.
COMMANDS: tuple[Command, ...] = (
    Command("new", "new", "Begin a new conversation"),
    Command("stop", "stop", "Stop the answer; what came is kept"),
    Command("regenerate", "regenerate", "Answer the last turn again, beside the answer that is there"),
    Command("retry", "regenerate", "Answer the last turn again", hidden=True),
    Command("continue", "go_on", "Go on with an answer that was stopped, or with a row of tool calls"),
    Command("answer", "answer_now", "No more thinking: have the model answer now"),
    Command("think", "think", "Whether the model should think before it answers: on, off, auto", "[on|off|auto]"),
    Command("edit", "edit_last", "Write your last turn anew, as another branch"),
    Command("branch", "branch", "This branch as a conversation of its own"),
    Command("tree", "tree", "Every branch of this conversation; compare two of them"),
    Command("takeback", "take_back", "Take back the message that waits for the answer's end"),
    Command("copy", "copy_last", "Copy the last answer"),
    Command("title", "title", "Give the conversation a title", "TITLE"),
    Command("system", "system", "The system prompt of this conversation", "[TEXT]"),
    Command("model", "model", "Answer with another model from now on", "[NAME]"),
    Command("pin", "pin", "Pin the conversation, or take it off"),
    Command("move", "move", "Move the conversation to a folder", "[FOLDER]"),
    Command("search", "search", "Search all conversations", "[WORDS]"),
    Command("persona", "persona", "A system prompt by its name; save NAME keeps this one", "[NAME]"),
    Command("snippet", "snippet", "A text by its name, for the prompt; save NAME keeps what you wrote", "[NAME]"),
    Command("set", "set", "Show or change how tokens are chosen", "[NAME [VALUE]]"),
    Command("models", "models", "The models: what is here, what there is to be had, fetching and deleting"),
    Command("both", "both", "Ask this model and another one the same, side by side", "[NAME]"),
    Command(
        "export", "export", "Write the conversation to a .md, .html or .json file; all FILE writes every one", "[FILE]"
    ),
    Command("import", "import", "Take in conversations of ChatGPT, Open WebUI, Ollama's app or localllm", "[FILE]"),
    Command("delete", "delete", "Delete the conversation; it can be brought back"),
    Command("undo", "undelete", "Bring back the conversation deleted last"),
    Command("tools", "tools", "Tools: what they do, which are offered, which ask first"),
    Command("use", "use", "Have the next answer call a tool, whatever the model can", "[TOOL]"),
    Command("server", "server", "What answers: requests, speed, memory, log"),
    Command("help", "help", "Every key and command"),
    Command("theme", "theme", "The colours", "[NAME]"),
    Command("quit", "leave", "End the chat"),
    Command("exit", "leave", "End the chat", hidden=True),
)


def command(name: str) -> Command | None:
    """The command of that name."""
    return next((known for known in COMMANDS if known.name == name), None)
