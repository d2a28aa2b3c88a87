"""Text that a base writes itself, to be mixed into its fine-tuning (pseudo-rehearsal; Robins 1995).

On text drawn from the base's own distribution the gradient of the cross-entropy is zero at the base's weights, on
average, and that of their divergence from the base elsewhere. So it holds the model to what it was, and needs no data.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch

from tinyforge.errors import InputError

BATCH, LENGTH = 32, 256  # texts at once, tokens of each


def write_texts(
    model: Any, tokenizer: Any, tokens: int, seed: int, on_done: Callable[[int, int], None] = lambda done, total: None
) -> list[str]:
    """Texts of about ``tokens`` tokens in all, sampled from the model at temperature 1; the same for the same seed.

    Raises InputError when the tokenizer has no token to begin with.
    """
    start = tokenizer.bos_token_id if tokenizer.bos_token_id is not None else tokenizer.eos_token_id
    if start is None:
        raise InputError("the tokenizer has no start or end token, so the base cannot begin a text.", _FIX)
    texts: list[str] = []
    written, training = 0, model.training
    model.eval()
    with torch.random.fork_rng(), torch.inference_mode():
        torch.manual_seed(seed)
        while written < tokens:
            ids_BT = _sample(model, tokenizer, start, min(BATCH, -(-(tokens - written) // LENGTH)))
            found = [tokenizer.decode(ids, skip_special_tokens=True).strip() for ids in ids_BT]
            texts += [text for text in found if text]
            written += int((ids_BT != (tokenizer.pad_token_id or 0)).sum())
            on_done(min(written, tokens), tokens)
    model.train(training)
    return texts


_FIX = "Give general text of your own: --set train.replay=FILE"


def _sample(model: Any, tokenizer: Any, start: int, rows: int) -> Any:
    first = torch.full((rows, 1), start, device=next(model.parameters()).device)
    written = model.generate(
        first,
        attention_mask=torch.ones_like(first),
        do_sample=True,
        temperature=1.0,
        top_k=0,
        top_p=1.0,
        repetition_penalty=1.0,
        max_new_tokens=LENGTH,
        min_new_tokens=8,  # an end token at once would never come to an end
        pad_token_id=tokenizer.pad_token_id or 0,
    )
    return written[:, 1:]
