"""What stands inside a paragraph: emphasis, code, links, formulas. Tokens to pieces."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from localllm_tui.markdown import styles
from localllm_tui.markdown.values import Piece

from localllm.terminal_text import cut

if TYPE_CHECKING:
    from markdown_it.token import Token

_ADDRESS = re.compile(r"https?://[^\s<>\"'`\\|]+[^\s<>\"'`\\|.,;:!?()\[\]{}*_~]/?")
_WEB = re.compile(r"https?://", re.IGNORECASE)
_BREAK = re.compile(r"<br\s*/?>", re.IGNORECASE)
_MAX_ADDRESS = 72

_OPENED = {"strong_open": styles.STRONG, "em_open": styles.EM, "s_open": styles.STRIKE}
_CLOSED = frozenset({"strong_close", "em_close", "s_close"})


def pieces(token: Token, style: str = "") -> tuple[Piece, ...]:
    """The pieces of an inline token."""
    found: list[Piece] = []
    _read(token.children or [], style, found)
    return tuple(found)


def _read(tokens: list[Token], base: str, found: list[Piece]) -> None:
    stack = [base]
    link: str | None = None
    link_start = 0
    for token in tokens:
        style = stack[-1]
        match token.type:
            case "text" | "html_inline" | "text_special":
                _text(token.content, style, link, found)
            case "softbreak" | "hardbreak":
                found.append(Piece("\n", style))
            case "code_inline":
                found.append(Piece(token.content, styles.both(style, styles.CODE_SPAN)))
            case "math":
                from localllm_tui.markdown.math import readable

                found.append(Piece(readable(token.content).replace("\n", " "), styles.both(style, styles.MATH)))
            case "link_open":
                link, link_start = str(token.attrs.get("href", "")), len(found)
                stack.append(styles.both(style, styles.LINK) if _WEB.match(link) else style)
            case "link_close":
                stack.pop()
                _address(link or "", link_start, stack[-1], found)
                link = None
            case "image":
                found.append(Piece(f"[{token.content or 'image'}]", styles.both(style, styles.EM)))
                _address(str(token.attrs.get("src", "")), len(found), style, found)
            case opened if opened in _OPENED:
                stack.append(styles.both(style, _OPENED[opened]))
            case closed if closed in _CLOSED and len(stack) > 1:
                stack.pop()


def _text(text: str, style: str, link: str | None, found: list[Piece]) -> None:
    """Words; addresses in them are links."""
    if not text:
        return
    text = _BREAK.sub("\n", text) if "<" in text else text
    if link is not None:
        found.append(Piece(text, style, f"link:{link}" if _WEB.match(link) else None))
        return
    at = 0
    if "://" in text:
        for match in _ADDRESS.finditer(text):
            if match.start() > at:
                found.append(Piece(text[at : match.start()], style))
            found.append(Piece(match.group(), styles.both(style, styles.LINK), f"link:{match.group()}"))
            at = match.end()
    if at < len(text):
        found.append(Piece(text[at:], style))


def _address(address: str, start: int, style: str, found: list[Piece]) -> None:
    """Where a link leads, behind it, unless it says so itself."""
    if address and "".join(piece.text for piece in found[start:]) != address:
        action = f"link:{address}" if _WEB.match(address) else None
        found.append(Piece(f" ({cut(address, _MAX_ADDRESS)})", styles.both(style, styles.MUTED), action))
