"""Turns with calls as the chat templates of real models write them: each is read as the calls it was made from."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from localllm.text.tools.families import tool_format_named
from tests.text.tools.answers import hear, values, ways_to_cut
from tests.text.tools.real_templates import ARGUMENTS, GOLDEN, turns_in

TURNS: dict[str, dict[str, Any]] = json.loads(GOLDEN.read_text(encoding="utf-8"))
FOLDER = os.environ.get("LOCALLLM_TEST_TEMPLATES")


@pytest.mark.parametrize("name", TURNS)
def test_a_real_templates_turn_is_read_as_its_calls(name: str) -> None:
    turn, form = TURNS[name]["turn"], tool_format_named(TURNS[name]["format"])
    wanted = [("get_weather", ARGUMENTS), ("now", {})][: 1 if form.one_call else 2]
    whole = hear(form, [turn])
    assert values(whole) == wanted
    for chunks in ways_to_cut(turn)[1::7]:
        assert hear(form, chunks) == whole


def test_the_families_are_there() -> None:
    wanted = {"hermes", "qwen_coder", "llama3", "mistral", "mistral_args", "deepseek", "deepseek_v31", "gemma"}
    assert wanted | {"harmony", "glm", "kimi", "command_r7b", "minimax"} <= {turn["format"] for turn in TURNS.values()}


@pytest.mark.skipif(FOLDER is None, reason="LOCALLLM_TEST_TEMPLATES names a folder of real chat templates")
def test_the_golden_turns_are_those_of_the_templates() -> None:
    assert FOLDER is not None
    made = turns_in(Path(FOLDER))
    for name in made.keys() & TURNS.keys():
        if made[name]["sha256"] == TURNS[name]["sha256"]:
            assert made[name] == TURNS[name], name
