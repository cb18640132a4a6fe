"""What may be pulled and whether it fits: over the real catalogue, a real store with tiny models, and known memory."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from localllm import paths
from localllm.api import Finished, LoadOptions, Timings, Usage
from localllm.api.finder import Fit, HasFinder, Offer, Speed
from localllm.catalog import Catalog
from localllm.config import Settings
from localllm.errors import ModelNotFoundError
from localllm.finder import CatalogFinder
from localllm.fit import active_share, file_bytes, fit_of, usual_facts
from localllm.machine import this_machine
from localllm.memory import DeviceMemory, plan
from localllm.resolver import Resolver
from localllm.service import Service
from localllm.speeds import MAX_RATES, Speeds
from localllm.store.identity import weights_id
from localllm.store.manifest import Manifest
from localllm.tuned import Tuning, save
from localllm.tuning import Choices, Outcome
from tests.store.models import add_model

GIB = 2**30


class Machine:
    """A store, a memory of so many bytes, and what was measured there."""

    def __init__(self, home: Path, memory_bytes: int = 16 * GIB) -> None:
        self.memory_bytes = memory_bytes
        self.resolver = Resolver(Settings(store_dir=home / "store"), pull_missing=False)
        self.speeds = Speeds()
        self.finder = CatalogFinder(self.resolver, lambda: self.memory_bytes, self.speeds)

    def offer(self, name: str) -> Offer:
        return asyncio.run(self.finder.offer(name))

    def fit(self, name: str) -> Fit:
        fit = self.offer(name).fit
        assert fit is not None
        return fit

    def speed(self, name: str) -> Speed | None:
        return self.offer(name).speed

    def answered(self, manifest: Manifest, tokens_per_s: float, num_tokens: int = 101) -> None:
        timings = Timings(decode_s=(num_tokens - 1) / tokens_per_s)
        finished = Finished("stop", Usage(num_output_tokens=num_tokens), timings)
        self.speeds.note(weights_id(manifest, ()), manifest.name, "CPU", finished)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


@pytest.fixture
def here(machine: Machine, tiny_model: Callable[..., Path]) -> Manifest:
    """A model of the catalogue that is installed; its bytes are a tiny one's."""
    return add_model(machine.resolver.store, "smollm2:135m", tiny_model())


def test_the_catalogue_is_whole_and_searched_by_words(machine: Machine, here: Manifest) -> None:
    offers = asyncio.run(machine.finder.catalogue())
    assert [offer.name for offer in offers] == [variant.name for variant in Catalog.load().all()]
    assert [offer.name for offer in offers if offer.installed] == [here.name]
    assert all(offer.fit is not None for offer in offers)
    found = asyncio.run(machine.finder.catalogue("hugging apache 1.7"))
    assert [offer.name for offer in found] == ["smollm2:1.7b"]
    (small,) = asyncio.run(machine.finder.catalogue("smollm2:135m"))
    assert (small.title, small.publisher, small.licence) == ("SmolLM2", "Hugging Face", "Apache-2.0")
    assert small.size_bytes == here.size_bytes


def test_a_model_fits_with_less_context_in_less_memory(machine: Machine) -> None:
    machine.memory_bytes = 32 * GIB
    fits = machine.fit("qwen3:8b")
    assert (fits.verdict, fits.num_ctx, fits.device, fits.basis) == ("fits", fits.num_ctx_train, "CPU", "size")
    assert fits.needed_bytes < fits.available_bytes <= 32 * GIB
    machine.memory_bytes = 9 * GIB
    reduced = machine.fit("qwen3:8b")
    assert reduced.verdict == "reduced"
    assert 512 <= reduced.num_ctx < fits.num_ctx
    assert reduced.needed_bytes <= reduced.available_bytes
    machine.memory_bytes = 4 * GIB
    paged = machine.fit("qwen3:8b")
    assert paged.verdict == "paged"
    assert paged.why is not None
    machine.memory_bytes = 100 * 2**20
    none = machine.fit("qwen3:8b")
    assert (none.verdict, none.num_ctx) == ("too large", 0)
    assert none.needed_bytes > none.available_bytes
    assert none.why is not None


def test_an_installed_model_is_judged_by_its_header(machine: Machine, here: Manifest) -> None:
    assert machine.fit(here.name).basis == "header"
    assert machine.fit("smollm2").basis == "header"
    assert machine.fit("smollm2:360m").basis == "size"
    assert machine.fit("smollm3").basis in ("size", "parameters")


def test_a_model_that_only_this_store_knows(machine: Machine, tiny_model: Callable[..., Path]) -> None:
    add_model(machine.resolver.store, "mine", tiny_model())
    offer = machine.offer("mine")
    assert (offer.name, offer.installed) == ("mine", True)
    assert offer.fit is not None
    with pytest.raises(ModelNotFoundError):
        machine.offer("nobody")


def test_nothing_measured_is_no_speed(machine: Machine, here: Manifest) -> None:
    assert machine.speed(here.name) is None
    assert machine.speed("qwen3:0.6b") is None
    machine.answered(here, 50.0, num_tokens=20)
    assert machine.speed(here.name) is None, "too short to tell"


def test_speeds_scale_with_the_bytes_of_a_token(machine: Machine, here: Manifest) -> None:
    for rate in (90.0, 100.0, 5000.0):
        machine.answered(here, rate)
    assert machine.speed(here.name) == Speed(100.0, "measured", here.name, "answers")
    small, large = machine.speed("qwen3:0.6b"), machine.speed("qwen3:4b")
    assert small is not None
    assert large is not None
    assert (small.basis, small.model) == ("scaled", here.name)
    sizes = {name: machine.offer(name).size_bytes or 0 for name in ("qwen3:0.6b", "qwen3:4b")}
    assert small.tokens_per_s / large.tokens_per_s == pytest.approx(sizes["qwen3:4b"] / sizes["qwen3:0.6b"])
    machine.memory_bytes = 4 * GIB
    assert machine.speed("qwen3:8b") is None, "read from disk, the disk decides"


def test_of_a_mixture_of_experts_only_some_weights_count(machine: Machine, here: Manifest) -> None:
    machine.memory_bytes = 64 * GIB
    machine.answered(here, 100.0)
    sparse, dense = machine.speed("qwen3-coder:30b"), machine.speed("qwen2.5-coder:32b")
    assert sparse is not None
    assert dense is not None
    assert sparse.tokens_per_s > 5 * dense.tokens_per_s
    assert machine.speed("grok-2") is None, "how many of its weights a token reads is not known"


def test_what_tune_measured_counts_first(machine: Machine, here: Manifest) -> None:
    machine.answered(here, 100.0)
    outcome = Outcome(Choices(), 0.1, {"decode_1": 1.1}, {"decode_1": 200.0}, 0.01, (), 1.0)
    tuning = Tuning(weights_id(here, ()), here.name, this_machine(), "auto", 512, 2, outcome, "2026-01-01T00:00:00Z")
    save(tuning)
    speed = machine.speed(here.name)
    assert speed is not None
    assert speed.tokens_per_s == pytest.approx(220.0)
    assert speed.source == "tune"


def test_what_was_observed_is_kept(machine: Machine, here: Manifest) -> None:
    for number in range(MAX_RATES + 5):
        machine.answered(here, 100.0 + number)
    machine.speeds.save()
    (kept,) = Speeds().observed()
    assert len(kept.rates) == MAX_RATES
    assert kept.tokens_per_s == pytest.approx(112.5)
    other = Speeds()
    other.note("sha256-00", "other", "CPU", Finished("stop", Usage(num_output_tokens=64), Timings(decode_s=1.0)))
    other.save()
    assert [one.name for one in Speeds().observed()] == [here.name, "other"]


@pytest.mark.parametrize("damage", [b"", b"{", b"[]", b"\xff", b'{"machine": "elsewhere", "models": []}'])
def test_a_file_that_does_not_read_counts_as_none(machine: Machine, here: Manifest, damage: bytes) -> None:
    file = paths.state_dir() / "speeds.json"
    file.parent.mkdir(parents=True)
    file.write_bytes(damage)
    assert Speeds().observed() == ()
    machine.answered(here, 100.0)
    machine.speeds.save()
    assert len(Speeds().observed()) == 1


def test_figures_of_another_machine_count_as_none(machine: Machine, here: Manifest) -> None:
    machine.answered(here, 100.0)
    machine.speeds.save()
    file = paths.state_dir() / "speeds.json"
    value = json.loads(file.read_bytes())
    file.write_bytes(msgspec.json.encode(value | {"machine": "another one, 64 cores"}))
    assert Speeds().observed() == ()


def test_drafted_and_dictated_tokens_tell_nothing(machine: Machine) -> None:
    for usage in (Usage(num_output_tokens=99, num_drafted_tokens=4), Usage(num_output_tokens=99, num_forced_tokens=4)):
        machine.speeds.note("sha256-00", "x", "CPU", Finished("stop", usage, Timings(decode_s=1.0)))
    assert machine.speeds.observed() == ()


def test_the_size_of_a_file_from_its_parameters() -> None:
    known = [variant for variant in Catalog.load().all() if variant.size_bytes and variant.num_params > 2e9]
    assert len(known) > 20
    for variant in known:
        assert variant.size_bytes is not None
        guess = file_bytes(variant.num_params, variant.quant)
        assert guess is not None
        assert guess == pytest.approx(variant.size_bytes, rel=0.1), variant.name
    assert file_bytes(10**9, "NOT_A_QUANT") is None


@pytest.mark.parametrize(
    ("words", "names", "share"),
    [
        ("for code", (), 1.0),
        ("mixture of experts; 3B active of 30B", (), 0.1),
        ("dense and mixture-of-experts models", ("qwen3:30b-a3b",), 0.1),
        ("dense and mixture-of-experts models", ("hf:owner/Qwen3-8B-GGUF:Q4_K_M",), 1.0),
        ("mixture of experts", (), None),
        ("600M active of 30B", (), 0.02),
    ],
)
def test_how_many_weights_a_token_reads(words: str, names: tuple[str, ...], share: float | None) -> None:
    assert active_share(30_000_000_000, words, names) == (None if share is None else pytest.approx(share))


@pytest.mark.parametrize(
    ("gpu_gib", "verdict", "device"),
    [(48, "fits", "CUDA0"), (8, "reduced", "CUDA0"), (4, "reduced", "CPU, CUDA0"), (0, "reduced", "CPU")],
)
def test_with_an_accelerator_what_fits_goes_there(gpu_gib: int, verdict: str, device: str) -> None:
    memory = [DeviceMemory("CPU", 12 * GIB, is_host=True), DeviceMemory("CUDA0", gpu_gib * GIB)]
    facts = usual_facts("m", 8_000_000_000, 5_000_000_000, 32768)
    fit = fit_of(plan(facts, memory, LoadOptions()), 32768, memory, "size")
    assert (fit.verdict, fit.device) == (verdict, device)
    assert fit.needed_bytes <= fit.available_bytes
    assert fit.available_bytes <= (12 * GIB if "CPU" in device else 0) + gpu_gib * GIB
    assert (fit.why is None) is (device == "CUDA0"), "what runs elsewhere than it should says why"


def test_a_service_gives_its_finder(tmp_path: Path) -> None:
    async def story() -> None:
        service = Service(Settings(store_dir=tmp_path / "store"))
        assert isinstance(service, HasFinder)
        offers = await service.finder.catalogue("smollm2")
        assert all(offer.fit is not None for offer in offers)
        await service.close()

    asyncio.run(story())
    assert not (paths.state_dir() / "speeds.json").exists()
