"""``tuner`` for programs and notebooks: what the commands do, asked for in Python (docs/library.md)."""
