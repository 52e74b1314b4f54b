"""GGUF files as folders in MLX's format: the same logits from mlx-lm, quantized weights moved and not changed."""

from __future__ import annotations

import json
from pathlib import Path

import gguf
import mlx.core as mx
import numpy as np
import pytest

from mlxrun.convert.folder import convert_folder, in_mlx_names
from mlxrun.convert.from_gguf import hf_tensors
from mlxrun.convert.stream import write_model
from mlxrun.spec import ModelError
from mlxrun.text.gguf import as_files
from mlxrun.text.opening import folder_tokenizer, gguf_tokenizer
from mlxrun.weights import open_checkpoint
from tests.golden.checkpoint import reference
from tests.unit.convert.test_folder import ours, theirs
from tests.unit.families import test_gguf_models
from tests.unit.weights.weight_files import one_sentence

CASES = ("llama", "llama_bias", "llama_tied", "smollm3", "granite", "qwen2", "qwen3", "olmo2", "phi3")
TEXTS = (
    "Hello world",
    "  two  spaces\n\n\tand tabs ",
    "naïve café 日本語 🙂",
    "for i in range(10):\n    pass",
    "<|im_start|>x",
    "",
)


def converted(source: Path, target: Path) -> Path:
    tensors, config = in_mlx_names(*hf_tensors(open_checkpoint(source)), None, None)
    target.mkdir()
    write_model(target, tensors)
    (target / "config.json").write_text(json.dumps(config))
    return target


@pytest.mark.parametrize("case", CASES)
def test_the_same_logits(case: str, tmp_path: Path) -> None:
    arch = test_gguf_models.ARCHITECTURES[case]
    source = test_gguf_models.write(reference(case), arch, tmp_path / "m.gguf")
    place = converted(source, tmp_path / "out")
    wanted = ours(source)
    np.testing.assert_allclose(ours(place), wanted, atol=5e-5)
    np.testing.assert_allclose(theirs(place), wanted, atol=5e-5)


def test_quantized_rows_move_and_nothing_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    quantize, kind = gguf.quants.quantize, gguf.GGMLQuantizationType.Q5_1

    def add(self: gguf.GGUFWriter, name: str, value: np.ndarray) -> None:
        if name.startswith("blk") and value.ndim == 2:
            plain(self, name, quantize(value, kind), raw_dtype=kind)
        else:
            plain(self, name, value)

    plain = gguf.GGUFWriter.add_tensor
    monkeypatch.setattr(gguf.GGUFWriter, "add_tensor", add)
    source = test_gguf_models.write(reference("llama"), "llama", tmp_path / "m.gguf")
    place = converted(source, tmp_path / "out")
    config = json.loads((place / "config.json").read_text())
    assert (config["quantization"]["bits"], config["quantization"]["group_size"]) == (5, 32)
    np.testing.assert_allclose(ours(place), ours(source), atol=5e-5)
    before, after = open_checkpoint(source).tensors(), mx.load(str(place / "model.safetensors"))
    assert mx.array_equal(before["blk.1.ffn_up.weight"].packed, after["model.layers.1.mlp.up_proj.weight"])
    rows = np.sort(np.array(before["blk.1.attn_q.weight"].packed), axis=0)
    assert np.array_equal(rows, np.sort(np.array(after["model.layers.1.self_attn.q_proj.weight"]), axis=0))


@pytest.mark.parametrize("case", ["gemma2", "mixtral", "phi3_longrope_short"])
def test_what_cannot_be_written_yet(case: str, tmp_path: Path) -> None:
    source = test_gguf_models.write(reference(case), test_gguf_models.ARCHITECTURES[case], tmp_path / "m.gguf")
    with pytest.raises(ModelError) as error:
        convert_folder(open_checkpoint(source), tmp_path / "out")
    assert one_sentence(error.value)
    assert [file.name for file in tmp_path.iterdir()] == ["m.gguf"]


def test_the_tokenizer_as_files(smollm2_gguf: Path, tmp_path: Path) -> None:
    metadata = open_checkpoint(smollm2_gguf).metadata
    for name, content in as_files(metadata).items():
        (tmp_path / name).write_text(content, encoding="utf-8")
    inside, beside = gguf_tokenizer(metadata), folder_tokenizer(tmp_path)
    for text in TEXTS:
        for special in (True, False):
            assert beside.encode(text, special=special) == inside.encode(text, special=special)
    assert (beside.bos_id, beside.eos_ids, beside.add_bos) == (inside.bos_id, inside.eos_ids, inside.add_bos)
