"""The `ollama` package against a daemon: `ollama_python.py URL MODEL EMBED_MODEL`. Prints what it got as JSON."""

import datetime
import json
import sys

import ollama

url, model, embed_model = sys.argv[1:4]
client = ollama.Client(host=url)
few = {"num_predict": 12, "temperature": 0, "seed": 1}
schema = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "maxLength": 12},
        "size": {"type": "integer", "minimum": 0, "maximum": 9},
    },
    "required": ["city", "size"],
}


def user(words):
    return [{"role": "user", "content": words}]


def add(a: int, b: int) -> int:
    """Add two numbers.

    Args:
        a: The first.
        b: The second.
    """
    return a + b


got = {}
chat = client.chat(model, user("Name two colours."), options=few)
got["chat"] = {
    "text": chat.message.content,
    "reason": chat.done_reason,
    "tokens": [chat.prompt_eval_count, chat.eval_count],
    "times": [chat.total_duration, chat.prompt_eval_duration, chat.eval_duration, chat.load_duration],
    "created_at": chat.created_at,
}
parts = list(client.chat(model, user("Name two colours."), options=few, stream=True))
got["stream"] = {
    "text": "".join(part.message.content or "" for part in parts),
    "done": [part.done for part in parts],
    "eval_count": parts[-1].eval_count,
    "load": parts[-1].load_duration,
}
tools = client.chat(model, user("What is 1 + 2?"), tools=[add], options=few)
got["tools"] = {"role": tools.message.role, "said": bool(tools.message.content or tools.message.tool_calls)}
turns = [
    *user("What is 1 + 2?"),
    {"role": "assistant", "tool_calls": [{"function": {"name": "add", "arguments": {"a": 1, "b": 2}}}]},
    {"role": "tool", "tool_name": "add", "content": "3"},
]
got["tool_result"] = bool(client.chat(model, turns, tools=[add], options=few).done)
bound = client.chat(model, user("Describe a town as JSON."), format=schema, options={"num_predict": 60, "seed": 1})
got["structured"] = json.loads(bound.message.content)
loose = client.generate(model, "Describe a town as JSON.", format="json", options={"num_predict": 200, "seed": 1})
got["json"] = [loose.done_reason, loose.response[:1]]
first = client.generate(model, "My name is Bo.", options=few)
second = client.generate(model, "What is my name?", context=first.context, options=few)
got["context"] = [len(first.context), len(second.context), second.prompt_eval_count]
raw = client.generate(model, "<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", raw=True, options=few)
got["raw"] = [raw.response, raw.context]
got["generate_stream"] = "".join(part.response for part in client.generate(model, "Hi", options=few, stream=True))
probed = client.chat(model, user("Hi"), options=few, logprobs=True, top_logprobs=2)
got["logprobs"] = [len(probed.logprobs), len(probed.logprobs[0].top_logprobs)]
got["load"] = client.generate(model).done_reason

got["models"] = [entry.model for entry in client.list().models]
shown = client.show(model)
got["show"] = [shown.details.family, shown.details.parameter_size, shown.modelinfo["llama.context_length"]]
got["capabilities"] = shown.capabilities
got["ps"] = [[entry.model, entry.context_length, entry.size > 0] for entry in client.ps().models]
made = list(client.create("mario", from_=model, system="You are Mario.", parameters={"temperature": 0}, stream=True))
got["create"] = [entry.status for entry in made]
got["created"] = [client.show("mario").modelfile, client.show("mario").parameters]
client.copy("mario", "luigi")
client.delete("mario")
got["left"] = [entry.model for entry in client.list().models]
got["pull"] = [entry.status for entry in client.pull(model, stream=True)]
if embed_model:
    made = client.embed(embed_model, ["one town", "another town"])
    got["embed"] = [len(made.embeddings), sum(x * x for x in made.embeddings[0]), made.prompt_eval_count]
    got["embeddings"] = len(client.embeddings(embed_model, "one town").embedding)

errors = {}
for name, ask in {
    "missing": lambda: client.chat("nobody:1b", user("Hi")),
    "bad option": lambda: client.chat(model, user("Hi"), options={"temperature": -1}),
    "push": lambda: client.push(model),
    "too long": lambda: client.chat(model, user("word " * 3000)),
    "too long, streamed": lambda: list(client.chat(model, user("word " * 3000), stream=True)),
    "a token that is none": lambda: client.generate(model, "Hi", context=[2**30]),
    "a schema that cannot be kept": lambda: client.chat(
        model, user("Hi"), format={"type": "string", "pattern": "(?=a)"}
    ),
    "think": lambda: client.chat(model, user("Hi"), think=True),
}.items():
    try:
        ask()
    except ollama.ResponseError as error:
        errors[name] = [error.status_code, error.error]
got["errors"] = errors
client.generate("luigi", keep_alive="10m")
stay = {entry.model: entry.expires_at for entry in client.ps().models}
got["stays_s"] = (stay["luigi"] - datetime.datetime.now(datetime.UTC)).total_seconds()
got["unload"] = client.generate("luigi", keep_alive=0).done_reason
got["running"] = [entry.model for entry in client.ps().models]
print(json.dumps(got))
