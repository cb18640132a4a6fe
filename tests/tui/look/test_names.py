"""Names of models on the screen: of a file its name only, of anything else all of it."""

from __future__ import annotations

import pytest
from localllm_tui.look.names import shown_model, tooltip


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("smollm2:135m", "smollm2:135m"),
        ("hf:owner/repo:Q4_K_M", "hf:owner/repo:Q4_K_M"),
        ("/long/path/smol.gguf", "smol.gguf"),
        ("./smol.gguf", "smol.gguf"),
        ("~/models/smol.gguf", "smol.gguf"),
        ("C:\\models\\smol.gguf", "smol.gguf"),
        ("/long/\x1b[2J.gguf", "\\x1b[2J.gguf"),
        ("/", "/"),
        ("", ""),
    ],
)
def test_what_is_shown_of_a_models_name(name: str, shown: str) -> None:
    assert shown_model(name) == shown


def test_the_tooltip_has_what_is_left_out() -> None:
    assert tooltip("smollm2:135m") is None
    assert str(tooltip("/long/[b]smol.gguf")) == "/long/[b]smol.gguf"
