"""The `langchain-openai` package: URL MODEL EMBED_MODEL. Prints what it got as one JSON value."""

import json
import sys

from langchain_core.messages import HumanMessage, ToolMessage
from langchain_core.tools import tool
from langchain_openai import ChatOpenAI, OpenAIEmbeddings
from pydantic import BaseModel

url, model, embed_model = sys.argv[1:4]
got = {}


class Town(BaseModel):
    """A town."""

    city: str
    size: int


@tool
def get_weather(city: str) -> str:
    """The weather in a city."""
    return f"Sunny in {city}."


fields = {"base_url": f"{url}/v1", "api_key": "none", "model": model, "max_retries": 0, "temperature": 0}
chat = ChatOpenAI(**fields, max_tokens=12, stream_usage=True)
answer = chat.invoke("Name two colours.")
got["chat"] = [answer.content, answer.usage_metadata["output_tokens"], answer.response_metadata["finish_reason"]]
chunks = list(chat.stream("Name two colours."))
got["stream"] = ["".join(chunk.content for chunk in chunks), len(chunks) > 2]
longer = ChatOpenAI(**fields, max_tokens=60)
ask = HumanMessage("What is the weather in Oslo?")
called = longer.bind_tools([get_weather], tool_choice="required").invoke([ask])
got["tools"] = [called.tool_calls[0]["name"], called.tool_calls[0]["args"]]
result = ToolMessage("Sunny.", tool_call_id=called.tool_calls[0]["id"])
got["tool_result"] = bool(chat.invoke([ask, called, result]).content)
for method in ("json_schema", "function_calling"):
    got[method] = longer.with_structured_output(Town, method=method).invoke("Describe a town.").model_dump()
response = ChatOpenAI(**fields, max_tokens=16, use_responses_api=True).invoke("Name two colours.")
got["response"] = response.text
if embed_model:
    embeddings = OpenAIEmbeddings(
        base_url=f"{url}/v1", api_key="none", model=embed_model, check_embedding_ctx_length=False
    )
    got["embed"] = [len(vector) for vector in embeddings.embed_documents(["one", "two"])]

print(json.dumps(got))
