r"""Formulas as text: `$a$`, `$$a$$`, `\(a\)` and `\[a\]` are kept whole, and simple names become their characters."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

if TYPE_CHECKING:  # loaded with the first text, not for the first frame
    from markdown_it import MarkdownIt
    from markdown_it.rules_block import StateBlock
    from markdown_it.rules_inline import StateInline

_MAX_INLINE = 500
_INLINE = re.compile(
    r"\$\$(?P<a>[^$\n]+(?:\n[^$\n]+){0,20})\$\$"
    r"|\$(?P<b>[^\s$](?:[^$\n]*[^\s$\\])?)\$(?!\d)"
    r"|\\\((?P<c>[^\n]+?)\\\)"
    r"|\\\[(?P<d>[^\n]+?)\\\]"
)
_OPEN = {"$$": "$$", "\\[": "\\]"}

_NAMES = {
    "alpha": "α", "beta": "β", "gamma": "γ", "delta": "δ", "epsilon": "ε", "varepsilon": "ε", "zeta": "ζ", "eta": "η",
    "theta": "θ", "iota": "ι", "kappa": "κ", "lambda": "λ", "mu": "μ", "nu": "ν", "xi": "ξ", "pi": "π", "rho": "ρ",
    "sigma": "σ", "tau": "τ", "phi": "φ", "varphi": "φ", "chi": "χ", "psi": "ψ", "omega": "ω", "Gamma": "Γ",
    "Delta": "Δ", "Theta": "Θ", "Lambda": "Λ", "Xi": "Ξ", "Pi": "Π", "Sigma": "Σ", "Phi": "Φ", "Psi": "Ψ", "Omega": "Ω",
    "times": "×", "cdot": "·", "div": "÷", "pm": "±", "mp": "∓", "le": "≤", "leq": "≤", "ge": "≥", "geq": "≥",
    "ne": "≠", "neq": "≠", "approx": "≈", "equiv": "≡", "sim": "∼", "propto": "∝", "infty": "∞", "partial": "∂",
    "nabla": "∇", "sum": "∑", "prod": "∏", "int": "∫", "sqrt": "√", "in": "∈", "notin": "∉", "subset": "⊂",
    "subseteq": "⊆", "cup": "∪", "cap": "∩", "emptyset": "∅", "forall": "∀", "exists": "∃", "neg": "¬", "land": "∧",
    "lor": "∨", "to": "→", "rightarrow": "→", "leftarrow": "←", "Rightarrow": "⇒", "implies": "⇒", "iff": "⇔",
    "mapsto": "↦", "ldots": "…", "dots": "…", "cdots": "⋯", "langle": "⟨", "rangle": "⟩", "circ": "∘", "degree": "°",
    "quad": "  ", "left": "", "right": "", "mathbb": "", "mathrm": "", "mathbf": "", "text": "", "displaystyle": "",
}  # fmt: skip
_NAME = re.compile(r"\\([A-Za-z]+)")
_GROUP = re.compile(r"\{([^{}\\]*)\}")
_RAISED = str.maketrans("0123456789+-=()n", "⁰¹²³⁴⁵⁶⁷⁸⁹⁺⁻⁼⁽⁾ⁿ")
_LOWERED = str.maketrans("0123456789+-=()ijn", "₀₁₂₃₄₅₆₇₈₉₊₋₌₍₎ᵢⱼₙ")
_RAISE = re.compile(r"\^(?:\{([0-9+\-=()n]{1,8})\}|([0-9n]))")
_LOWER = re.compile(r"_(?:\{([0-9+\-=()ijn]{1,8})\}|([0-9ijn]))")
_SPACES = re.compile(r"\\[,;:! ]")


_FRACTION = re.compile(r"\\[dt]?frac\{([^{}]*)\}\{([^{}]*)\}")
_ROOT = re.compile(r"\\sqrt\{([^{}]*)\}")


def _fraction(match: re.Match[str]) -> str:
    above, below = (part if part.strip().isalnum() else f"({part})" for part in match.groups())
    return f"{above}/{below}"


def readable(formula: str) -> str:
    """A formula with characters for the names that have one; all else stays as it is written."""
    text = _FRACTION.sub(_fraction, formula)
    text = _ROOT.sub(r"√(\1)", text)
    text = _NAME.sub(lambda match: _NAMES.get(match[1], match[0]), text)
    text = _RAISE.sub(lambda match: (match[1] or match[2]).translate(_RAISED), text)
    text = _LOWER.sub(lambda match: (match[1] or match[2]).translate(_LOWERED), text)
    text = _SPACES.sub(" ", text)
    return text if "\\" in text else _GROUP.sub(r"\1", text)


def add_math(parser: MarkdownIt) -> None:
    """Teach the parser formulas, before it takes `_` and `\\` in them for markup."""
    parser.inline.ruler.before("escape", "math", _inline)
    parser.block.ruler.before("fence", "math", _block, {"alt": ["paragraph", "reference", "blockquote", "list"]})


def _inline(state: StateInline, silent: bool) -> bool:
    if state.src[state.pos] not in "$\\":
        return False
    match = _INLINE.match(state.src, state.pos, min(state.posMax, state.pos + _MAX_INLINE))
    if match is None:
        return False
    if not silent:
        token = state.push("math", "", 0)
        token.content = match[match.lastgroup or 0]
    state.pos = match.end()
    return True


def _block(state: StateBlock, start: int, end: int, silent: bool) -> bool:
    first = state.src[state.bMarks[start] + state.tShift[start] : state.eMarks[start]].strip()
    close = _OPEN.get(first[:2])
    if close is None or (len(first) > 2 and first.endswith(close)) or close in first[2:]:
        return False
    if len(first) > 2 and first[:2] == "$$" and "$$" in first[2:]:
        return False
    if silent:
        return True
    lines = [first[2:]]
    line = start + 1
    while line < end:
        text = state.src[state.bMarks[line] + state.tShift[line] : state.eMarks[line]].rstrip()
        line += 1
        if text.endswith(close):
            lines.append(text[: -len(close)])
            break
        if not text:
            line -= 1
            break
        lines.append(text)
    token = state.push("math_block", "", 0)
    token.content = "\n".join(part for part in lines if part.strip())
    token.map = [start, line]
    state.line = line
    return True
