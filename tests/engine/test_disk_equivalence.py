"""Random traffic over restarts, with a disk that forgets and fails: every sequence gets the tokens it gets alone."""

from __future__ import annotations

import random

import pytest

from localllm.engine.batch import Fetch, Store
from tests.engine.test_equivalence import compare, play, random_settings, random_wishes
from tests.fakes import FakeDisk, Simulation, words


@pytest.fixture(autouse=True)
def small_prefixes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Prompts of these tests are short: let prefixes be worth a file all the same."""
    monkeypatch.setattr("localllm.engine.disk_index.MIN_STORE", 4)
    monkeypatch.setattr("localllm.engine.disk_index.MIN_FETCH", 2)


@pytest.mark.parametrize("first_seed", range(0, 120, 30))
def test_restarts_change_no_answer(first_seed: int) -> None:
    num_read = 0
    for seed in range(first_seed, first_seed + 30):
        rng = random.Random(seed)
        disk = FakeDisk(rng.choice([0, 50, 200, 5000]))
        layout_and_more = random_settings(rng)
        wishes = random_wishes(rng, layout_and_more["num_ctx"])
        for _ in range(3):
            # Another process: other slots, cells and memory, the same model.
            settings = {**random_settings(rng), "kind": layout_and_more["kind"]}
            settings["num_ctx"] = layout_and_more["num_ctx"]
            settings["num_cells"] = settings["num_ctx"] * settings["num_slots"]
            settings["host_tokens"] = rng.choice([0, 200, 5000])
            simulation = Simulation(**settings, disk=disk)
            try:
                play(simulation, wishes)
                compare(simulation, wishes, settings)
                if rng.random() < 0.7:
                    simulation.settle()
            except Exception as exc:
                exc.add_note(f"seed {seed}, {settings}")
                raise
            for name in list(disk.files):
                if rng.random() < 0.1:
                    disk.damaged.add(name)
                elif rng.random() < 0.05:
                    del disk.files[name]
            rng.shuffle(wishes)
            wishes.sort(key=lambda wish: wish.arrival)
        num_read += disk.num_read
    assert num_read > 5


@pytest.mark.parametrize("layout", ["streams", "unified"])
def test_a_restarted_engine_computes_only_what_is_new(layout: str) -> None:
    disk = FakeDisk()
    first = Simulation(num_cells=8000, layout=layout, host_tokens=8000, disk=disk)  # type: ignore[arg-type]
    prompt = words(1, 700)
    first.add(prompt, max_tokens=20)
    first.run()
    first.settle()
    second = Simulation(num_cells=8000, layout=layout, host_tokens=8000, disk=disk)  # type: ignore[arg-type]
    sequence = second.add([*prompt, 1, 2, 3], max_tokens=5)
    other = second.add([*prompt, 4], max_tokens=5)
    second.run()
    assert sequence.num_cached >= 700
    assert other.num_cached >= 700
    assert second.runner.num_computed < 40
    assert disk.num_read == 1


def test_others_run_while_one_waits_for_the_disk() -> None:
    disk = FakeDisk()
    first = Simulation(num_cells=8000, host_tokens=8000, disk=disk)
    prompt = words(1, 700)
    first.add(prompt, max_tokens=1)
    first.run()
    first.settle()
    second = Simulation(num_cells=8000, host_tokens=8000, disk=disk)
    waiting = second.add(prompt, max_tokens=5)
    running = second.add(words(2, 10), max_tokens=50)
    batch = second.step()
    assert [type(op) for op in batch.ops] == [Fetch]
    assert [chunk.sequence_id for chunk in batch.chunks] == [running.id]
    assert waiting.slot is None
    second.run()
    assert waiting.num_cached == 699


def test_who_waits_for_the_disk_can_be_aborted() -> None:
    disk = FakeDisk()
    first = Simulation(num_cells=8000, host_tokens=8000, disk=disk)
    prompt = words(1, 700)
    first.add(prompt, max_tokens=1)
    first.run()
    first.settle()
    second = Simulation(num_cells=8000, host_tokens=8000, disk=disk)
    sequence = second.add(prompt, max_tokens=5)
    second.step()
    second.abort(sequence)
    assert not second.scheduler._arriving
    again = second.add(prompt, max_tokens=5)
    second.run()
    assert again.num_cached == 699
    assert disk.num_read == 1


def test_nothing_is_written_while_something_runs() -> None:
    disk = FakeDisk()
    simulation = Simulation(num_cells=8000, host_tokens=8000, disk=disk)
    simulation.add(words(1, 700), max_tokens=10)
    simulation.add(words(2, 700), max_tokens=200)
    while simulation.busy:
        assert not any(isinstance(op, Store) for op in simulation.step().ops)
    assert not disk.files
