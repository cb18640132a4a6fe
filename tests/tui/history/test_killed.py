"""A program killed without warning loses nothing that it had kept; what it was writing counts as stopped."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from localllm_tui.history.history import History
from localllm_tui.history.values import Draft

CHILD = """
import sys
from pathlib import Path
from localllm_tui.history.history import History
from localllm_tui.history.values import Draft
history = History(Path(sys.argv[1]))
made = history.new(model="m", title="t")
question = history.add(made.id, None, "user", "question")
answer = history.add(made.id, question.id, "assistant", state="streaming")
for count in range(1, 200):
    history.update(answer.id, content="word " * count, reasoning="because")
history.set_last_open(made.id)
history.save_draft(made.id, Draft("not sent"))
history.save_draft(0, Draft("nor this"))
if len(sys.argv) > 2:
    history.update(answer.id, state="complete")
print(made.id, answer.id, flush=True)
sys.stdin.read()
"""


def start(file: Path, *more: str) -> tuple[subprocess.Popen[str], int, int]:
    """A program that is writing an answer, its conversation and that answer."""
    child = subprocess.Popen(
        [sys.executable, "-c", CHILD, str(file), *more], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert child.stdout is not None
    conversation, answer = map(int, child.stdout.readline().split())
    return child, conversation, answer


def test_killed_while_streaming(tmp_path: Path) -> None:
    file = tmp_path / "chat.db"
    child, conversation, answer = start(file)
    with child:
        # Another program opens the file meanwhile: an answer that is being written is left alone.
        beside = History(file)
        assert beside.interrupted() == ()
        assert beside.node(answer).state == "streaming"
        beside.add(conversation, None, "user", "from beside")
        beside.close()
        child.kill()
    history = History(file)
    (stopped,) = history.interrupted()
    assert (stopped.id, stopped.state, stopped.reasoning) == (answer, "stopped", "because")
    assert stopped.content == "word " * 199
    assert history.last_open() == conversation
    assert history.draft(conversation) == Draft("not sent")
    assert history.draft(0) == Draft("nor this")
    assert [hit.node for hit in history.search("word")] == [answer]
    history.close()
    again = History(file)
    assert again.interrupted() == ()
    again.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chat.db"]


def test_killed_later_leaves_no_file_behind(tmp_path: Path) -> None:
    file = tmp_path / "chat.db"
    child, _, answer = start(file, "done")
    with child:
        child.kill()
    assert len(list(tmp_path.glob("*.live"))) == 1
    history = History(file)
    assert history.node(answer).state == "complete"
    assert history.interrupted() == ()
    # Of those that run, one's own included, the file stays.
    made = history.new(model="m")
    history.add(made.id, None, "assistant", state="streaming")
    again = History(file)
    assert again.interrupted() == ()
    assert len(list(tmp_path.glob("*.live"))) == 1
    again.close()
    history.close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["chat.db"]
