"""Prompts that ask a model whether a document answers a query. Owns their texts; makes no tokens.

In a model's "rerank" template `{query}` and `{document}` stand for the two. Without one, the prompt is that of the
Qwen3-Reranker models, as their model card gives it.
"""

from __future__ import annotations

import re

from localllm.text.segments import Segment

QWEN3_RERANK = (
    "<|im_start|>system\nJudge whether the Document meets the requirements based on the Query and the Instruct"
    ' provided. Note that the answer can only be "yes" or "no".<|im_end|>\n'
    "<|im_start|>user\n<Instruct>: Given a web search query, retrieve relevant passages that answer the query\n"
    "<Query>: {query}\n<Document>: {document}<|im_end|>\n"
    "<|im_start|>assistant\n<think>\n\n</think>\n\n"
)
YES, NO = "yes", "no"
_PLACES = re.compile(r"\{(query|document)\}")


def rerank_prompt(template: str, query: str, document: str) -> list[Segment]:
    """The template with both filled in; what a person wrote is marked so, and can become no control token."""
    texts = {"query": query, "document": document}
    segments: list[Segment] = []
    for index, part in enumerate(_PLACES.split(template)):
        segments.append(Segment(texts[part], False) if index % 2 else Segment(part, True))
    return segments
