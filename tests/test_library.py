"""The one-line functions over a real model: plain, streaming and async give the same answer."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

CODE = """
import asyncio, sys
import localllm

name, options = sys.argv[1], {"temperature": 0, "max_tokens": 8}
plain = localllm.chat(name, "Repeat after me: good morning", **options)
streamed = list(localllm.stream_chat(name, "Repeat after me: good morning", **options))
async def main():
    answer = await localllm.achat(name, [localllm.Message("user", "Repeat after me: good morning")], **options)
    events = [e async for e in localllm.astream_chat(name, "Repeat after me: good morning", **options)]
    return answer, events
answer, events = asyncio.run(main())
def text(items):
    return "".join(e.text for e in items if isinstance(e, localllm.TextDelta))
assert str(plain) == plain.text == text(streamed) == answer.text == text(events), (plain, answer)
assert "ood morning" in plain.text
assert isinstance(streamed[-1], localllm.Finished) and isinstance(events[-1], localllm.Finished)
tool = {"name": "add", "parameters": {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}}
called = localllm.chat(name, "Add 5.", tools=[tool], tool_choice="add", temperature=0, max_tokens=96)
assert [call.name for call in called.tool_calls] == ["add"] and called.finish_reason == "tool_calls", called
assert isinstance(__import__("json").loads(called.tool_calls[0].arguments)["a"], int)
stream = localllm.stream_chat(name, "Tell me a story.", ignore_eos=True)
next(e for e in stream if isinstance(e, localllm.TextDelta))
stream.close()
try:
    localllm.chat(name, "x", top_p=7.0)
except localllm.InvalidRequestError as error:
    assert error.hint
else:
    raise AssertionError("top_p 7 was taken")
print("done")
"""


@pytest.mark.weights
def test_every_form_gives_the_same_answer_and_errors_are_ours(smollm2_path: Path, tmp_path: Path) -> None:
    weights = tmp_path / "weights.gguf"
    weights.symlink_to(smollm2_path)
    command = [sys.executable, "-W", "error", "-c", CODE, str(weights)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert (done.returncode, done.stdout) == (0, "done\n"), done.stderr
