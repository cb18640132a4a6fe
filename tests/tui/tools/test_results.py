"""What a server answered, as text for a model."""

from __future__ import annotations

from localllm_tui.tools.results import bounded, text_of


def test_what_is_cut_is_said() -> None:
    assert bounded("short", 100) == "short"
    cut = bounded("b" * 900 + "e" * 100, 100)
    assert cut.startswith("b" * 80 + "\n")
    assert cut.endswith("\n" + "e" * 20)
    assert "900 characters left out" in cut


def test_structured_answers_without_text_are_json() -> None:
    assert text_of({"content": [], "structuredContent": {"ä": 1}}).text == '{"ä": 1}'
    assert text_of({"content": [{"type": "text", "text": "t"}], "structuredContent": {"a": 1}}).text == "t"
    assert text_of({"content": []}).text == "(no result)"


def test_an_error_is_one() -> None:
    assert text_of({"content": [{"type": "text", "text": "t"}], "isError": True}).is_error


def test_what_is_no_text_is_named() -> None:
    parts = [{"type": "audio", "mimeType": "audio/wav", "data": "AAAA"}, {"type": "image", "data": "?"}, {"type": "x"}]
    text = text_of({"content": parts}).text
    assert text.splitlines() == [
        "[audio, audio/wav, 3 B, not shown]",
        "[image, of unknown type, unreadable, not shown]",
        "[something of kind 'x', not shown]",
    ]
