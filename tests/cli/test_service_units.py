"""The texts that systems are given, and what is typed to them."""

from __future__ import annotations

import os
import plistlib
import re
import shutil
import subprocess
import xml.etree.ElementTree as ET
from pathlib import Path

import pytest

from localllm.cli.service_units import LABEL, account, carried, unit
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


def verify(path: Path, runtime: Path) -> str:
    """What systemd has to say of a unit of a user; it needs a folder, no running instance."""
    command = ("systemd-analyze", "--user", "verify", str(path))
    environ = {**os.environ, "XDG_RUNTIME_DIR": str(runtime)}
    done = subprocess.run(command, capture_output=True, text=True, check=False, env=environ)
    return done.stderr + (f"status {done.returncode}" if done.returncode else "")


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="no systemd-analyze here")
def test_systemd_itself_takes_the_unit(tmp_path: Path) -> None:
    """Whatever the options; and it would have said what is wrong."""
    path = tmp_path / "localllm.service"
    made = unit("systemd", ("/bin/true", "a b", "50%", "x;y", "$HOME", "'", '"'), ENVIRON, HOME)
    path.write_text(made.text)
    assert verify(path, tmp_path) == ""
    path.write_text(made.text.replace("RestartSec=2", "RestartSec=soon"))
    assert "soon" in verify(path, tmp_path)
    path.write_text(made.text.replace("/bin/true", "/no/such/program"))
    assert "/no/such/program" in verify(path, tmp_path)


def test_launchd_reads_the_plist_back() -> None:
    made = unit("launchd", COMMAND, ENVIRON, HOME)
    read = plistlib.loads(made.text.encode())
    assert read["Label"] == LABEL
    assert read["ProgramArguments"] == list(COMMAND)
    assert read["EnvironmentVariables"] == ENVIRON
    # A word where launchd wants another kind of value is passed over in silence.
    assert (read["RunAtLoad"], read["KeepAlive"], read["ExitTimeOut"]) == (True, {"SuccessfulExit": False}, 45)
    assert len(read) == 6
    assert made.path == HOME / "Library/LaunchAgents" / f"{LABEL}.plist"
    assert made.install[0][:2] == ("launchctl", "bootstrap")


TASK = "http://schemas.microsoft.com/windows/2004/02/mit/task"
# Of Microsoft's Task Scheduler schema: which elements an element may have, in that order where it wants one; and the
# values of those that are not free text.
PARTS: dict[str, tuple[str, ...]] = {
    "Task": ("RegistrationInfo", "Triggers", "Principals", "Settings", "Data", "Actions"),
    "Triggers": ("LogonTrigger",),
    "LogonTrigger": ("Repetition", "StartBoundary", "EndBoundary", "ExecutionTimeLimit", "Enabled", "UserId", "Delay"),
    "Principals": ("Principal",),
    "Principal": ("UserId", "LogonType", "GroupId", "DisplayName", "RunLevel"),
    "Settings": (
        *("AllowStartOnDemand", "RestartOnFailure", "MultipleInstancesPolicy", "DisallowStartIfOnBatteries"),
        *("StopIfGoingOnBatteries", "StartWhenAvailable", "Enabled", "Hidden", "ExecutionTimeLimit", "Priority"),
    ),
    "RestartOnFailure": ("Interval", "Count"),
    "Actions": ("Exec",),
    "Exec": ("Command", "Arguments", "WorkingDirectory"),
}
ORDERED = {"LogonTrigger", "Exec"}
VALUES = {
    "Enabled|Hidden|DisallowStartIfOnBatteries|StopIfGoingOnBatteries": "true|false",
    "LogonType": "S4U|Password|InteractiveToken|InteractiveTokenOrPassword",
    "RunLevel": "LeastPrivilege|HighestAvailable",
    "MultipleInstancesPolicy": "Parallel|Queue|IgnoreNew|StopExisting",
    # From one minute to 31 days; a limit of 0 s is none.
    "Interval": "PT([1-9]|[1-5][0-9])M",
    "ExecutionTimeLimit": "PT0S",
    "Count": "[1-9][0-9]?",
    "Command|UserId": ".+",
}


def check_task(element: ET.Element) -> None:
    """Whether an element and all in it are as the schema has them."""
    name = element.tag.removeprefix(f"{{{TASK}}}")
    inner = [part.tag.removeprefix(f"{{{TASK}}}") for part in element]
    if name in PARTS:
        allowed = PARTS[name]
        assert inner
        assert set(inner) <= set(allowed)
        assert len(set(inner)) == len(inner)
        assert name not in ORDERED or inner == sorted(inner, key=allowed.index)
    else:
        assert not inner
        wanted = [values for names, values in VALUES.items() if name in names.split("|")]
        assert all(re.fullmatch(values, element.text or "") for values in wanted), (name, element.text)
    for part in element:
        check_task(part)


def test_the_windows_task_is_as_its_schema_says() -> None:
    user = account({"USERDOMAIN": "PC & Co", "USERNAME": "me"})
    made = unit("windows", COMMAND, {}, HOME, user)
    root = ET.fromstring(made.text.encode(made.encoding))
    check_task(root)
    space = {"t": TASK}
    assert root.get("version") == "1.2"
    assert root.findtext(".//t:Command", namespaces=space) == COMMAND[0]
    assert root.findtext(".//t:Arguments", namespaces=space) == " ".join(COMMAND[1:])
    assert [each.text for each in root.iterfind(".//t:UserId", space)] == ["PC & Co\\me"] * 2
    # Who runs it is one of those who are named; the schema has this as a key.
    actions, principal = root.find("t:Actions", space), root.find(".//t:Principal", space)
    assert actions is not None
    assert principal is not None
    assert actions.get("Context") == principal.get("id")
    with_home = unit("windows", ("py.exe", "-m", "localllm"), {"LOCALLLM_HOME": "C:\\x y"}, HOME)
    root = ET.fromstring(with_home.text.encode("utf-16"))
    check_task(root)
    arguments = root.findtext(".//t:Arguments", namespaces=space)
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
