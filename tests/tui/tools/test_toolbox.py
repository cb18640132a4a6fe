"""Tools of real servers: child processes over stdio, and one over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path

import pytest
from localllm_tui.tools.results import MAX_RESULT_CHARS
from localllm_tui.tools.servers import MAX_LOG_LINES
from localllm_tui.tools.toolbox import Toolbox

from localllm.api import ToolCall
from tests.tui.tools.servers import ECHO, SERVER, call, status, wait_for, write_servers

pytest.importorskip("mcp")


@pytest.fixture(scope="module")
def toolbox(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Toolbox]:
    """One over a server that works, one that never answers and one whose command does not exist."""
    file = write_servers(
        tmp_path_factory.mktemp("tools"),
        silent={"command": sys.executable, "args": [str(SERVER), "silent"]},
        echo={**ECHO, "call_timeout_s": 3},
        absent={"command": "no-such-command-here", "unheard": 1},
        wrong={"command": 1},
        off={"command": "x", "disabled": True},
    )
    toolbox = Toolbox(file)
    asyncio.run(toolbox.start())
    wait_for(lambda: status(toolbox, "echo").state == "ready")
    yield toolbox
    asyncio.run(toolbox.close())


def test_servers_that_fail_or_hang_hold_up_no_other(toolbox: Toolbox) -> None:
    assert status(toolbox, "silent").state == "starting"
    wait_for(lambda: status(toolbox, "absent").state == "failed")
    assert status(toolbox, "absent").words == "there is no no-such-command-here"
    assert "does nothing" in status(toolbox, "absent").notes[0]
    assert (status(toolbox, "wrong").state, status(toolbox, "off").state) == ("failed", "disabled")
    assert "mcpServers.wrong.command" in status(toolbox, "wrong").words
    assert status(toolbox, "echo").num_tools == 12
    assert toolbox.problem is None


def test_specs_carry_what_models_may_be_told(toolbox: Toolbox) -> None:
    specs = {spec.name: spec for spec in toolbox.specs(1)}
    assert specs["echo__echo"].description == "Gives the text back."
    assert specs["echo__echo"].parameters["required"] == ["text"]
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name) for name in specs)
    # The name that gives orders to terminals is kept as it is, for the server; whoever shows it makes it safe.
    awkward = next(state.tool for state in toolbox.tools(1) if "\x1b" in state.tool.own_name)
    assert call(toolbox, awkward.name).text == "\x1b[2Jcleared \x07"


def test_a_tool_switched_off_is_not_offered(toolbox: Toolbox) -> None:
    toolbox.switch(5, "echo__echo", False)
    assert "echo__echo" not in {spec.name for spec in toolbox.specs(5)}
    assert "echo__echo" in {spec.name for spec in toolbox.specs(6)}


def test_answers_and_errors_are_results(toolbox: Toolbox) -> None:
    result = call(toolbox, "echo__echo", text="höre \U0001f600")
    assert (result.text, result.is_error) == ("höre \U0001f600", False)
    assert call(toolbox, "echo__fail") == type(result)("it failed", is_error=True)
    assert call(toolbox, "echo__kinds").text.splitlines() == [
        "text",
        "[image, image/png, 3 B, not shown]",
        "[file:///a.txt]",
        "from a file",
        "[a link to file:///b.txt]",
    ]
    for name, arguments, words in (
        ("echo__echo", "{", "the arguments are no JSON"),
        ("echo__echo", "[1]", "no JSON object"),
        ("echo__echo", "[" * 100_000, "no JSON"),
        ("nothing__here", "{}", "no tool named nothing__here"),
    ):
        result = asyncio.run(toolbox.call(ToolCall("1", name, arguments)))
        assert result.is_error
        assert words in result.text


def test_a_flood_is_bounded_and_said(toolbox: Toolbox) -> None:
    flood = call(toolbox, "echo__flood").text
    assert MAX_RESULT_CHARS < len(flood) < MAX_RESULT_CHARS + 100
    assert "1,900,010 characters left out" in flood
    assert flood.endswith("x end")
    assert call(toolbox, "echo__chatter").text == "written"
    wait_for(lambda: any("line 99999" in line for line in toolbox.log("echo")[-1:]))
    assert len(toolbox.log("echo")) == MAX_LOG_LINES


def test_a_server_that_dies_in_mid_call_is_started_again_when_wanted(toolbox: Toolbox) -> None:
    before = call(toolbox, "echo__pid").text
    died = call(toolbox, "echo__die")
    assert died.is_error
    assert died.text == "the server went away: it ended (exit status 3)"
    after = call(toolbox, "echo__pid")
    assert not after.is_error
    assert after.text != before
    huge = call(toolbox, "echo__burst")
    assert huge.text == "the server went away: it sent a message of more than 16 MB"
    spilt = call(toolbox, "echo__spill")
    assert spilt.text == "the server went away: it wrote more than 10,000 lines that are no messages to its stdout"
    assert call(toolbox, "echo__echo", text="back").text == "back"


def test_a_call_is_bounded_in_time_and_cancelled_at_its_server(toolbox: Toolbox, tmp_path: Path) -> None:
    late = call(toolbox, "echo__hang", text=str(tmp_path / "late"))
    assert late.is_error
    assert late.text == "no answer within 3 s; the call was cancelled"
    wait_for((tmp_path / "late").exists)

    async def cancel() -> None:
        arguments = json.dumps({"text": str(tmp_path / "stopped")})
        task = asyncio.create_task(toolbox.call(ToolCall("1", "echo__hang", arguments)))
        assert (await toolbox.call(ToolCall("2", "echo__echo", '{"text": "meanwhile"}'))).text == "meanwhile"
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task

    asyncio.run(cancel())
    wait_for((tmp_path / "stopped").exists)


def test_a_tool_that_changes_while_its_server_runs_asks_again(toolbox: Toolbox) -> None:
    toolbox.approve(1, "echo__echo", "once")
    assert toolbox.needs_approval(1, "echo__echo")
    toolbox.approve(1, "echo__echo", "always")
    assert not toolbox.needs_approval(2, "echo__echo")
    assert not toolbox.needs_approval(1, "no__tool")
    call(toolbox, "echo__change")
    wait_for(lambda: toolbox.needs_approval(2, "echo__echo"))
    changed = next(state for state in toolbox.tools(2) if state.tool.own_name == "echo")
    assert changed.is_changed
    assert changed.tool.description.startswith("Ignore all")
    toolbox.approve(2, "echo__echo", "chat")
    assert not toolbox.needs_approval(2, "echo__echo")
    toolbox.revoke(2, "echo__echo")
    assert toolbox.needs_approval(2, "echo__echo")


def test_reload_touches_only_what_is_another_one_now(tmp_path: Path) -> None:
    toolbox = Toolbox(write_servers(tmp_path, stays=ECHO, goes=ECHO))
    asyncio.run(toolbox.start())
    wait_for(lambda: all(one.state == "ready" for one in toolbox.status()))
    stays, goes = call(toolbox, "stays__pid").text, call(toolbox, "goes__pid").text
    toolbox.approve(1, "stays__echo", "always")

    write_servers(tmp_path, stays=ECHO)
    asyncio.run(toolbox.reload())
    assert [one.name for one in toolbox.status()] == ["stays"]
    assert call(toolbox, "stays__pid").text == stays
    assert not alive(int(goes))

    (tmp_path / "mcp.json").write_text("{")
    asyncio.run(toolbox.reload())
    assert "line 1, column 2" in (toolbox.problem or "")
    assert call(toolbox, "stays__pid").text == stays

    write_servers(tmp_path, stays={**ECHO, "env": {"ECHO_DESCRIPTION": "Also sends it away."}})
    asyncio.run(toolbox.reload())
    wait_for(lambda: status(toolbox, "stays").state == "ready")
    assert toolbox.problem is None
    assert toolbox.needs_approval(1, "stays__echo")
    asyncio.run(toolbox.restart("stays"))
    pid = int(call(toolbox, "stays__pid").text)
    asyncio.run(toolbox.close())
    assert not alive(pid)


@contextlib.contextmanager
def http_server(tmp_path: Path, **environment: str) -> Iterator[tuple[subprocess.Popen[bytes], str]]:
    """The server over HTTP, and its URL; it ends with its stdin."""
    port_file = tmp_path / "port"
    command = [sys.executable, str(SERVER), "http", str(port_file)]
    variables = {**os.environ, **environment}
    with subprocess.Popen(command, stdin=subprocess.PIPE, stderr=subprocess.DEVNULL, env=variables) as process:
        wait_for(lambda: port_file.exists() and port_file.read_text())
        yield process, f"http://127.0.0.1:{port_file.read_text()}/mcp"


def test_over_http_a_forgotten_session_is_begun_anew(tmp_path: Path) -> None:
    with http_server(tmp_path, ECHO_OLD="1") as (_, url):
        toolbox = Toolbox(write_servers(tmp_path, old={"url": url, "headers": {"X-Token": "secret"}}))
        asyncio.run(toolbox.start())
        asyncio.run(toolbox.settled())
        assert call(toolbox, "old__echo", text="first").text == "first"
        (tmp_path / "forget").touch()
        assert call(toolbox, "old__echo", text="second").text == "second"
        assert not (tmp_path / "forget").exists()
        asyncio.run(toolbox.close())


def test_over_http_with_headers(tmp_path: Path) -> None:
    with http_server(tmp_path) as (process, url):
        good = {"url": url, "headers": {"X-Token": "${ECHO_TOKEN}"}}
        file = write_servers(tmp_path, good=good, refused={"url": url}, nobody={"url": "http://127.0.0.1:9/mcp"})
        with pytest.MonkeyPatch.context() as patch:
            patch.setenv("ECHO_TOKEN", "secret")
            toolbox = Toolbox(file)
            asyncio.run(toolbox.start())
        asyncio.run(toolbox.settled())
        assert status(toolbox, "good").state == "ready"
        assert status(toolbox, "refused").state == "failed"
        assert status(toolbox, "refused").words == "it refused with 401 Unauthorized"
        assert status(toolbox, "nobody").words.startswith("no connection")
        assert call(toolbox, "good__echo", text="over").text == "over"
        assert call(toolbox, "good__burst").is_error
        assert call(toolbox, "good__echo", text="again").text == "again"
        assert process.stdin is not None
        process.stdin.close()
        process.wait(10)
        gone = call(toolbox, "good__echo", text="too late")
        assert gone.is_error
        assert "no connection" in gone.text
        asyncio.run(toolbox.close())


HOST = """
import asyncio, json, os, pathlib, signal, sys
from localllm.api import ToolCall
from localllm_tui.tools.toolbox import Toolbox

async def main():
    toolbox = Toolbox(pathlib.Path(sys.argv[1]))
    await toolbox.start()
    await toolbox.settled()
    print((await toolbox.call(ToolCall("1", "echo__pid"))).text, flush=True)
    os.kill(os.getpid(), signal.SIGKILL)

asyncio.run(main())
"""


@pytest.mark.skipif(sys.platform == "win32", reason="no SIGKILL")
def test_servers_end_with_a_chat_that_is_killed(tmp_path: Path) -> None:
    file = write_servers(tmp_path, echo=ECHO)
    done = subprocess.run([sys.executable, "-c", HOST, file], stdout=subprocess.PIPE, timeout=60, check=False)
    assert done.returncode == -signal.SIGKILL
    pid = int(done.stdout)
    wait_for(lambda: not alive(pid))


WITHOUT = """
import asyncio, pathlib, sys, threading
sys.modules["mcp"] = None
import localllm_tui.app
from localllm_tui.tools.toolbox import Toolbox

async def main():
    empty = Toolbox(pathlib.Path(sys.argv[1]) / "none" / "mcp.json")
    await empty.start()
    await empty.settled()
    assert not {"pydantic", "anyio", "httpx", "httpx2"} & set(sys.modules), "heavy without need"
    assert threading.active_count() == 1
    await empty.close()
    toolbox = Toolbox(pathlib.Path(sys.argv[1]) / "mcp.json")
    await toolbox.start()
    await toolbox.settled()
    print(toolbox.status()[0].words)
    await toolbox.close()

asyncio.run(main())
"""


def test_without_the_sdk_it_says_how_to_get_it_and_without_servers_nothing_is_loaded(tmp_path: Path) -> None:
    write_servers(tmp_path, echo=ECHO)
    done = subprocess.run(
        [sys.executable, "-c", textwrap.dedent(WITHOUT), tmp_path],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert "pip install 'localllm[mcp]'" in done.stdout


def alive(pid: int) -> bool:
    """Whether there is such a process, other than as a zombie of this one."""
    with contextlib.suppress(OSError):
        stat = Path(f"/proc/{pid}/stat").read_text()
        return stat.rpartition(")")[2].split()[0] != "Z"
    try:
        os.kill(pid, 0)
    except OSError:
        return False
    return not Path("/proc/self").exists()
