"""Shell completion of model names, from the store on disk. Never fails: a shell has nowhere to show an error."""

from __future__ import annotations


def complete_model(incomplete: str) -> list[str]:
    """Installed models whose name begins with what was typed."""
    try:
        from localllm.config import load_settings
        from localllm.store.store import ModelStore

        names = [manifest.name for manifest in ModelStore(load_settings().store_dir).list()]
    except Exception:
        return []
    return [name for name in names if name.startswith(incomplete)]
