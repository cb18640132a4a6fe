"""Where localllm keeps its files. Owns directory choices; creates nothing by being imported."""

from __future__ import annotations

import os
from pathlib import Path

import platformdirs


def data_dir() -> Path:
    """Models and conversations: `LOCALLLM_HOME`, else the system's per-user data directory."""
    home = os.environ.get("LOCALLLM_HOME")
    return Path(home).expanduser() if home else platformdirs.user_data_path("localllm", appauthor=False)


def store_dir() -> Path:
    """The model store: `LOCALLLM_STORE`, else `store` under the data directory."""
    store = os.environ.get("LOCALLLM_STORE")
    return Path(store).expanduser() if store else data_dir() / "store"


def prefix_dir() -> Path:
    """Prefixes that engines keep on disk: below `LOCALLLM_HOME`, else the system's per-user cache directory."""
    if os.environ.get("LOCALLLM_HOME"):
        return data_dir() / "cache" / "prefixes"
    return platformdirs.user_cache_path("localllm", appauthor=False) / "prefixes"


def config_file() -> Path:
    """The settings file: `LOCALLLM_CONFIG`, else `config.toml` in the system's per-user config directory."""
    config = os.environ.get("LOCALLLM_CONFIG")
    if config:
        return Path(config).expanduser()
    if os.environ.get("LOCALLLM_HOME"):
        return data_dir() / "config.toml"
    return platformdirs.user_config_path("localllm", appauthor=False) / "config.toml"


def chat_settings_file() -> Path:
    """The terminal chat's settings, beside the settings file."""
    return config_file().with_name("chat.toml")


def mcp_file() -> Path:
    """The MCP servers whose tools the terminal chat offers, beside the settings file."""
    return config_file().with_name("mcp.json")


def chat_database() -> Path:
    """The conversations of the terminal chat."""
    return data_dir() / "chat.db"


def adapter_dir() -> Path:
    """LoRA adapters that can be called by their names."""
    return data_dir() / "adapters"


def state_dir() -> Path:
    """What the daemon keeps for its clients: below `LOCALLLM_HOME`, else the system's per-user state directory."""
    if os.environ.get("LOCALLLM_HOME"):
        return data_dir() / "state"
    return platformdirs.user_state_path("localllm", appauthor=False)


def tuned_dir() -> Path:
    """What `localllm tune` found, a folder for each model."""
    return data_dir() / "tuned"


def history_file() -> Path:
    """What was typed at the REPL."""
    return data_dir() / "history"
