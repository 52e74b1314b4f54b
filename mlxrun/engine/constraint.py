"""What an answer must be -> which tokens may come next: llguidance's matchers, one a request.

A constraint is compiled while it is submitted, and refused there in llguidance's own words. From then on one thread
owns all matchers: it is told each token as it is read, and works out what may follow while the model computes. A mask
belongs to a request and a position of its answer. llguidance is imported where it is used: most never need it.
Knows no text beyond what the vocabulary says.
"""

from __future__ import annotations

import json
import threading
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

import numpy as np

from ..core import Constraint, Refusal, RequestError, Shape, TokenVocabulary
from .mask_worker import LateError, Task, Worker

if TYPE_CHECKING:
    from llguidance import LLMatcher, LLTokenizer

T = TypeVar("T")
MASK_SECONDS = 0.5  # that one mask may take
COMPILE_SECONDS = 2.0
FIRST_SECONDS = 30.0  # to sort a vocabulary, once
STACK = 256 << 20  # bytes that are reserved, not used: llguidance goes down chains of rules by recursion, unbounded,
MOST_TEXT = 128 << 10  # and with this many characters no chain is too long for that
KEPT = 64  # compiled grammars,
KEPT_TEXT = 2 * MOST_TEXT  # and characters of them: a character may cost 300 bytes
SPACES = r"[ \t\r\n]{1,64}"  # between the tokens of JSON; without a limit small models write nothing else


class ConstraintError(RuntimeError):
    """Why an answer cannot go on."""

    refusal: Refusal | None = None  # whose fault it is, where it is the request's


class GrammarBroke(ConstraintError):
    """What was asked for takes more than a grammar may, which shows only when it is followed."""

    refusal = Refusal.REQUEST


@dataclass(frozen=True, slots=True)
class Mask:
    """Of the token at one position of an answer."""

    bits: np.ndarray | None = None  # (words,) uint32, a bit for each token that may come; None: all may
    complete: bool = False  # nothing may come any more


FREE, COMPLETE = Mask(), Mask(complete=True)


@dataclass(frozen=True, slots=True)
class Grammar:
    """A constraint that was compiled, of which every answer gets a matcher of its own."""

    constraint: Constraint
    start: LLMatcher
    vocabulary: TokenVocabulary
    size: int  # tokens that the model knows
    worker: Worker

    def guide(self) -> Guide:
        """From the start of an answer."""
        return Guide(self)


class Guide:
    """Where one answer stands in its grammar. Told each token that is read; `mask` waits for what may come next."""

    def __init__(self, grammar: Grammar) -> None:
        self._grammar, self._constraint, self._worker = grammar, grammar.constraint, grammar.worker
        self._matcher: LLMatcher | None = None  # the worker's, copied when it first needs it
        self._words = -(-grammar.size // 32)
        self._free = self._constraint.after is not None and self._constraint.opener is None
        self._tail: tuple[int, ...] = ()  # of what was free
        self.position = 0  # tokens of the answer that were read
        self._task: Task[Mask] | None = None if self._free else self._worker.begin(lambda: self._step(()))

    def read(self, token: int) -> None:
        """The next token of the answer is this one."""
        constraint, first = self._constraint, self.position == 0
        self.position += 1
        if first and token == constraint.opener:
            self._free, self._task = True, None
        elif not self._free:
            self._task = self._worker.begin(lambda: self._step((token,)))
        elif self._ends_freedom(token):
            self._free = False
            self._task = self._worker.begin(lambda: self._step(()))

    def mask(self) -> Mask:
        """What may come at `position`. Waits for it; a ConstraintError tells why it never comes."""
        if self._task is None:
            return FREE
        mask = self._result(self._task)
        if self.position == 0 and self._constraint.opener is not None and mask.bits is not None:
            return Mask(with_bit(mask.bits, self._constraint.opener))
        return mask

    @property
    def free(self) -> bool:
        """Whether anything may come, until its marker does."""
        return self._free

    def fits(self, draft: Sequence[int]) -> int:
        """How many of these tokens may come from here on, one after the other."""
        if self._free or self._task is None:
            return len(draft)
        return self._result(self._worker.begin(lambda: self._current().validate_tokens(list(draft))))

    def along(self, draft: Sequence[int]) -> list[Mask]:
        """The masks at `position` and after each token of a draft that `fits`."""
        if self._free or self._task is None:
            return [FREE] * (len(draft) + 1)
        return self._result(self._worker.begin(lambda: self._masks_along(draft)))

    def forced(self) -> list[int]:
        """The tokens that must come now, as far as there is no choice."""
        if self._free or self._task is None:
            return []
        return self._result(self._worker.begin(lambda: self._current().compute_ff_tokens()))

    def _result(self, task: Task[T]) -> T:
        """What a matcher said; a ConstraintError where it broke, hung or died, whatever it raised."""
        try:
            return self._worker.result(task)
        except ConstraintError:
            raise
        except (RuntimeError, ValueError, TypeError, LookupError) as error:
            raise ConstraintError(f"What the answer is constrained by could not be followed: {error}.") from error

    def _ends_freedom(self, token: int) -> bool:
        """A marker that is one token is known by its id; a longer one by its bytes, which may be split otherwise."""
        after = self._constraint.after or ()
        if len(after) == 1:
            return token == after[0]
        marker = self._bytes(after)
        self._tail = (*self._tail, token)[-len(marker) :]
        return marker in self._bytes(self._tail)

    def _bytes(self, ids: Sequence[int]) -> bytes:
        return b"".join([self._grammar.vocabulary.tokens[i] for i in ids])

    # from here on: the worker's thread

    def _current(self) -> LLMatcher:
        if self._matcher is None:
            self._matcher = self._grammar.start.deep_copy()
        return self._matcher

    def _step(self, tokens: Sequence[int]) -> Mask:
        matcher = self._current()
        if tokens:
            matcher.consume_tokens(list(tokens))
        return self._mask_of(matcher)

    def _masks_along(self, draft: Sequence[int]) -> list[Mask]:
        matcher, masks, taken = self._current(), [], 0
        try:
            masks.append(self._mask_of(matcher))
            for token in draft:
                if masks[-1].complete or not matcher.try_consume_tokens([token]):
                    break
                taken += 1
                masks.append(self._mask_of(matcher))
        finally:
            if taken:
                matcher.rollback(taken)
        return masks

    def _mask_of(self, matcher: LLMatcher) -> Mask:
        if not matcher.is_error() and matcher.is_stopped():
            return COMPLETE
        bits = matcher.compute_bitmask()
        if matcher.is_error():
            raise GrammarBroke(f"What the answer is constrained by broke: {sentence(matcher.get_error())}")
        return Mask(np.frombuffer(bits, np.uint32)[: self._words])


class Grammars:
    """The compiled constraints of one model."""

    def __init__(self, vocabulary: Callable[[], TokenVocabulary] | None, size: int) -> None:
        """`size`: tokens that the model knows; a tokenizer may know more or fewer."""
        self._make_vocabulary, self._size = vocabulary, size
        self._vocabulary: TokenVocabulary | None = None
        self._tokenizer: LLTokenizer | None = None
        self._compiler = Worker("mlxrun-grammars", COMPILE_SECONDS, STACK)
        self._sorter = Worker("mlxrun-vocabulary", FIRST_SECONDS)
        self.masks = Worker("mlxrun-masks", MASK_SECONDS)
        self._kept: OrderedDict[tuple[Shape, str], LLMatcher] = OrderedDict()
        self._lock = threading.Lock()

    def compiled(self, constraint: Constraint) -> Grammar:
        """On the thread of whoever asks. A RequestError says what is wrong with it."""
        check_text(constraint)
        known = constraint.shape, constraint.text
        with self._lock:
            vocabulary = self._ready_vocabulary()
            start = self._kept.get(known)
            if start is not None:
                self._kept.move_to_end(known)
        if start is None:
            try:
                start = self._compiler.result(self._compiler.begin(lambda: self._compile(constraint)))
            except LateError as error:
                raise RequestError(f"The {NAMES[constraint.shape]} cannot be used: {error}.") from error
            with self._lock:
                self._kept[known] = start
                while len(self._kept) > KEPT or sum(len(text) for _, text in self._kept) > KEPT_TEXT:
                    self._kept.popitem(last=False)
        return Grammar(constraint, start, vocabulary, self._size, self.masks)

    def close(self) -> None:
        for worker in (self._compiler, self._sorter, self.masks):
            worker.close()

    def _ready_vocabulary(self) -> TokenVocabulary:
        if self._vocabulary is not None:
            return self._vocabulary
        if self._make_vocabulary is None:
            raise RequestError("Answers of this model cannot be constrained: nobody told what its tokens stand for.")
        fitted = fitted_to(self._make_vocabulary(), self._size)
        self._tokenizer = self._sorter.result(self._sorter.begin(lambda: tokenizer_of(fitted)))
        self._vocabulary = fitted
        return fitted

    def _compile(self, constraint: Constraint) -> LLMatcher:
        from llguidance import LLMatcher, LLParserLimits

        assert self._tokenizer is not None
        name = NAMES[constraint.shape]
        try:
            written = grammar_text(constraint)
        except ValueError as error:
            raise RequestError(f"The {name} cannot be used: {sentence(str(error))}") from error
        limits = LLParserLimits(verbose_errors=False)
        matcher = LLMatcher(self._tokenizer, written, log_level=0, limits=limits)
        if not matcher.is_error():
            matcher.compute_bitmask()
            if matcher.is_error() and "NoExtension" in matcher.get_error():
                raise RequestError(f"The {name} cannot be used: no text that this model can write satisfies it.")
        if matcher.is_error():
            raise RequestError(f"The {name} cannot be used: {sentence(matcher.get_error())}")
        return matcher


NAMES = {
    Shape.JSON_SCHEMA: "JSON schema",
    Shape.REGEX: "regex",
    Shape.CHOICE: "choice",
    Shape.LARK: "Lark grammar",
}


def check_text(constraint: Constraint) -> None:
    if len(constraint.text) > MOST_TEXT:
        told = f"The {NAMES[constraint.shape]} has {len(constraint.text)} characters; at most {MOST_TEXT} are taken."
        raise RequestError(told)
    if constraint.shape is Shape.CHOICE and not choices_of(constraint.text):
        raise RequestError("A choice must be a JSON array of one or more texts, none of them empty.")


def choices_of(text: str) -> list[str]:
    try:
        found = json.loads(text)
    except ValueError:
        return []
    good = isinstance(found, list) and all(isinstance(one, str) and one for one in found)
    return found if good else []


def grammar_text(constraint: Constraint) -> str:
    """As llguidance reads it."""
    from llguidance import LLMatcher

    if constraint.shape is Shape.JSON_SCHEMA:
        return LLMatcher.grammar_from_json_schema(constraint.text, defaults={"whitespace_pattern": SPACES})
    if constraint.shape is Shape.REGEX:
        return LLMatcher.grammar_from_regex(constraint.text)
    if constraint.shape is Shape.CHOICE:
        texts = [json.dumps(one, ensure_ascii=False) for one in choices_of(constraint.text)]
        return LLMatcher.grammar_from_lark("start: " + " | ".join(texts))
    return LLMatcher.grammar_from_lark(constraint.text)


def fitted_to(vocabulary: TokenVocabulary, size: int) -> TokenVocabulary:
    """Of `size` tokens. Where none ends an answer there is one more, which is never drawn: llguidance wants one."""
    tokens = (*vocabulary.tokens[:size], *(b"",) * (size - len(vocabulary.tokens)))
    special = frozenset(i for i in vocabulary.special if i < size)
    ends = frozenset(i for i in vocabulary.ends if i < size)
    if not ends:
        tokens, special, ends = (*tokens, b"<end>"), special | {size}, frozenset({size})
    return TokenVocabulary(tokens, special, ends, vocabulary.encode)


def tokenizer_of(vocabulary: TokenVocabulary) -> LLTokenizer:
    from llguidance import LLTokenizer

    return LLTokenizer(WrappedTokenizer(vocabulary), eos_token=sorted(vocabulary.ends))  # type: ignore[arg-type]  # by its attributes


class WrappedTokenizer:
    """A vocabulary as llguidance asks for it."""

    is_tokenizer_wrapper = True
    bos_token_id = None

    def __init__(self, vocabulary: TokenVocabulary) -> None:
        self.tokens, self.special_token_ids = list(vocabulary.tokens), sorted(vocabulary.special)
        self.eos_token_id = min(vocabulary.ends)
        self._vocabulary = vocabulary

    def __call__(self, text: str | bytes) -> list[int]:
        """None where the tokenizer would put more before the text than stands there: then any split is as good."""
        told = text if isinstance(text, bytes) else text.encode()
        ids = list(self._vocabulary.encode(told.decode()))
        known = all(0 <= i < len(self.tokens) for i in ids)  # a tokenizer may have more than its model
        return ids if known and b"".join([self.tokens[i] for i in ids]) == told else []


def with_bit(bits: np.ndarray, token: int) -> np.ndarray:
    changed = bits.copy()
    changed[token // 32] |= np.uint32(1 << token % 32)
    return changed


def sentence(error: str) -> str:
    """The first words of an error that goes on with what a parser was doing."""
    words = " ".join(error.split("<state>")[0].split("<backtrace>")[0].split())
    return words if words.endswith((".", "!", "?")) else f"{words}."
