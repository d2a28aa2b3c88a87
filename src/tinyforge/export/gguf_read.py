"""What a GGUF file says about itself."""

from __future__ import annotations

from pathlib import Path

from tinyforge.errors import InputError


def stop_tokens(path: Path) -> set[int]:
    """The ends of a text, a turn and a message that the file names. Raises InputError for what is no GGUF file."""
    import gguf

    try:
        reader = gguf.GGUFReader(path)
    except (ValueError, KeyError, IndexError) as error:
        raise InputError(f"{path}: is no whole GGUF file ({str(error)[:120]}).") from error
    keys = (f"tokenizer.ggml.{place}_token_id" for place in ("eos", "eot", "eom"))
    fields = (reader.get_field(key) for key in keys)
    return {int(field.contents()) for field in fields if field is not None}
