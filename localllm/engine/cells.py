"""CellLedger: how many KV cells are in use when slots share prefixes. Pure accounting, exact."""

from __future__ import annotations


class _Extent:
    """A run of cells. `num_refs` slots see it; a slot sees the chain from its last extent up to the root."""

    __slots__ = ("length", "num_refs", "parent")

    def __init__(self, parent: _Extent | None, length: int, num_refs: int) -> None:
        self.parent = parent
        self.length = length
        self.num_refs = num_refs


class CellLedger:
    """Counts the cells of each slot and of all of them together; a shared cell counts once."""

    def __init__(self, num_slots: int) -> None:
        self._last: list[_Extent | None] = [None] * num_slots
        self._lengths = [0] * num_slots
        self.num_used = 0

    def length(self, slot: int) -> int:
        """Cells that `slot` sees."""
        return self._lengths[slot]

    def append(self, slot: int, num_cells: int) -> None:
        """Give `slot` cells of its own."""
        if num_cells == 0:
            return
        last = self._last[slot]
        if last is not None and last.num_refs == 1:
            last.length += num_cells
        else:
            self._last[slot] = _Extent(last, num_cells, 1)
        self._lengths[slot] += num_cells
        self.num_used += num_cells

    def share(self, source: int, target: int, num_cells: int) -> None:
        """Let empty slot `target` see the first `num_cells` of `source`."""
        assert self._lengths[target] == 0
        assert num_cells <= self._lengths[source]
        if num_cells == 0:
            return
        extent = self._cut(source, num_cells)
        self._last[target] = extent
        self._lengths[target] = num_cells
        node: _Extent | None = extent
        while node is not None:
            node.num_refs += 1
            node = node.parent

    def trim(self, slot: int, num_cells: int) -> None:
        """Keep the first `num_cells` of a slot; cells that nobody else sees are free again."""
        assert num_cells <= self._lengths[slot]
        keep = self._cut(slot, num_cells) if num_cells else None
        node = self._last[slot]
        while node is not keep:
            assert node is not None
            node.num_refs -= 1
            if node.num_refs == 0:
                self.num_used -= node.length
            node = node.parent
        self._last[slot] = keep
        self._lengths[slot] = num_cells

    def _cut(self, slot: int, num_cells: int) -> _Extent:
        """Return the extent of `slot` that ends after `num_cells`, splitting one where needed."""
        node, end = self._last[slot], self._lengths[slot]
        while node is not None and end - node.length >= num_cells:
            end -= node.length
            node = node.parent
        assert node is not None
        if end == num_cells:
            return node
        upper = _Extent(node.parent, node.length - (end - num_cells), node.num_refs)
        node.parent = upper
        node.length = end - num_cells
        return upper
