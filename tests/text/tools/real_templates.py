"""What real chat templates make of a turn with calls, in a golden file beside this one.

`python -m tests.text.tools.real_templates FOLDER` renders every `*.jinja` of a folder with templates as models bring
them and writes the turns anew; the templates themselves stay where they are. llama.cpp's sources have such a folder,
`models/templates`.
"""

from __future__ import annotations

import hashlib
import json
import sys
from pathlib import Path
from typing import Any

from localllm.api import ChatRequest, Message, ToolCall, ToolSpec
from localllm.errors import TemplateError
from localllm.text.template import ChatTemplate
from localllm.text.tools.families import GENERIC
from localllm.text.tools.prompt import ToolPrompt

GOLDEN = Path(__file__).with_name("real_templates.json")
SCHEMA = {
    "type": "object",
    "properties": {
        "city": {"type": "string", "description": "Where."},
        "days": {"type": "integer", "description": "How many."},
        "where": {"type": "object", "description": "More.", "properties": {}, "additionalProperties": True},
    },
    "required": ["city"],
    "additionalProperties": False,
}
# Tags for each level of a value, and a token before each tag: taken for Hermes' form, and not read.
UNREAD = frozenset({"MiniMax-M3"})
TOOLS = (ToolSpec("get_weather", "The weather.", SCHEMA), ToolSpec("now", "The time.", {**SCHEMA, "required": []}))
ARGUMENTS = {"city": "Zürich <b>", "days": 3, "where": {"a": [1, "b"]}}
CALLS = (
    ToolCall("call_1", "get_weather", json.dumps(ARGUMENTS, ensure_ascii=False)),
    ToolCall("call_2", "now", "{}"),
)


def turn_of(source: str, name: str) -> dict[str, Any] | None:
    """The assistant's turn as a template writes it; None where it knows no calls or is of no family here."""
    named = {"tool_use": source} if "tool_use" in name else {}
    template = ChatTemplate(None if named else source, bos="<s>", eos="</s>", named=named)
    form, support = template.tool_format, template.tool_support()
    if form is GENERIC or not support.calls:
        return None
    calls = CALLS[:1] if form.one_call else CALLS
    asked = (Message("system", "Be brief."), Message("user", "qzjvkx?"))
    called = (*asked, Message("assistant", tool_calls=calls), Message("tool", "jqzvwk!", tool_call_id="call_1"))
    request = ChatRequest("m", called, tools=TOOLS)
    text = "".join(segment.text for segment in ToolPrompt(template, request).render(called, {}).segments)
    prompt = "".join(segment.text for segment in ToolPrompt(template, request).render(asked, {}).segments)
    start = next((at for at, (a, b) in enumerate(zip(text, prompt, strict=False)) if a != b), len(prompt))
    turn = text[start : text.index("jqzvwk!")] if "jqzvwk!" in text else text[start:]
    # Whatever both begin with was cut away; of a tag, that may be too much.
    for opener in (*form.openers, '{"name"', "<|channel|>", "<|start|>"):
        at = text.rfind(opener, 0, start + len(opener))
        if start - len(opener) < at < start:
            turn = text[at:start] + turn
            break
    return {"sha256": hashlib.sha256(source.encode()).hexdigest(), "format": form.name, "turn": turn}


def turns_in(folder: Path) -> dict[str, dict[str, Any]]:
    """The turns of all templates of a folder that know calls."""
    found = {}
    for path in sorted(folder.glob("*.jinja")):
        if path.stem in UNREAD:
            continue
        try:
            turn = turn_of(path.read_text(encoding="utf-8"), path.stem)
        except TemplateError as error:
            print(f"{path.stem}: {error.message}", file=sys.stderr)
            continue
        if turn is not None:
            found[path.stem] = turn
    return found


if __name__ == "__main__":
    made = json.dumps(turns_in(Path(sys.argv[1])), indent=1, ensure_ascii=False) + "\n"
    GOLDEN.write_text(made, encoding="utf-8", newline="\n")
