"""The driver of a chat in a browser: Textual's own, which besides ends when the server that started it has gone."""

from __future__ import annotations

import asyncio

from textual.drivers.web_driver import WebDriver
from textual.messages import ExitApp


class ChatWebDriver(WebDriver):
    """Standard input ends with the server, however that ended; then so does the chat."""

    def start_application_mode(self) -> None:
        """See Driver."""
        self._loop_of_app = asyncio.get_running_loop()
        super().start_application_mode()

    def run_input_thread(self) -> None:
        """See WebDriver."""
        super().run_input_thread()
        if not self.exit_event.is_set() and not self._loop_of_app.is_closed():
            asyncio.run_coroutine_threadsafe(self._app._post_message(ExitApp()), self._loop_of_app)

    def stop_application_mode(self) -> None:
        """See Driver. Nobody may be left to be told."""
        try:
            super().stop_application_mode()
        except OSError:
            return
