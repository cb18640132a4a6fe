"""The search: candidate after candidate against the best so far, turn about, within a time budget."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol

import msgspec

from localllm.errors import LocalLLMError
from localllm.tuning.choices import Candidate, Choices
from localllm.tuning.rule import FIGURES, MAX_EQUAL, MIN_ROUNDS, Figures, Spread, decide, gain_of, noise_of, ratios_of

Verdict = Literal["kept", "no gain", "worse", "skipped", "failed", "lossy"]


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


class Measurer(Protocol):
    """Runs an engine with given choices."""

    async def measure(self, choices: Choices, prompt_tokens: int, *, twin: bool = False) -> Figures:
        """One round's figures, prefill with a prompt of that length.

        `twin`: in another engine than the one that has these choices already.
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


async def search(
    wanted: Iterable[Candidate],
    measurer: Measurer,
    clock: Clock,
    *,
    prompt_tokens: int,
    longest: int,
    allow_lossy: bool = False,
    tell: Callable[[str], None] = lambda _line: None,
) -> Outcome:
    """Try each candidate against the best so far, within the clock's budget, and return what was found.

    `prompt_tokens` is the length of the measured prompts; what shows only in longer ones is tried last, with prompts of
    up to `longest`. Lossy candidates are measured too, but taken only where `allow_lossy` is set. Raises TimeoutError
    when not even the defaults could be measured in time.
    """
    searching = _Search(measurer, clock, tell, prompt_tokens=prompt_tokens, longest=longest, allow_lossy=allow_lossy)
    return await searching.run(sorted(wanted, key=lambda candidate: max(prompt_tokens, candidate.min_prompt)))


class _Search:
    """One search: the best so far, the noise, and how long a measurement takes."""

    def __init__(
        self,
        measurer: Measurer,
        clock: Clock,
        tell: Callable[[str], None],
        *,
        prompt_tokens: int,
        longest: int,
        allow_lossy: bool,
    ) -> None:
        self._prompt_tokens = prompt_tokens
        self._longest = longest
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
        self._kept_prompt = prompt_tokens

    async def run(self, wanted: Iterable[Candidate]) -> Outcome:
        await self._calibrate()
        trials: list[Trial] = []
        for candidate in wanted:
            trial = await self._try(candidate)
            if trial is None:
                continue
            trials.append(trial)
            self._tell(describe(trial))
            if trial.verdict == "kept":
                self._best = trial.choices
                self._num_kept += 1
                self._kept_prompt = max(self._kept_prompt, candidate.min_prompt)
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
            first = await self._measure(self._best, self._prompt_tokens, twin=len(gains) % 2 == 0)
            second = await self._measure(self._best, self._prompt_tokens, twin=len(gains) % 2 == 1)
            gains.append(gain_of(ratios_of([(first, second)])))
        self._spread.add(gains, expected=0.0)
        self._tell(f"rounds of equal settings differ by {self._spread.sigma():.1%} here")

    async def _try(self, candidate: Candidate) -> Trial | None:
        """Measure a candidate, or say why not; None where the best has it already."""
        choices = candidate.choices.over(self._best)
        if choices == self._best:
            return None
        if candidate.min_prompt > self._longest:
            reason = f"shows only in prompts of {candidate.min_prompt} tokens, for which the context is too short"
            return Trial(choices, self._best, "skipped", reason=reason, gives_up=candidate.gives_up)
        # With a choice kept already, time for the last comparison is left over.
        prompt = max(self._prompt_tokens, candidate.min_prompt)
        reserve = 2 * MIN_ROUNDS * self._cost_s(max(prompt, self._kept_prompt)) if self._num_kept else 0.0
        trial = await self._compare(choices, self._best, reserve, prompt)
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
        final = await self._compare(self._best, Choices(), 0.0, self._kept_prompt)
        self._tell(describe(final))
        return final

    async def _compare(self, choices: Choices, baseline: Choices, reserve_s: float, prompt: int) -> Trial:
        """Rounds of both, turn about, till the rule decides or the time is over."""
        rounds: list[tuple[Figures, Figures]] = []
        gains: list[float] = []
        ratios: dict[str, float] = {}
        verdict: Literal["kept", "no gain", "worse", "open"] = "open"
        reason = ""
        while verdict == "open":
            if 2 * self._cost_s(prompt) + reserve_s > self._clock.left:
                reason = "no time left"
                break
            try:
                if len(rounds) % 2:
                    base = await self._measure(baseline, prompt)
                    ours = await self._measure(choices, prompt)
                else:
                    ours = await self._measure(choices, prompt)
                    base = await self._measure(baseline, prompt)
            except TimeoutError:
                reason = "no time left"
                break
            except LocalLLMError as error:
                return Trial(choices, baseline, "failed", reason=error.message)
            rounds.append((ours, base))
            gains.append(gain_of(ratios_of([(ours, base)])))
            ratios = ratios_of(rounds)
            verdict = decide(gain_of(ratios), len(gains), self._spread.sigma(gains))
        sigma = self._spread.sigma(gains)
        if gains:
            self._spread.add(gains)
        return Trial(
            choices,
            baseline,
            "skipped" if verdict == "open" else verdict,
            gain=gain_of(ratios) if gains else 0.0,
            noise=noise_of(len(gains), sigma) if gains else 0.0,
            rounds=tuple(gains),
            ratios=ratios,
            reason=reason,
        )

    def _cost_s(self, prompt: int) -> float:
        """Seconds of one measurement with prompts of that length."""
        rate = min(found["prefill"] for found in self._defaults)
        return self._side_s + (prompt - self._prompt_tokens) / max(rate, 1e-9)

    async def _measure(self, choices: Choices, prompt: int, *, twin: bool = False) -> Figures:
        began = self._clock.now()
        if self._clock.left <= 0:
            raise TimeoutError
        async with asyncio.timeout(max(0.0, self._clock.left)):
            found = await self._measurer.measure(choices, prompt, twin=twin)
        if prompt == self._prompt_tokens:
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
