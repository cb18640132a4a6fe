"""The `openai` package: URL MODEL EMBED_MODEL. Prints what it got as one JSON value."""

import json
import sys
import time

import openai
from pydantic import BaseModel

url, model, embed_model = sys.argv[1:4]
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "description": "The weather in a city.",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 12}, "days": {"type": "integer", "maximum": 9}},
            "required": ["city", "days"],
            "additionalProperties": False,
        },
        "strict": True,
    },
}
ASK = [{"role": "user", "content": "What is the weather in Oslo for 3 days?"}]
USER = [{"role": "user", "content": "Name two colours."}]
got = {}


class Town(BaseModel):
    city: str
    size: int


with openai.OpenAI(base_url=f"{url}/v1", api_key="none", max_retries=0) as client:
    fields = {"model": model, "messages": USER, "temperature": 0, "max_completion_tokens": 12}
    whole = client.chat.completions.create(**fields)
    got["chat"] = [whole.choices[0].message.content, whole.choices[0].finish_reason, whole.usage.completion_tokens]
    stream = client.chat.completions.create(**fields, stream=True, stream_options={"include_usage": True})
    chunks = list(stream)
    said = "".join(choice.delta.content or "" for chunk in chunks for choice in chunk.choices)
    got["stream"] = [said, chunks[-1].usage.prompt_tokens_details.cached_tokens]

    forced = {"model": model, "messages": ASK, "tools": [TOOL], "tool_choice": "required", "max_tokens": 60, "seed": 1}
    forced["parallel_tool_calls"] = False
    answer = client.chat.completions.create(**forced)
    call = answer.choices[0].message.tool_calls[0]
    got["tools"] = [answer.choices[0].finish_reason, call.function.name, json.loads(call.function.arguments)]
    with client.chat.completions.stream(**forced) as events:
        final = events.get_final_completion().choices[0].message.tool_calls[0].function
    got["tools_stream"] = [final.name, json.loads(final.arguments)]
    answer = client.chat.completions.create(
        model=model,
        messages=[
            *ASK,
            whole_call := {"role": "assistant", "content": None, "tool_calls": [call.to_dict()]},
            {"role": "tool", "tool_call_id": call.id, "content": "Sunny."},
        ],
        tools=[TOOL],
        tool_choice="none",
        max_tokens=8,
    )
    got["tool_result"] = [bool(answer.choices[0].message.content), whole_call["role"]]
    parsed = client.chat.completions.parse(
        model=model,
        messages=[{"role": "user", "content": "Describe a town."}],
        response_format=Town,
        max_tokens=60,
        temperature=0,
    )
    got["structured"] = parsed.choices[0].message.parsed.model_dump()
    if embed_model:
        made = client.embeddings.create(model=embed_model, input=["one", "two words"])
        got["embed"] = [len(entry.embedding) for entry in made.data]

    first = client.responses.create(model=model, input="Name two colours.", temperature=0, max_output_tokens=12)
    got["response"] = [first.output_text, first.status, first.usage.output_tokens]
    with client.responses.stream(
        model=model, input="And a third?", previous_response_id=first.id, temperature=0, max_output_tokens=8
    ) as events:
        first_event, *_between, last_event = events
    second = last_event.response
    cached = second.usage.input_tokens_details.cached_tokens
    got["response_stream"] = [second.output_text, first_event.type, last_event.type, cached]
    tool = {"type": "function", **{key: TOOL["function"][key] for key in ("name", "parameters", "strict")}}
    with client.responses.stream(
        model=model,
        input=ASK,
        tools=[tool],
        tool_choice={"type": "function", "name": "get_weather"},
        parallel_tool_calls=False,
        max_output_tokens=60,
    ) as events:
        called = next(item for item in events.get_final_response().output if item.type == "function_call")
    got["response_tools"] = [called.name, json.loads(called.arguments)]
    parsed = client.responses.parse(
        model=model, input="Describe a town.", text_format=Town, temperature=0, max_output_tokens=60
    )
    got["response_structured"] = parsed.output_parsed.model_dump()
    counted = client.responses.input_tokens.count(model=model, input="Name two colours.")
    got["input_tokens"] = [counted.input_tokens, first.usage.input_tokens]
    behind = client.responses.create(
        model=model, input="Tell a story.", background=True, max_output_tokens=400, extra_body={"ignore_eos": True}
    )
    cancelled = client.responses.cancel(behind.id)
    got["background"] = [behind.status, cancelled.status, client.responses.retrieve(behind.id).status]

    lines = [
        {
            "custom_id": f"line{n}",
            "method": "POST",
            "url": "/v1/chat/completions",
            "body": {"model": model, "messages": USER, "max_tokens": n, "temperature": 0},
        }
        for n in range(1, 5)
    ]
    file = client.files.create(file=("lines.jsonl", "\n".join(map(json.dumps, lines)).encode()), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/chat/completions", completion_window="24h")
    deadline = time.monotonic() + 60
    while batch.status in ("validating", "in_progress", "finalizing") and time.monotonic() < deadline:
        time.sleep(0.1)
        batch = client.batches.retrieve(batch.id)
    answers = [json.loads(line) for line in client.files.content(batch.output_file_id).text.splitlines()]
    got["batch"] = [
        batch.status,
        [[answer["custom_id"], answer["response"]["body"]["usage"]["completion_tokens"]] for answer in answers],
    ]
    try:
        client.chat.completions.create(model="absent", messages=USER)
    except openai.NotFoundError as error:
        got["missing"] = error.code

print(json.dumps(got))
