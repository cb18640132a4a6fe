"""The rule of `localllm tune`, on engines that are formulas and a clock that counts what they take."""

from __future__ import annotations

import asyncio
import math
import random

import pytest

from localllm.errors import EngineLoadError
from localllm.tuning import (
    FIGURES,
    MAX_EQUAL,
    MAX_ROUNDS,
    MIN_ROUNDS,
    Base,
    Candidate,
    Choices,
    Clock,
    Figures,
    Outcome,
    Spread,
    candidates,
    decide,
    describe,
    gain_of,
    ratios_of,
    search,
)

BASE = Base(8, 16, 8, 4, 512, 512, "streams")
PROMPT = 512
DEFAULTS = {"decode_1": 100.0, "decode_4": 200.0, "prefill": 500.0, "first_token": 0.2}


class Machine:
    """Engines whose speed is DEFAULTS times the factors of their choices, with noise; a measurement takes `cost_s`."""

    def __init__(self, speed: dict[str, float], *, noise: float = 0.0, seed: int = 0, cost_s: float = 1.0) -> None:
        self.now = 0.0
        self.measured: list[Choices] = []
        self.prompts: list[int] = []
        self.asked_loss: list[Choices] = []
        self._speed, self._noise, self._cost_s = speed, noise, cost_s
        self._random = random.Random(seed)

    async def measure(self, choices: Choices, prompt_tokens: int, *, twin: bool = False) -> Figures:
        assert twin in (False, True)
        self.now += self._cost_s + (prompt_tokens - PROMPT) / DEFAULTS["prefill"]
        self.prompts.append(prompt_tokens)
        self.measured.append(choices)
        if choices.num_ubatch == 666:
            raise EngineLoadError("no such engine")
        factor = 1.0
        for name, value in choices.chosen().items():
            if name != "num_ubatch" or prompt_tokens >= 2 * min(choices.num_ubatch or 0, 512):
                factor *= self._speed.get(f"{name}={value}", 1.0)
        found = {}
        for figure in FIGURES:
            faster = factor * self._random.lognormvariate(0, self._noise)
            found[figure.name] = DEFAULTS[figure.name] * (1 / faster if figure.less_is_better else faster)
        return found

    async def loss(self, choices: Choices) -> str:
        self.asked_loss.append(choices)
        return "measured loss"

    def run(self, wanted: list[Candidate], *, seconds: float = 1000.0, allow_lossy: bool = False) -> Outcome:
        clock = Clock(lambda: self.now, seconds)
        return asyncio.run(search(wanted, self, clock, prompt_tokens=PROMPT, longest=1024, allow_lossy=allow_lossy))


def test_the_score_treats_twice_and_half_alike() -> None:
    double = {name: value * (0.5 if name == "first_token" else 2) for name, value in DEFAULTS.items()}
    assert gain_of(ratios_of([(double, DEFAULTS)])) == pytest.approx(1.0)
    assert gain_of(ratios_of([(DEFAULTS, double)])) == pytest.approx(-0.5)
    mixed = {**DEFAULTS, "decode_1": 200.0}
    assert gain_of(ratios_of([(mixed, DEFAULTS)])) == pytest.approx(2**0.35 - 1)
    assert gain_of({"decode_1": 2.0}) == pytest.approx(1.0)
    assert gain_of({}) == 0.0
    assert sum(figure.weight for figure in FIGURES) == pytest.approx(1.0)


def test_a_disturbed_figure_of_one_round_is_outvoted() -> None:
    disturbed = {**DEFAULTS, "prefill": 50.0}
    rounds = [(DEFAULTS, DEFAULTS), (DEFAULTS, disturbed), (disturbed, DEFAULTS)]
    assert gain_of(ratios_of(rounds)) == pytest.approx(0.0)


@pytest.mark.parametrize(
    ("gain", "num_rounds", "sigma", "verdict"),
    [
        (0.0, 0, 0.0, "open"),
        (0.5, 1, 0.0, "open"),
        (0.5, 2, 0.0, "open"),
        (0.11, 3, 0.045, "kept"),
        (0.11, 3, 0.05, "open"),
        (0.10, 6, 0.10, "no gain"),
        (0.02, 3, 0.0, "open"),
        (0.02, 6, 0.0, "no gain"),
        (0.0, 3, 0.01, "no gain"),
        (0.4, 3, 0.3, "open"),
        (-0.1, 1, 0.02, "open"),
        (-0.3, 1, 0.02, "worse"),
        (-0.055, 2, 0.015, "worse"),
        (-0.055, 2, 0.02, "no gain"),
        (-0.055, 2, 0.10, "open"),
        (-0.055, 3, 0.10, "no gain"),
    ],
)
def test_what_some_rounds_say(gain: float, num_rounds: int, sigma: float, verdict: str) -> None:
    assert decide(gain, num_rounds, sigma) == verdict


def test_the_spread_of_rounds_comes_from_all_comparisons() -> None:
    spread = Spread()
    assert spread.sigma() == math.inf
    assert spread.sigma([0.5]) == math.inf
    spread.add([0.03, -0.03], expected=0.0)
    assert spread.sigma() == pytest.approx(0.03 * 1.75)
    assert spread.sigma([0.1, 0.2]) > spread.sigma()
    spread.add([0.5, 0.5, 0.5])
    assert spread.sigma() == pytest.approx(0.03 / math.sqrt(2) * 1.375)


def test_one_disturbed_round_does_not_make_all_the_others_uncertain() -> None:
    spread = Spread()
    spread.add([0.01, -0.01, 0.012, -0.012], expected=0.0)
    before = spread.sigma()
    spread.add([0.9], expected=0.0)
    assert before < spread.sigma() < 3 * before


def test_gains_add_up_and_losses_are_left_out() -> None:
    machine = Machine({"num_ubatch=256": 1.2, "flash_attn=False": 0.8, "kv_layout=unified": 1.1}, noise=0.005)
    outcome = machine.run(candidates(BASE))
    assert outcome.choices == Choices(num_ubatch=256, kv_layout="unified")
    assert outcome.gain == pytest.approx(0.32, abs=0.03)
    assert outcome.ratios["prefill"] == pytest.approx(1.32, abs=0.04)
    assert outcome.figures["decode_1"] == pytest.approx(100, rel=0.02)
    verdicts = {describe(trial).split(":")[0]: trial.verdict for trial in outcome.trials}
    assert verdicts["flash off"] == "worse"
    assert verdicts["ubatch 256"] == "kept"
    # A later candidate is measured against what was kept before it.
    assert all(trial.baseline.num_ubatch == 256 for trial in outcome.trials if trial.choices.kv_layout)


def test_noise_alone_changes_nothing() -> None:
    changed = [seed for seed in range(300) if Machine({}, noise=0.1, seed=seed).run(candidates(BASE)).choices.chosen()]
    assert len(changed) <= 9, f"{len(changed)} of 300 searches took noise for a gain"


def test_a_real_gain_is_found_in_noise() -> None:
    wanted = [Candidate(Choices(num_ubatch=256))]
    found = [Machine({"num_ubatch=256": 1.25}, noise=0.05, seed=seed).run(wanted).choices for seed in range(100)]
    assert sum(choices.num_ubatch == 256 for choices in found) >= 90


@pytest.mark.parametrize("seconds", [4.5, 9.0, 25.0, 60.0, 110.0])
def test_the_budget_holds(seconds: float) -> None:
    machine = Machine({"num_ubatch=256": 1.2, "kv_layout=unified": 1.1}, noise=0.01)
    outcome = machine.run(candidates(BASE), seconds=seconds)
    assert machine.now <= seconds
    assert outcome.seconds == machine.now
    late = [trial for trial in outcome.trials if trial.verdict == "skipped"]
    assert {trial.reason for trial in late} <= {"no time left"}
    if seconds <= 9:
        assert not outcome.choices.chosen()
        assert late


def test_two_gains_without_the_time_for_their_last_comparison_are_not_begun() -> None:
    machine = Machine({"flash_attn=False": 1.3, "kv_layout=unified": 1.3})
    wanted = [Candidate(Choices(flash_attn=False)), Candidate(Choices(kv_layout="unified"))]
    # 4 for the noise, 6 for the first; the second needs 6 and the last comparison 6.
    short = machine.run(wanted, seconds=16.5)
    assert short.choices == Choices(flash_attn=False)
    assert short.trials[1].reason == "no time left"
    full = Machine({"flash_attn=False": 1.3, "kv_layout=unified": 1.3}).run(wanted, seconds=23)
    assert full.choices == Choices(flash_attn=False, kv_layout="unified")
    assert full.gain == pytest.approx(0.69)


def test_what_shows_only_in_long_prompts_is_tried_last_with_long_prompts() -> None:
    wanted = [Candidate(Choices(num_ubatch=1024), min_prompt=1024), Candidate(Choices(flash_attn=False))]
    machine = Machine({"num_ubatch=1024": 1.3, "flash_attn=False": 1.2})
    outcome = machine.run(wanted)
    assert [trial.choices.num_ubatch for trial in outcome.trials] == [None, 1024]
    assert outcome.choices == Choices(num_ubatch=1024, flash_attn=False)
    assert outcome.gain == pytest.approx(0.56)
    assert machine.prompts == sorted(machine.prompts)
    beyond = Machine({}).run([Candidate(Choices(num_ubatch=2048), min_prompt=2048)])
    assert "context is too short" in beyond.trials[0].reason


def test_too_little_time_for_anything_is_said() -> None:
    with pytest.raises(TimeoutError):
        Machine({}).run(candidates(BASE), seconds=0.5)


def test_lossy_choices_are_shown_and_taken_only_when_allowed() -> None:
    speed = {"kv_type_k=q8_0": 1.5}
    machine = Machine(speed, noise=0.01)
    kept = machine.run(candidates(BASE))
    assert not kept.choices.chosen()
    trial = next(trial for trial in kept.trials if trial.choices.kv_type_k == "q8_0")
    assert trial.verdict == "lossy"
    assert trial.gain == pytest.approx(0.5, abs=0.05)
    assert trial.gives_up is not None
    assert "measured loss" in trial.gives_up
    assert machine.asked_loss == [trial.choices]
    allowed = Machine(speed, noise=0.01).run(candidates(BASE), allow_lossy=True)
    assert allowed.choices.kv_type_k == "q8_0"


def test_what_does_not_load_is_passed_over() -> None:
    machine = Machine({"flash_attn=False": 1.3})
    wanted = [Candidate(Choices(num_ubatch=666)), Candidate(Choices(flash_attn=False))]
    outcome = machine.run(wanted)
    assert (outcome.trials[0].verdict, outcome.trials[0].reason) == ("failed", "no such engine")
    assert outcome.choices == Choices(flash_attn=False)


def test_both_sides_are_measured_turn_about() -> None:
    machine = Machine({"flash_attn=False": 1.0})
    machine.run([Candidate(Choices(flash_attn=False))])
    tried = machine.measured[2 * MAX_EQUAL :]
    assert MIN_ROUNDS * 2 <= len(tried) <= MAX_ROUNDS * 2
    on, off = Choices(), Choices(flash_attn=False)
    assert tried[:6] == [off, on, on, off, off, on]


def test_candidates_leave_alone_what_somebody_set() -> None:
    pinned = frozenset({"num_threads", "num_threads_batch", "kv_layout"})
    found = candidates(Base(8, 16, 8, 4, 512, 512, "streams", pinned))
    assert found
    assert not any(pinned & set(candidate.choices.chosen()) for candidate in found)


@pytest.mark.parametrize(("cores", "logical"), [(1, 1), (2, 2), (2, 4), (8, 16), (64, 128)])
def test_candidates_of_many_machines(cores: int, logical: int) -> None:
    found = candidates(Base(cores, logical, cores, 1, 512, 512, "unified"))
    counts = [candidate.choices.num_threads for candidate in found if candidate.choices.num_threads]
    assert all(1 <= count <= logical and count != cores for count in counts)
    assert len(counts) == len(set(counts)) <= 4
    assert not any(candidate.choices.kv_layout for candidate in found)
    assert [candidate.lossy for candidate in found].count(True) == 1


def test_choices_in_words() -> None:
    assert str(Choices()) == "the defaults"
    assert str(Choices(num_threads=4, flash_attn=False)) == "threads 4, flash off"
    assert str(Choices(kv_type_k="q8_0", kv_type_v="q8_0")) == "kv q8_0"
    assert str(Choices(kv_type_v="q8_0", num_ubatch=64)) == "ubatch 64, kv for values q8_0"
    assert all(str(Choices(**{name: 1})) for name in Choices.__struct_fields__)  # type: ignore[arg-type]
