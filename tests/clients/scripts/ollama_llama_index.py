"""llama-index over Ollama against a daemon: `ollama_llama_index.py URL MODEL EMBED_MODEL`. Prints JSON."""

import json
import sys

from llama_index.core.llms import ChatMessage
from llama_index.core.tools import FunctionTool
from llama_index.embeddings.ollama import OllamaEmbedding
from llama_index.llms.ollama import Ollama
from pydantic import BaseModel, Field

url, model, embed_model = sys.argv[1:4]


class Town(BaseModel):
    """A town."""

    city: str = Field(max_length=12)
    size: int = Field(ge=0, le=9)


def add(a: int, b: int) -> int:
    """Add two numbers."""
    return a + b


def made(num_predict=12, **more):
    options = {"num_predict": num_predict, "seed": 1}
    return Ollama(model=model, base_url=url, temperature=0, additional_kwargs=options, request_timeout=60, **more)


got = {}
llm = made()
said = [ChatMessage(role="user", content="Name two colours.")]
answer = llm.chat(said)
got["chat"] = {"text": answer.message.content, "usage": answer.raw["usage"]}
got["stream"] = "".join(part.delta for part in llm.stream_chat(said))
got["complete"] = llm.complete("Say hello.").text
got["complete_stream"] = "".join(part.delta for part in llm.stream_complete("Say hello."))
tool = FunctionTool.from_defaults(add)
called = llm.chat_with_tools([tool], user_msg="What is 1 + 2?")
got["tools"] = bool(called.message.content or called.message.additional_kwargs.get("tool_calls"))
bound = made(80, context_window=1024).as_structured_llm(Town).complete("Describe a town as JSON.")
got["structured"] = json.loads(bound.text)
got["context_window"] = made(context_window=-1).metadata.context_window
if embed_model:
    embedding = OllamaEmbedding(model_name=embed_model, base_url=url)
    got["embed"] = [len(vector) for vector in embedding.get_text_embedding_batch(["one town", "another town"])]
print(json.dumps(got))
