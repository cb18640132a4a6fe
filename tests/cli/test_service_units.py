"""The texts that systems are given, and what is typed to them."""

from __future__ import annotations

import plistlib
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from localllm.cli.service_units import LABEL, carried, unit
from tests.cli.running import localllm

COMMAND = ("/opt/my python/bin/python", "-m", "localllm", "serve", "--cors", "https://a.example/%20?x=$HOME&<y>")
ENVIRON = {"LOCALLLM_HOME": '/home/me/a "b" c'}
HOME = Path("/home/me")


def test_systemd_words_are_taken_as_they_are() -> None:
    made = unit("systemd", COMMAND, ENVIRON, HOME)
    assert made.path == HOME / ".config/systemd/user/localllm.service"
    lines = made.text.splitlines()
    assert 'ExecStart="/opt/my python/bin/python" -m localllm serve --cors https://a.example/%%20?x=$$HOME&<y>' in lines
    assert 'Environment="LOCALLLM_HOME=/home/me/a \\"b\\" c"' in lines
    assert "ExecReload=/bin/kill -HUP $MAINPID" in lines
    assert made.install[-1] == ("systemctl", "--user", "enable", "--now", "localllm.service")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_systemd_itself_takes_the_unit(tmp_path: Path) -> None:
    path = tmp_path / "localllm.service"
    path.write_text(unit("systemd", ("/bin/true", "a b", "50%"), ENVIRON, HOME).text)
    done = subprocess.run(["systemd-analyze", "verify", str(path)], capture_output=True, text=True, check=False)
    assert str(path) not in done.stderr


def test_launchd_reads_the_plist_back() -> None:
    made = unit("launchd", COMMAND, ENVIRON, HOME)
    read = plistlib.loads(made.text.encode())
    assert read["Label"] == LABEL
    assert read["ProgramArguments"] == list(COMMAND)
    assert read["EnvironmentVariables"] == ENVIRON
    assert made.path == HOME / "Library/LaunchAgents" / f"{LABEL}.plist"
    assert made.install[0][:2] == ("launchctl", "bootstrap")


def test_the_windows_task_is_sound_xml() -> None:
    made = unit("windows", COMMAND, {}, HOME)
    root = ET.fromstring(made.text.encode("utf-16"))
    space = {"t": "http://schemas.microsoft.com/windows/2004/02/mit/task"}
    assert root.findtext(".//t:Command", namespaces=space) == COMMAND[0]
    assert root.findtext(".//t:Arguments", namespaces=space) == " ".join(COMMAND[1:])
    with_home = unit("windows", ("py.exe", "-m", "localllm"), {"LOCALLLM_HOME": "C:\\x y"}, HOME)
    arguments = ET.fromstring(with_home.text.encode("utf-16")).findtext(".//t:Arguments", namespaces=space)
    assert arguments == '/d /s /c "set "LOCALLLM_HOME=C:\\x y" && py.exe -m localllm"'


def test_only_what_says_where_things_lie_is_carried() -> None:
    assert carried({"LOCALLLM_STORE": "/s", "HF_TOKEN": "secret", "LOCALLLM_CONFIG": ""}) == {"LOCALLLM_STORE": "/s"}


def test_a_dry_run_says_what_would_be_done(tmp_path: Path) -> None:
    ran = localllm("service", "install", "--dry-run", "--", "--port", "4321", env={"HOME": str(tmp_path)})
    assert ran.returncode == 0, ran.stderr
    assert "--port 4321" in ran.stdout.replace("</string>\n      <string>", " ")
    assert "run " in ran.stdout
    assert list(tmp_path.iterdir()) == []
    gone = localllm("service", "uninstall", env={"HOME": str(tmp_path), "USERPROFILE": str(tmp_path)})
    assert gone.returncode == 1
    assert "not installed" in gone.stderr
    assert localllm("service", "status", env={"HOME": str(tmp_path)}).returncode == 1
