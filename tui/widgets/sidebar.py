"""The list of conversations beside the open one."""

from __future__ import annotations

from textual.containers import Vertical


class Sidebar(Vertical):
    """Conversations by folder, pinned ones first."""
