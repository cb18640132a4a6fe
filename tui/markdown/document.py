"""A text that grows: what cannot change any more is parsed and wrapped once, the rest again with each look at it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from localllm_tui.markdown.calm import calm
from localllm_tui.markdown.fence import OpenFence, opening
from localllm_tui.markdown.layout import block_lines, is_joined
from localllm_tui.markdown.parse import Entry, Reader, closing, tokens_of
from localllm_tui.markdown.safe import safe
from localllm_tui.markdown.values import Block, Code, CodeBlock, Items, Line, Quote
from localllm_tui.markdown.wrap import EMPTY

if TYPE_CHECKING:
    from markdown_it.token import Token

# A text given at once is taken in by so much: a parser's worst inputs cost the square of it, and no more.
_STEP = 4_096
# A single block longer than this is cut; a table may be longer, so that its columns stay.
_MAX_BLOCK = 8_192
_MAX_TABLE = 12_288
_LISTS = ("bullet_list_open", "ordered_list_open")


class Document:
    """One text. `append` takes more in, `update` brings `lines` up to date, `finish` says that no more comes."""

    def __init__(self) -> None:
        self.lines: list[Line] = []
        self._width = 0
        self._is_stale = True
        # What is settled: blocks, how many of them are drawn, and how many of `lines` that made.
        self._blocks: list[Block] = []
        self._num_drawn = 0
        self._num_settled = 0
        self._num_code = 0
        # What is not: the text, how its list goes on, its blocks as they look now; or the code that still comes.
        self._tail = ""
        self._entry: Entry | None = None
        self._shown: tuple[Block, ...] = ()
        self._fence: OpenFence | None = None
        self._is_advanced = True

    @classmethod
    def of_blocks(cls, blocks: list[Block]) -> Document:
        """A text that is read already, and does not grow."""
        made = cls()
        made._blocks = blocks
        return made

    def append(self, text: str) -> None:
        """More of it; what a terminal would obey is made visible."""
        text = safe(text)
        self._is_stale = True
        for start in range(0, len(text), _STEP):
            self._take(text[start : start + _STEP])
            self._is_advanced = False
            if len(text) > _STEP:
                self._advance()

    def finish(self) -> None:
        """That was all: the end is read as it stands."""
        self._advance()
        if self._fence is not None:
            self._fence.finish()
            self._close_fence("")
        if self._tail:
            self._blocks.extend(self._read(self._tail))
        self._tail, self._shown, self._entry = "", (), None
        self._is_stale = True

    def code_blocks(self) -> list[CodeBlock]:
        """The code in it, in order."""
        self._advance()
        found = codes([*self._blocks, *self._shown])
        if self._fence is not None:
            found.append(CodeBlock(self._fence.language, self._fence.text))
        return found

    def update(self, width: int) -> int:
        """Bring `lines` up to date for a width; gives back the first line that is another than before."""
        if not self._is_stale and width == self._width:
            return len(self.lines)
        self._advance()
        if width != self._width:
            self._width, self._num_drawn, self._num_settled = width, 0, 0
            self.lines.clear()
        new: list[Line] = []
        for index in range(self._num_drawn, len(self._blocks)):
            self._draw(self._blocks[index], index, new)
        num_settled = len(new)
        self._draw_tail(new)
        first = start = self._num_settled
        for old_line, new_line in zip(self.lines[start:], new, strict=False):
            if old_line != new_line:
                break
            first += 1
        self.lines[first:] = new[first - start :]
        self._num_drawn, self._num_settled = len(self._blocks), start + num_settled
        self._is_stale = False
        return first

    def _draw(self, block: Block, index: int, lines: list[Line]) -> None:
        if index and not is_joined(block):
            lines.append(EMPTY)
        lines.extend(block_lines(block, self._width))

    def _draw_tail(self, lines: list[Line]) -> None:
        for index, block in enumerate(self._shown, len(self._blocks)):
            self._draw(block, index, lines)
        if self._fence is not None:
            if self._blocks:
                lines.append(EMPTY)
            lines.extend(self._fence.lines(self._width))

    def _take(self, text: str) -> None:
        rest = text if self._fence is None else self._fence.feed(text)
        if self._fence is None:
            self._tail += text
        elif rest is not None:
            self._close_fence(rest)

    def _close_fence(self, rest: str) -> None:
        assert self._fence is not None
        reader = Reader("", self._num_code)
        self._blocks.append(reader.code(self._fence.info, f"{self._fence.text}\n"))
        self._num_code = reader.num_code
        self._fence, self._tail = None, rest

    def _advance(self) -> None:
        """Settle what can be settled of the tail, and keep the blocks of the rest for drawing."""
        if self._is_advanced:
            return
        self._is_advanced, self._shown = True, ()
        while self._fence is None:
            self._tail = self._tail.lstrip("\n")
            if self._open_fence():
                continue
            tokens = tokens_of(self._tail)
            if not (self._settle_blocks(tokens) or self._settle_entries(tokens) or self._settle_part(tokens)):
                text = calm(self._tail)
                if text != self._tail:
                    tokens = tokens_of(text)
                self._shown = Reader(text, self._num_code, self._entry).blocks(tokens)
                return

    def _open_fence(self) -> bool:
        opened = opening(self._tail, self._num_code)
        if opened is None:
            return False
        self._fence, rest = opened
        self._tail, self._entry = "", None
        self._take(rest)
        return True

    def _settle_blocks(self, tokens: list[Token]) -> bool:
        """All blocks but the last."""
        last = self._last_start(tokens, 0, len(tokens))
        if not last:
            return False
        reader = Reader(self._tail, self._num_code, self._entry)
        self._blocks.extend(reader.blocks(tokens[:last]))
        self._num_code, self._entry = reader.num_code, None
        self._tail = self._tail[self._start_of(tokens[last]) :]
        return True

    def _settle_entries(self, tokens: list[Token]) -> bool:
        """All entries but the last, of a list."""
        if not tokens or tokens[0].type not in _LISTS:
            return False
        last = self._last_start(tokens, 1, closing(tokens, 0))
        if last == 1:
            return False
        start = self._start_of(tokens[last])
        head, tail = self._tail[:start], self._tail[start:]
        number = self._entry.number if self._entry else int(tokens[0].attrs.get("start", 1))
        blocks = self._read(head)
        num_entries = len(blocks[0].items) if isinstance(blocks[0], Items) else 0
        self._blocks.extend(blocks)
        self._entry = Entry(number + num_entries, not head[:-1].rpartition("\n")[2].strip())
        self._tail = tail
        return True

    def _settle_part(self, tokens: list[Token]) -> bool:
        """Part of a block that is too long, cut where it hurts least. A table goes on under its head."""
        is_table = bool(tokens) and tokens[0].type == "table_open"
        most = _MAX_TABLE if is_table else _MAX_BLOCK
        if len(self._tail) <= most:
            return False
        at = self._tail.rfind("\n", most // 2, most) + 1 or self._tail.rfind(" ", most // 2, most) + 1 or most
        head, rest = self._tail[:at], self._tail[at:]
        self._blocks.extend(self._read(head))
        if is_table:
            rest = "".join(head.splitlines(keepends=True)[:2]) + rest
        self._tail, self._entry = rest, None
        return True

    def _read(self, text: str) -> tuple[Block, ...]:
        """The blocks of text that is whole."""
        reader = Reader(text, self._num_code, self._entry)
        blocks = reader.blocks(tokens_of(text))
        self._num_code = reader.num_code
        return blocks

    def _last_start(self, tokens: list[Token], start: int, end: int) -> int:
        """The last token of this level whose line is whole, so that what it starts stays; `start` where none is."""
        num_lines = self._tail.count("\n")
        index = last = start
        while index < end:
            if index > start and tokens[index].map and _line(tokens[index]) < num_lines:
                last = index
            index = closing(tokens, index) + 1
        return last

    def _start_of(self, token: Token) -> int:
        """The character of the tail that a token's line starts at."""
        at = 0
        for _ in range(_line(token)):
            at = self._tail.index("\n", at) + 1
        return at


def _line(token: Token) -> int:
    return token.map[0] if token.map else 0


def codes(blocks: list[Block]) -> list[CodeBlock]:
    """The code in blocks, and in blocks within them."""
    found: list[CodeBlock] = []
    for block in blocks:
        match block:
            case Code(language, text):
                found.append(CodeBlock(language, text))
            case Items(items):
                for item in items:
                    found.extend(codes(list(item.blocks)))
            case Quote(inner):
                found.extend(codes(list(inner)))
            case _:
                pass
    return found
