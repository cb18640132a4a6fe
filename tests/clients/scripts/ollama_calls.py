"""Tool calls and thinking as the Python clients read them: `ollama_calls.py URL`, over a scripted daemon."""

import json
import sys

import ollama
from langchain_core.tools import tool
from langchain_ollama import ChatOllama
from llama_index.core.tools import FunctionTool
from llama_index.llms.ollama import Ollama

url = sys.argv[1]
model = "tiny"


@tool
def add(a: int) -> int:
    """Add."""
    return a


def plain_add(a: int) -> int:
    """Add."""
    return a


def user(words):
    return [{"role": "user", "content": words}]


def calls_of(message):
    return [[call.function.name, call.function.arguments] for call in message.tool_calls or []]


got = {}
client = ollama.Client(host=url)
got["ollama"] = calls_of(client.chat(model, user("call"), tools=[plain_add]).message)
parts = list(client.chat(model, user("call"), tools=[plain_add], stream=True))
got["ollama stream"] = [call for part in parts for call in calls_of(part.message)]
got["ollama thinking"] = client.chat(model, user("think a"), think=True).message.thinking
got["ollama generate thinking"] = client.generate(model, "think a", think=True).thinking

chat = ChatOllama(model=model, base_url=url, reasoning=True)
answer = chat.bind_tools([add]).invoke("call")
got["langchain"] = [[call["name"], call["args"]] for call in answer.tool_calls]
whole = None
for chunk in chat.bind_tools([add]).stream("call"):
    whole = chunk if whole is None else whole + chunk
got["langchain stream"] = [[call["name"], call["args"]] for call in whole.tool_calls]
got["langchain thinking"] = chat.invoke("think a").additional_kwargs["reasoning_content"]

llm = Ollama(model=model, base_url=url, context_window=1024)
response = llm.chat_with_tools([FunctionTool.from_defaults(plain_add, name="add")], user_msg="call")
got["llama-index"] = [[call.tool_name, call.tool_kwargs] for call in llm.get_tool_calls_from_response(response)]
print(json.dumps(got))
