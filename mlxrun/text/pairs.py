"""A question and a text as they are read together: by an encoder, or by a model that is asked whether the two fit.

What people wrote in them stays text, whatever control tokens it spells.
"""

from __future__ import annotations

from dataclasses import dataclass

from ..core import ContextError, RequestError
from .long_text import ids_within
from .prompting import Prompter
from .tokenizer import Tokenizer, well_formed


@dataclass(frozen=True, slots=True)
class Read:
    ids: tuple[int, ...]
    types: tuple[int, ...]  # in which of the two each stands


@dataclass(frozen=True, slots=True)
class PairReader:
    prompter: Prompter
    context: int
    asks: bool = False  # the model writes: it is asked in the words of its chat template
    system: str = ""  # what it is told first then
    opens: bool = False  # its answer is begun for it

    def read(self, question: str, text: str, most: int | None = None) -> Read:
        """`most`: no more tokens of the text are read. A ContextError for what is longer than the context."""
        if most is not None:
            text = self._begin(text, most)
        found = self._asked(question, text) if self.asks else self._joined(question, text)
        if len(found.ids) > self.context:
            message = f"The query and a document have {len(found.ids)} tokens; this model reads at most {self.context}."
            raise ContextError(message, len(found.ids), self.context)
        return found

    def _asked(self, question: str, text: str) -> Read:
        told = [{"role": "query", "content": question}, {"role": "document", "content": text}]
        if self.system:
            told.insert(0, {"role": "system", "content": self.system})
        ids = self.prompter.raw(told, self.context, opens=self.opens)
        return Read(tuple(ids), (0,) * len(ids))

    def _joined(self, question: str, text: str) -> Read:
        pair = self._tokenizer.pair
        if pair is None:
            raise RequestError("The tokenizer of this model does not say how two texts are read together.")
        return Read(*pair.joined(self._ids(question), self._ids(text)))

    def _begin(self, text: str, most: int) -> str:
        """So much of it as those tokens spell."""
        longest = (most + 1) * self._tokenizer.longest  # letters are no shorter than bytes
        ids = self._tokenizer.encode(well_formed(text)[:longest], special=False)
        return text if len(ids) <= most else self._tokenizer.decode(ids[:most], skip_special=False, whole=True)

    def _ids(self, text: str) -> list[int]:
        def encode(text: str) -> list[int]:
            return self._tokenizer.encode(text, special=False)

        return ids_within(well_formed(text), self._tokenizer, self.context, encode)

    @property
    def _tokenizer(self) -> Tokenizer:
        return self.prompter.tokenizer
