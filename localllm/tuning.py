"""What `localllm tune` may choose, and the rule by which it chooses. Pure: no engine, no file, no clock of its own.

From the defaults, one choice after another is tried against the best so far. Both are measured turn about, in rounds;
a round's gain is the weighted mean of the logarithms of the figures' ratios, so that twice as fast and half as fast
cancel out. What stays within the noise is not kept.
"""

from __future__ import annotations

import asyncio
import math
import statistics
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple, Protocol

import msgspec

from localllm.errors import LocalLLMError

MIN_GAIN = 0.03  # less than this is not worth leaving the defaults for
MIN_ROUNDS, MAX_ROUNDS = 3, 6
MAX_EQUAL = 3
SIGMAS = 4  # a search asks some 40 times whether a gain is real: with 3, one in ten took noise for a gain
CLEAR_LOSS = 0.15  # one round this bad settles it

RULE = (
    f"A choice is kept when its median gain over {MIN_ROUNDS} to {MAX_ROUNDS} rounds is above {MIN_GAIN:.0%} and above "
    f"the noise: {SIGMAS} times the standard error, from how much rounds of one comparison differ and two engines with "
    "equal settings. Several choices together must pass the same against the defaults once more."
)

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

Verdict = Literal["kept", "no gain", "worse", "skipped", "failed", "lossy"]
Figures = Mapping[str, float]


class Figure(NamedTuple):
    """Something measured, and its weight in the score."""

    name: str
    weight: float
    unit: str
    words: str
    less_is_better: bool = False


FIGURES = (
    Figure("decode_1", 0.35, "tok/s", "one stream, from its first token to its last"),
    Figure("decode_4", 0.25, "tok/s", "four streams together"),
    Figure("prefill", 0.25, "tok/s", "one prompt, alone"),
    Figure("first_token", 0.15, "s", "the first token of a prompt that arrives beside three streams", True),
)


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


class Trial(msgspec.Struct, frozen=True):
    """What became of a candidate. `gain` 0.1: a tenth faster by the score, in the median of `rounds`.

    `ratios` are medians by figure, above 1 is better. `baseline` is what it was measured against.
    """

    choices: Choices
    baseline: Choices
    verdict: Verdict
    gain: float = 0.0
    noise: float = 0.0
    rounds: tuple[float, ...] = ()
    ratios: dict[str, float] = {}
    reason: str = ""
    gives_up: str | None = None


class Outcome(msgspec.Struct, frozen=True):
    """What a search found. `figures` are medians of the defaults; `spread`: standard deviation of a round's gain."""

    choices: Choices
    gain: float
    ratios: dict[str, float]
    figures: dict[str, float]
    spread: float
    trials: tuple[Trial, ...]
    seconds: float


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


class Measurer(Protocol):
    """Runs an engine with given choices."""

    async def measure(self, choices: Choices, *, twin: bool = False) -> Figures:
        """One round's figures. `twin`: in another engine than the one that has these choices already.

        Raises LocalLLMError when no engine can have them: too little memory, or llama.cpp refuses.
        """
        ...

    async def loss(self, choices: Choices) -> str:
        """How much answers differ from those of the defaults, measured, in words."""
        ...


@dataclass(frozen=True)
class Clock:
    """The time budget: `now` in seconds, and when everything has to be over."""

    now: Callable[[], float]
    deadline: float

    @property
    def left(self) -> float:
        """Seconds that are left."""
        return self.deadline - self.now()


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
    found.append(Candidate(Choices(kv_type_k="f32", kv_type_v="f32"), "twice the memory for the context"))
    found.append(
        Candidate(
            Choices(kv_type_k="q8_0", kv_type_v="q8_0", flash_attn=True),
            "keys and values rounded to 8 bits: answers change a little",
            lossy=True,
        )
    )
    return [candidate for candidate in found if not base.pinned & set(candidate.choices.chosen())]


def _thread_counts(base: Base, *, decode: bool) -> list[int]:
    """Thread counts worth a try beside the default. Prompts are bound by computing: few threads never help them."""
    half, most = (base.num_cores + 1) // 2, base.num_cores
    counts = [half, (3 * most + 3) // 4] if decode or most >= 4 else []
    counts += [base.num_logical_cores] if base.num_logical_cores > most else []
    counts += [most - 1] if most > 4 else []
    return [count for count in dict.fromkeys(counts) if count >= 1 and count != base.num_threads]


def gain_of(figures: Figures, baseline: Figures) -> float:
    """How much faster `figures` are than `baseline`: 0.1 is a tenth. Figures that one of them lacks do not count."""
    shared = [figure for figure in FIGURES if figure.name in figures and figure.name in baseline]
    weight = sum(figure.weight for figure in shared)
    logs = (figure.weight * math.log(_ratio(figure, figures, baseline)) for figure in shared)
    return math.exp(sum(logs) / weight) - 1 if weight else 0.0


def ratios_of(rounds: Sequence[tuple[Figures, Figures]]) -> dict[str, float]:
    """Median ratio of each figure over the rounds, above 1 is better."""
    found: dict[str, float] = {}
    for figure in FIGURES:
        ratios = [_ratio(figure, ours, base) for ours, base in rounds if figure.name in ours and figure.name in base]
        if ratios:
            found[figure.name] = statistics.median(ratios)
    return found


class Spread:
    """How far rounds of one comparison lie apart: the standard deviation of a round's gain, from all rounds so far."""

    def __init__(self) -> None:
        self._squares = 0.0
        self._freedom = 0

    def add(self, gains: Sequence[float], *, expected: float | None = None) -> None:
        """Take in the rounds of one comparison; `expected` is their true gain where that is known."""
        middle = statistics.fmean(gains) if expected is None else expected
        self._squares += sum((gain - middle) ** 2 for gain in gains)
        self._freedom += len(gains) - (expected is None)

    def sigma(self, gains: Sequence[float] = ()) -> float:
        """The deviation, with the rounds of one more comparison; larger while few rounds are known."""
        squares, freedom = self._squares, self._freedom
        if len(gains) > 1:
            middle = statistics.fmean(gains)
            squares += sum((gain - middle) ** 2 for gain in gains)
            freedom += len(gains) - 1
        return math.sqrt(squares / freedom) * (1 + 1.5 / freedom) if freedom else math.inf


def noise_of(num_rounds: int, sigma: float) -> float:
    """What the median gain of so many rounds must be above."""
    return SIGMAS * sigma / math.sqrt(num_rounds)


def decide(gains: Sequence[float], sigma: float) -> Literal["kept", "no gain", "worse", "open"]:
    """What some rounds say, by `RULE`; `sigma` is a round's deviation. "open": another round is needed."""
    if not gains:
        return "open"
    middle = statistics.median(gains)
    bar = max(MIN_GAIN, noise_of(len(gains), sigma))
    if middle < -max(bar, CLEAR_LOSS if len(gains) == 1 else 0.0):
        return "worse"
    if len(gains) > 1 and middle < -bar / 2:
        return "no gain"
    if len(gains) < MIN_ROUNDS:
        return "open"
    if middle > bar:
        return "kept"
    return "no gain" if middle <= bar / 3 or len(gains) >= MAX_ROUNDS else "open"


async def search(
    wanted: Iterable[Candidate],
    measurer: Measurer,
    clock: Clock,
    *,
    prompt_tokens: int,
    allow_lossy: bool = False,
    tell: Callable[[str], None] = lambda _line: None,
) -> Outcome:
    """Try each candidate against the best so far, within the clock's budget, and return what was found.

    `prompt_tokens` is the length of the measured prompts. Lossy candidates are measured too, but taken only where
    `allow_lossy` is set. Raises TimeoutError when not even the defaults could be measured in time.
    """
    return await _Search(measurer, clock, tell, allow_lossy=allow_lossy).run(wanted, prompt_tokens)


class _Search:
    """One search: the best so far, the noise, and how long a measurement takes."""

    def __init__(self, measurer: Measurer, clock: Clock, tell: Callable[[str], None], *, allow_lossy: bool) -> None:
        self._measurer = measurer
        self._clock = clock
        self._tell = tell
        self._allow_lossy = allow_lossy
        self._began = clock.now()
        self._best = Choices()
        self._num_kept = 0
        self._spread = Spread()
        self._defaults: list[Figures] = []
        self._side_s = 0.0

    async def run(self, wanted: Iterable[Candidate], prompt_tokens: int) -> Outcome:
        await self._calibrate()
        trials: list[Trial] = []
        for candidate in wanted:
            trial = await self._try(candidate, prompt_tokens)
            if trial is None:
                continue
            trials.append(trial)
            self._tell(describe(trial))
            if trial.verdict == "kept":
                self._best = trial.choices
                self._num_kept += 1
        final = await self._confirm(trials)
        kept = final is not None and final.verdict == "kept"
        figures = {
            figure.name: statistics.median(found[figure.name] for found in self._defaults)
            for figure in FIGURES
            if all(figure.name in found for found in self._defaults)
        }
        return Outcome(
            choices=self._best if kept else Choices(),
            gain=final.gain if kept and final is not None else 0.0,
            ratios=final.ratios if kept and final is not None else {},
            figures=figures,
            spread=self._spread.sigma(),
            trials=tuple(trials),
            seconds=self._clock.now() - self._began,
        )

    async def _calibrate(self) -> None:
        """Measure the defaults against themselves, in two engines: what differs there is noise."""
        gains: list[float] = []
        while not gains or (len(gains) < MAX_EQUAL and 2 * self._side_s < self._clock.left / 20):
            first = await self._measure(self._best, twin=len(gains) % 2 == 0)
            second = await self._measure(self._best, twin=len(gains) % 2 == 1)
            gains.append(gain_of(first, second))
        self._spread.add(gains, expected=0.0)
        self._tell(f"rounds of equal settings differ by {self._spread.sigma():.1%} here")

    async def _try(self, candidate: Candidate, prompt_tokens: int) -> Trial | None:
        """Measure a candidate, or say why not; None where the best has it already."""
        choices = candidate.choices.over(self._best)
        if choices == self._best:
            return None
        if prompt_tokens < candidate.min_prompt:
            reason = f"shows only in prompts of {candidate.min_prompt} tokens, which take too long here"
            return Trial(choices, self._best, "skipped", reason=reason, gives_up=candidate.gives_up)
        # With a choice kept already, time for the last comparison is left over.
        reserve = 2 * MIN_ROUNDS * self._side_s if self._num_kept else 0.0
        trial = await self._compare(choices, self._best, reserve)
        gives_up = candidate.gives_up
        if trial.verdict == "kept" and candidate.lossy:
            gives_up = f"{gives_up}; {await self._loss(choices)}"
            if not self._allow_lossy:
                trial = msgspec.structs.replace(trial, verdict="lossy", reason="taken only with --allow-lossy")
        return msgspec.structs.replace(trial, gives_up=gives_up)

    async def _loss(self, choices: Choices) -> str:
        try:
            async with asyncio.timeout(max(0.0, self._clock.left)):
                return await self._measurer.loss(choices)
        except (TimeoutError, LocalLLMError):
            return "how much was not measured"

    async def _confirm(self, trials: Sequence[Trial]) -> Trial | None:
        """Several choices together, against the defaults; one alone was measured against them already."""
        if not self._num_kept:
            return None
        if self._num_kept == 1:
            return next(trial for trial in trials if trial.verdict == "kept")
        self._tell("all of it against the defaults ...")
        final = await self._compare(self._best, Choices(), 0.0)
        self._tell(describe(final))
        return final

    async def _compare(self, choices: Choices, baseline: Choices, reserve_s: float) -> Trial:
        """Rounds of both, turn about, till the rule decides or the time is over."""
        rounds: list[tuple[Figures, Figures]] = []
        gains: list[float] = []
        verdict: Literal["kept", "no gain", "worse", "open"] = "open"
        reason = ""
        while verdict == "open":
            if 2 * self._side_s + reserve_s > self._clock.left:
                reason = "no time left"
                break
            try:
                if len(rounds) % 2:
                    base = await self._measure(baseline)
                    ours = await self._measure(choices)
                else:
                    ours = await self._measure(choices)
                    base = await self._measure(baseline)
            except TimeoutError:
                reason = "no time left"
                break
            except LocalLLMError as error:
                return Trial(choices, baseline, "failed", reason=error.message)
            rounds.append((ours, base))
            gains.append(gain_of(ours, base))
            verdict = decide(gains, self._spread.sigma(gains))
        sigma = self._spread.sigma(gains)
        if gains:
            self._spread.add(gains)
        return Trial(
            choices,
            baseline,
            "skipped" if verdict == "open" else verdict,
            gain=statistics.median(gains) if gains else 0.0,
            noise=noise_of(len(gains), sigma) if gains else 0.0,
            rounds=tuple(gains),
            ratios=ratios_of(rounds),
            reason=reason,
        )

    async def _measure(self, choices: Choices, *, twin: bool = False) -> Figures:
        began = self._clock.now()
        if self._clock.left <= 0:
            raise TimeoutError
        async with asyncio.timeout(max(0.0, self._clock.left)):
            found = await self._measurer.measure(choices, twin=twin)
        self._side_s = max(0.7 * self._side_s, self._clock.now() - began)
        if choices == Choices():
            self._defaults.append(found)
        return found


def describe(trial: Trial) -> str:
    """A trial in one line."""
    words = f"{changed(trial)}: {trial.verdict}"
    if trial.rounds:
        words += f", {trial.gain:+.1%} (noise {trial.noise:.1%}, {len(trial.rounds)} rounds)"
    return f"{words}; {trial.reason}" if trial.reason else words


def changed(trial: Trial) -> Choices:
    """What a trial had and its baseline had not."""
    before = trial.baseline.chosen()
    return msgspec.convert(
        {name: value for name, value in trial.choices.chosen().items() if before.get(name) != value}, Choices
    )


def _ratio(figure: Figure, figures: Figures, baseline: Figures) -> float:
    """Of two positive figures, above 1 is better."""
    ours, base = max(figures[figure.name], 1e-9), max(baseline[figure.name], 1e-9)
    return base / ours if figure.less_is_better else ours / base


def _word(value: int | bool | str) -> str:
    return {True: "on", False: "off"}[value] if isinstance(value, bool) else str(value)
