"""`localllm bench`: what it counts, over the scripted Backend."""

from __future__ import annotations

import json

import pytest

from tests.cli.running import localllm


def test_a_run_for_each_number_of_streams() -> None:
    ran = localllm("bench", "smollm2:135m", "--streams", "1,3", "-p", "20", "-n", "5", "--json")
    document = json.loads(ran.stdout)
    assert ran.returncode == 0, ran.stderr
    assert (document["model"], document["load_s"]) == ("smollm2:135m", 0.25)
    assert [run["num_streams"] for run in document["runs"]] == [1, 3]
    for run in document["runs"]:
        assert (run["num_prompt_tokens"], run["num_output_tokens"]) == (20, 5)
        # The scripted Backend says 10 prompt tokens, 4 of them cached; the first of 5 tokens is prefill's.
        assert run["prefill_tokens_per_s"] == pytest.approx(6 * run["num_streams"] / run["prefill_s"])
        assert run["decode_tokens_per_s"] == pytest.approx(4 * run["num_streams"] / run["decode_s"])


def test_the_table() -> None:
    ran = localllm("bench", "smollm2:135m", "--streams", "2", "--quiet")
    head, row = ran.stdout.splitlines()
    assert head.split() == ["STREAMS", "PREFILL", "tok/s", "DECODE", "tok/s"]
    assert row.split()[0] == "2"
    assert ran.stderr == ""


def test_as_many_slots_as_streams() -> None:
    assert localllm("bench", "smollm2:135m", "--streams", "0").returncode == 2
    assert localllm("bench", "smollm2:135m", "--streams", "x").returncode == 2
    assert localllm("bench", "smollm2:135m", "--streams", "257").returncode == 2
