"""The chat's own themes: dark, light, high contrast, and one without colour. Data; which one is used is `dressed`'s."""

from __future__ import annotations

from textual.theme import Theme

DARK, LIGHT, CONTRAST, MONO = "localllm-dark", "localllm-light", "localllm-contrast", "localllm-mono"

_QUIET_HEADINGS = {
    "markdown-h1-text-style": "bold",
    "markdown-h2-text-style": "bold",
    "markdown-h3-text-style": "bold",
    "markdown-h4-text-style": "bold",
    "markdown-h5-text-style": "italic",
}


def themes() -> tuple[Theme, ...]:
    """All four. One accent each; warning, error and success are for states alone."""
    return (
        Theme(
            name=DARK,
            primary="#7fc4b1",
            secondary="#8b95a5",
            accent="#7fc4b1",
            warning="#e3b968",
            error="#e5808a",
            success="#93c588",
            foreground="#d9dce1",
            background="#15171b",
            surface="#1b1e23",
            panel="#262a31",
            boost="#ffffff0a",
            variables=_QUIET_HEADINGS
            | {"text-muted": "#8f97a3", "text-disabled": "#636a75", "foreground-muted": "#8f97a3"}
            | _lines("#262a31", "#3a4049", "#15171b", "#7fc4b1", "#10211c"),
        ),
        Theme(
            name=LIGHT,
            primary="#17705c",
            secondary="#5b6472",
            accent="#17705c",
            warning="#8a5a00",
            error="#b3263a",
            success="#2c7a37",
            foreground="#23272e",
            background="#fafaf8",
            surface="#f2f2ef",
            panel="#e5e5e0",
            boost="#0000000a",
            dark=False,
            variables=_QUIET_HEADINGS
            | {"text-muted": "#656c77", "text-disabled": "#989ea7", "foreground-muted": "#656c77"}
            | _lines("#dcdcd6", "#c2c2bb", "#fafaf8", "#17705c", "#ffffff"),
        ),
        Theme(
            name=CONTRAST,
            primary="#ffd400",
            secondary="#ffffff",
            accent="#ffd400",
            warning="#ffb000",
            error="#ff8080",
            success="#7dff7d",
            foreground="#ffffff",
            background="#000000",
            surface="#000000",
            panel="#1f1f1f",
            boost="#ffffff1a",
            text_alpha=1.0,
            variables=_QUIET_HEADINGS
            | _lines("#ffffff", "#ffffff", "#000000", "#ffd400", "#000000")
            | {"text": "#ffffff", "text-muted": "#e6e6e6", "text-disabled": "#bdbdbd", "foreground-muted": "#e6e6e6"},
        ),
        Theme(
            name=MONO,
            ansi=True,
            primary="ansi_default",
            secondary="ansi_default",
            accent="ansi_default",
            warning="ansi_default",
            error="ansi_default",
            success="ansi_default",
            foreground="ansi_default",
            background="ansi_default",
            surface="ansi_default",
            panel="ansi_default",
            boost="ansi_default",
            variables=_QUIET_HEADINGS
            | {
                "ansi-background": "ansi_default",
                "ansi-foreground": "ansi_default",
                "block-cursor-foreground": "ansi_default",
                "block-cursor-background": "ansi_default",
                "block-cursor-text-style": "reverse",
                "block-cursor-blurred-text-style": "underline",
                "input-cursor-text-style": "reverse",
                "border": "ansi_default",
                "border-blurred": "ansi_default",
                "footer-key-foreground": "ansi_default",
            },
        ),
    )


def counterpart(name: str) -> str:
    """The light theme for a dark one, and the other way round; what has none goes to ours."""
    pairs = {DARK: LIGHT, LIGHT: DARK, "textual-dark": "textual-light", "textual-light": "textual-dark"}
    pairs |= {"ansi-dark": "ansi-light", "ansi-light": "ansi-dark"}
    return pairs.get(name, LIGHT)


def _lines(line: str, thumb: str, ground: str, accent: str, on_accent: str) -> dict[str, str]:
    """Rules, scrollbars, cursors and keys, drawn quietly, from five colours."""
    return {
        "border": accent,
        "border-blurred": line,
        "scrollbar": thumb,
        "scrollbar-hover": accent,
        "scrollbar-active": accent,
        "scrollbar-background": ground,
        "scrollbar-background-hover": ground,
        "scrollbar-background-active": ground,
        "scrollbar-corner-color": ground,
        "block-cursor-background": accent,
        "block-cursor-foreground": on_accent,
        "block-cursor-text-style": "none",
        "footer-background": ground,
        "footer-key-foreground": accent,
        "button-focus-text-style": "bold",
    }
