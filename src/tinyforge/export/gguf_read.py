"""What a GGUF file says about itself."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from tinyforge.errors import InputError


def stop_tokens(path: Path) -> set[int]:
    """The ends of a text, a turn and a message that the file names. Raises InputError for what is no GGUF file."""
    fields = (_field(_open(path), f"tokenizer.ggml.{place}_token_id") for place in ("eos", "eot", "eom"))
    return {int(value) for value in fields if value is not None}


def context_length(path: Path) -> int:
    """The most tokens that the model takes, prompt and answer together.

    Raises InputError for what is no GGUF file, and for one that holds no whole model.
    """
    reader = _open(path)
    if _field(reader, "general.type") == "adapter":
        raise InputError(
            f"{path}: holds an adapter alone, which no base is named for.", "Export the whole model: --to gguf"
        )
    found = _field(reader, f"{_field(reader, 'general.architecture')}.context_length")
    if found is None:
        raise InputError(f"{path}: does not say how many tokens its model takes.", "Make the file again.")
    return int(found)


def _open(path: Path) -> Any:
    import gguf

    try:
        return gguf.GGUFReader(path)
    except (ValueError, KeyError, IndexError, OSError) as error:
        raise InputError(f"{path}: is no whole GGUF file ({str(error)[:120]}).") from error


def _field(reader: Any, key: str) -> Any:
    field = reader.get_field(key)
    return None if field is None else field.contents()
