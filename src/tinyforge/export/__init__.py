"""Export a run or a base, and prove by a certificate that the result says the same."""

from __future__ import annotations

TARGETS = {
    "safetensors": "tinyforge.export.safetensors:SAFETENSORS",
    "adapter": "tinyforge.export.safetensors:ADAPTER",
    "gguf": "tinyforge.export.gguf_target:GGUF",
    "ollama": "tinyforge.export.ollama:OLLAMA",
    "onnx": "tinyforge.export.onnx:ONNX",
    "service": "tinyforge.export.service:SERVICE",
    "hub": "tinyforge.export.hub:HUB",
}
"""What ``--to`` may name; more behind the entry-point group ``tinyforge.export``."""
