"""`langchain-ollama` against a daemon: `ollama_langchain.py URL MODEL EMBED_MODEL`. Prints what it got as JSON."""

import json
import sys

from langchain_core.messages import AIMessage, HumanMessage, SystemMessage, ToolMessage
from langchain_core.tools import tool
from langchain_ollama import ChatOllama, OllamaEmbeddings, OllamaLLM
from pydantic import BaseModel, Field

url, model, embed_model = sys.argv[1:4]


class Town(BaseModel):
    """A town."""

    city: str = Field(max_length=12)
    size: int = Field(ge=0, le=9)


@tool
def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def chat_model(num_predict=12):
    return ChatOllama(
        model=model, base_url=url, temperature=0, seed=1, num_predict=num_predict, validate_model_on_init=True
    )


got = {}
chat = chat_model()
answer = chat.invoke([SystemMessage("Be brief."), HumanMessage("Name two colours.")])
got["chat"] = {"text": answer.content, "usage": answer.usage_metadata, "done": answer.response_metadata["done_reason"]}
chunks = list(chat.stream("Name two colours."))
got["stream"] = {"text": "".join(chunk.content for chunk in chunks), "num_chunks": len(chunks)}
called = chat.bind_tools([add]).invoke("What is 1 + 2?")
got["tools"] = [type(called).__name__, bool(called.content or called.tool_calls)]
turns = [
    HumanMessage("What is 1 + 2?"),
    AIMessage("", tool_calls=[{"name": "add", "args": {"a": 1, "b": 2}, "id": "1"}]),
    ToolMessage("3", tool_call_id="1"),
]
got["tool_result"] = bool(chat.bind_tools([add]).invoke(turns).response_metadata["done"])
town = chat_model(80).with_structured_output(Town, method="json_schema").invoke("Describe a town as JSON.")
got["structured"] = town.model_dump()
llm = OllamaLLM(model=model, base_url=url, temperature=0, num_predict=12)
got["llm"] = llm.invoke("Say hello.")
got["llm_stream"] = "".join(llm.stream("Say hello."))
if embed_model:
    embeddings = OllamaEmbeddings(model=embed_model, base_url=url)
    got["embed"] = [len(vector) for vector in embeddings.embed_documents(["one town", "another town"])]
    got["embed_query"] = len(embeddings.embed_query("one town"))
print(json.dumps(got))
