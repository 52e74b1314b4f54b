"""Calls of tools in what a model writes: one machine for every format of `tool_formats`, whole or streamed.

It stands before the reader of thoughts (`PartReader`), hands it what is no call, and tells calls from text by their
markers: one that is a token of the vocabulary by that token alone, any other by its letters. A tool that nobody
declared or a head that is none is content as it was written. Once a call has begun its arguments are told while they
come; one that breaks or is cut is never ended, repaired or taken back. No stop string is looked for in a call. Knows no
tokenizer, no template and no dialect.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Generator, Sequence

from ..parts import Arguments, CallBegun, CallEnded, Said
from ..turns import Tool
from .incoming import SPACE, Broken, Incoming, Waiting, certain, finder
from .items import Item
from .marker_letters import ANY_MARK, BREAK, MarkerLetters
from .reasoning import PartReader
from .tool_args import ArgsTask
from .tool_args import reader_of as args_reader
from .tool_formats import CallPlace, InThoughts, JsonHead, ToolFormat
from .tool_ids import CallIds
from .tool_markers import CallMarkers, Opener
from .tool_values import JSON, ValueReader, read_object

OTHER_KEYS = ("type", "id", "index")  # that the object of a call may have, whatever they say
ID = re.compile(r"[\w.-]*")
LONGEST_ID = 64
DIGITS = re.compile("[0-9]*")
ONE_MARK = re.compile("([\ud800-\udfff])")


class CallReader:
    def __init__(
        self,
        form: ToolFormat,
        tools: Sequence[Tool],
        reader: PartReader,
        marks: MarkerLetters,
        *,
        thoughts: Collection[str] = (),
        history: int = 0,
    ) -> None:
        """`thoughts`: the letters that are markers of the reader's. `history`: calls in earlier turns."""
        self._form, self._reader, self._marks, self._thoughts = form, reader, marks, frozenset(thoughts)
        self._tools = {tool.name: tool for tool in tools}
        self._source = Incoming(marks)
        self._markers = CallMarkers(form, marks)
        self._find = finder(tuple(self._markers.openers))
        self._args = args_reader(form.args, marks.written, self._markers.ends)
        self._ids = CallIds(form.ids, history)
        self._items: list[Item] = []
        self._text: list[str] = []  # of arguments, not told yet
        self._index = -1  # of the call that was begun last
        self._begun = False  # and has not ended
        self._held = False  # what is read may be no call
        self._space = ""  # after what was said; a call takes it away
        self._fresh = True  # nothing came since the start, a marker or a call
        self._calls_last = self._spoken = False
        self._steps = self._read()

    def push(self, text: str) -> list[Item]:
        if not text:
            return []
        self._source.feed(text)
        next(self._steps)
        return self._told()

    def finish(self) -> list[Item]:
        self._source.ended = True
        for _ in self._steps:
            pass
        return self._told()

    def _told(self) -> list[Item]:
        if self._begun:
            self._flush()
        items, self._items = self._items, []
        return items

    def _read(self) -> Waiting:
        while (opener := (yield from self._content())) is not None:
            yield from self._calls(opener)
        if not self._calls_last:
            self._items += self._reader.push(self._space)
        self._items += self._reader.finish()

    # content

    def _content(self) -> Generator[None, None, str | None]:
        """Tell what is no call, up to something that may begin one."""
        source, openers = self._source, self._markers.openers
        while True:
            never = self._spoken and self._form.place is CallPlace.START
            found = None if never else self._find.search(source.text, source.at)
            left = source.text[source.at :]
            length = found.start() - source.at if found else len(left) if never else certain(left, openers)
            self._say(left[: len(left) if source.ended and not found else length])
            source.at += length
            if found:
                opener = (yield from source.ahead(openers)) or ""
                if self._may_call(opener):
                    return opener
                self._say(opener)
                source.at += len(opener)
            elif source.ended:
                return None
            else:
                yield

    def _may_call(self, opener: str) -> bool:
        if self._form.place is CallPlace.START and self._spoken:
            return False
        if opener in self._markers.everyday and (self._reader.thinking or (self._spoken and not self._calls_last)):
            return False
        if not self._reader.thinking:
            return True
        marker = ANY_MARK.match(opener) is not None and self._marks.control(opener[0])
        return self._form.in_thoughts is not InThoughts.TEXT and (marker or self._fresh or "\n" in self._space)

    def _say(self, text: str) -> None:
        text = self._space + text
        bare = text.rstrip(SPACE)
        self._space = text[len(bare) :]
        if not bare:
            return
        self._fresh, self._calls_last = ANY_MARK.match(bare[-1]) is not None, False
        for at, part in enumerate(ONE_MARK.split(bare)):
            if part and part != BREAK:
                items = self._marked(part) if at % 2 else self._reader.push(part)
                self._spoken = self._spoken or any(isinstance(item, Said) and item.text.strip() for item in items)
                self._items += items

    def _marked(self, letter: str) -> list[Item]:
        text, control = self._marks.spelled[letter]
        if letter in self._thoughts:
            return self._reader.marker(text, control=control)
        return self._reader.push(text)  # it marks no call: as it was written

    # calls

    def _calls(self, opener: str) -> Waiting:
        """One call, or all of a section. What is no call is handed back as content."""
        source, markers = self._source, self._markers
        kind = markers.openers[opener]
        self._hold()
        source.at += 0 if kind is Opener.HEAD else len(opener)
        first, opened = True, kind is not Opener.SECTION
        try:
            if opener in markers.listed:
                yield from source.must("[")
            while True:
                yield from self._call(opened, markers.fences.get(opener, markers.call_close))
                first = opened = False
                if not markers.section or not (yield from self._another()):
                    break
        except Broken:
            ended = not (self._held or self._begun)  # its arguments were whole; something is missing behind them
            self._give_back(opener if first else "")
            for text in (markers.call_close, *markers.section_close) if ended else ():
                yield from self._optional(text)

    def _give_back(self, opener: str) -> None:
        """Go on behind an opener that opened nothing; what a call has told stays told."""
        if not self._held:
            if self._begun:
                self._flush()
            self._begun = False
            return
        self._text.clear()
        self._held = False
        self._source.back()
        self._say(self._source.text[self._source.at : self._source.at + len(opener)])
        self._source.at += len(opener)

    def _hold(self) -> None:
        """From here on it may all be content after all."""
        self._source.keep()
        self._held = True

    def _another(self) -> Generator[None, None, bool]:
        """Whether one more call should come in this section."""
        source, markers = self._source, self._markers
        self._hold()
        yield from source.space()
        closer, *more = markers.section_close
        if (yield from source.take((closer,))) is not None:
            source.let_go()
            self._held = False
            for text in more:
                yield from self._optional(text)
            return False
        if markers.between:
            yield from source.take((markers.between,))
        return True

    def _call(self, opened: bool, closer: str) -> Waiting:
        if self._markers.call and not opened:
            yield from self._source.must(self._markers.call)
        if isinstance(self._form.head, JsonHead):
            yield from self._json_call(self._form.head)
        else:
            yield from self._text_call()
        for text in (self._markers.tail, closer):
            yield from self._optional(text)
        if not self._markers.section:
            yield from self._optional(self._markers.between)

    def _optional(self, text: str) -> Waiting:
        source = self._source
        source.keep()
        yield from source.space()
        if text and (yield from source.take((text,))) is not None:
            source.let_go()
        else:
            source.back()

    def _text_call(self) -> Waiting:
        name, written = yield from self._head()
        if not (yield from self._args.begins(self._source)):
            raise Broken
        self._begin(name, written)
        yield from self._args.read(ArgsTask(self._source, self._text.append, self._tools[name]))
        self._end()

    def _head(self) -> Generator[None, None, tuple[str, str | None]]:
        """The name and the id, by the first of the texts that a head may be."""
        *others, last = self._markers.heads
        for parts in others:
            self._source.keep()
            try:
                found = yield from self._fields(parts)
            except Broken:
                self._source.back()
            else:
                self._source.let_go()
                return found
        return (yield from self._fields(last))

    def _fields(self, parts: tuple[str, ...]) -> Generator[None, None, tuple[str, str | None]]:
        source, name, written = self._source, "", None
        for at, part in enumerate(parts):
            if at % 2 == 0:
                for text in part.split():
                    yield from source.must(text)
            elif part == "{name}":
                name = yield from self._name("", parts[at + 1][:1].strip(SPACE))
            elif part == "{id}":
                written = yield from source.run(ID, LONGEST_ID)
            else:
                yield from source.run(DIGITS, LONGEST_ID)
        return name, written

    def _name(self, before: str, after: str) -> Generator[None, None, str]:
        """A declared name between these texts; what is after it is not taken."""
        yield from self._source.space()
        names = {f"{before}{name}{after}": name for name in self._tools}
        found = yield from self._source.take(names)
        if found is None:
            raise Broken
        self._source.at -= len(after)
        return names[found]

    def _json_call(self, head: JsonHead) -> Waiting:
        """A call that is one JSON object. Its keys come in any order: arguments that come first wait for the name."""
        source, written = self._source, list[str]()
        keys = {f'"{key}"': key for key in (head.name, head.args, *([head.id] if head.id else ()), *OTHER_KEYS)}
        name, whole, some = "", False, False
        yield from source.must("{")
        while (yield from self._goes_on(some)):
            some = True
            if head.name_is_key:
                key, name = head.args, (yield from self._quoted_name(name))
            else:
                key = keys.get((yield from source.take(keys)) or "", "")
            yield from source.must(":")
            if key == head.name:
                name = yield from self._quoted_name(name)
            elif key == head.args and not whole:
                if name:
                    self._begin(name, _id(written))
                yield from self._json_arguments()
                whole = True
                if name:
                    self._end()
            elif key and key != head.args:
                yield from ValueReader(source, JSON, written.append if key == head.id else str).read()
            else:
                raise Broken
            if name and whole and self._held:
                self._begin(name, _id(written))
                self._end()
        if not name:
            raise Broken
        if not whole:
            self._begin(name, _id(written))
            self._text.append("{}")
            self._end()

    def _goes_on(self, some: bool) -> Generator[None, None, bool]:
        """Whether another key comes, the comma before it taken."""
        yield from self._source.space()
        if (yield from self._source.take(("}",))) is not None:
            return False
        if some:
            yield from self._source.must(",")
            yield from self._source.space()
        return True

    def _quoted_name(self, earlier: str) -> Generator[None, None, str]:
        if earlier:
            raise Broken
        name = yield from self._name('"', '"')
        self._source.at += 1
        return name

    def _json_arguments(self) -> Waiting:
        source = self._source
        yield from source.space()
        if (yield from source.take(("null",))) is not None:
            self._text.append("{}")
        else:
            yield from read_object(source, self._text.append)

    # what is told

    def _begin(self, name: str, written: str | None) -> None:
        self._space = ""
        self._items += self._reader.called(within=self._form.in_thoughts is InThoughts.INSIDE)
        self._source.let_go()
        self._held = False
        self._index += 1
        self._items.append(CallBegun(self._index, self._ids.next(name, written), name))
        self._begun = True

    def _end(self) -> None:
        self._flush()
        self._items.append(CallEnded(self._index))
        self._begun = False
        self._fresh = self._calls_last = True

    def _flush(self) -> None:
        if self._text:
            self._items.append(Arguments(self._index, "".join(self._text)))
            self._text.clear()


def _id(written: list[str]) -> str:
    return "".join(written).strip().strip('"')
