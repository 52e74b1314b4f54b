"""A model that says the alphabet on from the last letter it saw, and a tokenizer of bytes: chats without weights."""

from __future__ import annotations

import mlx.core as mx

from mlxrun.assistant import Assistant
from mlxrun.engine.engine import Engine
from mlxrun.loading.model import Holdings
from mlxrun.ops.device import this_device
from mlxrun.text.prompting import Prompter
from mlxrun.text.template import ChatTemplate
from mlxrun.text.tokenizer import Marks, Tokenizer

END = 256
CHAT = "{% for m in messages %}{{ m.role }}:{{ m.content }};{% endfor %}A"  # so that every answer is B to Z


class Bytes(Tokenizer):
    vocab_size = 257

    def __init__(self) -> None:
        super().__init__(Marks(None, frozenset({END})))

    def encode(self, text: str, *, special: bool) -> list[int]:
        return list(text.encode())

    def piece(self, token: int) -> str:
        return chr(token)

    def is_special(self, token: int) -> bool:
        return token == END

    def _spell(self, token: int) -> bytes:
        return bytes([token]) if token < END else b""


class ParrotMemory:
    length, context, bytes, layers, store, points = 0, 1000, 0, (), None, ()

    def reusable(self, length: int) -> int:
        return length

    def rewind(self, length: int) -> bool:
        self.length = length
        return True

    def fork(self) -> ParrotMemory:
        other = ParrotMemory()
        other.length = self.length
        return other

    def arrays(self) -> list[mx.array]:
        return []


class Parrot:
    vocab, context, notes, holdings, device = 257, 1000, ("A parrot.",), Holdings(), this_device()

    def new_sequence(self, context: int | None = None) -> ParrotMemory:
        return ParrotMemory()

    def prefixes(self, context: int, limit: int) -> None:
        """A memory is had whole or not at all."""

    @property
    def paged_bytes(self) -> int:
        return 0

    def give_back(self) -> None:
        """MLX has all of it."""

    def __call__(self, ids: mx.array, sequences: list[tuple[ParrotMemory, int]]) -> mx.array:
        for memory, count in sequences:
            memory.length += count
        return mx.where(ids == ord("Z"), END, ids + 1)[:, None]

    def logits(self, hidden: mx.array) -> mx.array:
        return 30.0 * (mx.arange(self.vocab) == hidden)

    def best(self, hidden: mx.array) -> mx.array | None:
        return None


def parrot(template: str | None = CHAT) -> Assistant:
    sources = {} if template is None else {"default": template}
    return Assistant("parrot", Engine.start(Parrot), Prompter(Bytes(), ChatTemplate(sources, {})))
