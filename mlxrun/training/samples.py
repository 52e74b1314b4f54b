"""What the model would answer now: greedily, by the core that is being trained, so nothing is loaded a second time."""

from __future__ import annotations

from typing import Any

import mlx.core as mx

from ..cache.sequence import SequenceCache
from ..nn.decoder import DecoderModel
from ..ops.adapters import Adapter
from ..text.prompting import Prompter
from ..turns import Ask, Role, Turn

TOKENS = 48


def sample(decoder: DecoderModel, prompter: Prompter, adapter: Adapter | None, prompt: str) -> str:
    tokenizer = prompter.tokenizer
    if prompter.template.has_chat:
        ids = prompter.written(Ask((Turn(Role.USER, (prompt,)),)), decoder.spec.context, opens=True)
    else:
        ids = [*tokenizer.prefix, *tokenizer.encode(prompt, special=False)]
    memory = SequenceCache(decoder.spec, min(decoder.spec.context, len(ids) + TOKENS))
    memory.adapter = adapter
    said: list[int] = []
    left = ids
    while len(said) < TOKENS and memory.length + len(left) < decoder.spec.context:
        hidden = decoder(mx.array(left, mx.int32), [(memory, len(left))])
        token: Any = mx.argmax(decoder.logits(hidden[-1])).item()
        if token in tokenizer.eos_ids:
            break
        said.append(token)
        left = [token]
    return tokenizer.decode(said)
