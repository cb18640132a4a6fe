"""`<tool_call>{"name": …, "arguments": {…}}</tool_call>`: Hermes, Qwen 2.5 and 3, Granite 4 and many more.

The same tag begins the calls of Qwen3-Coder and GLM; which form follows it shows at once, so one reader reads all.
"""

from __future__ import annotations

from collections.abc import Sequence

from localllm.api import ToolSpec
from localllm.text.tools import glm, qwen_coder
from localllm.text.tools.form import Shape, Sink, ToolFormat
from localllm.text.tools.readers import read_json_calls
from localllm.text.tools.source import Reading, Source

OPEN = "<tool_call>"
CLOSE = "</tool_call>"


def read(source: Source, sink: Sink, tools: Sequence[ToolSpec]) -> Reading[None]:
    """Whatever `<tool_call>` begins."""
    if not (yield from source.skip(OPEN)):
        yield from qwen_coder.read_function(source, sink, tools)
        return
    yield from source.space()
    char = yield from source.peek()
    if char in "{[":
        yield from read_json_calls(source, sink, closers=(CLOSE,))
    elif char == "<":
        yield from qwen_coder.read_function(source, sink, tools)
        yield from source.space()
        yield from source.skip(CLOSE)
    else:
        yield from glm.read_call(source, sink, tools)


SHAPE = Shape(
    begin=OPEN + '\n{"name": "', middle='", "arguments": ', end="}\n" + CLOSE, separator="\n", name_in_json=True
)
FORMAT = ToolFormat("hermes", (OPEN,), SHAPE, OPEN, (OPEN,), read, special=(OPEN, CLOSE))
CODER = ToolFormat(
    "qwen_coder",
    (OPEN, "<function=", "<parameter="),
    qwen_coder.SHAPE,
    OPEN,
    (OPEN, qwen_coder.FUNCTION),
    read,
    special=(OPEN, CLOSE),
)
SEED = ToolFormat(
    "seed",
    (qwen_coder.SEED_OPEN,),
    qwen_coder.SEED_SHAPE,
    qwen_coder.SEED_OPEN,
    (qwen_coder.SEED_OPEN,),
    qwen_coder.read_seed,
    special=(qwen_coder.SEED_OPEN, qwen_coder.SEED_CLOSE),
)
GLM = ToolFormat("glm", (OPEN, "<arg_key>"), glm.SHAPE, OPEN, (OPEN,), read, special=(OPEN, CLOSE, *glm.SPECIAL))
