"""The conversation at the terminal: read a message, show the answer, go on. Slash commands are in repl_commands."""

from __future__ import annotations

from typing import TYPE_CHECKING

from localllm.cli import repl_commands
from localllm.cli.answer import Answer, AnswerView, tell_end
from localllm.cli.borrowed import answering
from localllm.cli.interrupt import stoppable
from localllm.cli.line_input import LineInput, line_input
from localllm.cli.options import load_options
from localllm.cli.progress import show_load
from localllm.errors import LocalLLMError
from localllm.paths import history_file

if TYPE_CHECKING:
    from localllm.api import Backend
    from localllm.cli.conversation import Conversation
    from localllm.cli.output import Output
    from localllm.cli.runtime import Runtime
    from localllm.config import Settings

EXIT_INTERRUPTED = 130


class Repl:
    """One conversation. `kept` is text that was typed and got no answer: it stands in the next prompt again."""

    def __init__(self, backend: Backend, output: Output, talk: Conversation, reader: LineInput) -> None:
        self.backend = backend
        self.output = output
        self.talk = talk
        self.kept = ""
        self.leaving = False
        self._reader = reader

    async def loop(self) -> int:
        """Talk until the person leaves; returns the exit code."""
        while not self.leaving:
            try:
                typed = await self._reader.read(self.kept)
            except (EOFError, KeyboardInterrupt):
                self.output.line()
                break
            self.kept = ""
            if typed.strip():
                try:
                    await self._obey(typed)
                except KeyboardInterrupt:
                    return EXIT_INTERRUPTED
        return 0

    async def _obey(self, typed: str) -> None:
        """Run a command or ask; an error is shown and the conversation goes on."""
        try:
            if typed.startswith("/"):
                await repl_commands.run(self, typed)
            else:
                await self.ask(typed)
        except LocalLLMError as exc:
            self.output.warn(exc.message, "error:", "red")
            if exc.hint:
                self.output.warn(exc.hint, "hint:", "dim")

    async def ask(self, prompt: str) -> None:
        """Answer `prompt` as the next turn; without any answer it is typed in again at the next prompt."""
        answer = Answer()
        self.kept = prompt
        view = AnswerView(self.output)
        try:
            whole = await stoppable(view.show(self.backend.chat(self.talk.request(prompt)), answer))
        finally:
            if answer.content or answer.tool_calls or answer.finished:
                self.talk.add(prompt, answer)
                self.kept = ""
        if not whole:
            self.output.note("(stopped)")
        await tell_end(self.backend, self.output, self.talk.model, answer, verbose=self.talk.verbose)

    async def load(self, model: str) -> bool:
        """Bring a model into memory, with progress; False when Ctrl-C stopped it."""
        return await stoppable(show_load(self.backend, self.output, model))


async def talk_at_terminal(runtime: Runtime, output: Output, talk: Conversation, settings: Settings) -> int:
    """Hold a conversation until the person leaves; returns the exit code."""
    load = load_options(settings, num_slots=1, draft_model=talk.draft_model)
    async with answering(
        runtime, settings, load, model=talk.model, output=output, local=talk.local, own=talk.own_load
    ) as backend:
        await show_load(backend, output, talk.model)
        reader = line_input(history_file(), repl_commands.words())
        output.note(f"{talk.model} is ready. /help lists commands, Ctrl-C stops an answer, Ctrl-D leaves.")
        return await Repl(backend, output, talk, reader).loop()
