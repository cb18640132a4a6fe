"""The serving benchmark against servers whose delays are known: figures, failures, checks, chart, exit status."""

from __future__ import annotations

import asyncio
import json
import os
import random
import sys
import xml.etree.ElementTree as ET
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from tests.openai_server import Behaviour, serving

SCRIPTS = Path(__file__).resolve().parent.parent / "scripts"
# A timer may come late on a busy machine, never early.
LATE_S = 0.15
SMALL: dict[str, Any] = {
    "one_stream_tokens": 16,
    "shared_streams": 3,
    "shared_prompt_tokens": 40,
    "shared_output_tokens": 4,
    "conversations": 3,
    "app_prompt_tokens": 40,
    "turn_prompt_tokens": 10,
    "turns": 2,
    "turn_output_tokens": 3,
    "late_stream_tokens": 40,
    "schema_tokens": 50,
    "agent_turns": 2,
    "agent_output_tokens": 2,
}
VALID = (
    '{"name": "Ada", "age": 36, "role": "engineer", "remote": true, "city": "Osaka"}',
    json.dumps({"city": "Osaka", "days": [{"day": "Monday", "high": 3, "sky": "rain"}] * 3}),
    '{"title": "It is slow", "priority": "low", "labels": ["bug"], "estimate_hours": 3, "assignee": null}',
    '{"number": "ABC-1234", "lines": [{"article": "lamp", "quantity": 2}, {"article": "chair", "quantity": 1}], '
    '"paid": true}',
)


@pytest.fixture(autouse=True)
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.syspath_prepend(str(SCRIPTS))
    yield
    for name in [name for name in sys.modules if name.split(".")[0] in {"serving", "bench_serving"}]:
        del sys.modules[name]


def measured(behaviours: dict[str, Behaviour], **options: Any) -> tuple[Any, dict[str, list[dict[str, Any]]]]:
    """Results of a small run, and the chats that each server got."""
    from contextlib import ExitStack

    from serving.http_target import HttpTarget
    from serving.run import Options, measure
    from serving.workloads import Sizes

    request_s = options.pop("request_s", 30.0)
    chosen: dict[str, Any] = {"rounds": 1, "sizes": Sizes(**SMALL), "tools": "text", "run_s": 60.0} | options
    with ExitStack() as stack:
        servers = {name: stack.enter_context(serving(how)) for name, how in behaviours.items()}
        targets = [HttpTarget(name, fake.url, request_s=request_s) for name, fake in servers.items()]
        results = asyncio.run(measure(targets, targets[0].name, Options(**chosen), lambda _line: None))
    return results, {name: fake.chats for name, fake in servers.items()}


def test_figures_are_the_servers_delays() -> None:
    behaviours = {"slow": Behaviour(first_s=0.4, gap_s=0.04), "fast": Behaviour(first_s=0.1, gap_s=0.01)}
    results, _ = measured(behaviours, workloads=("one stream",), rounds=2)
    medians = results.medians()["one stream"]
    for name, how in behaviours.items():
        figures = medians[name]
        assert how.first_s <= figures["first_token_p50_s"] <= how.first_s + LATE_S
        assert how.gap_s * 0.9 <= figures["gap_p50_s"] <= how.gap_s + 0.02
        assert figures["longest_stall_s"] >= figures["gap_p99_s"] >= figures["gap_p50_s"]
        wall_s = how.first_s + 15 * how.gap_s
        assert 16 / (wall_s + 2 * LATE_S) <= figures["tokens_per_s"] <= 16 / (wall_s * 0.95)
        assert figures["output_tokens"] == 16
        assert (figures["num_requests"], figures["num_failed"]) == (2, 0)
    ratios = results.ratios()["one stream"]
    assert ratios["slow"]["first_token_p50_s"] == 1
    assert 0.2 <= ratios["fast"]["first_token_p50_s"] <= 0.65
    assert ratios["fast"]["tokens_per_s"] > 2
    assert results.complete


def test_a_stall_counts_from_the_late_prompt_on() -> None:
    how = Behaviour(first_s=0.02, gap_s=0.01, stall_s=0.6)
    results, _ = measured({"one": how}, workloads=("late prompt",))
    figures = results.medians()["late prompt"]["one"]
    assert 0.6 <= figures["longest_stall_s"] <= 0.6 + LATE_S
    assert 0.62 <= figures["late_first_token_s"] <= 0.62 + LATE_S
    assert figures["gap_p50_s"] < 0.1


def test_all_targets_get_the_same_texts_turn_about_and_new_ones_each_round() -> None:
    from serving.workloads import WORKLOADS

    quick = Behaviour(first_s=0.005, gap_s=0.001, answers=VALID)
    results, chats = measured({"a": quick, "b": quick}, rounds=2)
    assert list(results.rounds) == list(WORKLOADS)
    per_round = {
        "one stream": 1,
        "shared prompt": 3,
        "conversations": 6,
        "late prompt": 4,
        "schema-bound": 4,
        "agent": 2,
    }
    for workload, by_target in results.rounds.items():
        for figures in by_target.values():
            assert [round_["num_requests"] for round_ in figures] == [per_round[workload]] * 2
    # Who is measured later is not asked something else; one request calibrates on the first target alone.
    texts = {name: sorted(json.dumps(chat["messages"]) for chat in got) for name, got in chats.items()}
    assert [text for text in texts["a"] if text not in texts["b"]] == [text for text in texts["a"] if text in _probes()]
    own = [text for text in texts["b"] if "hello" not in text]
    assert len(set(own)) == len(own) == 2 * sum(per_round.values())


def _probes() -> set[str]:
    from serving.prompts import Prompts
    from serving.run import FEW, MANY

    return {json.dumps([{"role": "user", "content": Prompts(f"calibrate {num}").text(num)}]) for num in (FEW, MANY)}


def test_tokens_per_word_are_found_out() -> None:
    results, _ = measured({"one": Behaviour(first_s=0.001, gap_s=0.001)}, workloads=("one stream",))
    assert results.tokens_per_word == 1.0  # this server counts words


def test_failures_are_counted_and_nothing_is_asked_twice() -> None:
    # Chats 0 to 2 are the greeting and the two that calibrate; 3 to 5 are the workload's.
    how = Behaviour(first_s=0.01, gap_s=0.001, refused=frozenset({3}), cut=frozenset({4}), endless=frozenset({5}))
    results, chats = measured({"one": how}, workloads=("shared prompt", "one stream"), request_s=1.0)
    assert results.medians()["shared prompt"]["one"]["num_failed"] == 3
    assert "tokens_per_s" not in results.medians()["shared prompt"]["one"]
    assert results.medians()["one stream"]["one"]["num_failed"] == 0
    assert results.num_failed == 3
    assert len(chats["one"]) == 3 + 3 + 1


@pytest.mark.parametrize("at", range(4))
def test_an_answer_against_its_schema_is_not_counted_valid(at: int) -> None:
    wrong = json.dumps({**json.loads(VALID[at]), "more": 1})
    answers = (*VALID[:at], wrong, *VALID[at + 1 :])
    results, _ = measured({"one": Behaviour(first_s=0.01, gap_s=0.0, answers=answers)}, workloads=("schema-bound",))
    figures = results.medians()["schema-bound"]["one"]
    # The four requests may arrive in another order than the answers are given in: then none fits but by chance.
    assert figures["num_schema_bound"] == 4
    assert figures["num_valid"] <= 3
    assert figures["num_failed"] == 0


@pytest.mark.parametrize(
    ("change", "wrong"),
    [
        ({"age": 17}, "out of range"),
        ({"age": "36"}, "no integer"),
        ({"age": True}, "no integer"),
        ({"name": "A"}, "1 characters"),
        ({"role": "cook"}, "none of"),
        ({"more": 1}, "does not allow"),
        ({"city": None}, "none of"),
    ],
)
def test_the_check_sees_each_fault(change: dict[str, Any], wrong: str) -> None:
    from serving import schemas

    value = {"name": "Ada", "age": 36, "role": "engineer", "remote": True, "city": "Osaka"}
    assert schemas.invalid(json.dumps(value), schemas.PERSON) is None
    found = schemas.invalid(json.dumps(value | change), schemas.PERSON)
    assert found is not None
    assert wrong in found
    assert "lacks remote" in str(
        schemas.invalid(json.dumps({**value, "remote": 1} | {}).replace("remote", "r"), schemas.PERSON)
    )


def test_valid_answers_are_valid_and_text_that_is_no_json_is_not() -> None:
    from serving import schemas

    for text, schema in zip(VALID, schemas.SCHEMAS.values(), strict=True):
        assert schemas.invalid(text, schema) is None
        assert schemas.invalid(text[:-1], schema) is not None
    assert "does not match" in str(schemas.invalid(VALID[3].replace("ABC-1234", "abc-1234"), schemas.ORDER))
    assert "2 items" in str(
        schemas.invalid(VALID[1].replace('{"day": "Monday", "high": 3, "sky": "rain"}, ', "", 1), schemas.FORECAST)
    )
    with pytest.raises(AssertionError, match="does not know"):
        schemas.invalid("1", {"multipleOf": 2})


def test_ignore_eos_is_dropped_where_it_is_refused_and_that_is_said() -> None:
    how = Behaviour(first_s=0.001, gap_s=0.001, refuses_ignore_eos=True)
    results, chats = measured({"one": how}, workloads=("one stream",))
    assert results.num_failed == 0
    assert "refuses ignore_eos" in results.notes[0]
    assert ["ignore_eos" in chat for chat in chats["one"]] == [True, False, False, False, False]


@pytest.mark.parametrize("takes", [True, False])
def test_tools_are_sent_as_such_only_where_every_target_takes_them(takes: bool) -> None:
    behaviours = {"a": Behaviour(0.001, 0.001, takes_tools=True), "b": Behaviour(0.001, 0.001, takes_tools=takes)}
    results, chats = measured(behaviours, workloads=("agent",), tools="auto")
    assert results.native_tools is takes
    assert [("tools" in chat) for chat in chats["a"][-2:]] == [takes, takes]
    assert any(message["role"] == "tool" for message in chats["b"][-1]["messages"]) is takes
    assert chats["a"][-1]["messages"][:2] == chats["b"][-1]["messages"][:2]


def test_a_stream_reads_the_same_however_it_is_split() -> None:
    from serving import sse

    body = b"".join(b'data: {"n": %d}\n\n' % number for number in range(30)) + b"data: [DONE]\r\n\r\n"
    chunks = b"".join(
        b"%x\r\n%s\r\n" % (len(part), part) for part in (body[at : at + 23] for at in range(0, len(body), 23))
    )
    raw = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunks + b"0\r\n\r\n"
    randomly = random.Random(3)
    for _ in range(200):
        cuts = sorted(randomly.sample(range(1, len(raw)), randomly.randint(0, 40)))
        ends = [*cuts, len(raw)]
        parts = [(float(end), raw[start:end]) for start, end in zip([0, *cuts], ends, strict=True)]
        status, _, split = sse.Received(parts).split()
        found = sse.sse_data(split)
        assert status == 200
        assert [data for _, data in found] == [b'{"n": %d}' % number for number in range(30)] + [b"[DONE]"]
        assert [at for at, _ in found] == sorted(at for at, _ in found)
    with pytest.raises(ConnectionError, match="cut"):
        sse.Received([(0.0, raw[:-5])]).split()


def test_the_chart_is_well_formed_and_shows_every_target(tmp_path: Path) -> None:
    from serving.chart import chart

    results, _ = measured(
        {"<one> & only": Behaviour(first_s=0.01, gap_s=0.001), "two": Behaviour(refused=frozenset({1, 2}))},
        workloads=("one stream", "shared prompt"),
    )
    path = tmp_path / "chart.svg"
    path.write_text(chart(results), encoding="utf-8")
    root = ET.parse(path).getroot()
    texts = [element.text or "" for element in root.iter("{http://www.w3.org/2000/svg}text")]
    assert "<one> & only" in texts
    assert {"one stream", "shared prompt"} <= set(texts)
    assert sum(text.endswith("tok/s") for text in texts) >= 3
    assert "none" in texts
    width, height = float(root.attrib["width"]), float(root.attrib["height"])
    for bar in root.iter("{http://www.w3.org/2000/svg}rect"):
        assert 0 < float(bar.attrib["x"]) + float(bar.attrib["width"]) < width
        assert 0 < float(bar.attrib["y"]) < height
    assert "prefers-color-scheme:dark" in path.read_text(encoding="utf-8")


def run_main(*arguments: str) -> int:
    import bench_serving

    return bench_serving.main(list(arguments))


def test_the_command_prints_figures_and_exits_by_what_happened(
    capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    chart = tmp_path / "chart.svg"
    with serving(Behaviour(first_s=0.001, gap_s=0.0)) as fake:
        only = ("--workload", "one stream", "--rounds", "2")
        assert run_main(f"it={fake.url}", *only, "--svg", str(chart)) == 0
        table = capsys.readouterr().out
        assert "### one stream" in table
        assert "0 of 2" in table
        assert chart.read_text(encoding="utf-8").startswith("<svg")
        assert run_main(f"it={fake.url}/v1#fake", *only, "--json") == 0
        printed = json.loads(capsys.readouterr().out)
        assert printed["medians"]["one stream"]["it"]["num_requests"] == 2
        assert len(printed["rounds"]["one stream"]["it"]) == 2
        assert run_main(f"it={fake.url}", *only, "--run-s", "0") == 3
        for wrong in ([], ["it"], [f"it={fake.url}", f"it={fake.url}"], ["--start-llama-server", "x"]):
            with pytest.raises(SystemExit) as ended:
                run_main(*wrong)
            assert ended.value.code == 2
    assert run_main(f"gone={fake.url}", *only) == 1
    assert "is not reachable" in capsys.readouterr().err
    with serving(Behaviour(first_s=0.001, gap_s=0.0, refused=frozenset({3}))) as failing:
        assert run_main(f"it={failing.url}", *only) == 1
        assert "1 of 2" in capsys.readouterr().out


PROGRAM = """#!{python}
import http.server, os, sys
print("loading")
if "broken" in sys.argv[2]:
    sys.exit("no such model")
class Handler(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        self.send_response(200); self.end_headers(); self.wfile.write(b"ok")
http.server.HTTPServer(("127.0.0.1", int(sys.argv[sys.argv.index("--port") + 1])), Handler).serve_forever()
"""


@pytest.mark.skipif(os.name == "nt", reason="the stand-in for llama-server is a script")
def test_the_started_server_is_waited_for_and_ended(tmp_path: Path) -> None:
    from serving.llama_server import LlamaServer
    from serving.target import TargetError

    program = tmp_path / "llama-server"
    program.write_text(PROGRAM.format(python=sys.executable))
    program.chmod(0o755)
    server = LlamaServer(str(program), "model.gguf", ["--parallel", "8"])
    asyncio.run(server.start())
    child = server._child
    assert child is not None
    assert child.poll() is None
    assert server.command[1:3] == ["-m", "model.gguf"]
    assert server.command[-2:] == ["--parallel", "8"]
    server.close()
    assert child.poll() is not None
    broken = LlamaServer(str(program), "broken.gguf", [])
    with pytest.raises(TargetError, match=r"ended with status 1.*no such model"):
        asyncio.run(broken.start())
    broken.close()
    with pytest.raises(TargetError, match="cannot be started"):
        asyncio.run(LlamaServer(str(tmp_path / "none"), "m", []).start())


@pytest.mark.weights
def test_the_engine_is_a_target_like_the_others(smollm2_path: Path) -> None:
    from serving.engine_target import EngineTarget
    from serving.run import Options, measure
    from serving.workloads import Sizes

    target = EngineTarget("localllm", str(smollm2_path), {"num_slots": "4", "num_ctx": "2048"})
    sizes = Sizes(**SMALL | {"late_prompt_tokens": 200, "late_stream_tokens": 16})
    options = Options(1, workloads=("one stream", "conversations", "late prompt"), sizes=sizes, run_s=90.0)
    results = asyncio.run(measure([target], "localllm", options, lambda _line: None))
    assert results.complete
    assert results.num_failed == 0
    medians = {workload: by_target["localllm"] for workload, by_target in results.medians().items()}
    assert medians["one stream"]["output_tokens"] == 16
    assert medians["conversations"]["output_tokens"] == 3 * 2 * 3
    assert medians["conversations"]["cached_share"] > 0.3
    assert 0.9 < results.tokens_per_word < 1.2
    assert medians["late prompt"]["late_first_token_s"] > 0
