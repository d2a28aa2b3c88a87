"""Base models: find one by name, load it, make it write. The embedded base lives in ``base/``."""
