"""The `litellm` package, over both APIs: URL MODEL EMBED_MODEL. Prints what it got as one JSON value."""

import json
import sys

import litellm

url, model, embed_model = sys.argv[1:4]
litellm.telemetry = False
TOOL = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "parameters": {
            "type": "object",
            "properties": {"city": {"type": "string", "maxLength": 12}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}
SCHEMA = {
    "type": "object",
    "properties": {"city": {"type": "string", "maxLength": 12}, "size": {"type": "integer", "maximum": 9}},
    "required": ["city", "size"],
    "additionalProperties": False,
}
USER = [{"role": "user", "content": "Name two colours."}]
got = {}

for name, where in {
    "openai": {"model": f"openai/{model}", "api_base": f"{url}/v1"},
    "anthropic": {"model": f"anthropic/{model}", "api_base": url},
}.items():
    fields = {**where, "api_key": "none", "num_retries": 0, "temperature": 0}
    answer = litellm.completion(**fields, messages=USER, max_tokens=12)
    got[name] = {"chat": [answer.choices[0].message.content, answer.usage.completion_tokens]}
    chunks = litellm.completion(**fields, messages=USER, max_tokens=12, stream=True)
    got[name]["stream"] = "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
    answer = litellm.completion(
        **fields,
        messages=[{"role": "user", "content": "What is the weather in Oslo?"}],
        tools=[TOOL],
        tool_choice="required",
        max_tokens=60,
    )
    call = answer.choices[0].message.tool_calls[0].function
    got[name]["tools"] = [call.name, json.loads(call.arguments)]
form = {"type": "json_schema", "json_schema": {"name": "town", "strict": True, "schema": SCHEMA}}
answer = litellm.completion(
    model=f"openai/{model}",
    api_base=f"{url}/v1",
    api_key="none",
    messages=[{"role": "user", "content": "Describe a town."}],
    response_format=form,
    max_tokens=60,
)
got["structured"] = json.loads(answer.choices[0].message.content)
if embed_model:
    made = litellm.embedding(model=f"openai/{embed_model}", api_base=f"{url}/v1", api_key="none", input=["one", "two"])
    got["embed"] = [len(entry["embedding"]) for entry in made.data]

print(json.dumps(got))
