"""Sound files to samples: every width of WAV, what lies about itself, other rates, and other people's formats."""

from __future__ import annotations

import builtins
import io
import struct
import wave
from typing import Any

import numpy as np
import pytest

from mlxrun.core import RequestError
from mlxrun.media import sound
from mlxrun.media.resample import resampled
from mlxrun.media.sound import open_sound

RATE = 16_000
TONE = (0.5 * np.sin(2 * np.pi * 440 * np.arange(RATE) / RATE)).astype(np.float32)


def wav(
    data: bytes, *, tag: int = 1, bits: int = 16, channels: int = 1, rate: int = RATE, size: int | None = None,
    block: int | None = None, form: bytes = b"", before: bytes = b"",
) -> bytes:  # fmt: skip
    block = channels * bits // 8 if block is None else block
    head = struct.pack("<HHIIHH", tag, channels, rate, rate * block % (1 << 32), block, bits) + form
    chunks = before + b"fmt " + struct.pack("<I", len(head)) + head
    chunks += b"data" + struct.pack("<I", len(data) if size is None else size) + data
    return b"RIFF" + struct.pack("<I", 4 + len(chunks)) + b"WAVE" + chunks


def stored(bits: int, tag: int = 1) -> bytes:
    if tag == 3:
        return TONE.astype(f"<f{bits // 8}").tobytes()
    if bits == 8:
        return np.round(TONE * 128 + 128).astype(np.uint8).tobytes()
    whole = np.round(TONE.astype(np.float64) * (1 << (bits - 1))).astype("<i4")
    if bits == 24:
        return whole.view(np.uint8).reshape(-1, 4)[:, :3].tobytes()
    return whole.astype(f"<i{bits // 8}").tobytes()


@pytest.mark.parametrize(("tag", "bits"), [(1, 8), (1, 16), (1, 24), (1, 32), (3, 32), (3, 64)])
def test_every_width(tag: int, bits: int) -> None:
    found = open_sound(wav(stored(bits, tag), tag=tag, bits=bits), RATE)
    assert found.dtype == np.float32
    assert np.abs(found - TONE).max() <= max(1.01 / (1 << bits), 1e-7) + (1 / 256 if bits == 8 else 0)


def test_as_pythons_own_writer_has_it() -> None:
    file = io.BytesIO()
    with wave.open(file, "wb") as own:
        own.setnchannels(2)
        own.setsampwidth(2)
        own.setframerate(RATE)
        own.writeframes(np.stack([np.frombuffer(stored(16), "<i2")] * 2, 1).tobytes())
    assert np.abs(open_sound(file.getvalue(), RATE) - TONE).max() < 1e-4


def test_channels_are_mixed() -> None:
    pairs = np.stack([TONE, np.zeros_like(TONE), -TONE / 2], axis=1)
    found = open_sound(wav(pairs.astype("<f4").tobytes(), tag=3, bits=32, channels=3), RATE)
    assert np.abs(found - TONE / 6).max() < 1e-6


def test_what_stands_beside_the_samples_is_passed_over() -> None:
    guid = struct.pack("<HHI", 22, 16, 4) + struct.pack("<H", 1) + b"\0" * 14
    odd = b"LIST" + struct.pack("<I", 3) + b"abc\0"
    for told in (wav(stored(16), tag=0xFFFE, form=guid), wav(stored(16), before=odd), wav(stored(16), size=0xFFFFFFFF)):
        assert np.abs(open_sound(told, RATE) - TONE).max() < 1e-4
    assert np.abs(open_sound(wav(stored(16)) + b"id3 \x04\0\0\0....", RATE) - TONE).max() < 1e-4


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b"", "is an empty file"),
        (b"RIFF", "is none that can be read"),
        (wav(b""), "holds no samples"),
        (wav(stored(16), size=1 << 30), "says that it has 1073741824 bytes of samples; 32000 are there"),
        (wav(stored(16), rate=0), "has 0 samples a second"),
        (wav(stored(16), rate=4_000_000_000), "has 4000000000 samples a second"),
        (wav(stored(16), channels=0), "has 0 channels"),
        (wav(stored(16), channels=40_000, block=2), "has 40000 channels"),
        (wav(stored(16), block=3), "is a broken WAV file"),
        (wav(stored(16), bits=12), "is WAV of format 1 with 12 bits"),
        (wav(stored(16), tag=85), "is WAV of format 85"),
        (wav(b"\0" * (20 << 20), bits=8, rate=1000), "lasts 350 minutes; at most 120"),
        (wav(stored(16))[:30], "is a broken WAV file"),
        (b"RIFF\0\0\0\0WAVEdata\4\0\0\0abcd", "its samples come before their format"),
        (b"RIFF\0\0\0\0WAVEfmt \2\0\0\0ab", "its format has 2 bytes"),
        (wav(np.full(50, np.nan, "<f4").tobytes(), tag=3, bits=32), "holds samples that are no numbers"),
        (b"\0\0\0 ftypM4A ", "is MP4, which is not read"),
        (b"\x1aE\xdf\xa3" + b"\0" * 90, "is WebM, which is not read"),
        (b"fLaC" + b"\xff" * 900, "is a broken FLAC file"),
        (b"ID3" + b"\0" * 900, "is a broken MP3 file"),
        (b"OggS" + b"\0" * 900, "is a broken Ogg file"),
        (b"\0" * ((25 << 20) + 1), "at most 26214400 are read"),
    ],
    ids=lambda value: value[:24] if isinstance(value, str) else "",
)
def test_what_cannot_be_read_is_one_sentence(data: bytes, said: str) -> None:
    with pytest.raises(RequestError, match=r"^talk\.bin ") as refused:
        open_sound(data, RATE, "talk.bin")
    assert said in str(refused.value)
    assert str(refused.value).count("\n") == 0


def test_a_cut_file_never_reads_beyond_its_end() -> None:
    whole = wav(stored(24)[:300], bits=24, before=b"LIST" + struct.pack("<I", 4) + b"abcd")
    for length in range(len(whole)):
        with pytest.raises(RequestError):
            open_sound(whole[:length], RATE)


def test_a_format_that_needs_the_extra_names_it(monkeypatch: pytest.MonkeyPatch) -> None:
    real = builtins.__import__

    def without(name: str, *rest: Any) -> Any:
        if name == "miniaudio":
            raise ImportError(name)
        return real(name, *rest)

    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(RequestError, match=r"is FLAC, which needs a package: pip install 'mlxrun\[audio\]'"):
        open_sound(b"fLaC" + b"\0" * 90, RATE)


@pytest.mark.parametrize("old", [8000, 11_025, 22_050, 44_100, 44_101, 48_000, 192_000])
def test_other_rates(old: int) -> None:
    """What lies in the band of both is kept, what lies above the new one's is gone."""
    seconds, edge = 0.5, 400
    time = np.arange(int(old * seconds)) / old
    wanted = np.arange(-(-len(time) * RATE // old)) / RATE
    for hertz in (50, 440, 3000):
        found = resampled(np.sin(2 * np.pi * hertz * time).astype(np.float32), old, RATE)
        assert len(found) == len(wanted)
        apart = np.abs(found - np.sin(2 * np.pi * hertz * wanted))[edge:-edge]
        assert apart.max() < 1e-3
    if old > 2 * 9000:
        high = resampled(np.sin(2 * np.pi * 8_600 * time).astype(np.float32), old, RATE)
        assert np.abs(high[edge:-edge]).max() < 1e-3


def test_a_long_rest_is_no_more_than_is_heard() -> None:
    assert sound.MOST_MINUTES * 60 * RATE * 4 < 1 << 29  # bytes that samples of the longest may take
