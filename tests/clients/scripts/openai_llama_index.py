"""The `llama-index-llms-openai-like` package: URL MODEL. Prints what it got as one JSON value."""

import json
import sys

from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.llms.openai_like import OpenAILike
from pydantic import BaseModel

url, model = sys.argv[1:3]
got = {}


class Town(BaseModel):
    """A town."""

    city: str
    size: int


def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"Sunny in {city}."


fields = {
    "model": model,
    "api_base": f"{url}/v1",
    "api_key": "none",
    "is_chat_model": True,
    "is_function_calling_model": True,
    "context_window": 2048,
    "max_retries": 0,
    "temperature": 0,
}
llm = OpenAILike(**fields, max_tokens=12)
user = [ChatMessage(role="user", content="Name two colours.")]
got["chat"] = llm.chat(user).message.content
got["stream"] = "".join(chunk.delta or "" for chunk in llm.stream_chat(user))
longer = OpenAILike(**fields, max_tokens=60)
weather = FunctionTool.from_defaults(get_weather)
answer = longer.chat_with_tools([weather], user_msg="What is the weather in Oslo?", tool_required=True)
(call,) = longer.get_tool_calls_from_response(answer)
got["tools"] = [call.tool_name, call.tool_kwargs]
got["structured"] = longer.as_structured_llm(Town).complete("Describe a town.").raw.model_dump()
plain = OpenAILike(**(fields | {"is_chat_model": False}), max_tokens=8)
got["complete"] = plain.complete("One, two, three,").text

print(json.dumps(got))
