"""TinyForge: your documents in, your own small language model out."""

__version__ = "0.1.0"
