"""What can be chosen for a model on a machine, and which of it is worth a try."""

from __future__ import annotations

from typing import Literal

import msgspec

_WORDS = {
    "num_threads": "threads",
    "num_threads_batch": "batch threads",
    "num_batch": "batch",
    "num_ubatch": "ubatch",
    "flash_attn": "flash",
    "kv_type_k": "kv",
    "kv_type_v": "kv for values",
    "kv_layout": "layout",
}


class Choices(msgspec.Struct, frozen=True, omit_defaults=True):
    """What was chosen; None is the default. The names are those of LoadOptions and LoadSpec."""

    num_threads: int | None = None
    num_threads_batch: int | None = None
    num_batch: int | None = None
    num_ubatch: int | None = None
    flash_attn: bool | None = None
    kv_type_k: str | None = None
    kv_type_v: str | None = None
    kv_layout: Literal["unified", "streams"] | None = None

    def chosen(self) -> dict[str, int | bool | str]:
        """The fields that are no default."""
        return {name: value for name in self.__struct_fields__ if (value := getattr(self, name)) is not None}

    def over(self, base: Choices) -> Choices:
        """These choices, and those of `base` where there is none."""
        return msgspec.structs.replace(base, **self.chosen())

    def __str__(self) -> str:
        chosen = self.chosen()
        if self.kv_type_k == self.kv_type_v:
            chosen.pop("kv_type_v", None)
        return ", ".join(f"{_WORDS[name]} {_word(value)}" for name, value in chosen.items()) or "the defaults"


class Candidate(msgspec.Struct, frozen=True, omit_defaults=True):
    """Something to try. `gives_up` says what it costs besides time; `lossy`: answers may get worse.

    `min_prompt`: with shorter prompts it makes no difference.
    """

    choices: Choices
    gives_up: str | None = None
    lossy: bool = False
    min_prompt: int = 0


class Base(msgspec.Struct, frozen=True):
    """The defaults of this model on this machine, from which a search starts. `pinned`: fields that somebody set."""

    num_cores: int
    num_logical_cores: int
    num_threads: int
    num_slots: int
    num_batch: int
    num_ubatch: int
    kv_layout: Literal["unified", "streams"]
    pinned: frozenset[str] = frozenset()


def candidates(base: Base) -> list[Candidate]:
    """What to try, the most promising first, so that a short budget goes to what matters."""
    # Without a count of its own, what is computed in batches would follow the threads of one stream.
    found = [
        Candidate(Choices(num_threads=count, num_threads_batch=base.num_threads))
        for count in _thread_counts(base, decode=True)
    ]
    found.append(Candidate(Choices(flash_attn=False)))
    found += [Candidate(Choices(num_threads_batch=count)) for count in _thread_counts(base, decode=False)]
    for ubatch in (256, 128, 1024, 2048):
        if ubatch != base.num_ubatch:
            batch = ubatch if ubatch > base.num_batch else None
            shortest = 2 * min(ubatch, base.num_ubatch)
            found.append(Candidate(Choices(num_ubatch=ubatch, num_batch=batch), min_prompt=shortest))
    found.append(Candidate(Choices(num_batch=4 * base.num_batch), min_prompt=2 * base.num_batch))
    if base.num_slots > 1 and base.kv_layout == "streams":
        found.append(Candidate(Choices(kv_layout="unified"), "the slots share one context, instead of having one each"))
    found.append(
        Candidate(
            Choices(kv_type_k="q8_0", kv_type_v="q8_0", flash_attn=True),
            "keys and values rounded to 8 bits: answers change a little",
            lossy=True,
        )
    )
    found.append(Candidate(Choices(kv_type_k="f32", kv_type_v="f32"), "twice the memory for the context"))
    return [candidate for candidate in found if not base.pinned & set(candidate.choices.chosen())]


def _thread_counts(base: Base, *, decode: bool) -> list[int]:
    """Thread counts worth a try beside the default. Prompts are bound by computing: few threads never help them."""
    half, most = (base.num_cores + 1) // 2, base.num_cores
    counts = [half, (3 * most + 3) // 4] if decode or most >= 4 else []
    counts += [base.num_logical_cores] if base.num_logical_cores > most else []
    counts += [most - 1] if most > 4 else []
    return [count for count in dict.fromkeys(counts) if count >= 1 and count != base.num_threads]


def _word(value: int | bool | str) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)
