"""The line of figures: context, cache, speed, queue, memory. Measured ones only; what is not known is not shown."""

from __future__ import annotations

from textual.widgets import Static


class GaugeBar(Static):
    """One line of figures."""
