"""Where there is no native library, as on a Mac: models of every kind load and compute all the same."""

from __future__ import annotations

import json
import subprocess
import sys

from mlxrun.selftest.families import cases

WITHOUT = """
import json, sys
sys.modules["mlxrun.cpu_kernels._native"] = None  # as if it had never been built
from mlxrun.cpu_kernels import available
from mlxrun.selftest import families, mapping
from tests.selftest.heard import notes_of
assert not available
found = [notes_of(part) for part in (families.compare, mapping.load_and_let_go)]
json.dump([[said, heard.numbers, notes.bad] for said, heard, notes in found], sys.stdout)
"""


def test_every_kind_of_layer_computes_and_files_are_read() -> None:
    done = subprocess.run([sys.executable, "-c", WITHOUT], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    (_, families, wrong), (_, files, also_wrong) = json.loads(done.stdout)
    assert (wrong, also_wrong) == ([], [])
    assert len(families["differences"]) == sum(case.quick for case in cases())
    assert files["used"]["files"] == 8 or "native CPU kernels" in files["used"]["why_not_mapped"]
