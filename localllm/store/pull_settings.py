"""PullSettings: how models are fetched. Reads the environment when asked; touches no network."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

import msgspec

from localllm.errors import ConfigError

HF_ENDPOINT = "https://huggingface.co"
MODELSCOPE_ENDPOINT = "https://www.modelscope.cn"
OLLAMA_REGISTRY = "https://registry.ollama.ai"


class PullSettings(msgspec.Struct, frozen=True):
    """What a pull may do and how patient it is.

    `allow_hosts`: hosts that may be asked over http or at a private address. `connect_s` (for each of two addresses)
    is short: a source out of reach is given up for the next one. `stall_s`: no byte for so long ends a connection.
    `max_tries`: failures of a part of a file with no progress between them; `backoff_s` doubles with each, up to
    `max_wait_s`. `mmproj`: fetch the vision projector of a hub's repository beside the weights.
    """

    offline: bool = False
    hf_endpoint: str = HF_ENDPOINT
    hf_token: str | None = None
    modelscope_endpoint: str = MODELSCOPE_ENDPOINT
    modelscope_token: str | None = None
    ollama_registry: str = OLLAMA_REGISTRY
    connections: int = 4
    part_bytes: int = 64 << 20
    connect_s: float = 4.0
    stall_s: float = 30.0
    max_tries: int = 6
    backoff_s: float = 0.5
    max_wait_s: float = 60.0
    allow_hosts: tuple[str, ...] = ()
    mmproj: bool = False

    @classmethod
    def from_environment(
        cls,
        environ: Mapping[str, str] | None = None,
        *,
        offline: bool | None = None,
        hf_endpoint: str | None = None,
        connections: int = 4,
    ) -> PullSettings:
        """What the environment says; arguments win over it. Raises ConfigError for a variable that makes no sense."""
        env = os.environ if environ is None else environ
        modelscope = env.get("MODELSCOPE_DOMAIN") or MODELSCOPE_ENDPOINT
        modelscope = modelscope if "://" in modelscope else f"https://{modelscope}"
        registry = env.get("LOCALLLM_OLLAMA_REGISTRY") or OLLAMA_REGISTRY
        return cls(
            offline=_flag(env.get("LOCALLLM_OFFLINE") or env.get("HF_HUB_OFFLINE")) if offline is None else offline,
            hf_endpoint=_endpoint("HF_ENDPOINT", hf_endpoint or env.get("HF_ENDPOINT") or HF_ENDPOINT),
            hf_token=_hf_token(env),
            modelscope_endpoint=_endpoint("MODELSCOPE_DOMAIN", modelscope),
            modelscope_token=_token("MODELSCOPE_API_TOKEN", env.get("MODELSCOPE_API_TOKEN")),
            ollama_registry=_endpoint("LOCALLLM_OLLAMA_REGISTRY", registry),
            connections=connections,
            allow_hosts=tuple(h.strip() for h in env.get("LOCALLLM_ALLOW_HOSTS", "").split(",") if h.strip()),
        )

    def __repr__(self) -> str:
        return f"PullSettings(hf_endpoint={self.hf_endpoint!r}, offline={self.offline})"  # a token is for no log

    def trusted_hosts(self) -> frozenset[str]:
        """`allow_hosts`, and the hosts of endpoints that the user pointed elsewhere."""
        from urllib.parse import urlsplit

        own = {HF_ENDPOINT, MODELSCOPE_ENDPOINT, OLLAMA_REGISTRY}
        named = {self.hf_endpoint, self.modelscope_endpoint, self.ollama_registry} - own
        hosts = {urlsplit(endpoint).hostname or "" for endpoint in named} | {h.lower() for h in self.allow_hosts}
        return frozenset(hosts - {""})


def _flag(text: str | None) -> bool:
    return (text or "").strip().lower() in ("1", "true", "yes", "on")


def _endpoint(variable: str, text: str) -> str:
    from urllib.parse import urlsplit

    try:
        parts = urlsplit(text.strip())
        good = parts.scheme in ("http", "https") and bool(parts.hostname) and "@" not in parts.netloc
    except ValueError:
        good = False
    if not good:
        raise ConfigError(f"{variable} is {text!r}", hint="an endpoint is a web address such as https://huggingface.co")
    return text.strip().rstrip("/")


def _hf_home(env: Mapping[str, str]) -> Path:
    home = env.get("HF_HOME")
    if home:
        return Path(os.path.expandvars(home)).expanduser()
    cache = env.get("XDG_CACHE_HOME")
    return (Path(cache).expanduser() if cache else Path.home() / ".cache") / "huggingface"


def _hf_token(env: Mapping[str, str]) -> str | None:
    token = env.get("HF_TOKEN") or env.get("HUGGING_FACE_HUB_TOKEN")
    if not token:
        file = Path(env.get("HF_TOKEN_PATH") or _hf_home(env) / "token").expanduser()
        try:
            token = file.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError):
            return None
    return _token("HF_TOKEN", token)


def _token(variable: str, text: str | None) -> str | None:
    """A token without the line end it came with; what could forge a header is refused."""
    token = (text or "").strip()
    if not token.isascii() or (token and not token.isprintable()) or set(token) & set(" ;,"):
        raise ConfigError(f"{variable} holds characters no token has", hint="set it to the token alone")
    return token or None
