"""The terminal chat (installed as `localllm_tui`). It knows only the Backend protocol; its rooms are not furnished yet."""
