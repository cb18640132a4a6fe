"""`localllm tune`: a real child measured for a moment, and what is shown of it, used of it and forgotten."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import msgspec
import pytest

from localllm import loading, machine, paths, tuned
from localllm.api import LoadOptions
from localllm.config import Settings
from localllm.engine.frames import LoadSpec
from localllm.name import ModelName
from localllm.store.identity import weights_id
from localllm.tuning import Choices, Outcome, Trial
from tests.test_tuned import tuning

COMMAND = (sys.executable, "-c", "import sys; from localllm.cli import main; sys.exit(main())")
KEPT = Choices(num_threads=1, num_threads_batch=2, num_ubatch=128)
Q8 = Choices(kv_type_k="q8_0", kv_type_v="q8_0", flash_attn=True)
OUTCOME = Outcome(
    KEPT,
    0.25,
    {"prefill": 1.25},
    {"decode_1": 120.5, "decode_4": 200.0, "prefill": 300.0, "first_token": 0.51},
    0.021,
    (
        Trial(KEPT, Choices(), "kept", 0.25, 0.03, (0.2, 0.25, 0.3), {"prefill": 1.5, "first_token": 0.9}),
        Trial(Q8.over(KEPT), KEPT, "lossy", 0.1, 0.04, (0.1,), {"prefill": 1.1}, "only with --allow-lossy", "8 bits"),
        Trial(Choices(num_batch=2048).over(KEPT), KEPT, "skipped", reason="no time left"),
    ),
    61.0,
)


def localllm(*args: str, **env: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [*COMMAND, *args],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        encoding="utf-8",
        timeout=120,
        check=False,
        env={**os.environ, **env},
    )


@pytest.fixture
def model(smollm2_path: Path, tmp_path: Path) -> Path:
    """The model under a name that ends in .gguf."""
    path = tmp_path / "smol.gguf"
    try:
        os.link(smollm2_path, path)
    except OSError:
        shutil.copyfile(smollm2_path, path)
    return path


def spec_of(path: Path, **options: Any) -> tuple[LoadSpec, list[str]]:
    """How the file would be loaded now, and the kinds of notices."""
    manifest, files = loading.manifest_of_file(ModelName.parse(str(path)))
    planned = loading.plan_load(
        manifest, files, LoadOptions(prefix_disk_bytes=0, **options), Settings(), contextlib.nullcontext()
    )
    return planned.spec, [notice.kind for notice in planned.notices]


def keep(path: Path, **changes: Any) -> None:
    """Put a made-up tuning of a file into place."""
    manifest, files = loading.manifest_of_file(ModelName.parse(str(path)))
    tuned.save(tuning(model=weights_id(manifest, files), name=str(path), outcome=OUTCOME, **changes))


@pytest.mark.weights
def test_a_short_tune_keeps_its_budget_and_what_it_found(model: Path) -> None:
    for seconds in (5, 40, 240):
        began = time.monotonic()
        ran = localllm("tune", str(model), "--seconds", str(seconds), "--ctx", "1024", "--json")
        took = time.monotonic() - began
        # A machine that is busy with other things may not even start an engine in five seconds.
        if ran.returncode == 0 or "do not suffice" not in ran.stderr:
            break
    assert ran.returncode == 0, ran.stderr
    document = json.loads(ran.stdout)
    assert document["outcome"]["seconds"] <= seconds
    assert took <= seconds + 5, "starting and ending the command itself"
    assert set(document["outcome"]["figures"]) == {"decode_1", "decode_4", "prefill", "first_token"}
    assert all(value > 0 for value in document["outcome"]["figures"].values())
    assert document["num_ctx"] == 1024
    assert document["outcome"]["trials"]
    assert "rounds of equal settings" in ran.stderr
    shown = localllm("tune", str(model), "--show", "--json")
    assert json.loads(shown.stdout) == document
    spec, _ = spec_of(model, num_ctx=1024)
    chosen = {k: v for k, v in document["outcome"]["choices"].items() if v is not None and k != "kv_layout"}
    assert {name: getattr(spec, name) for name in chosen} == chosen
    assert not list(paths.data_dir().glob("cache/prefixes/*")), "measuring leaves no prefixes behind"


@pytest.mark.weights
def test_too_little_time_is_an_error_and_keeps_nothing(model: Path) -> None:
    ran = localllm("tune", str(model), "--seconds", "0.1", "--ctx", "1024")
    assert ran.returncode == 1
    assert "--seconds" in ran.stderr
    assert not paths.tuned_dir().exists()


@pytest.mark.weights
@pytest.mark.skipif(sys.platform == "win32", reason="a console event there")
def test_ctrl_c_ends_the_engines_and_keeps_nothing(model: Path) -> None:
    args = [*COMMAND, "tune", str(model), "--seconds", "60", "--ctx", "1024"]
    with subprocess.Popen(
        args, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE, start_new_session=True
    ) as child:
        assert child.stderr is not None
        assert child.stdout is not None
        while b"equal settings" not in child.stderr.readline():
            assert child.poll() is None
        os.killpg(child.pid, signal.SIGINT)
        assert child.wait(20) == 130
        assert child.stdout.read() == b""
        # The engines had this pipe too: its end says that they are gone.
        assert b"Traceback" not in child.stderr.read()
    assert not paths.tuned_dir().exists()


@pytest.mark.weights
def test_what_was_kept_is_used_below_what_is_given(model: Path) -> None:
    default, _ = spec_of(model)
    keep(model)
    spec, notices = spec_of(model)
    assert (spec.num_threads, spec.num_threads_batch, notices) == (1, 2, [])
    assert spec_of(model, num_threads=2)[0].num_threads_batch == 0
    assert spec_of(model, tuned=False)[0] == default
    assert localllm("tune", str(model), "--reset").returncode == 0
    assert spec_of(model) == (default, [])


@pytest.mark.weights
def test_run_says_what_it_does_not_use_unless_told_to_leave_it_out(model: Path) -> None:
    keep(model, machine=msgspec.structs.replace(machine.this_machine(), cpu="Z80"))
    args = ("run", str(model), "Hi", "-n", "1", "--ctx", "512")
    ran = localllm(*args)
    assert ran.returncode == 0, ran.stderr
    assert "another CPU" in ran.stderr
    assert "another CPU" not in localllm(*args, "--no-tuned").stderr
    assert "another CPU" not in localllm(*args, LOCALLLM_TUNED="0").stderr
    shown = localllm("tune", str(model), "--show")
    assert shown.returncode == 1
    assert "another CPU" in shown.stderr


@pytest.mark.weights
def test_show_in_words(model: Path) -> None:
    keep(model)
    ran = localllm("tune", str(model), "--show")
    assert ran.returncode == 0, ran.stderr
    head, first, second, third, *rest = ran.stdout.splitlines()
    assert head.split()[:4] == ["CHOICE", "VERDICT", "GAIN", "NOISE"]
    assert first.startswith("threads 1, batch threads 2, ubatch 128")
    assert {"kept", "+25.0%", "1.50", "0.90"} <= set(first.split())
    # Only what it changes, not what was kept before.
    assert second.startswith("flash on, kv q8_0")
    assert {"lossy", "+10.0%"} <= set(second.split())
    assert third.split()[2] == "skipped"
    words = " ".join(" ".join(rest).split())
    assert "chosen threads 1, batch threads 2, ubatch 128" in words
    assert "decode_1 120 tok/s" in words or "decode_1 121 tok/s" in words
    assert "decode_1 (35%): one stream" in words
    assert "only with --allow-lossy; it costs: 8 bits" in words
    assert "batch 2048: no time left" in words


@pytest.mark.weights
@pytest.mark.skipif(sys.platform == "win32", reason="pseudo-terminals are POSIX")
@pytest.mark.parametrize("columns", [40, 72])
def test_a_narrow_terminal_is_not_overrun(model: Path, columns: int) -> None:
    from tests.cli.terminal import Terminal

    keep(model)
    with Terminal([*COMMAND, "tune", str(model), "--show"], {"COLUMNS": str(columns)}, columns=columns) as terminal:
        assert terminal.wait() == 0
        lines = terminal.text.splitlines()
    assert "VERDICT" in lines[0]
    assert max(len(line) for line in lines if str(model.name) not in line) <= columns


@pytest.mark.weights
def test_reset_in_json(model: Path) -> None:
    keep(model)
    ran = localllm("tune", str(model), "--reset", "--json")
    assert json.loads(ran.stdout) == {"name": str(model), "num_removed": 1}
    assert "nothing was tuned" in localllm("tune", str(model), "--reset").stderr


def test_show_and_reset_exclude_each_other() -> None:
    assert localllm("tune", "smollm2:135m", "--show", "--reset").returncode == 2


def test_a_model_that_is_not_here_is_not_fetched_to_show_it() -> None:
    ran = localllm("tune", "smollm2:135m", "--show")
    assert ran.returncode == 1
    assert "smollm2:135m" in ran.stderr
