"""Text in, text out, over an engine: the one place where strings and token ids meet.

Whoever answers people (command line, server, client) goes through here. Templates, tokenizing and
detokenizing run on the caller's thread; only token ids cross to the engine. Knows no HTTP.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from copy import copy
from dataclasses import dataclass, field, replace
from functools import cached_property, lru_cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from .answer import Answer as Answer
from .core import Constraint, Pooling, Priority, Request, RequestError, Sampling
from .engine.aids import Aids
from .engine.draft.begin import Speculate, head_drafts, model_drafts, no_drafts, text_drafts
from .engine.embedding import EmbeddingJob, check_inputs
from .engine.engine import Engine
from .engine.idle_work import Idle
from .engine.late import LateJob, LateRankingJob
from .engine.ranking import RankingJob
from .engine.request import check as check_request
from .engine.scoring import ScoringJob
from .engine.waiting import MOST as QUEUE_LIMIT
from .loading import LoadOptions, OpenedModel, load_opened, open_model
from .loading.beside import plan_beside
from .loading.heads import head_beside
from .loading.model import Runnable
from .loading.pooling import EmbeddingForm, embedding_form
from .loading.ranking import RankingForm, ranking_form
from .loading.stop import Stop
from .media.reader import eyes_of
from .text import advice
from .text.breakers import breaker_ids
from .text.conversation import turns_of
from .text.embedded import Embedded, TextReader
from .text.folder import read_json
from .text.infill import Infill, InfillPrompt, infill_of
from .text.late import LateReader, LateRows
from .text.long_text import check_bytes, ids_within
from .text.opening import folder_tokenizer, gguf_tokenizer
from .text.pairs import PairReader
from .text.prompting import ChatPrompt, Prompter
from .text.quoting import unmarked
from .text.router import PartRouter
from .text.same_tokens import why_not_same
from .text.stops import StopParts
from .text.template import ChatTemplate
from .text.tokenizer import Tokenizer, well_formed
from .transcribing import Transcriber, transcriber_of
from .turns import Ask, Role
from .weights import Checkpoint

if TYPE_CHECKING:
    from .memory.claim import Claim

Message = Mapping[str, Any]
COUNTED = 4  # contexts: a prompt is counted up to there, though it is refused from one on
WRITES_SPEECH = (
    "writes down speech and holds no conversation: send it audio at /v1/audio/transcriptions, or 'mlxrun transcribe'."
)
BREAKERS = ("\n", ":", '"', "*")


@dataclass(frozen=True, slots=True)
class Wish:
    """How an answer should be made; what `core.Request` says, in terms of text."""

    max_tokens: int | None = None
    sampling: Sampling = field(default_factory=Sampling)
    stop: tuple[str, ...] = ()
    best_of: int | None = None  # of so many answers the likeliest are told, once all have ended
    dry_breakers: tuple[str, ...] = BREAKERS  # texts that no repeated sequence reaches across
    template: Mapping[str, Any] = field(default_factory=dict)  # extra variables of the chat template
    constraint: Constraint | None = None  # what is said must be; thoughts before it run free
    priority: Priority = Priority.INTERACTIVE


class Assistant:
    """A loaded model that speaks. `open` starts its engine; `close` ends it."""

    _scope = ""
    _adapter: str | None = None  # that its answers are made with
    sampling = Sampling(temperature=advice.TEMPERATURE)  # how it is best drawn from where nobody says
    embedding = EmbeddingForm(Pooling.LAST, both_ways=False, size=0)
    ranking: RankingForm | None = None  # how it tells which texts answer a question; None: it does not
    transcriber: Transcriber | None = None  # that writes down speech; None: it does not
    speaks = True  # an encoder does not: it only gives vectors

    def __init__(self, name: str, engine: Engine, prompter: Prompter) -> None:
        self.name, self.engine, self._prompter = name, engine, prompter
        self.tokenizer, self.template = prompter.tokenizer, prompter.template
        self._breakers_of = lru_cache(maxsize=16)(partial(breaker_ids, self.tokenizer))  # it reads the whole vocabulary

    @classmethod
    def open(
        cls,
        place: Path,
        *,
        name: str | None = None,
        options: LoadOptions | None = None,
        idle: Idle | None = None,
        **reading: Any,
    ) -> Assistant:
        """The model in that folder or .gguf file; `reading` is what `open_model` takes."""
        options = options or LoadOptions()
        opened = open_model(place, mapped=options.mapped, device=options.device, **reading)
        return cls.load(opened, options, name=name, idle=idle)

    @classmethod
    def load(
        cls,
        opened: OpenedModel,
        options: LoadOptions,
        *,
        name: str | None = None,
        idle: Idle | None = None,
        queue_limit: int = QUEUE_LIMIT,
        check_answers: bool = False,
        load: Callable[[OpenedModel, LoadOptions], Runnable] = load_opened,
    ) -> Assistant:
        """`queue_limit`: requests that may wait; the next is refused. `check_answers`: see `engine.answer_check`.
        `load`: on the engine's thread."""
        prompter = Prompter(tokenizer_of(opened.checkpoint), template_of(opened.checkpoint), eyes_of(opened.towers))
        sampling, ranking = recommended(opened.checkpoint), ranking_form(opened)
        transcriber = transcriber_of(opened, prompter.tokenizer)
        stop = Stop(options.progress)
        options, speculate = drafting(replace(options, progress=stop), opened, prompter.tokenizer)
        engine = Engine.start(
            partial(load, opened, options),
            options.context,
            stop.now,
            idle,
            queue_limit=queue_limit,
            aids=Aids(prompter.vocabulary, speculate, check_answers),
        )
        assistant = cls(name or opened.path.stem, engine, prompter)
        assistant.sampling, assistant.embedding, assistant.ranking = sampling, embedding_form(opened), ranking
        assistant.transcriber = None if transcriber is None else transcriber(assistant.name, engine)
        assistant.speaks = not assistant.embedding.both_ways and transcriber is None
        return assistant

    @property
    def sees(self) -> bool:
        """Whether it can be shown pictures."""
        return self._prompter.eyes is not None

    def scoped(self, scope: str) -> Assistant:
        """The same, whose prompts share what is kept with prompts of that scope alone."""
        if scope == self._scope:
            return self
        other = copy(self)
        other._scope = scope
        return other

    def adapted(self, name: str, key: str | None = None) -> Assistant:
        """The same with that adapter, whose name it goes by. `key`: as the model knows it, where that is another."""
        other = copy(self)
        other._adapter, other.name = key or name, name
        return other

    @property
    def claim(self) -> Claim:
        """What it holds of this machine."""
        return self.engine.claim

    def close(self) -> None:
        self.engine.close()

    def answer(self, ask: Ask, wish: Wish | None = None, count: int = 1) -> list[Answer]:
        """`count` answers to the same ask, drawn apart."""
        self._must_speak()
        wish = wish or Wish()
        ask = replace(ask, template={**wish.template, **ask.template})
        prompt = self._prompter.prompt(ask, wish.constraint, self.engine.context)
        return self._ask(prompt, wish, count)

    def count(self, ask: Ask) -> int:
        """The tokens of its prompt, as an answer's usage counts them."""
        return len(self._prompter.prompt(ask, context=COUNTED * self.engine.context).tokens)

    def left_out(self, ask: Ask) -> tuple[str, ...]:
        """What of it is not heeded, by its name. An error where that was strictly meant."""
        return self._prompter.left_out(ask)

    def prompt(self, ask: Ask) -> str:
        """The conversation as the chat template writes it."""
        return unmarked(self._prompter.prompt(ask, context=self.engine.context).text)

    def chat(self, messages: Sequence[Message], wish: Wish | None = None, **template: Any) -> Answer:
        return self.chat_many(messages, wish, 1, **template)[0]

    def chat_many(
        self, messages: Sequence[Message], wish: Wish | None = None, count: int = 1, **template: Any
    ) -> list[Answer]:
        """`answer` to messages as programs write them; an assistant's last one goes on."""
        turns = turns_of(messages)
        continues = bool(turns) and turns[-1].role is Role.ASSISTANT
        return self.answer(Ask(turns, continues=continues, template=template), wish, count)

    def complete(self, prompt: str | Sequence[int], wish: Wish | None = None, count: int = 1) -> list[Answer]:
        """`prompt` goes on. Ids are taken as they are; a text is raw, so control tokens written in it are meant,
        and what its tokenizer puts before a text goes before it."""
        self._must_speak()
        wish = wish or Wish()
        return self._ask(ChatPrompt("", self.raw_ids(prompt), constraint=wish.constraint), wish, count)

    def raw_ids(self, prompt: str | Sequence[int]) -> list[int]:
        """Of what `complete` goes on with."""
        if isinstance(prompt, str) and prompt:
            return [*self.tokenizer.prefix, *self.ids(prompt, special=True)]
        return [int(token) for token in prompt]

    def score(self, tokens: Sequence[int], top: int) -> ScoringJob:
        """How likely each but the first is after those before it, and the `top` likeliest there, in `done`."""
        self._must_speak()
        check_request(Request(tuple(tokens), max_tokens=1), self.engine.model.vocab, self.engine.context)
        job = ScoringJob(tuple(tokens), top, self._adapter)
        self.engine.embed(job)
        return job

    def ids(self, text: str, *, special: bool, times: int = 1) -> list[int]:
        """Of a text that leaves room in so many `times` the context; raises a ContextError for another.
        `special`: control tokens written in it are meant."""
        encode = partial(self.tokenizer.encode, special=special)
        return ids_within(well_formed(text), self.tokenizer, times * self.engine.context, encode)

    @cached_property
    def infill(self) -> Infill | None:
        """How it fills in between two texts; None: it was not taught to."""
        return infill_of(self.tokenizer)

    def fill(self, prompt: InfillPrompt, wish: Wish | None = None, count: int = 1) -> list[Answer]:
        """What lies between two texts."""
        self._must_speak()
        wish, own = wish or Wish(), self.infill
        if own is None:
            raise RequestError(f"{self.name} was not taught to fill in: its vocabulary has no tokens for that.")
        check_bytes(prompt.letters, self.tokenizer, self.engine.context)
        told = ChatPrompt("", own.prompt(prompt), constraint=wish.constraint, stops=own.ends)
        return self._ask(told, wish, count)

    def embed(
        self,
        inputs: Sequence[str | Sequence[int]],
        size: int | None = None,
        *,
        prompt: str | None = None,
        truncate: bool = False,
    ) -> EmbeddingJob:
        """A vector of each, in the job's `done`. Ids are taken as they are; a text gets what its tokenizer puts round
        one, and control tokens written in it stay text. `prompt`: the name of one of the model's, which is put before
        a text. `truncate`: what is too long is cut."""
        form, reader = self._embeds(late=False), self.reader
        read = [
            reader.read(one, prompt, cut=truncate)
            if isinstance(one, str)
            else Embedded(reader.cut(tuple(one)) if truncate else tuple(one))
            for one in inputs
        ]
        texts, skipped = tuple(one.ids for one in read), () if form.pools_prompt else tuple(one.prompt for one in read)
        check_inputs(texts, self.engine.model.vocab, self.engine.context)
        job = EmbeddingJob(texts, form.pooling, form.both_ways, size, self._adapter, skipped, form.steps)
        self.engine.embed(job)
        return job

    def embed_tokens(self, texts: Sequence[str], *, question: bool = False, truncate: bool = False) -> LateJob:
        """A vector for each token of each text, or of each question, in the job's `done`."""
        reader = self._late_reader()
        job = self._late_job([reader.read(text, question=question, cut=truncate) for text in texts])
        self.engine.embed(job)
        return job

    def _late_reader(self, most: int | None = None) -> LateReader:
        """`most`: no more tokens of a text are read."""
        form = self._embeds(late=True).late
        assert form is not None
        return LateReader(self.tokenizer, self.engine.context, form, most)

    def _late_job(self, read: Sequence[LateRows]) -> LateJob:
        check_inputs([one.ids for one in read], self.engine.model.vocab, self.engine.context)
        return LateJob.of(read, self.embedding.steps, self._adapter)

    @property
    def late(self) -> bool:
        """It has a vector for each token, and ranks by these."""
        return self.embedding.late is not None and self.embedding.why_not is None

    def _embeds(self, *, late: bool) -> EmbeddingForm:
        form = self.embedding
        if form.why_not is not None:
            raise RequestError(f"{self.name} gives no embeddings here: {form.why_not}.")
        if late != (form.late is not None):
            gives = "one vector for a text" if late else "a vector for each token, and none for a text"
            raise RequestError(f"{self.name} gives {gives}: ask with multi_vector {'false' if late else 'true'}.")
        return form

    @property
    def reader(self) -> TextReader:
        """How it reads a text of which a vector is made."""
        form = self.embedding
        return TextReader(
            self.tokenizer, self.engine.context, form.prompts, form.prompt, form.longest, lower=form.lower
        )

    def rank(self, question: str, texts: Sequence[str], most: int | None = None) -> RankingJob | LateRankingJob:
        """How well each answers the question, in the job's `done`. `most`: no more tokens of a text are read."""
        form = self.ranking
        if self.late:
            late = self._late_reader(most)
            rows = [late.question(question, cut=True), *(late.document(text, cut=True) for text in texts)]
            ranked = LateRankingJob(self._late_job(rows))
            self.engine.embed(ranked)
            return ranked
        if form is None:
            raise RequestError(f"{self.name} cannot rerank: it has no head for that.")
        reader = PairReader(self._prompter, self.engine.context, form.words is not None, form.system, form.opens)
        pairs = [reader.read(question, text, most) for text in texts]
        job = RankingJob(tuple(pair.ids for pair in pairs), tuple(pair.types for pair in pairs), form.words)
        check_inputs(job.inputs, self.engine.model.vocab, self.engine.context)
        self.engine.embed(job)
        return job

    def _must_speak(self) -> None:
        if self.transcriber is not None:
            raise RequestError(f"{self.name} {WRITES_SPEECH}")
        if not self.speaks:
            gives = "embeddings" if self.ranking is None else "scores of texts"
            raise RequestError(f"{self.name} is an encoder: it gives {gives} and writes no text.")

    def _ask(self, prompt: ChatPrompt, wish: Wish, count: int) -> list[Answer]:
        StopParts(wish.stop)  # refuses before anything is queued
        request = Request(
            tokens=tuple(prompt.tokens),
            max_tokens=wish.max_tokens,
            sampling=self._sampling(wish, prompt),
            stop_ids=self.tokenizer.eos_ids | prompt.stops,
            n=count,
            best_of=wish.best_of,
            constraint=prompt.constraint,
            closing=prompt.closing,
            adapter=self._adapter,
            media=prompt.media,
            scope=self._scope,
            priority=wish.priority,
        )
        return [
            Answer(handle, self.tokenizer, wish.stop, self._router(prompt))
            for handle in self.engine.submit_choices(request)
        ]

    def _router(self, prompt: ChatPrompt) -> PartRouter:
        return PartRouter(self.tokenizer, prompt.thoughts, prompt.text, prompt.calls, prompt.tools, prompt.history)

    def _sampling(self, wish: Wish, prompt: ChatPrompt) -> Sampling:
        """With what the prompt bars; where repeated sequences are looked for, with the tokens that end one."""
        sampling = wish.sampling
        if prompt.banned:
            sampling = replace(sampling, banned=sampling.banned | prompt.banned)
        if sampling.dry_multiplier == 0:
            return sampling
        return replace(sampling, dry_breakers=self._breakers_of(wish.dry_breakers))


def drafting(options: LoadOptions, opened: OpenedModel, tokenizer: Tokenizer) -> tuple[LoadOptions, Speculate]:
    """Who drafts, and how the model is to be loaded then: beside the one that drafts for it."""
    if not options.drafts:
        return options, no_drafts
    if options.draft_heads:
        large_options, load_head = head_beside(opened, options)
        return large_options, head_drafts(load_head)
    if options.draft_model is None:
        return options, text_drafts
    small = open_model(options.draft_model, mapped=options.mapped, device=opened.device)
    why = why_not_same(tokenizer_of(small.checkpoint), tokenizer)
    large_options, small_options = plan_beside(small, opened, options, why)
    return large_options, model_drafts(lambda: load_opened(small, small_options))


def tokenizer_of(checkpoint: Checkpoint) -> Tokenizer:
    return gguf_tokenizer(checkpoint.metadata) if checkpoint.dialect == "gguf" else folder_tokenizer(checkpoint.path)


def template_of(checkpoint: Checkpoint) -> ChatTemplate:
    return (
        ChatTemplate.from_gguf(checkpoint.metadata)
        if checkpoint.dialect == "gguf"
        else ChatTemplate.from_folder(checkpoint.path)
    )


def recommended(checkpoint: Checkpoint) -> Sampling:
    """As the model's authors recommend, as far as they do."""
    if checkpoint.dialect == "gguf":
        return advice.from_gguf(checkpoint.metadata)
    return advice.from_generation_config(read_json(checkpoint.path / "generation_config.json"))
