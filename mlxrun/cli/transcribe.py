"""mlxrun transcribe FILE... --model MODEL: what is said in sound files, as text, subtitles or JSON."""

from __future__ import annotations

import argparse
import json
import time
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING

from ..core import RequestError
from . import options
from .terminal import aside

if TYPE_CHECKING:
    from ..speech import Transcript, TranscriptWish
    from ..transcribing import Transcriber

HELP = "write down what is said in sound files"
ENDINGS = {"text": "txt", "srt": "srt", "vtt": "vtt", "json": "json"}


def configure(parser: argparse.ArgumentParser) -> None:
    told = "what is said in it; WAV, and with 'pip install mlxrun[audio]' FLAC, MP3 and Ogg Vorbis"
    parser.add_argument("files", metavar="FILE", nargs="+", type=Path, help=told)
    parser.add_argument("--model", metavar="MODEL", required=True, help="such as openai/whisper-base")
    parser.add_argument("--language", metavar="CODE", help="such as en; heard where it is not said")
    parser.add_argument("--translate", action="store_true", help="into English")
    parser.add_argument("--prompt", metavar="TEXT", default="", help="names and words that are hard to hear")
    parser.add_argument("--format", choices=tuple(ENDINGS), help="text (usual), subtitles, or JSON with all about it")
    parser.add_argument("--json", action="store_const", dest="format", const="json", help="short for --format json")
    parser.add_argument("--output", metavar="FOLDER", type=Path, help="a file for each there, in place of the terminal")
    options.add_loading(parser)
    options.add_memory(parser)


def main(flags: argparse.Namespace) -> int:
    from ..assistant import Assistant
    from ..settings import from_environment
    from ..speech import TranscriptWish
    from ..store.resolve import resolve
    from ..tune import begin

    sounds = [(file, bytes_of(file)) for file in flags.files]
    settings = from_environment()
    tuning = begin(settings)
    opened = options.open_flagged(resolve(flags.model, settings), flags, tuning.device)
    assistant = Assistant.load(opened, options.load_options(flags, settings), name=flags.model, idle=tuning.idle)
    try:
        transcriber = assistant.transcriber
        if transcriber is None:
            raise RequestError(f"{flags.model} writes down no speech: that takes one such as openai/whisper-base.")
        wish = TranscriptWish(flags.language, "translate" if flags.translate else "transcribe", flags.prompt)
        for file, data in sounds:
            write(written(transcribed(transcriber, file, data, wish), flags.format or "text"), file, flags)
    finally:
        assistant.close()
    return 0


def bytes_of(file: Path) -> bytes:
    try:
        return file.read_bytes()
    except OSError as error:
        raise RequestError(f"{file} cannot be read: {error.strerror}.") from error


def transcribed(transcriber: Transcriber, file: Path, data: bytes, wish: TranscriptWish) -> Transcript:
    began = time.perf_counter()
    samples = transcriber.open(data, str(file))
    job = transcriber.begin(samples, wish)
    try:
        made = transcriber.transcript(job.done.result())
    finally:
        job.done.cancel()  # who stops waiting ends it
    seconds = time.perf_counter() - began
    aside(f"{file}: {made.duration:.1f} s of sound in {seconds:.1f} s.")
    return made


def written(made: Transcript, kind: str) -> str:
    from ..text.subtitles import srt, vtt

    if kind == "json":
        return json.dumps(asdict(made), indent=2, ensure_ascii=False) + "\n"
    return {"text": lambda: made.text + "\n", "srt": lambda: srt(made.segments), "vtt": lambda: vtt(made.segments)}[
        kind
    ]()


def write(text: str, file: Path, flags: argparse.Namespace) -> None:
    if flags.output is None:
        print(text, end="", flush=True)
        return
    place = flags.output / f"{file.stem}.{ENDINGS[flags.format or 'text']}"
    place.parent.mkdir(parents=True, exist_ok=True)
    place.write_text(text, "utf-8")
