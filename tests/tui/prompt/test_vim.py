"""Vim keys, as a table: `|` is the cursor, before and after."""

from __future__ import annotations

import random

import pytest
from localllm_tui.prompt.vim import Buffer, Vim, press

NAMES = {"<esc>": "escape", "<c-r>": "ctrl+r"}


def typed(keys: str) -> list[str]:
    """Single keys, with `<esc>` and `<c-r>` among them."""
    found: list[str] = []
    while keys:
        name = next((name for name in NAMES if keys.startswith(name)), keys[0])
        found.append(NAMES.get(name, name))
        keys = keys[len(name) :]
    return found


def run(before: str, keys: str) -> tuple[Vim, str, list[str]]:
    """The state, the text with its cursor, and what was left to the widget; insert mode types."""
    buffer = Buffer(before.replace("|", ""), before.index("|"))
    vim, effects = Vim(mode="normal"), list[str]()
    for key in typed(keys):
        step = press(vim, buffer, key)
        vim, buffer = step.vim, step.buffer
        if step.effect == "pass" and vim.mode == "insert":
            buffer = Buffer(buffer.text[: buffer.cursor] + key + buffer.text[buffer.cursor :], buffer.cursor + 1)
        elif step.effect:
            effects.append(step.effect if step.times == 1 else f"{step.effect} {step.times}")
    return vim, f"{buffer.text[: buffer.cursor]}|{buffer.text[buffer.cursor :]}", effects


@pytest.mark.parametrize(
    ("before", "keys", "after"),
    [
        # motions
        ("ab|c", "h", "a|bc"),
        ("|abc", "h", "|abc"),
        ("|abc", "2l", "ab|c"),
        ("|abc", "9l", "ab|c"),
        ("abc\nd|ef", "k", "a|bc\ndef"),
        ("a|bc\ndef", "j", "abc\nd|ef"),
        ("abc|d\nx\nefgh", "jj", "abcd\nx\nefg|h"),
        ("abc|d\nx\nefgh", "jhj", "abcd\nx\n|efgh"),
        ("|abc\n\ndef", "j", "abc\n|\ndef"),
        ("abc\nd|ef", "9k", "a|bc\ndef"),
        ("|one two.three four", "w", "one |two.three four"),
        ("one |two.three four", "w", "one two|.three four"),
        ("one |two.three four", "W", "one two.three |four"),
        ("|one two three", "2w", "one two |three"),
        ("one\n|\ntwo", "w", "one\n\n|two"),
        ("|one\n\ntwo", "w", "one\n|\ntwo"),
        ("one two| three", "b", "one |two three"),
        ("one two.thr|ee", "B", "one |two.three"),
        ("one two thr|ee", "2b", "one |two three"),
        ("|one two", "e", "on|e two"),
        ("on|e two", "e", "one tw|o"),
        ("|one.x two", "E", "one.|x two"),
        ("  on|e", "0", "|  one"),
        ("  on|e", "^", "  |one"),
        ("|one two", "$", "one tw|o"),
        ("|one\ntwo\nthree", "2$", "one\ntw|o\nthree"),
        ("|one\n  two", "G", "one\n  |two"),
        ("one\ntwo\nthr|ee", "gg", "|one\ntwo\nthree"),
        ("|one\ntwo\nthree", "2G", "one\n|two\nthree"),
        ("|one two one", "fo", "one tw|o one"),
        ("|one two one", "2fo", "one two |one"),
        ("|one two one", "to", "one t|wo one"),
        ("|one two one", "to;", "one two| one"),
        ("one two |one", "Fo", "one tw|o one"),
        ("one two |one", "Fo,", "one two |one"),
        ("|one two", "fz", "|one two"),
        ("|", "hjklwbe0^$G;", "|"),
        # operators
        ("|one two three", "dw", "|two three"),
        ("|one two three", "2dw", "|three"),
        ("|one two three", "d2w", "|three"),
        ("one |two\nthree", "dw", "one| \nthree"),
        ("|one two", "de", "| two"),
        ("one tw|o", "db", "one |o"),
        ("one |two", "d0", "|two"),
        ("one |two", "d$", "one| "),
        ("|one(two)", "dt(", "|(two)"),
        ("|one(two)", "df(", "|two)"),
        ("one(two|)", "dF(", "one|)"),
        ("one\nt|wo\nthree", "dd", "one\n|three"),
        ("one\ntwo\nth|ree", "dd", "one\n|two"),
        ("o|ne", "dd", "|"),
        ("o|ne\ntwo\nthree", "2dd", "|three"),
        ("o|ne\ntwo\nthree", "dj", "|three"),
        ("one\ntwo\nth|ree", "dgg", "|"),
        ("one\nt|wo\nthree", "dG", "|one"),
        ("one |two three", "D", "one| "),
        ("o|ne two", "x", "o|e two"),
        ("o|ne", "5x", "|o"),
        ("on|e", "X", "o|e"),
        ("|", "x", "|"),
        ("o|ne two", "rX", "o|Xe two"),
        ("|one", "3rx", "xx|x"),
        ("|one", "4rx", "|one"),
        ("|one  \n  two", "J", "one| two"),
        ("one tw|o three", "diw", "one | three"),
        ("one tw|o three", "daw", "one |three"),
        ("|", "diw", "|"),
        # change, insert
        ("|one two", "cwsix<esc>", "si|x two"),
        ("|a b", "cwx<esc>", "|x b"),
        ("|one two", "ccx<esc>", "|x"),
        ("one\nt|wo", "ccx<esc>", "one\n|x"),
        ("one |two", "Cx<esc>", "one |x"),
        ("o|ne", "sx<esc>", "o|xe"),
        ("one |two three", "ct ab<esc>", "one a|b three"),
        ("|one", "iab<esc>", "a|bone"),
        ("on|e", "aab<esc>", "onea|b"),
        ("  on|e", "Ix<esc>", "  |xone"),
        ("|one", "Ax<esc>", "one|x"),
        ("o|ne\ntwo", "ox<esc>", "one\n|x\ntwo"),
        ("o|ne\ntwo", "Ox<esc>", "|x\none\ntwo"),
        # registers
        ("|one two", "ywP", "one| one two"),
        ("|one two", "yiwP", "on|eone two"),
        ("|one two", "yi(p", "|one two"),
        ("|one", "yyp", "one\n|one"),
        ("|one", "Yp", "one\n|one"),
        ("|one\ntwo", "yyjp", "one\ntwo\n|one"),
        ("one\n|two", "yyP", "one\n|two\ntwo"),
        ("|one", "yy2p", "one\n|one\none"),
        ("|ab", "xp", "b|a"),
        ("|one two", "dwp", "tone| wo"),
        ("|ab", "p", "|ab"),
        # counts and what is nothing
        ("|one two three four", "2d2w", "|"),
        ("|abc", "d<esc>x", "|bc"),
        ("|abc", "2<esc>l", "a|bc"),
        ("|abc", "dzx", "|bc"),
        ("|abc", "gzx", "|bc"),
        ("a|bcdefghijklm", "10l", "abcdefghijk|lm"),
        ("aé|b", "h", "a|éb"),
    ],
)
def test_keys(before: str, keys: str, after: str) -> None:
    vim, shown, effects = run(before, keys)
    assert (shown, vim.mode, effects) == (after, "normal", [])


@pytest.mark.parametrize(
    ("keys", "mode", "effects"),
    [
        ("u", "normal", ["undo"]),
        ("3u", "normal", ["undo 3"]),
        ("<c-r>", "normal", ["redo"]),
        ("<esc>", "normal", ["pass"]),
        ("d<esc>", "normal", []),
        ("i", "insert", []),
        ("cw", "insert", []),
        ("dw", "normal", []),
        ("99999999999999999999x", "normal", []),
    ],
)
def test_modes_and_what_is_the_widgets(keys: str, mode: str, effects: list[str]) -> None:
    vim, _, left = run("one |two", keys)
    assert (vim.mode, left, vim.keys) == (mode, effects, "")


def test_keys_that_are_not_vims_pass_and_change_nothing() -> None:
    for key in ("enter", "tab", "ctrl+g", "up", "f1", "pagedown"):
        step = press(Vim(mode="normal", keys="2d"), Buffer("one", 1), key)
        assert (step.effect, step.buffer, step.vim.keys) == ("pass", Buffer("one", 1), "")


def test_any_keys_leave_a_cursor_that_stands_on_the_text() -> None:
    rng = random.Random(5)
    keys = [*"hjklwbeWBE0^$GgfFtT;,dcyxXsSrJDCYpPiaIAoOu123", "escape", "ctrl+r"]
    for _ in range(300):
        vim, buffer = Vim(mode="normal"), Buffer("one two.\n\n  three (four)\nfive", rng.randrange(28))
        for _ in range(60):
            step = press(vim, buffer, rng.choice(keys))
            vim, buffer = step.vim, step.buffer
            assert 0 <= buffer.cursor <= len(buffer.text)
            if len(buffer.text) > 5000:
                break
