"""`localllm bench`: what it counts and compares, over the scripted Backend."""

from __future__ import annotations

import json
import statistics
from pathlib import Path
from typing import Any

import pytest

from tests.cli.running import localllm

SMALL = ("-p", "20", "-n", "5", "--rounds", "2")


def report(*args: str) -> dict[str, Any]:
    ran = localllm("bench", "smollm2:135m", *SMALL, "--json", *args)
    assert ran.returncode == 0, ran.stderr
    document: dict[str, Any] = json.loads(ran.stdout)
    return document


def test_a_test_for_the_prompt_and_each_number_of_streams() -> None:
    document = report("--streams", "1,4")
    assert (document["model"], document["load_s"], document["rounds"]) == ("smollm2:135m", 0.25, 2)
    assert [(test["test"], test["num_streams"]) for test in document["tests"]] == [("pp20", 1), ("tg5", 1), ("tg5", 4)]
    for test in document["tests"]:
        assert len(test["samples"]) == 2
        assert 0 < test["least"] <= test["tokens_per_s"] <= test["most"]
    # The scripted Backend says 10 prompt tokens, 4 of them cached.
    times = [6 / rate for rate in document["tests"][0]["samples"]]
    assert document["first_token_s"] == pytest.approx(statistics.median(times))
    assert document["first_token_busy_s"] > 0
    assert {"num_ctx", "num_slots", "device", "peak_rss_bytes", "bytes_by_device"} <= set(document)
    assert (document["compared"], document["ratios"]) == (None, None)


def test_nothing_is_beside_three_streams_where_there_is_no_fourth() -> None:
    assert report("--streams", "1,3")["first_token_busy_s"] is None


def test_compared_with_an_earlier_report(tmp_path: Path) -> None:
    earlier = report("--streams", "1,2")
    earlier["tests"][1]["tokens_per_s"] = 1e-3
    file = tmp_path / "earlier.json"
    file.write_text(json.dumps(earlier))
    document = report("--streams", "1,4", "--compare", str(file))
    # What only one of them has is left out.
    assert [(ratio["test"], ratio["num_streams"]) for ratio in document["ratios"]] == [("pp20", 1), ("tg5", 1)]
    assert document["ratios"][1]["ratio"] == pytest.approx(document["tests"][1]["tokens_per_s"] / 1e-3)
    assert document["compared"]["model"] == "smollm2:135m"
    ran = localllm("bench", "smollm2:135m", *SMALL, "--streams", "1,4", "--compare", str(file), "--quiet")
    head, prefill, one, four = ran.stdout.splitlines()[:4]
    assert head.split() == ["TEST", "STREAMS", "tok/s", "FROM", "TO", "OTHER", "RATIO"]
    assert [len(line.split()) for line in (prefill, one, four)] == [7, 7, 5]
    assert "(other: " in ran.stdout


def test_compared_with_another_model_in_the_same_run() -> None:
    ran = localllm("bench", "smollm2:135m", *SMALL, "--streams", "1", "--compare", "tiny", "--json")
    document = json.loads(ran.stdout)
    assert document["compared"]["model"] == "tiny"
    assert len(document["ratios"]) == 2
    rounds = [line for line in ran.stderr.splitlines() if line.startswith("round")]
    assert [line.split(": ")[1].split()[0] for line in rounds] == ["smollm2:135m", "tiny"] * 2


def test_the_table() -> None:
    ran = localllm("bench", "smollm2:135m", *SMALL, "--streams", "2", "--quiet")
    head, prefill, decode, *facts = ran.stdout.splitlines()
    assert head.split() == ["TEST", "STREAMS", "tok/s", "FROM", "TO"]
    assert (prefill.split()[0], decode.split()[:2]) == ("pp20", ["tg5", "2"])
    assert "first token" in facts[1]
    assert any(line.startswith("memory") for line in facts)
    assert ran.stderr == ""


@pytest.mark.parametrize("streams", ["0", "x", "257", ""])
def test_numbers_of_streams_are_checked(streams: str) -> None:
    assert localllm("bench", "smollm2:135m", "--streams", streams).returncode == 2


@pytest.mark.parametrize("content", [None, "", "[]", "{}", '{"tests": [{"test": "pp1"}]}'])
def test_what_is_no_report_is_refused_before_anything_runs(tmp_path: Path, content: str | None) -> None:
    file = tmp_path / "report.json"
    if content is not None:
        file.write_text(content)
    ran = localllm("bench", "smollm2:135m", "--compare", str(file))
    assert ran.returncode == 2
    assert "report.json" in ran.stderr
    assert "localllm bench --json" in ran.stderr
    assert "round" not in ran.stderr
