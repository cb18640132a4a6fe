"""The daemon: HTTP over one Backend. Owns listening, who may ask, each dialect's JSON and streams; never an engine.

A dialect is one module (or package) with a `DIALECT`; `app.py` lists them. Nothing here imports what runs in a child.
"""
