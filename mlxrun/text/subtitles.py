"""What was said, as files of subtitles: SubRip and WebVTT."""

from __future__ import annotations

from collections.abc import Iterable

from ..speech import TranscriptSegment


def srt(segments: Iterable[TranscriptSegment]) -> str:
    cues = [
        f"{number}\n{clock(one.start, ',')} --> {clock(one.end, ',')}\n{cue(one)}\n"
        for number, one in enumerate(segments, 1)
    ]
    return "\n".join(cues)


def vtt(segments: Iterable[TranscriptSegment]) -> str:
    cues = [f"{clock(one.start, '.')} --> {clock(one.end, '.')}\n{cue(one)}\n" for one in segments]
    return "\n".join(["WEBVTT\n", *cues])


def cue(segment: TranscriptSegment) -> str:
    """One line, in which nothing can be taken for the next cue's times."""
    return " ".join(segment.text.split()).replace("-->", "->")


def clock(seconds: float, point: str) -> str:
    """01:02:03,450"""
    whole = round(seconds * 1000)
    minutes, rest = divmod(whole, 60_000)
    return f"{minutes // 60:02}:{minutes % 60:02}:{rest // 1000:02}{point}{rest % 1000:03}"
