"""Who drafts: by flag, by environment, or as is usual."""

from __future__ import annotations

import argparse
from pathlib import Path

import pytest

from mlxrun.cli import options
from mlxrun.settings import from_environment
from mlxrun.spec import ModelError


def flags(*given: str) -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    options.add_loading(parser)
    options.add_memory(parser)
    return parser.parse_args(given)


@pytest.mark.parametrize(
    ("given", "environ", "drafts"),
    [((), "", True), (("--draft", "text"), "off", True), (("--draft", "off"), "", False), ((), "off", False)],
)
def test_flag_before_environment(given: tuple[str, ...], environ: str, drafts: bool) -> None:
    how = options.load_options(flags(*given), from_environment({"MLXRUN_DRAFT": environ}))
    assert (how.drafts, how.draft_model) == (drafts, None)


def test_a_model_is_found_as_any_other(tmp_path: Path) -> None:
    file = tmp_path / "small.gguf"
    file.write_bytes(b"GGUF")
    how = options.load_options(flags("--draft", str(file)), from_environment({}))
    assert (how.drafts, how.draft_model) == (True, file)
    with pytest.raises(ModelError, match="nowhere"):
        options.load_options(flags("--draft", str(tmp_path / "nowhere.gguf")), from_environment({}))
