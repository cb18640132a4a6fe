"""Tools over HTTP with real weights: the `openai` client's whole loop of call, result and answer."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import jsonschema
import openai
import pytest

from tests.daemon.program import REAL, program

pytestmark = pytest.mark.weights

SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 12},
        "days": {"type": "integer", "minimum": 1, "maximum": 7},
    },
    "required": ["city", "days"],
    "additionalProperties": False,
}
TOOLS: Any = [
    {"type": "function", "function": {"name": "get_weather", "description": "The weather.", "parameters": SCHEMA}},
    {"type": "function", "function": {"name": "now", "description": "The time."}},
]
NAMED: Any = {"type": "function", "function": {"name": "get_weather"}}


@pytest.fixture(scope="module")
def client(smollm2_path: Path, tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[openai.OpenAI, str]]:
    """A client of a daemon with the model in memory."""
    model = tmp_path_factory.mktemp("model") / "smol.gguf"
    model.symlink_to(smollm2_path)
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOCALLLM_HOME", str(tmp_path_factory.mktemp("home")))
        with (
            program("--preload", str(model), "--ctx", "1024", "--slots", "1", command=REAL) as running,
            openai.OpenAI(base_url=f"{running.url}/v1", api_key="none", max_retries=0) as made,
        ):
            yield made, str(model)


def test_a_call_its_result_and_an_answer(client: tuple[openai.OpenAI, str]) -> None:
    ask, model = client
    messages: list[Any] = [{"role": "user", "content": "How will the weather be in Oslo for 3 days?"}]
    fields: Any = {"model": model, "tools": TOOLS, "temperature": 0, "max_tokens": 96, "seed": 1}
    whole = ask.chat.completions.create(messages=messages, tool_choice=NAMED, **fields)
    assert whole.choices[0].finish_reason == "tool_calls"
    assert whole.choices[0].message.content is None
    (call,) = whole.choices[0].message.tool_calls or []
    assert call.type == "function"
    assert call.function.name == "get_weather"
    jsonschema.Draft202012Validator(SCHEMA).validate(json.loads(call.function.arguments))

    with ask.chat.completions.create(messages=messages, tool_choice=NAMED, stream=True, **fields) as stream:
        parts = [part for chunk in stream for choice in chunk.choices for part in choice.delta.tool_calls or []]
    assert parts[0].id
    assert parts[0].function is not None
    assert parts[0].function.name == "get_weather"
    assert len(parts) > 2
    said = "".join(part.function.arguments or "" for part in parts if part.function is not None)
    assert said == call.function.arguments

    messages += [
        whole.choices[0].message.model_dump(exclude_none=True),
        {"role": "tool", "tool_call_id": call.id, "content": "Rain, 7 degrees."},
    ]
    answer = ask.chat.completions.create(messages=messages, tool_choice="none", **fields)
    assert answer.choices[0].message.content
    assert not answer.choices[0].message.tool_calls


def test_a_strict_schema_that_cannot_be_kept_is_the_clients_error(client: tuple[openai.OpenAI, str]) -> None:
    ask, model = client
    odd: Any = {"name": "odd", "strict": True, "parameters": {"type": "object", "not": {"type": "string"}}}
    with pytest.raises(openai.BadRequestError) as error:
        ask.chat.completions.create(
            model=model,
            messages=[{"role": "user", "content": "Hi"}],
            tools=[{"type": "function", "function": odd}],
        )
    assert error.value.param == "tools"
