"""What each system is told to run the daemon at login: texts and commands. Pure: nothing is written or run here."""

from __future__ import annotations

import os
import shlex
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Literal, NamedTuple
from xml.sax.saxutils import escape

NAME = "localllm"
LABEL = "io.localllm.daemon"
System = Literal["systemd", "launchd", "windows"]
# What of the environment decides where things lie; a login's environment has it not.
_CARRIED = ("LOCALLLM_HOME", "LOCALLLM_STORE", "LOCALLLM_CONFIG")


class Unit(NamedTuple):
    """A service: the file that describes it and the commands that make it known, end it, and ask about it."""

    path: Path
    text: str
    encoding: str
    install: tuple[tuple[str, ...], ...]
    uninstall: tuple[tuple[str, ...], ...]
    status: tuple[str, ...]


def carried(environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that the service needs of this environment."""
    return {name: environ[name] for name in _CARRIED if environ.get(name)}


def account(environ: Mapping[str, str]) -> str:
    """This user as Windows names one; "" elsewhere."""
    domain, name = environ.get("USERDOMAIN", ""), environ.get("USERNAME", "")
    return f"{domain}\\{name}" if domain and name else name


def unit(system: System, command: Sequence[str], environ: Mapping[str, str], home: Path, user: str = "") -> Unit:
    """The service of one system. `command` starts the daemon; `user` is whose it is, where that has to be said."""
    if system == "windows":
        return _windows(command, environ, home, user)
    return {"systemd": _systemd, "launchd": _launchd}[system](command, environ, home)


def _systemd(command: Sequence[str], environ: Mapping[str, str], home: Path) -> Unit:
    path = home / ".config" / "systemd" / "user" / f"{NAME}.service"
    lines = [
        "[Unit]",
        "Description=localllm: language models on this machine",
        "After=network.target",
        "",
        "[Service]",
        f"ExecStart={' '.join(map(_systemd_word, command))}",
        "ExecReload=/bin/kill -HUP $MAINPID",
        *(f"Environment={_systemd_word(f'{name}={value}')}" for name, value in environ.items()),
        "Restart=on-failure",
        "RestartSec=2",
        "TimeoutStopSec=45",
        "NoNewPrivileges=yes",
        "",
        "[Install]",
        "WantedBy=default.target",
    ]
    ctl = ("systemctl", "--user")
    return Unit(
        path,
        "\n".join(lines) + "\n",
        "utf-8",
        ((*ctl, "daemon-reload"), (*ctl, "enable", "--now", f"{NAME}.service")),
        ((*ctl, "disable", "--now", f"{NAME}.service"),),
        (*ctl, "status", "--no-pager", f"{NAME}.service"),
    )


def _systemd_word(word: str) -> str:
    """One word of a unit file: `%` and `$` mean something there, and spaces separate."""
    safe = word.replace("\\", "\\\\").replace('"', '\\"').replace("%", "%%").replace("$", "$$")
    return safe if safe and not any(char.isspace() or char in "'\"\\;" for char in safe) else f'"{safe}"'


def _launchd(command: Sequence[str], environ: Mapping[str, str], home: Path) -> Unit:
    path = home / "Library" / "LaunchAgents" / f"{LABEL}.plist"
    words = "".join(f"    <string>{escape(word)}</string>\n" for word in command)
    variables = "".join(
        f"    <key>{escape(name)}</key>\n    <string>{escape(value)}</string>\n" for name, value in environ.items()
    )
    text = (
        '<?xml version="1.0" encoding="UTF-8"?>\n'
        '<!DOCTYPE plist PUBLIC "-//Apple//DTD PLIST 1.0//EN" "http://www.apple.com/DTDs/PropertyList-1.0.dtd">\n'
        '<plist version="1.0">\n<dict>\n'
        f"  <key>Label</key>\n  <string>{LABEL}</string>\n"
        f"  <key>ProgramArguments</key>\n  <array>\n{words}  </array>\n"
        f"  <key>EnvironmentVariables</key>\n  <dict>\n{variables}  </dict>\n"
        "  <key>RunAtLoad</key>\n  <true/>\n"
        "  <key>KeepAlive</key>\n  <dict>\n    <key>SuccessfulExit</key>\n    <false/>\n  </dict>\n"
        "  <key>ExitTimeOut</key>\n  <integer>45</integer>\n"
        "</dict>\n</plist>\n"
    )
    domain = f"gui/{os.getuid() if hasattr(os, 'getuid') else 0}"
    return Unit(
        path,
        text,
        "utf-8",
        (("launchctl", "bootstrap", domain, str(path)),),
        (("launchctl", "bootout", f"{domain}/{LABEL}"),),
        ("launchctl", "print", f"{domain}/{LABEL}"),
    )


def _windows(command: Sequence[str], environ: Mapping[str, str], home: Path, user: str) -> Unit:
    path = home / "AppData" / "Local" / NAME / f"{NAME}-task.xml"
    program, arguments = _windows_words(command, environ)
    # A task for the login of whomever is for administrators to make.
    whose = f"      <UserId>{escape(user)}</UserId>\n" if user else ""
    text = (
        '<?xml version="1.0" encoding="UTF-16"?>\n'
        '<Task version="1.2" xmlns="http://schemas.microsoft.com/windows/2004/02/mit/task">\n'
        f"  <Triggers>\n    <LogonTrigger>\n      <Enabled>true</Enabled>\n{whose}    </LogonTrigger>\n  </Triggers>\n"
        f'  <Principals>\n    <Principal id="Author">\n{whose}'
        "      <LogonType>InteractiveToken</LogonType>\n      <RunLevel>LeastPrivilege</RunLevel>\n"
        "    </Principal>\n  </Principals>\n"
        "  <Settings>\n"
        "    <MultipleInstancesPolicy>IgnoreNew</MultipleInstancesPolicy>\n"
        "    <DisallowStartIfOnBatteries>false</DisallowStartIfOnBatteries>\n"
        "    <StopIfGoingOnBatteries>false</StopIfGoingOnBatteries>\n"
        "    <ExecutionTimeLimit>PT0S</ExecutionTimeLimit>\n"
        "    <Hidden>true</Hidden>\n"
        "    <RestartOnFailure>\n      <Interval>PT1M</Interval>\n      <Count>3</Count>\n    </RestartOnFailure>\n"
        "  </Settings>\n"
        '  <Actions Context="Author">\n    <Exec>\n'
        f"      <Command>{escape(program)}</Command>\n      <Arguments>{escape(arguments)}</Arguments>\n"
        "    </Exec>\n  </Actions>\n</Task>\n"
    )
    return Unit(
        path,
        text,
        "utf-16",
        (("schtasks", "/Create", "/TN", NAME, "/XML", str(path), "/F"), ("schtasks", "/Run", "/TN", NAME)),
        (("schtasks", "/End", "/TN", NAME), ("schtasks", "/Delete", "/TN", NAME, "/F")),
        ("schtasks", "/Query", "/TN", NAME, "/V", "/FO", "LIST"),
    )


def _windows_words(command: Sequence[str], environ: Mapping[str, str]) -> tuple[str, str]:
    """The program, and its arguments as one text. A task has no environment of its own: cmd sets it first."""
    import subprocess

    if not environ:
        return command[0], subprocess.list2cmdline(command[1:])
    settings = "".join(f'set "{name}={value}" && ' for name, value in environ.items())
    return "cmd.exe", f'/d /s /c "{settings}{subprocess.list2cmdline(command)}"'


def shown(command: Sequence[str]) -> str:
    """A command as a person would type it."""
    return shlex.join(command)
