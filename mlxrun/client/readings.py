"""What a model makes of a text without answering: its tokens, how likely it is, a vector, what goes on inside.

Of both transports; each method has an async twin, which waits on a thread.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, Protocol

from ..core import Memory, RequestError
from ..speech import Transcript, TranscriptWish
from .stream import PieceSource
from .types import Asking, ModelInfo, Ranked, Score

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray

    Array = NDArray[np.float32]

What = Literal["hidden", "attention", "router", "logits"]


class Transport(Protocol):
    @property
    def model(self) -> str: ...

    @property
    def context(self) -> int | None: ...

    @property
    def sees(self) -> bool | None: ...

    def ask(self, ask: Asking) -> PieceSource: ...

    def models(self) -> list[ModelInfo]: ...

    def memory(self) -> Memory | None: ...

    def statistics(self) -> Mapping[str, Any] | None: ...

    def tokenize(self, text: str) -> list[int]: ...

    def detokenize(self, tokens: Sequence[int]) -> str: ...

    def score(self, text: str, top: int) -> Score: ...

    def embed(self, texts: Sequence[str], size: int | None, prompt: str | None, truncate: bool) -> Array: ...

    def rerank(self, question: str, texts: Sequence[str]) -> list[float]: ...

    def trace(self, text: str, layers: Sequence[int] | None, what: What, plain: bool) -> Array: ...

    def transcribe(self, sound: bytes | Array, wish: TranscriptWish) -> Transcript: ...

    def close(self) -> None: ...


class Readings:
    _transport: Transport
    _closed: bool

    @property
    def model(self) -> str:
        """Its name."""
        return self._transport.model

    @property
    def context(self) -> int | None:
        """Tokens that a prompt and its answer may take together; None where a server does not tell.

        >>> model.context > 1
        True
        """
        return self._transport.context

    @property
    def sees(self) -> bool | None:
        """Whether it can be shown pictures; None where a server does not tell.

        >>> model.sees
        False
        """
        return self._transport.sees

    def tokenize(self, text: str) -> list[int]:
        """The tokens of a text, without what a tokenizer puts round one; control tokens written in it stay text.

        >>> model.detokenize(model.tokenize("Hello there"))
        'Hello there'
        """
        self._must_be_open()
        return self._transport.tokenize(a_text("text", text))

    def detokenize(self, tokens: Sequence[int]) -> str:
        """The text of tokens.

        >>> model.detokenize(model.tokenize("Hello there")[:1])
        'Hello'
        """
        self._must_be_open()
        return self._transport.detokenize([int(token) for token in tokens])

    def score(self, text: str, *, top: int = 0) -> Score:
        """How likely the model finds a text, token by token; `top` alternatives with each. A notebook paints it.

        >>> likely = model.score("The capital of France is Paris.")
        >>> odd = model.score("The capital of France is a sock.")
        >>> likely.perplexity < odd.perplexity
        True
        """
        self._must_be_open()
        return self._transport.score(a_text("text", text), top)

    def embed(
        self, texts: str | Sequence[str], *, size: int | None = None, prompt: str | None = None, truncate: bool = False
    ) -> Array:
        """A vector of length 1 for each text, as rows (texts, size); close ones mean much the same. `size` cuts them,
        of a model that was trained for that. `prompt` names one of the model's, such as "query", which is put before
        each text. A text that is too long is an error, or with `truncate` cut.

        >>> model.embed(["a cat", "a dog"]).shape
        (2, 576)
        """
        self._must_be_open()
        given = all_texts("texts", [texts] if isinstance(texts, str) else texts)
        return self._transport.embed(given, size, prompt, truncate)

    def rerank(self, question: str, texts: Sequence[str]) -> list[Ranked]:
        """Which text answers a question best, best first. Only of models that were made for it.

        >>> model.rerank("What is a cat?", ["An animal.", "A car."])
        Traceback (most recent call last):
            ...
        mlxrun.core.RequestError: smollm2 cannot rerank: it has no head for that.
        """
        self._must_be_open()
        found = self._transport.rerank(a_text("question", question), all_texts("texts", texts))
        ranked = [Ranked(score, text, at) for at, (score, text) in enumerate(zip(found, texts, strict=True))]
        return sorted(ranked, key=lambda one: -one.score)

    def trace(
        self, text: str, *, layers: Sequence[int] | None = None, what: What = "hidden", plain: bool = False
    ) -> Array:
        """What goes on inside while a text is read. `layers`: of these, in their order; None: of all.

        `what`: "hidden", what comes out of a layer (layers, tokens, size); "attention", how much each token looks at
        which (layers, heads, tokens, tokens); "router", the weight of each expert (layers, tokens, experts); "logits",
        what the model would say if it ended at that layer (layers, tokens, vocabulary).

        A processor computes many layers at once, where nothing can be seen. `plain=True` reads the text once more
        layer by layer, which may differ in the last bits.

        >>> attention = model.trace("The cat sat", layers=[0, 5], what="attention", plain=True)
        >>> attention.shape
        (2, 9, 3, 3)
        >>> float(attention[0, 0, 2].sum().round(3))
        1.0
        """
        self._must_be_open()
        return self._transport.trace(a_text("text", text), layers, what, plain)

    def transcribe(
        self,
        sound: str | PathLike[str] | bytes | Array,
        *,
        language: str | None = None,
        translate: bool = False,
        prompt: str = "",
        temperature: float = 0.0,
    ) -> Transcript:
        """What is said in a sound: a file, its bytes, or 16,000 samples a second. Only of models made for that.

        `language`: its code, heard where it is not said. `translate`: into English. `prompt`: as if said before, for
        names and words that are hard to hear.

        >>> model.transcribe("speech.wav")
        Traceback (most recent call last):
            ...
        mlxrun.core.RequestError: speech.wav cannot be read: No such file or directory.
        """
        self._must_be_open()
        wish = TranscriptWish(language, "translate" if translate else "transcribe", prompt, temperature)
        return self._transport.transcribe(sound_of(sound), wish)

    async def ascore(self, text: str, *, top: int = 0) -> Score:
        """`score` for asyncio.

        >>> asyncio.run(model.ascore("Hello there"))
        Score(2 tokens, perplexity ...)
        """
        return await asyncio.to_thread(self.score, text, top=top)

    async def aembed(
        self, texts: str | Sequence[str], *, size: int | None = None, prompt: str | None = None, truncate: bool = False
    ) -> Array:
        """`embed` for asyncio.

        >>> asyncio.run(model.aembed("a cat")).shape
        (1, 576)
        """
        return await asyncio.to_thread(self.embed, texts, size=size, prompt=prompt, truncate=truncate)

    async def arerank(self, question: str, texts: Sequence[str]) -> list[Ranked]:
        """`rerank` for asyncio.

        >>> asyncio.run(model.arerank("What is a cat?", []))
        Traceback (most recent call last):
            ...
        mlxrun.core.RequestError: texts must be a list of texts, at least one.
        """
        return await asyncio.to_thread(self.rerank, question, texts)

    async def atranscribe(
        self, sound: str | PathLike[str] | bytes | Array, *, language: str | None = None, translate: bool = False
    ) -> Transcript:
        """`transcribe` for asyncio.

        >>> asyncio.run(model.atranscribe(b""))
        Traceback (most recent call last):
            ...
        mlxrun.core.RequestError: smollm2 writes down no speech.
        """
        return await asyncio.to_thread(self.transcribe, sound, language=language, translate=translate)

    def _must_be_open(self) -> None:
        if self._closed:
            raise RequestError(f"This client of {self.model} is closed; load or connect anew.")


def sound_of(given: str | PathLike[str] | bytes | Array) -> bytes | Array:
    if not isinstance(given, str | PathLike):
        return given
    try:
        return Path(given).read_bytes()
    except OSError as error:
        raise RequestError(f"{given} cannot be read: {error.strerror}.") from error


def a_text(name: str, given: object) -> str:
    if not isinstance(given, str) or not given:
        raise RequestError(f"{name} must be a text, not {given!r}.")
    return given


def all_texts(name: str, given: object) -> list[str]:
    if not isinstance(given, list | tuple) or not given or not all(isinstance(one, str) and one for one in given):
        raise RequestError(f"{name} must be a list of texts, at least one.")
    return list(given)
