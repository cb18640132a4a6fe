"""Settings: the order of the four places, and what is said when one of them is wrong."""

from __future__ import annotations

from pathlib import Path

import pytest

from localllm import paths
from localllm.config import (
    Settings,
    choices,
    describe,
    env_name,
    kind_words,
    load_settings,
    unknown_environ,
)
from localllm.errors import ConfigError


def write(tmp_path: Path, text: str) -> Path:
    file = tmp_path / "config.toml"
    file.write_text(text, encoding="utf-8")
    return file


def test_defaults_need_no_file(private_home: Path) -> None:
    settings = load_settings(environ={})
    assert settings == Settings()
    assert settings.store_dir == paths.store_dir() == private_home / "store"


def test_later_places_win(tmp_path: Path) -> None:
    file = write(tmp_path, 'num_ctx = 1000\nnum_threads = 3\ndevice = "cpu"\n')
    environ = {"LOCALLLM_NUM_CTX": "2000", "LOCALLLM_NUM_THREADS": "4"}
    settings = load_settings({"num_ctx": 3000, "offline": None}, environ=environ, file=file)
    assert (settings.num_ctx, settings.num_threads, settings.device, settings.offline) == (3000, 4, "cpu", False)


def test_the_usual_file_is_read(private_home: Path) -> None:
    private_home.mkdir(parents=True)
    (private_home / "config.toml").write_text("keep_alive_s = 5\n")
    assert load_settings(environ={}).keep_alive_s == 5.0


@pytest.mark.parametrize(
    ("text", "value"), [("1", True), ("on", True), ("Yes", True), ("false", False), ("off", False)]
)
def test_booleans_in_the_environment(text: str, value: bool) -> None:
    assert load_settings(environ={"LOCALLLM_OFFLINE": text}).offline is value


def test_an_empty_variable_is_unset() -> None:
    assert load_settings(environ={"LOCALLLM_NUM_CTX": ""}).num_ctx is None


def test_variables_other_tools_taught_people() -> None:
    mirror = {"HF_ENDPOINT": "https://mirror.test"}
    assert load_settings(environ=mirror).hf_endpoint == "https://mirror.test"
    own = mirror | {"LOCALLLM_HF_ENDPOINT": "https://own.test"}
    assert load_settings(environ=own).hf_endpoint == "https://own.test"


def test_paths_expand_the_home_directory() -> None:
    assert load_settings({"store_dir": "~/m"}, environ={}).store_dir == Path.home() / "m"


def test_an_unknown_key_names_file_line_and_neighbour(tmp_path: Path) -> None:
    file = write(tmp_path, "offline = true\n\nnum_thread = 2\n")
    with pytest.raises(ConfigError) as caught:
        load_settings(environ={}, file=file)
    assert str(caught.value) == f"{file}:3: unknown setting 'num_thread'"
    assert caught.value.hint == "did you mean 'num_threads'?"
    assert caught.value.exit_code == 2


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("num_ctx = 0", "a whole number of at least 1"),
        ('num_ctx = "many"', "a whole number of at least 1"),
        ("num_ctx = true", "a whole number of at least 1"),
        ("num_slots = 257", "a whole number from 1 to 256"),
        ('offline = "true"', "true or false"),
        ('log_level = "loud"', "debug, info, warning or error"),
        ("store_dir = 3", "a path"),
        ('keep_alive_s = "5m"', "a number of at least -1"),
    ],
)
def test_a_wrong_value_says_what_is_right(tmp_path: Path, line: str, words: str) -> None:
    file = write(tmp_path, f"# a comment\n{line}\n")
    with pytest.raises(ConfigError) as caught:
        load_settings(environ={}, file=file)
    key = line.split(maxsplit=1)[0]
    assert str(caught.value).startswith(f"{file}:2: {key} cannot be ")
    assert words in (caught.value.hint or "")


def test_a_wrong_variable_or_flag_is_named() -> None:
    with pytest.raises(ConfigError, match="environment variable LOCALLLM_NUM_CTX: num_ctx cannot be 'abc'"):
        load_settings(environ={"LOCALLLM_NUM_CTX": "abc"})
    with pytest.raises(ConfigError, match="on the command line: num_ctx cannot be -1"):
        load_settings({"num_ctx": -1}, environ={})


def test_a_file_that_is_no_toml(tmp_path: Path) -> None:
    file = write(tmp_path, "device = cpu\n")
    with pytest.raises(ConfigError, match=r"no valid TOML.*line 1") as caught:
        load_settings(environ={}, file=file)
    assert "quotes" in (caught.value.hint or "")


def test_a_file_that_was_named_must_be_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    missing = tmp_path / "none.toml"
    monkeypatch.setenv("LOCALLLM_CONFIG", str(missing))
    with pytest.raises(ConfigError, match="is not there"):
        load_settings()


def test_a_file_that_cannot_be_read(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match="cannot be read"):
        load_settings(environ={}, file=tmp_path)


def test_spelling_mistakes_in_the_environment_are_found() -> None:
    environ = {"LOCALLLM_OFLINE": "1", "LOCALLLM_OFFLINE": "1", "LOCALLLM_STORE": "x", "OTHER": "y"}
    assert unknown_environ(environ) == ["LOCALLLM_OFLINE"]


def test_every_setting_is_described() -> None:
    for field in Settings.__struct_fields__:
        assert describe(field).endswith("."), field
        assert kind_words(field)
    assert env_name("num_ctx") == "LOCALLLM_NUM_CTX"
    assert choices("log_level") == ("debug", "info", "warning", "error")
