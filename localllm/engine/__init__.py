"""The engine: what runs in the child process of one loaded model, and the parent's proxy to it.

The parent imports `process` and `frames` only; everything else belongs to the child.
"""
