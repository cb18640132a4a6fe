"""What a person allowed: for how long, for what, and across starts."""

from __future__ import annotations

import sys
from pathlib import Path

import msgspec
import pytest
from localllm_tui.tools.permissions import Permissions
from localllm_tui.tools.values import Tool

from localllm.errors import ConfigError

READ = Tool("files__read", "files", "read", fingerprint="1")
WRITE = Tool("files__write", "files", "write", fingerprint="2")


def loaded(file: Path) -> Permissions:
    """As the next start finds them."""
    permissions = Permissions(file)
    permissions.load()
    return permissions


def test_once_chat_always(tmp_path: Path) -> None:
    permissions = loaded(tmp_path / "p.json")
    permissions.approve(1, READ, "once")
    assert permissions.permission(1, READ) == "ask"
    permissions.approve(1, READ, "chat")
    assert permissions.permission(1, READ) == "chat"
    assert permissions.permission(2, READ) == "ask"
    assert permissions.permission(1, WRITE) == "ask"
    permissions.approve(1, READ, "always")
    assert permissions.permission(2, READ) == "always"
    assert loaded(tmp_path / "p.json").permission(7, READ) == "always"
    permissions.revoke(1, READ)
    assert permissions.permission(1, READ) == "ask"
    assert loaded(tmp_path / "p.json").permission(1, READ) == "ask"


def test_what_was_allowed_for_this_chat_ends_with_the_program(tmp_path: Path) -> None:
    permissions = loaded(tmp_path / "p.json")
    permissions.approve(1, READ, "chat")
    permissions.approve(1, WRITE, "always")
    assert loaded(tmp_path / "p.json").permission(1, READ) == "ask"


def test_a_tool_that_changed_asks_again(tmp_path: Path) -> None:
    permissions = loaded(tmp_path / "p.json")
    permissions.approve(1, READ, "always")
    permissions.approve(1, READ, "chat")
    changed = msgspec.structs.replace(READ, fingerprint="other")
    assert permissions.permission(1, changed) == "ask"
    assert permissions.is_changed(1, changed)
    assert not permissions.is_changed(1, READ)
    assert not permissions.is_changed(1, WRITE)


def test_offered_or_not(tmp_path: Path) -> None:
    permissions = loaded(tmp_path / "p.json")
    assert permissions.is_on(1, READ)
    permissions.switch(0, READ, False)
    assert not permissions.is_on(1, READ)
    permissions.switch(1, READ, True)
    again = loaded(tmp_path / "p.json")
    assert again.is_on(1, READ)
    assert not again.is_on(2, READ)


def test_a_broken_file_allows_nothing_and_is_written_anew(tmp_path: Path) -> None:
    file = tmp_path / "p.json"
    file.write_text('{"always": 1}')
    permissions = Permissions(file)
    with pytest.raises(ConfigError, match=r"p\.json"):
        permissions.load()
    assert permissions.permission(1, READ) == "ask"
    permissions.approve(1, READ, "always")
    assert loaded(file).permission(1, READ) == "always"


@pytest.mark.skipif(sys.platform == "win32", reason="a folder in the place of a file")
def test_what_cannot_be_kept_holds_until_the_end(tmp_path: Path) -> None:
    file = tmp_path / "p.json"
    file.mkdir()
    permissions = Permissions(file)
    with pytest.raises(ConfigError, match="cannot write"):
        permissions.approve(1, READ, "always")
    assert permissions.permission(1, READ) == "always"
    assert list(tmp_path.iterdir()) == [file]
