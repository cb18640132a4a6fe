"""What the chat is started with, and what a person has set for it in `chat.toml`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

from localllm import paths
from localllm.api import SamplingParams
from localllm.errors import ConfigError


class Persona(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A system prompt with a name. `{name}` in it is asked for, with what `parameters` says as the first answer."""

    system: str
    parameters: dict[str, str] = {}
    model: str | None = None


class ChatSettings(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`chat.toml`, in the folder of the settings file."""

    theme: Annotated[str, Meta(description="A theme's name; the palette lists them.")] = "localllm-dark"
    plain: Annotated[bool, Meta(description="No boxes, no animation, no colour needed: fit for a screen reader.")] = (
        False
    )
    vim: Annotated[bool, Meta(description="Vim keys in the prompt.")] = False
    layout: Annotated[Literal["auto", "narrow", "wide"], Meta(description="auto: by the terminal's width.")] = "auto"
    notify_after_s: Annotated[float, Meta(ge=0, description="Tell of an answer that took longer than this.")] = 20.0
    paste_chars: Annotated[int, Meta(ge=1, description="A paste longer than this becomes an attachment.")] = 2000
    keys: Annotated[dict[str, str], Meta(description="Keys by the id of what they do; F1 shows the ids.")] = (
        msgspec.field(default_factory=dict)
    )
    snippets: Annotated[dict[str, str], Meta(description="Texts for the prompt, by name.")] = msgspec.field(
        default_factory=dict
    )
    personas: Annotated[dict[str, Persona], Meta(description="System prompts, by name.")] = msgspec.field(
        default_factory=dict
    )


class ChatOptions(msgspec.Struct, frozen=True):
    """One start of the chat. `conversation` None: where the person was; 0: a new one.

    `url`: a daemon's, where one answers.
    `text` and `attached` wait in the prompt: what was given on the command line, what was piped in.
    """

    model: str
    database: Path
    settings: ChatSettings = ChatSettings()
    conversation: int | None = None
    url: str | None = None
    system: str = ""
    text: str = ""
    attached: str = ""
    sampling: SamplingParams = SamplingParams()


def load_chat_settings(file: Path | None = None) -> ChatSettings:
    """The person's settings; defaults where there is no file. Raises ConfigError."""
    path = file or paths.chat_settings_file()
    try:
        return msgspec.toml.decode(path.read_bytes(), type=ChatSettings)
    except FileNotFoundError:
        return ChatSettings()
    except OSError as exc:
        raise ConfigError(f"cannot read {path}: {exc.strerror}") from exc
    except msgspec.DecodeError as exc:
        raise ConfigError(f"{path}: {exc}", hint="`localllm chat --help` names what may be set") from exc
