"""What the server screen says, as values and lines. Pure: it has a clock only as an argument."""

from __future__ import annotations

import collections
from collections.abc import Sequence

from localllm_tui.look.names import shown_model
from textual.content import Content

from localllm.api import LoadedModel, Status
from localllm.terminal_text import cut, safe_line, size, width

_WINDOW_S = 3.0
_BAR = 12


class TokenRate:
    """Tokens a second, over the last seconds, from how many each model says it has made since it was loaded."""

    def __init__(self) -> None:
        self._made: dict[tuple[str, int], int] = {}
        self._total = 0
        self._seen: collections.deque[tuple[float, int]] = collections.deque()

    def take(self, at: float, loaded: Sequence[LoadedModel]) -> None:
        """What is said at the time `at` (seconds); a model that is new, or gone, changes nothing."""
        now = {(model.name, model.pid): model.num_output_tokens for model in loaded}
        self._total += sum(max(0, made - self._made[key]) for key, made in now.items() if key in self._made)
        self._made = now
        self._seen.append((at, self._total))

    def at(self, now: float) -> float | None:
        """Tokens a second at the time `now`; None as long as nothing is measured."""
        while len(self._seen) > 2 and self._seen[1][0] <= now - _WINDOW_S:
            self._seen.popleft()
        if not self._seen or now - self._seen[0][0] < 0.5:
            return None
        return (self._total - self._seen[0][1]) / (now - self._seen[0][0])


def head_line(url: str, version: str | None, status: Status | None, columns: int) -> Content:
    """Where, which version, how full."""
    words = [safe_line(url)]
    if version:
        words.append(f"localllm {safe_line(version)}")
    if status is not None and status.num_places:
        words.append(f"{status.num_active} of {status.num_places} requests")
    return Content(cut("   ".join(words), columns))


def model_lines(loaded: Sequence[LoadedModel], columns: int, *, plain: bool = False) -> Content:
    """A line for each model in memory: its name, its share of what they take together, what it does, when it leaves."""
    if not loaded:
        return Content.styled("No model is in memory.", "$text-muted")
    all_bytes = sum(_bytes(model) for model in loaded) or 1
    names = min(max(width(shown_model(model.name)) for model in loaded), max(8, columns // 3))
    lines = []
    for model in loaded:
        name = cut(shown_model(model.name), names)
        share = round(_bytes(model) / all_bytes * _BAR)
        bar = "" if plain or columns < 60 else "█" * share + "░" * (_BAR - share) + "  "
        rest = f"{size(_bytes(model)):>8}  {_doing(model)}"
        head = name + " " * (names - width(name)) + "  "
        room = max(0, columns - width(head) - len(bar))
        lines.append(Content.assemble(head, (bar, "$accent"), (cut(rest, room), "$text-muted")))
    return Content("\n").join(lines)


def _bytes(model: LoadedModel) -> int:
    return sum(model.bytes_by_device.values())


def _doing(model: LoadedModel) -> str:
    words = [", ".join(safe_line(device) for device in model.bytes_by_device) or safe_line(model.device)]
    if model.state != "ready":
        words.append(model.state)
    running = model.num_active - model.num_waiting
    words.append(f"{running} running" + (f", {model.num_waiting} waiting" if model.num_waiting else ""))
    if model.pinned:
        words.append("pinned")
    elif model.expires_in_s is not None:
        seconds = model.expires_in_s
        words.append(f"leaves in {seconds:.0f} s" if seconds < 100 else f"leaves in {seconds / 60:.0f} min")
    words.append(f"context {model.num_ctx}")
    return "  ".join(word for word in words if word)
