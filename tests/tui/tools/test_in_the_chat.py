"""A tool call from the model's word to its answer: a real server, a card, a person, the result in the tree."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from localllm_tui.widgets.note_line import NoteLine
from localllm_tui.widgets.tool_card import ToolCard

from localllm import paths
from localllm.api import Finished, LoadOptions, SamplingParams, ToolCall, ToolCallEvent, Usage
from localllm.config import Settings
from localllm.service import Service
from localllm.store.describe import describe
from tests.tui.host import chat_host, run
from tests.tui.tools.servers import ECHO, write_servers

pytest.importorskip("mcp")


def calls(name: str, *, call_id: str = "c1", **arguments: str) -> list[ToolCallEvent | Finished]:
    """An answer that is one call."""
    call = ToolCall(call_id, name, json.dumps(arguments))
    return [ToolCallEvent(call), Finished("tool_calls", Usage())]


def serve_echo() -> None:
    """The echo server in the `mcp.json` of this test's home."""
    folder = paths.mcp_file().parent
    folder.mkdir(parents=True, exist_ok=True)
    write_servers(folder, echo=ECHO)


def test_model_calls_person_allows_tool_answers(tmp_path: Path) -> None:
    async def story() -> None:
        serve_echo()
        scripts = (
            calls("echo__echo", text="from the tool"),
            ["It said so."],
            calls("echo__echo", call_id="c2", text="not again"),
            ["Very well."],
            calls("echo__echo", call_id="c3", text="third"),
            ["Third time."],
            calls("echo__echo", call_id="c4", text="fourth"),
            ["Fourth time."],
        )
        async with chat_host(tmp_path, *scripts) as host:
            toolbox = host.app.toolbox
            await host.until(lambda: any(one.state == "ready" for one in toolbox.status()))

            def card(call_id: str) -> ToolCard | None:
                return next((card for card in host.screen.query(ToolCard) if card.call.id == call_id), None)

            def state(call_id: str) -> str:
                found = card(call_id)
                return str(found.state) if found is not None else ""

            async def answered(text: str) -> None:
                await host.until(lambda: host.screen.open.path and host.screen.open.path[-1].content == text)
                await host.until(lambda: not host.screen.open.is_busy)

            await host.say("use it")
            await host.until(lambda: state("c1") == "asking")
            assert {spec.name for spec in host.backend.requests[0].tools} >= {"echo__echo"}
            asking = card("c1")
            assert asking is not None
            # What is typed meanwhile is no answer; a key of its own leads to the call, and its answer back.
            await host.pilot.press("y")
            assert (host.composer.text, state("c1")) == ("y", "asking")
            await host.pilot.press("backspace")
            assert "Ctrl+T" in str(host.screen.query_one(NoteLine).content)
            await host.pilot.press("ctrl+t", "y")
            await answered("It said so.")
            assert host.composer.has_focus_within
            assert "Ctrl+T" not in str(host.screen.query_one(NoteLine).content)
            assert (state("c1"), asking.result) == ("done", "from the tool")
            roles = [(node.role, node.content) for node in host.screen.open.path]
            assert roles == [
                ("user", "use it"),
                ("assistant", ""),
                ("tool", "from the tool"),
                ("assistant", "It said so."),
            ]
            sent = host.backend.requests[1].messages
            assert (sent[-1].role, sent[-1].content, sent[-1].tool_call_id) == ("tool", "from the tool", "c1")

            # Once was once: it asks again, and a refusal is a result, too.
            await host.say("again")
            await host.until(lambda: state("c2") == "asking")
            refused = card("c2")
            assert refused is not None
            refused.focus()
            await host.pilot.press("n")
            await answered("Very well.")
            assert state("c2") == "refused"

            await host.say("and again")
            await host.until(lambda: state("c3") == "asking")
            always = card("c3")
            assert always is not None
            always.focus()
            await host.pilot.press("A")
            await answered("Third time.")
            await host.say("once more")
            await answered("Fourth time.")
            assert state("c4") == "done"
            number = host.screen.open.id
        assert "echo" in paths.mcp_file().with_name("mcp-permissions.json").read_text()
        async with chat_host(tmp_path) as host:
            assert host.screen.open.id == number
            again = host.app.toolbox
            await host.until(lambda: any(one.state == "ready" for one in again.status()))
            assert not again.needs_approval(number, "echo__echo")

    run(story())


def test_only_the_next_answer_is_made_to_call(tmp_path: Path) -> None:
    async def story() -> None:
        serve_echo()
        scripts = (calls("echo__pid"), ["So."], ["As you like."])
        async with chat_host(tmp_path, *scripts) as host:
            await host.screen.run_command("use")  # the server is not there yet: said
            assert host.screen.open.choice.mode == "auto"
            await host.until(host.screen.open.specs)
            await host.screen.run_command("use", "nonsense")
            assert host.screen.open.choice.mode == "auto"
            host.app.toolbox.approve(1, "echo__pid", "always")
            await host.screen.run_command("use", "pid")
            await host.say("who are you?")
            await host.until(lambda: [node.content for node in host.screen.open.path][-1:] == ["So."])
            await host.until(lambda: not host.screen.open.is_busy)
            await host.say("and now?")
            await host.until(lambda: len(host.backend.requests) == 3)
            choices = [(request.tool_choice.mode, request.tool_choice.names) for request in host.backend.requests]
            assert choices == [("required", ("echo__pid",)), ("auto", ()), ("auto", ())]
            assert [request.parallel_tool_calls for request in host.backend.requests] == [False, True, True]

    run(story())


@pytest.mark.weights
def test_a_model_that_knows_no_tools_calls_one_all_the_same(tmp_path: Path, smollm2_path: Path) -> None:
    async def story() -> None:
        serve_echo()
        service = Service(Settings(store_dir=tmp_path / "store", offline=True), load_options=LoadOptions(num_ctx=2048))
        blob = service.store.ingest(smollm2_path, digest=None, link=True)
        service.store.add(describe("smollm2:135m", "test", [blob], [smollm2_path]))
        greedy = SamplingParams(temperature=0, max_tokens=40)
        async with chat_host(tmp_path, backend=service, model="smollm2:135m", sampling=greedy) as host:
            await host.until(host.screen.open.specs)
            for spec in host.screen.open.specs():
                host.app.toolbox.switch(0, spec.name, spec.name == "echo__echo")
            await host.screen.run_command("use", "echo")
            await host.say("Say hello with the tool.")
            await host.until(lambda: any(card.state == "asking" for card in host.screen.query(ToolCard)))
            card = host.screen.query_one(ToolCard)
            card.focus()
            await host.pilot.press("y")
            await host.until(lambda: len(host.screen.open.path) == 4 and not host.screen.open.is_busy)
            _ask, call, result, answer = host.screen.open.path
            (made,) = call.tool_calls
            said = json.loads(made.arguments)
            assert (made.name, set(said)) == ("echo__echo", {"text"})
            assert (result.role, result.content, result.state) == ("tool", said["text"], "complete")
            assert (answer.role, answer.model) == ("assistant", "smollm2:135m")
            assert answer.content

    run(story(), 120)
