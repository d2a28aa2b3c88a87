"""Contrastive search: of the likeliest tokens the one that least says again what was said.

Su et al. 2022, "A Contrastive Framework for Neural Text Generation", arXiv:2202.06417, equation 5.

Legend: T tokens so far, K candidates, D hidden size, V vocabulary size.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch.nn.functional import normalize

from tinyforge.dataset.render import prompt_ids, stop_ids
from tinyforge.records import Message

if TYPE_CHECKING:
    from tinyforge.models.generate import Writer

CANDIDATES, PENALTY = 4, 0.6


def unsupported(writer: Writer) -> str:
    """Why this model cannot be searched so; "" where it can."""
    if getattr(writer.model, "_is_stateful", False):
        return "this model keeps a state that cannot be set back to try several tokens"
    return "" if writer.takes_plain_prompts else "this model's adapter puts tokens of its own before the prompt"


@torch.inference_mode()
def contrastive_search(
    writer: Writer, prompt: Sequence[Message], candidates: int = CANDIDATES, penalty: float = PENALTY
) -> tuple[str, int]:
    """The answer and how many tokens it has; the same each time.

    Of the ``candidates`` likeliest tokens it takes the one with the highest ``(1 - penalty)`` times its probability,
    less ``penalty`` times the largest cosine between its last hidden state and that of any token before it. A penalty
    of 0 is greedy.
    """
    model: Any = writer.model
    ids_1T = torch.tensor([prompt_ids(prompt, writer.tokenizer)], device=model.device)
    stops, written = stop_ids(model, writer.tokenizer), list[int]()
    output = model(input_ids=ids_1T, use_cache=True, output_hidden_states=True)
    cache, logits_V = output.past_key_values, output.logits[0, -1]
    seen_TD = normalize(output.hidden_states[-1][0].float(), dim=-1)
    for _ in range(min(writer.max_new_tokens, writer.context - ids_1T.shape[1])):
        shares_K, ids_K = logits_V.float().softmax(-1).topk(candidates)
        cache.batch_repeat_interleave(candidates)
        output = model(input_ids=ids_K[:, None], past_key_values=cache, use_cache=True, output_hidden_states=True)
        new_KD = normalize(output.hidden_states[-1][:, -1].float(), dim=-1)
        alike_K = (new_KD @ seen_TD.T).amax(-1)
        best = int(((1 - penalty) * shares_K - penalty * alike_K).argmax())
        if int(ids_K[best]) in stops:
            break
        written.append(int(ids_K[best]))
        seen_TD = torch.cat([seen_TD, new_KD[best : best + 1]])
        cache.batch_select_indices(torch.tensor([best], device=model.device))
        logits_V = output.logits[best, -1]
    return str(writer.tokenizer.decode(written, skip_special_tokens=True)).strip(), len(written)
