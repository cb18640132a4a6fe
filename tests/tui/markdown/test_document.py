"""A text that comes in pieces is in the end what it is at once, costs little each time, and is safe to be drawn."""

from __future__ import annotations

import random
import time

import pytest
from localllm_tui.markdown.cells import cells
from localllm_tui.markdown.document import Document
from localllm_tui.markdown.values import CodeBlock, Line
from markdown_it.token import Token

# What a text is made of, good and bad, in any order.
PARTS = (
    "# h\n", "## head **b**\n", "para ", "`code` ", "**bold** ", "*it* ", "~~s~~ ", "\n", "\n\n", "- item\n",
    "  - nested\n", "1. one\n", "10. ten\n", "```python\nx = '''a\nb'''\n```\n", "```\nraw\n",
    "~~~js\nlet a = `x`;\n~~~\n", "=\n", "---\n", "| a | b |\n|---|--:|\n| 1 | **2** |\n| x | y\n", "| h |\n",
    "|---|\n", "> quote\n", "> - q\n", "$a_1$ ", "$$\nx\n$$\n", "\\(z\\) ", "[l](http://x.y) ",
    "[l](javascript:x) ", "http://a.b/c. ", "<b>h</b> ", "<br>", "漢字かな", "👩\u200d👩\u200d👧", "e\u0301",
    "\u202eevil\u202c", "שלום ", "\x1b[31mred\x1b[0m", "\x9b31m", "\t", "    indented\n", "\r\n", "\\", "`",
    "``", "*", "**", "_", "[", "](", "!", "|", "&amp;", "- [ ] t\n- [x] u\n", " " * 30, "a" * 150,
    "[ref]: http://x\n", "\u2028", "\x00",
)  # fmt: skip


def whole(text: str, width: int = 80) -> Document:
    """A text at once."""
    document = Document()
    document.append(text)
    document.finish()
    document.update(width)
    return document


def texts(document: Document) -> list[str]:
    """Its lines."""
    return [line.text.rstrip() for line in document.lines]


def assert_drawable(lines: list[Line], width: int) -> None:
    """Nothing that a terminal obeys, widths that are right, nothing that runs over the edge."""
    for line in lines:
        assert line.cells == cells(line.text), line
        assert width < 9 or line.cells <= width, line
        assert not any(
            ord(char) < 32 or 0x7F <= ord(char) < 0xA0 or 0x202A <= ord(char) <= 0x202E or 0x2066 <= ord(char) <= 0x2069
            for char in line.text
        ), line


@pytest.mark.parametrize("seed", range(120))
def test_pieces_make_the_whole(seed: int) -> None:
    rng = random.Random(seed)
    text = "".join(rng.choice(PARTS) for _ in range(rng.randint(1, 40)))
    width = rng.choice([1, 5, 9, 20, 40, 80])
    document = Document()
    at = 0
    while at < len(text):
        size = rng.randint(1, 12)
        document.append(text[at : at + size])
        at += size
        before = list(document.lines)
        first = document.update(width)
        assert document.lines[:first] == before[:first]
        assert_drawable(document.lines, width)
    document.finish()
    document.update(width)
    expected = whole(text, width)
    assert document.lines == expected.lines
    assert document.code_blocks() == expected.code_blocks()
    assert_drawable(document.lines, width)


def test_another_width_is_another_wrap_of_the_same() -> None:
    text = "".join(random.Random(7).choice(PARTS) for _ in range(200))
    document = whole(text, 33)
    for width in (80, 20, 1, 33):
        assert document.update(width) == 0
        assert document.lines == whole(text, width).lines
    assert document.update(33) == len(document.lines)


def test_the_end_alone_is_read_again(monkeypatch: pytest.MonkeyPatch) -> None:
    from localllm_tui.markdown.parse import parser

    read: list[int] = []
    parse = parser().parse

    def counted(text: str) -> list[Token]:
        read.append(len(text))
        return parse(text)

    monkeypatch.setattr(parser(), "parse", counted)
    document = Document()
    for number in range(400):
        document.append(f"Paragraph {number} of many, " + "with words " * 8 + ".\n\n")
        document.update(80)
    assert max(read) < 400
    read.clear()
    document.append("```python\n")
    for _ in range(2000):
        document.append("x = 1\n")
        document.update(80)
    assert sum(read) < 400


def test_entries_of_a_long_list_are_settled_one_by_one() -> None:
    document = Document()
    for number in range(1, 300):
        document.append(f"{number}. entry\n" + ("\n" if number > 200 else ""))
        document.update(80)
    assert len(document._tail) < 100
    lines = [text for text in texts(document) if text]
    assert lines == [f"{number}. entry" for number in range(1, 300)]
    assert texts(document)[:3] == ["1. entry", "2. entry", "3. entry"]
    assert texts(document)[-3:] == ["298. entry", "", "299. entry"]


WORST = {
    "brackets": "[" * 100_000,
    "images": "![" * 50_000,
    "links": "[a](" * 25_000,
    "emphasis": "*a **b " * 14_000,
    "stars": "*" * 100_000,
    "ticks": "".join("`" * size + " " for size in range(1, 440)),
    "quotes": ">" * 100_000,
    "nested": "".join("  " * depth + "- x\n" for depth in range(300)),
    "one line": "word " * 20_000,
    "no blank": "x" * 100_000,
    "wide": "漢" * 50_000,
    "marks": "e" + "\u0301" * 100_000,
    "table": "|a" * 50_000 + "\n" + "|-" * 50_000,
    "rows": "|a|b|\n|-|-|\n" + "|x|y|\n" * 16_000,
    "formulas": "\\(a" * 33_000,
    "under": "a\n" * 50_000 + "===\n",
    "controls": "\x1b" * 100_000,
    "open code": "```py\n" + "'''\n" * 25_000,
    "open comment": "```c\n/*" + "a\n" * 50_000,
    "line of code": "```py\n" + "(" * 100_000,
}


@pytest.mark.long
@pytest.mark.parametrize("name", WORST)
def test_the_worst_texts_take_seconds_and_no_longer(name: str) -> None:
    text = WORST[name]
    start = time.process_time()
    whole(text)
    assert time.process_time() - start < 15


@pytest.mark.parametrize("name", WORST)
def test_a_frame_of_the_worst_texts_stays_short(name: str) -> None:
    """Near the most that is read at once; the limit is ten times what was measured."""
    document = Document()
    document.append(WORST[name][:8_000])
    document.update(80)
    start = time.process_time()
    for number in range(3):
        document.append(WORST[name][8_000 + number : 8_001 + number])
        document.update(80)
    assert (time.process_time() - start) / 3 < 1.0


def test_code_in_a_text_is_found_wherever_it_stands() -> None:
    text = "```py\na = 1\n\n```\n\n- x\n  ```sh\n  ls\n  ```\n\n> ```\n> q\n> ```\n\n~~~ rust ignore\nfn f() {}\n"
    expected = [CodeBlock("py", "a = 1\n"), CodeBlock("sh", "ls"), CodeBlock("", "q"), CodeBlock("rust", "fn f() {}")]
    assert whole(text).code_blocks() == expected
    document = Document()
    for char in text:
        document.append(char)
        document.update(80)
    assert document.code_blocks()[:3] == expected[:3]
    heads = [piece.action for line in document.lines for piece in line.pieces if piece.action]
    assert heads == [f"{what}:{index}" for index in range(4) for what in ("copy", "save")]
