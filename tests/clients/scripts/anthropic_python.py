"""The `anthropic` package: URL MODEL. Prints what it got as one JSON value."""

import json
import sys

import anthropic

url, model = sys.argv[1:3]
TOOL = {
    "name": "get_weather",
    "description": "The weather in a city.",
    "input_schema": {
        "type": "object",
        "properties": {"city": {"type": "string", "maxLength": 12}},
        "required": ["city"],
        "additionalProperties": False,
    },
}
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 12}, "size": {"type": "integer", "maximum": 9}},
    "required": ["city", "size"],
    "additionalProperties": False,
}
USER = [{"role": "user", "content": "Name two colours."}]
ASK = [{"role": "user", "content": "What is the weather in Oslo?"}]
got = {}

with anthropic.Anthropic(base_url=url, api_key="none", max_retries=0) as client:
    fields = {
        "model": model,
        "messages": USER,
        "max_tokens": 12,
        "system": "Be brief.",
        "extra_body": {"temperature": 0},
    }
    whole = client.messages.create(**fields)
    got["chat"] = [whole.content[0].text, whole.stop_reason, whole.usage.output_tokens]
    with client.messages.stream(**fields) as stream:
        text = "".join(stream.text_stream)
        final = stream.get_final_message()
    got["stream"] = [text, final.stop_reason, final.usage.cache_read_input_tokens]
    counted = client.messages.count_tokens(model=model, messages=USER, system="Be brief.")
    usage = whole.usage
    got["count"] = [counted.input_tokens, usage.input_tokens + usage.cache_read_input_tokens]
    stopped = client.messages.create(
        model=model, messages=[{"role": "user", "content": "Say: one two three"}], max_tokens=30, stop_sequences=["o"]
    )
    got["stop"] = [stopped.stop_reason, stopped.stop_sequence]

    choice = {"type": "any", "disable_parallel_tool_use": True}
    forced = {"model": model, "messages": ASK, "tools": [TOOL], "tool_choice": choice, "max_tokens": 60}
    answer = client.messages.create(**forced)
    call = next(block for block in answer.content if block.type == "tool_use")
    got["tools"] = [answer.stop_reason, call.name, call.input]
    with client.messages.stream(**forced) as stream:
        call = next(block for block in stream.get_final_message().content if block.type == "tool_use")
    got["tools_stream"] = [call.name, call.input]
    result = {"type": "tool_result", "tool_use_id": call.id, "content": [{"type": "text", "text": "Sunny."}]}
    answer = client.messages.create(
        model=model,
        messages=[
            *ASK,
            {"role": "assistant", "content": [call.model_dump(include={"type", "id", "name", "input"})]},
            {"role": "user", "content": [result]},
        ],
        tools=[TOOL],
        tool_choice={"type": "none"},
        max_tokens=8,
    )
    got["tool_result"] = answer.content[0].type
    answer = client.messages.create(
        model=model,
        messages=[{"role": "user", "content": "Describe a town."}],
        max_tokens=60,
        extra_body={"temperature": 0},
        output_config={"format": {"type": "json_schema", "schema": SCHEMA}},
    )
    got["structured"] = json.loads(answer.content[0].text)
    prefilled = client.messages.create(
        model=model,
        messages=[*USER, {"role": "assistant", "content": "Two colours are"}],
        max_tokens=8,
        extra_body={"temperature": 0},
    )
    got["prefill"] = prefilled.content[0].text
    got["models"] = [entry.id for entry in client.models.list()]
    got["model"] = client.models.retrieve(model).display_name
    errors = {}
    image = {"type": "image", "source": {"type": "base64", "media_type": "image/png", "data": "aGk="}}
    for name, wrong in {
        "missing": {"model": "absent"},
        "image": {"messages": [{"role": "user", "content": [image]}]},
        "too long": {"messages": [{"role": "user", "content": "word " * 4000}]},
    }.items():
        try:
            client.messages.create(**(fields | wrong))
        except anthropic.APIStatusError as error:
            errors[name] = [error.status_code, error.body["error"]["type"], error.body["error"]["message"]]
    got["errors"] = errors

print(json.dumps(got))
