"""Tables fit the terminal they are shown on."""

from __future__ import annotations

import pytest

from localllm.cli.table import Column, lines, pairs
from localllm.terminal_text import width

COLUMNS = (Column("NAME", keep=9), Column("SIZE", right=True, keep=8), Column("QUANT", keep=6), Column("NOTE", keep=1))
ROWS = [("smollm2:135m", "98.4 MB", "Q4_1", "a long remark about it"), ("x" * 60, "1 B", "", "")]


def test_columns_are_aligned() -> None:
    head, first, second = lines(COLUMNS, ROWS, None)
    assert head.index("SIZE") + 4 == first.index("98.4 MB") + 7 == second.index("1 B") + 3
    assert second.startswith("x" * 60)
    assert not any(line != line.rstrip() for line in (head, first, second))


@pytest.mark.parametrize("room", [20, 40, 60, 80, 200])
def test_no_line_is_wider_than_the_terminal(room: int) -> None:
    shown = lines(COLUMNS, ROWS, room)
    assert max(map(width, shown)) <= room
    assert len(shown) == 3
    assert shown[1].startswith("smollm2:")


def test_what_matters_least_goes_first() -> None:
    assert lines(COLUMNS, ROWS[:1], 40)[0].split() == ["NAME", "SIZE", "QUANT"]
    assert lines(COLUMNS, ROWS[:1], 22)[0].split() == ["NAME", "SIZE"]
    assert lines(COLUMNS, ROWS[:1], 12)[0].split() == ["NAME"]


def test_a_cell_gives_no_orders_to_the_terminal() -> None:
    assert "\x1b" not in "".join(lines(COLUMNS, [("\x1b]0;x\x07", "", "", "")], None))
    assert "\x1b" not in "".join(pairs([("name", "a\x1b[2J")]))


def test_pairs_keep_the_indent_of_a_longer_value() -> None:
    assert pairs([("a", "1\n2"), ("long", "3")]) == ["a     1", "      2", "long  3"]
