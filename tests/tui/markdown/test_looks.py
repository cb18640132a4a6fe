"""What Markdown looks like in a terminal: every construct, wide characters, narrow windows, and half-written."""

from __future__ import annotations

import pytest
from localllm_tui.markdown.calm import calm
from localllm_tui.markdown.cells import breaks, cells
from localllm_tui.markdown.code import GrowingCode, highlight
from localllm_tui.markdown.document import Document
from localllm_tui.markdown.plain import plain_blocks
from localllm_tui.markdown.values import Line

from tests.tui.markdown.test_document import texts, whole


def style_of(lines: list[Line], text: str) -> str:
    """The style of the piece that is, or holds, `text`."""
    return next(piece.style for line in lines for piece in line.pieces if text in piece.text)


def test_every_construct() -> None:
    text = """# Title
A **bold** and *soft* `word`, ~~not~~ this.
Next line.

1. one
   - inner
2. two

- [ ] open
- [x] done

> said
> > twice

---

$$
\\frac{a}{b} \\le \\alpha_1^2
$$
"""
    document = whole(text, 40)
    assert texts(document) == [
        "Title", "", "A bold and soft word, not this.", "Next line.", "", "1. one", "   • inner", "2. two", "",
        "☐ open", "☑ done", "", "▎ said", "▎", "▎ ▎ twice", "", "─" * 40, "", "  a/b ≤ α₁²",
    ]  # fmt: skip
    lines = document.lines
    assert "bold" in style_of(lines, "bold")
    assert "italic" in style_of(lines, "soft")
    assert "strike" in style_of(lines, "not")
    assert style_of(lines, "word") != style_of(lines, " and ")


def test_a_table_fits_its_columns_to_the_terminal() -> None:
    rows = ("| name | n | notes |", "|:--|--:|:-:|", "| a | 1 | short |", "| b | 100 | a note of some more words |")
    text = "\n".join(rows)
    assert texts(whole(text, 60)) == [
        "name │   n │           notes",
        "─────┼─────┼──────────────────────────",
        "a    │   1 │           short",
        "b    │ 100 │ a note of some more words",
    ]
    narrow = texts(whole(text, 24))
    assert max(map(cells, narrow)) <= 24
    assert "words" in "".join(narrow)
    assert texts(whole(text, 9))[:3] == ["name: a", "n: 1", "notes:"]


@pytest.mark.parametrize("width", [8, 13, 27, 60])
def test_wide_characters_do_not_break_columns(width: int) -> None:
    row = "漢字かな混じり文 👩‍👩‍👧 e\u0301e\u0301 שלום 🇩🇪"
    text = f"| a | b |\n|---|---|\n| {row} | x |\n\n- {row * 3}\n\n> {row}\n\n```\n{row * 4}\n```\n"
    document = whole(text, width)
    assert all(line.cells == cells(line.text) <= width for line in document.lines)
    rows = [line for line in document.lines if " │ " in line.text]
    assert len({cells(line.text.split("│")[0]) for line in rows}) <= 1


def test_breaks_lose_nothing_but_blanks_at_them() -> None:
    text = "  some words and averyveryverylongone 漢字漢字漢字 end"
    for width in range(1, 60):
        parts = breaks(text, width)
        joined = "".join(glue + text[start:end] for start, end, glue in parts)
        assert joined.replace(" ", "") == text.replace(" ", "")
        assert all(cells(text[start:end]) <= max(width, 2) for start, end, _ in parts)


def test_links_say_where_they_lead_and_only_the_web_is_a_way() -> None:
    text = "[here](https://a.example/x) <https://b.example> https://c.example/y. [no](javascript:alert(1)) [f](file:///etc)"
    document = whole(text, 200)
    assert texts(document)[0].startswith("here (https://a.example/x) https://b.example https://c.example/y.")
    actions = {piece.action for line in document.lines for piece in line.pieces if piece.action}
    assert actions == {"link:https://a.example/x", "link:https://b.example", "link:https://c.example/y"}


def test_html_is_text_and_formulas_are_not_markup() -> None:
    document = whole("<script>x</script> $a_1 * b_2 * c$ and \\(x_i*y_i*z\\) costs $5 or $6\n", 100)
    assert texts(document) == ["<script>x</script> a₁ * b₂ * c and xᵢ*yᵢ*z costs $5 or $6"]
    assert texts(whole("a<br>b", 20)) == ["a", "b"]


@pytest.mark.parametrize(
    ("half", "shown"),
    [
        ("a **bold", "a **bold**"),
        ("a **", "a "),
        ("a **bold*", "a **bold**"),
        ("a *x **y", "a *x **y***"),
        ("a `co", "a `co`"),
        ("a `", "a "),
        ("see [x](http://a", "see [x](http://a)"),
        ("text\n-", "text"),
        ("text\n1.", "text"),
        ("text\n``", "text"),
        ("| a | b", "| a | b |\n|---|---|"),
        ("| a | b |\n|--", "| a | b |\n|---|---|"),
        ("2 * 3 * 4", "2 * 3 * 4"),
        ("`a*` b", "`a*` b"),
        ("- x\n  ```py\n  a **b", "- x\n  ```py\n  a **b"),
    ],
)
def test_what_is_half_written_looks_calm(half: str, shown: str) -> None:
    assert calm(half).rstrip() == shown.rstrip()


def test_nothing_flickers_while_a_sentence_comes() -> None:
    """A line that is there changes at its end only; marks of emphasis are never seen."""
    document = Document()
    last = ""
    for char in "Some **bold and *soft* words** with `code` at the end":
        document.append(char)
        document.update(200)
        shown = texts(document)[0] if document.lines else ""
        assert "*" not in shown
        assert "`" not in shown
        assert shown.startswith(last[:-1])
        last = shown


def test_an_open_fence_is_code_at_once() -> None:
    document = Document()
    document.append("```python\ndef f(): # x")
    document.update(40)
    assert texts(document)[0].split() == ["python", "copy", "save"]
    assert texts(document)[1] == " def f(): # x"
    assert style_of(document.lines, "def") != style_of(document.lines, "():")


@pytest.mark.parametrize("language", ["python", "c", "html", "bash", "json", "rust", "nosuch", "diff", "js"])
def test_growing_code_is_coloured_like_the_whole(language: str) -> None:
    code = {
        "python": 'def f(x):\n    """Doc\n    more."""\n    return f"{x!r}" # c\n\nclass A: pass\n',
        "html": '<div class="a">\n<script>\nlet a = 1;\n</script>\n</div>\n',
        "c": "int main(void) {\n  return 0; // x\n}\n",
    }.get(language, '{"a": [1, true]}\nfor i in a; do echo "$i"; done\n+ x\n')
    growing = GrowingCode(language)
    text = ""
    for char in code:
        text += char
        lines, _ = growing.show(text.split("\n"))
    assert lines == list(highlight(code, language))


def test_a_person_s_text_stays_as_it_was_typed() -> None:
    document = Document.of_blocks(plain_blocks("# no heading\n  *stars* stay\n\n```py\nx = 1\n```\nafter"))
    document.update(40)
    assert texts(document)[:3] == ["# no heading", "  *stars* stay", ""]
    assert [block.code for block in document.code_blocks()] == ["x = 1"]
    assert texts(document)[-1] == "after"
