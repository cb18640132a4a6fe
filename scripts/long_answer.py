"""A long answer in Markdown, generated: what a benchmark of the chat plays. Pure."""

from __future__ import annotations

import random

TEXT = (
    "the model scheduler cache prefix token batch decode prefill memory device layer quant stream engine request "
    "response latency throughput kernel vector matrix attention context window sample"
)
WORDS = TEXT.split()


def answer(num_chars: int, seed: int = 1) -> str:
    """A long answer as models write them: headings, prose, lists, code, tables, quotes."""
    rng = random.Random(seed)

    def sentence(num_words: int = 10) -> str:
        return " ".join(rng.choice(WORDS) for _ in range(num_words)).capitalize() + "."

    def prose() -> str:
        words = " ".join(sentence(rng.randint(6, 16)) for _ in range(rng.randint(2, 5))).split()
        at = rng.randrange(len(words) - 4)
        words[at], words[at + 2] = f"**{words[at]}", f"{words[at + 2]}**"
        words[at + 3] = f"`{words[at + 3].strip('.')}`"
        return " ".join(words)

    def code() -> str:
        steps = "\n".join(
            f"    def step_{number}(self, value: int) -> str:\n        # {sentence(6)}\n"
            f'        total = value * {number} + math.sqrt({number})\n        return f"{{total:.2f}} tokens"\n'
            for number in range(rng.randint(2, 8))
        )
        return f'```python\nimport math\n\nclass Scheduler:\n    """Chooses what runs."""\n\n{steps}```'

    def table() -> str:
        rows = "\n".join(
            f"| {rng.choice(WORDS)} | {rng.random() * 100:.1f} | {sentence(rng.randint(3, 9))} |"
            for _ in range(rng.randint(3, 9))
        )
        return f"| name | speed | notes |\n|---|---:|:--|\n{rows}"

    def items(is_ordered: bool) -> str:
        marks = (f"{number}." if is_ordered else "-" for number in range(1, rng.randint(4, 9)))
        return "\n".join(f"{mark} {sentence(rng.randint(5, 18))}" for mark in marks)

    blocks: list[str] = []
    size = 0
    while size < num_chars:
        kind = rng.random()
        if kind < 0.15:
            block = f"## {len(blocks)}. {sentence(4)}"
        elif kind < 0.5:
            block = prose()
        elif kind < 0.68:
            block = items(kind > 0.6)
        elif kind < 0.9:
            block = code()
        else:
            block = table() if kind < 0.97 else f"> {sentence()} {sentence()}"
        blocks.append(block)
        size += len(block) + 2
    return "\n\n".join(blocks)[:num_chars]
