"""Sent texts, parameters, personas, the editor, and what is added to chat.toml."""

from __future__ import annotations

import random
import sys
from pathlib import Path

import pytest
from localllm_tui.options import ChatSettings, Persona, load_chat_settings
from localllm_tui.prompt import chat_toml, editor, personas
from localllm_tui.prompt.placeholders import fill, literal, parameters
from localllm_tui.prompt.sent import SentWalk, joined

from localllm.errors import LocalLLMError


def test_walking_through_what_was_sent() -> None:
    walk = SentWalk(joined(["own old", "own new"], ["elsewhere", "own old"]))
    assert [walk.older("now"), walk.older("own new"), walk.older(""), walk.older("")] == [
        "own new",
        "own old",
        "elsewhere",
        None,
    ]
    assert walk.is_shown("elsewhere")
    assert [walk.newer(), walk.newer(), walk.newer(), walk.newer()] == ["own old", "own new", "now", None]
    walk.add("sent")
    walk.add("  ")
    assert walk.older("") == "sent"


@pytest.mark.parametrize(
    ("text", "names", "filled"),
    [
        ("in {language}, {tone}, {language}", ("language", "tone"), "in French, {tone}, French"),
        ("{{language}} {language}", ("language",), "{language} French"),
        ('json {"a": 1} {} {0} { language }', (), 'json {"a": 1} {} {0} { language }'),
        ("{{{language}}}", ("language",), "{French}"),
    ],
)
def test_parameters(text: str, names: tuple[str, ...], filled: str) -> None:
    assert parameters(text) == names
    assert fill(text, {"language": "French"}) == filled


def test_values_are_not_looked_into_and_literals_come_back() -> None:
    assert fill("{a}{b}", {"a": "{b}", "b": "{{"}) == "{b}{{"
    rng = random.Random(3)
    for _ in range(2000):
        text = "".join(rng.choices("{}a1_ ", k=rng.randrange(9)))
        assert fill(literal(text), {"a": "!", "a1": "!"}) == text
        assert parameters(literal(text)) == ()


def test_personas_are_a_persons_own_and_those_that_ship() -> None:
    settings = ChatSettings(
        personas={"Concise": Persona("x"), "editor": Persona("mine")}, snippets={"b": "two", "a": "one {x}"}
    )
    found = personas.personas(settings)
    assert [one.name for one in found[:2]] == ["Concise", "editor"]
    assert [one.name for one in found].count("editor") == 1
    assert personas.filled(found[1], {}) == "mine"
    assert [(one.name, one.parameters) for one in personas.snippets(settings)] == [("a", ("x",)), ("b", ())]
    assert personas.find("EDITOR", found) == found[1]
    assert personas.find("nobody", found) is None
    for shipped in personas.personas(ChatSettings()):
        assert set(shipped.defaults) == set(shipped.parameters)
        assert len(shipped.text) < 300


COMMENTED = """# mine
theme = "localllm-light"  # bright

[snippets]  # texts
old = '''
[not a header]
'''
# the end
"""


def test_a_persona_and_a_snippet_are_added_and_nothing_is_lost(tmp_path: Path) -> None:
    file = tmp_path / "new" / "chat.toml"
    chat_toml.add_snippet(file, "sign off", 'Best,\n"A" \\ {b} \x1b\t')
    chat_toml.add_persona(file, "kind", "Be kind to {everybody}.\nAlways.")
    settings = load_chat_settings(file)
    (snippet,) = personas.snippets(settings)
    assert personas.filled(snippet, {}) == 'Best,\n"A" \\ {b} \x1b\t'
    assert personas.filled(personas.personas(settings)[0], {}) == "Be kind to {everybody}.\nAlways."
    assert [path.name for path in file.parent.iterdir()] == ["chat.toml"]

    file.write_text(COMMENTED)
    chat_toml.add_snippet(file, "new", "text")
    chat_toml.add_persona(file, "p", "text")
    text = file.read_text()
    assert all(line in text for line in COMMENTED.splitlines())
    settings = load_chat_settings(file)
    assert (settings.theme, sorted(settings.snippets), list(settings.personas)) == (
        "localllm-light",
        ["new", "old"],
        ["p"],
    )
    file.write_bytes(COMMENTED.replace("\n", "\r\n").encode())
    chat_toml.add_persona(file, "p", "text")
    assert file.read_bytes().count(b"\n") == file.read_bytes().count(b"\r\n") > 5


@pytest.mark.parametrize(
    ("text", "name", "words"),
    [
        ('[snippets]\na = "1"\n', "a", "there is one called a already"),
        ("theme = [", "a", "no valid TOML"),
        ('snippets = {b = "2"}\n', "a", "cannot be added to"),
        ("", " ", "it needs a name"),
        ("", "a\nb", "it needs a name"),
    ],
)
def test_a_file_that_cannot_be_added_to_stays_as_it_is(tmp_path: Path, text: str, name: str, words: str) -> None:
    file = tmp_path / "chat.toml"
    file.write_text(text)
    with pytest.raises(LocalLLMError) as failed:
        chat_toml.add_snippet(file, name, "text")
    assert words in failed.value.message
    assert file.read_text() == text
    assert [path.name for path in tmp_path.iterdir()] == ["chat.toml"]


@pytest.mark.skipif(sys.platform == "win32", reason="modes and links are POSIX's")
def test_mode_and_link_of_the_file_stay(tmp_path: Path) -> None:
    real = tmp_path / "dotfiles.toml"
    real.write_text("# x\n")
    real.chmod(0o640)
    link = tmp_path / "chat.toml"
    link.symlink_to(real)
    chat_toml.add_snippet(link, "a", "b")
    assert link.is_symlink()
    assert real.stat().st_mode & 0o777 == 0o640
    assert load_chat_settings(link).snippets == {"a": "b"}
    (tmp_path / "file").write_text("")
    with pytest.raises(LocalLLMError, match="cannot"):
        chat_toml.add_snippet(tmp_path / "file" / "chat.toml", "a", "b")


SCRIPT = "import sys, pathlib; p = pathlib.Path(sys.argv[-1]); "


def words_of(script: str) -> list[str]:
    return [sys.executable, "-c", SCRIPT + script]


def test_the_editor_gets_the_text_and_gives_it_back() -> None:
    script = "assert p.suffix == '.md'; p.write_text(p.read_text(encoding='utf-8') + ' + edited\\n', encoding='utf-8')"
    assert editor.edit("mine é\n", words_of(script)) == "mine é\n + edited"
    assert editor.edit("same", words_of("pass")) == "same"


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (words_of("sys.exit(3)"), "ended with status 3"),
        (words_of("p.unlink()"), "saved cannot be read"),
        (words_of("p.write_bytes(b'\\xff')"), "saved cannot be read"),
        (["/no/such/editor"], "cannot be started"),
    ],
)
def test_an_editor_that_fails_is_told_of(words: list[str], message: str) -> None:
    with pytest.raises(LocalLLMError, match=message):
        editor.edit("text", words)


def test_which_editor() -> None:
    own = sys.executable
    quoted = f'"{own}" -u' if sys.platform == "win32" else f"'{own}' -u"
    assert editor.command({"VISUAL": quoted, "EDITOR": "no"}) == [own, "-u"]
    with pytest.raises(LocalLLMError, match="the editor no-such-program --wait is not there"):
        editor.command({"EDITOR": "no-such-program --wait"})
