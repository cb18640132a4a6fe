"""Where words go and in which form."""

from __future__ import annotations

import io
import json
from pathlib import Path

from localllm.api import Usage
from localllm.cli.output import Output, plain


class Screen(io.StringIO):
    def isatty(self) -> bool:
        return True


def test_narration_goes_to_standard_error_and_quiet_stops_it() -> None:
    out, err = io.StringIO(), io.StringIO()
    Output(out=out, err=err).note("hello")
    Output(out=out, err=err, quiet=True).note("unheard")
    Output(out=out, err=err, quiet=True).warn("bad", "error:", "red")
    assert (out.getvalue(), err.getvalue()) == ("", "hello\nerror: bad\n")


def test_colours_only_where_they_are_seen() -> None:
    for screen, environ, coloured in (
        (Screen(), {}, True),
        (Screen(), {"NO_COLOR": "1"}, False),
        (Screen(), {"TERM": "dumb"}, False),
        (io.StringIO(), {}, False),
    ):
        Output(out=screen, err=screen, environ=environ).warn("x", "error:", "red")
        assert ("\x1b[31m" in screen.getvalue()) is coloured


def test_a_message_gives_no_orders_to_the_terminal() -> None:
    screen = Screen()
    Output(out=screen, err=screen, environ={"NO_COLOR": "1"}).warn("no model \x1b]0;x\x07", "error:", "red")
    assert screen.getvalue() == "error: no model \\x1b]0;x\\x07\n"


def test_a_document_has_every_key_whatever_its_values() -> None:
    out = io.StringIO()
    Output(out=out).document([Usage(), {"path": Path("a"), "many": {1}}])
    assert json.loads(out.getvalue()) == [
        dict.fromkeys(Usage.__struct_fields__, 0),
        {"path": "a", "many": [1]},
    ]
    assert plain((Usage(num_output_tokens=2),))[0]["num_output_tokens"] == 2
