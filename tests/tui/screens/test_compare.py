"""The comparison: two branches beside each other, what differs marked, one of them kept."""

from __future__ import annotations

from localllm_tui.history.values import Node, Stats
from localllm_tui.options import ChatSettings
from localllm_tui.screens.compare import CompareScreen
from localllm_tui.widgets.branch_diff import ROUNDS_AT_ONCE, BranchDiff
from textual.content import Content
from textual.pilot import Pilot
from textual.widgets import Static

from tests.tui.host import run, wait_until
from tests.tui.screens.dressed import NOTHING, Dressed

STATS = Stats(num_output_tokens=50, decode_s=2.0, first_token_s=0.25)
ASK = Node(1, 1, None, "user", "Why?")
LEFT = (ASK, Node(2, 1, 1, "assistant", "Because of the red \x1b[31m rain.", model="one:1b", stats=STATS))
RIGHT = (ASK, Node(3, 1, 1, "assistant", "Because of the blue [b]rain.", model="two:2b"), Node(4, 1, 3, "user", "So?"))


async def compared(pilot: Pilot[int]) -> BranchDiff:
    """The comparison, once it is there."""
    await wait_until(pilot, lambda: pilot.app.screen.query("BranchDiff:focus"))
    await wait_until(pilot, lambda: pilot.app.screen.query_one("#keep").region.bottom <= pilot.app.size.height)
    return pilot.app.screen.query_one(BranchDiff)


def texts(view: BranchDiff, name: str) -> list[Content]:
    """The texts of that class, in order."""
    found = [static.visual for static in view.query(f".{name}").results(Static)]
    assert all(isinstance(one, Content) for one in found)
    return [one for one in found if isinstance(one, Content)]


def test_side_by_side_with_models_figures_and_marks() -> None:
    async def story() -> None:
        app = Dressed(CompareScreen(LEFT, RIGHT, open_leaf=2))
        async with app.run_test(size=(100, 20)) as pilot:
            view = await compared(pilot)
            common, _rest = texts(view, "common")
            assert common.plain == "1 turn in common, up to:  Why?"
            assert [head.plain for head in texts(view, "who")] == [
                "Left   one:1b · 50 tokens · 25.0 tok/s · first after 0.2 s",
                "Right   two:2b",
                "Left   ends before",
                "Right   You",
            ]
            left, right, *_ = texts(view, "words")
            assert left.plain == "Because of the red \\x1b[31m rain."
            assert right.plain == "Because of the blue [b]rain."
            assert "red" in "".join(left.plain[span.start : span.end] for span in left.spans)
            assert "Because" not in "".join(left.plain[span.start : span.end] for span in left.spans)
            one, other = list(view.query(".side"))[:2]
            assert one.region.y == other.region.y
            await pilot.resize_terminal(40, 20)
            await wait_until(pilot, lambda: one.region.y < other.region.y)
            await pilot.resize_terminal(20, 6)
            await pilot.press("end", "m", "1")
            await wait_until(pilot, lambda: app.result is not NOTHING)
            assert app.result == 2

    run(story())


def test_in_plain_mode_brackets_mark_and_nothing_stands_beside() -> None:
    async def story() -> None:
        app = Dressed(CompareScreen(LEFT, RIGHT), ChatSettings(plain=True))
        async with app.run_test(size=(120, 20)) as pilot:
            view = await compared(pilot)
            left, right, *_ = texts(view, "words")
            assert "[red" in left.plain
            assert "[blue" in right.plain
            one, other = list(view.query(".side"))[:2]
            await wait_until(pilot, lambda: one.region.y < other.region.y)

    run(story())


def test_the_other_one_by_mouse_and_neither() -> None:
    async def story() -> None:
        app = Dressed(CompareScreen(LEFT, RIGHT))
        async with app.run_test(size=(100, 20)) as pilot:
            await compared(pilot)
            await pilot.click("#keep-1")
            await wait_until(pilot, lambda: app.result is not NOTHING)
            assert app.result == 4
        app = Dressed(CompareScreen(LEFT, RIGHT))
        async with app.run_test(size=(100, 20)) as pilot:
            await compared(pilot)
            await pilot.click("#back")
            await wait_until(pilot, lambda: app.result is None)
        app = Dressed(CompareScreen(LEFT, RIGHT))
        async with app.run_test(size=(100, 20)) as pilot:
            await compared(pilot)
            await pilot.press("escape")
            assert app.result is None

    run(story())


def test_long_branches_are_shown_piece_by_piece() -> None:
    async def story() -> None:
        left = tuple(Node(at, 1, None, "user", f"l{at}") for at in range(10, 10 + 2 * ROUNDS_AT_ONCE + 1))
        app = Dressed(CompareScreen(left, (ASK,)))
        async with app.run_test(size=(100, 20)) as pilot:
            view = await compared(pilot)
            assert len(view.query(".round")) == ROUNDS_AT_ONCE
            assert texts(view, "common")[1].plain == f"{ROUNDS_AT_ONCE + 1} more turns on each side: M shows them"
            await pilot.press("m", "m", "m")
            await wait_until(pilot, lambda: len(view.query(".round")) == len(left))
            assert not view.query_one("#rest").display

    run(story())
