"""A conversation as one HTML file: nothing is loaded from anywhere, nothing runs, dark or light as the reader's system.

What a model wrote is Markdown without HTML in it; pictures of other places become links.
"""

from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from html import escape
from typing import TYPE_CHECKING

from localllm_tui.exchange.markdown import day, speaker, state_words
from localllm_tui.history.values import Conversation, Node

from localllm.terminal_text import safe_stream

if TYPE_CHECKING:
    from markdown_it import MarkdownIt

_STYLE = """
:root { color-scheme: light dark; --back: #fafaf8; --text: #23272e; --quiet: #656c77; --line: #dcdcd6; --box: #f2f2ef;
  --accent: #17705c; }
@media (prefers-color-scheme: dark) { :root { --back: #15171b; --text: #d9dce1; --quiet: #8f97a3; --line: #262a31;
  --box: #1b1e23; --accent: #7fc4b1; } }
body { background: var(--back); color: var(--text); font: 16px/1.6 system-ui, sans-serif; max-width: 46rem;
  margin: 0 auto; padding: 2rem 1rem 4rem; overflow-wrap: anywhere; }
h1 { font-size: 1.5rem; margin: 0; } .quiet { color: var(--quiet); font-size: .875rem; }
.turn { margin: 2rem 0 0; } .turn h1 { font-size: 1.25rem; margin: 1rem 0 .5rem; } .turn h2 { font-size: 1.125rem; }
.turn h3, .turn h4 { font-size: 1rem; } .who { font-weight: 600; } .user .who { color: var(--accent); }
pre, code { font: .875em/1.5 ui-monospace, monospace; } pre { background: var(--box); padding: .75rem 1rem;
  border-radius: .4rem; overflow-x: auto; } code { background: var(--box); }
pre code { background: none; font-size: inherit; }
details { color: var(--quiet); margin: .5rem 0; } summary { cursor: pointer; }
table { border-collapse: collapse; } td, th { border: 1px solid var(--line); padding: .25rem .6rem; }
blockquote { border-left: 3px solid var(--line); margin-left: 0; padding-left: 1rem; color: var(--quiet); }
a { color: var(--accent); }
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'"


def to_html(conversation: Conversation, path: Iterable[Node]) -> str:
    """The branch that is open, as a page."""
    title = escape(safe_stream(conversation.title) or "Conversation")
    about = " · ".join(filter(None, (conversation.model, day(conversation.updated))))
    system = _folded("System prompt", conversation.system) if conversation.system else ""
    turns = "\n".join(_turn(node) for node in path)
    return (
        f'<!doctype html>\n<html lang="und">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n'
        f'<meta name="referrer" content="no-referrer">\n'
        f'<meta name="viewport" content="width=device-width">\n'
        f"<title>{title}</title>\n<style>{_STYLE}</style>\n</head>\n"
        f'<body>\n<h1>{title}</h1>\n<p class="quiet">{_plain(about)}</p>\n{system}\n{turns}\n</body>\n</html>\n'
    )


def _turn(node: Node) -> str:
    parts = [f'<section class="turn {node.role}"><div><span class="who">{_plain(speaker(node))}</span>']
    parts.append(f' <span class="quiet">{_plain(day(node.created))}</span></div>')
    parts += [_folded(attachment.name, attachment.text) for attachment in node.attachments]
    if node.reasoning:
        parts.append(_folded("Thinking", node.reasoning))
    if node.role == "tool":
        parts.append(f"<pre>{_plain(node.content)}</pre>")
    elif node.role == "user":
        parts += [f"<p>{_plain(part).replace(chr(10), '<br>')}</p>" for part in node.content.split("\n\n")]
    else:
        parts.append(_markdown().render(safe_stream(node.content)))
    parts += [_folded(f"Calls {call.name}", call.arguments) for call in node.tool_calls]
    if words := state_words(node):
        parts.append(f'<p class="quiet">{_plain(words)}</p>')
    return "\n".join([*parts, "</section>"])


def _folded(name: str, text: str) -> str:
    return f"<details><summary>{_plain(name)}</summary><pre>{_plain(text)}</pre></details>"


def _plain(text: str) -> str:
    return escape(safe_stream(text))


@cache
def _markdown() -> MarkdownIt:
    from markdown_it import MarkdownIt

    return MarkdownIt("commonmark", {"html": False}).enable("table").enable("strikethrough").disable("image")
