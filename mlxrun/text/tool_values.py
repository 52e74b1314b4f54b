"""One value as a model writes it in, the same as JSON text out, while it comes.

JSON goes out exactly as it was written. Python's literals and objects with bare keys are other spellings of the same
values: `Notation` says which. No value is repaired: what is none is `Broken`.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Generator, Mapping
from dataclasses import dataclass, field

from .incoming import SPACE, Broken, Incoming, Waiting, as_json
from .marker_letters import ANY_MARK

Emit = Callable[[str], object]
MOST_DEEP = 200
LONGEST_NUMBER = 1000
LONGEST_KEY = 1000
NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?")
WORD = re.compile(r"[0-9A-Za-z_+.-]*")
BARE_KEY = re.compile("[^\\s:,{}\\[\\]\"'\ud800-\udfff]+")
CLOSERS = {"{": "}", "[": "]", "(": ")"}
JSON_WORDS = {"true": "true", "false": "false", "null": "null"}
PYTHON_WORDS = {"True": "true", "False": "false", "None": "null"}
JSON_ESCAPES = {letter: "\\" + letter for letter in '"\\/bfnrt'}
PYTHON_ESCAPES = {
    "n": "\\n",
    "t": "\\t",
    "r": "\\r",
    "b": "\\b",
    "f": "\\f",
    "\\": "\\\\",
    "'": "'",
    "/": "/",
    '"': '\\"',
    "a": "\\u0007",
    "v": "\\u000b",
    "\n": "",
}
HEX = re.compile(r"[0-9A-Fa-f]*")


@dataclass(frozen=True, slots=True)
class Notation:
    words: Mapping[str, str] = field(default_factory=lambda: JSON_WORDS)  # constants
    quotes: tuple[str, ...] = ('"',)
    escapes: Mapping[str, str] | None = field(default_factory=lambda: JSON_ESCAPES)  # None: strings are raw
    bare_keys: bool = False
    exact: bool = True  # it is JSON already
    opens: str = "{["


JSON = Notation()


def python(words: Mapping[str, str]) -> Notation:
    return Notation({**JSON_WORDS, **PYTHON_WORDS, **words}, ("'", '"'), PYTHON_ESCAPES, exact=False, opens="{[(")


def bare(quote: str) -> Notation:
    return Notation({**JSON_WORDS, "None": "null"}, (quote,), None, bare_keys=True, exact=False)


class ValueReader:
    def __init__(self, source: Incoming, notation: Notation, emit: Emit) -> None:
        self._source, self._notation, self._emit = source, notation, emit

    def read(self) -> Waiting:
        """The next value, white space before it too. No recursion: a model may nest as it likes."""
        closers: list[str] = []
        while True:
            yield from self._space()
            opened = yield from self._value()
            if opened:
                closers.append(CLOSERS[opened])
                if len(closers) > MOST_DEEP:
                    raise Broken
                yield from self._space()
                if (yield from self._source.next()) != closers[-1]:
                    if closers[-1] == "}":
                        yield from self._key()
                    continue
            if (yield from self._after(closers)):
                return

    def _after(self, closers: list[str]) -> Generator[None, None, bool]:
        """Closers and a comma behind a value; whether that was the last."""
        while closers:
            yield from self._space()
            letter = yield from self._source.next()
            if letter == ",":
                self._source.at += 1
                if self._notation.opens == "{[(":
                    yield from self._space()
                    if (yield from self._source.next()) == closers[-1]:
                        continue  # Python's last comma
                self._emit("," if self._notation.exact else ", ")
                if closers[-1] == "}":
                    yield from self._space()
                    yield from self._key()
                return False
            if not letter or letter != closers[-1]:
                raise Broken
            self._source.at += 1
            self._emit("]" if letter == ")" else letter)
            closers.pop()
        return True

    def _value(self) -> Generator[None, None, str]:
        """A bracket is taken and returned; anything else is read whole."""
        source = self._source
        quote = yield from source.take(self._notation.quotes)
        if quote:
            yield from self.string(quote)
            return ""
        letter = yield from source.next()
        if letter and letter in self._notation.opens:
            source.at += 1
            self._emit("[" if letter == "(" else letter)
            return letter
        word = yield from source.run(WORD, LONGEST_NUMBER)
        if word in self._notation.words:
            self._emit(self._notation.words[word])
        elif NUMBER.fullmatch(word):
            self._emit(word)
        else:
            source.at -= len(word)
            raise Broken
        return ""

    def _key(self) -> Waiting:
        source = self._source
        quote = yield from source.take(self._notation.quotes)
        if quote:
            yield from self.string(quote)
        elif self._notation.bare_keys:
            key = yield from source.run(BARE_KEY, LONGEST_KEY)
            if not key:
                raise Broken
            self._emit(f'"{as_json(key)}"')
        else:
            raise Broken
        yield from self._space()
        if (yield from source.take((":",))) is None:
            raise Broken
        self._emit(":" if self._notation.exact else ": ")

    def _space(self) -> Waiting:
        space = yield from self._source.space()
        if space and self._notation.exact:
            self._emit(space)

    def string(self, quote: str) -> Waiting:
        """What comes after its opening quote, to the closing one."""
        self._emit('"')
        yield from (self._raw(quote) if self._notation.escapes is None else self._escaped(quote))
        self._emit('"')

    def _raw(self, quote: str) -> Waiting:
        source = self._source
        while (yield from source.take((quote,))) is None:
            if not (yield from source.next()):
                raise Broken
            found = source.text.find(quote, source.at)
            end = found if found >= 0 else max(source.at + 1, len(source.text) - len(quote) + 1)
            take_raw(source, end - source.at, lambda text: self._emit(as_json(text)))

    def _escaped(self, quote: str) -> Waiting:
        source, exact = self._source, self._notation.exact
        plain = PLAIN[quote, exact]
        while True:
            letter = yield from source.next()
            if letter == quote:
                source.at += 1
                return
            if letter == "\\":
                source.at += 1
                yield from self._escape()
                continue
            found = plain.match(source.text, source.at)
            if found:
                source.at = found.end()
                self._emit(found[0] if exact else as_json(found[0]))
                continue
            if not letter or not ANY_MARK.match(letter):
                raise Broken
            source.at += 1
            self._emit(as_json(spelled(source, letter)))

    def _escape(self) -> Waiting:
        source, escapes = self._source, self._notation.escapes or {}
        letter = yield from source.next()
        if not letter:
            raise Broken
        source.at += 1
        if letter in escapes:
            self._emit(escapes[letter])
            return
        digits = {"u": 4, "x": 2, "U": 8}.get(letter, 0) if not self._notation.exact or letter == "u" else 0
        if digits:
            yield from self._code_point(digits)
        elif self._notation.exact:
            raise Broken
        else:
            source.at -= 1  # Python leaves an escape that it does not know as it stands
            self._emit("\\\\")

    def _code_point(self, digits: int) -> Waiting:
        source = self._source
        while len(source.text) - source.at < digits and not source.ended:
            yield
        written = source.text[source.at : source.at + digits]
        found = HEX.fullmatch(written)
        if found is None or len(written) < digits or int(written, 16) > 0x10FFFF:
            raise Broken
        source.at += digits
        if self._notation.exact:
            self._emit("\\u" + written)
        elif digits == 8 and int(written, 16) > 0xFFFF:
            self._emit(as_json(chr(int(written, 16))))
        else:
            self._emit(f"\\u{int(written, 16):04x}")


PLAIN = {
    ('"', True): re.compile('[^"\\\\\x00-\x1f\ud800-\udfff]+'),
    ('"', False): re.compile('[^"\\\\\n\ud800-\udfff]+'),
    ("'", False): re.compile("[^'\\\\\n\ud800-\udfff]+"),
}


def read_object(source: Incoming, emit: Emit) -> Waiting:
    """A JSON object and nothing else."""
    yield from source.space()
    if (yield from source.next()) != "{":
        raise Broken
    yield from ValueReader(source, JSON, emit).read()


def spelled(source: Incoming, text: str) -> str:
    """Markers in a string that are not control tokens are their letters; any other breaks it."""
    if any(source.marks.control(letter) for letter in ANY_MARK.findall(text)):
        raise Broken
    return source.marks.plain(text)


def take_raw(source: Incoming, length: int, emit: Emit) -> None:
    """So many letters of a raw string, up to a control token, which breaks it."""
    text = source.text[source.at : source.at + length]
    end = next((m.start() for m in ANY_MARK.finditer(text) if source.marks.control(m[0])), length)
    emit(source.marks.plain(text[:end]))
    source.at += end
    if end < length:
        raise Broken


def whole(text: str, notation: Notation, source: Incoming) -> str | None:
    """The JSON of a text that is one whole value, or nothing."""
    out: list[str] = []
    own = Incoming(source.marks)
    own.feed(text.strip(SPACE))
    own.ended = True
    try:
        for _ in ValueReader(own, notation, out.append).read():
            pass
    except Broken:
        return None
    return "".join(out) if own.at == len(own.text) else None
