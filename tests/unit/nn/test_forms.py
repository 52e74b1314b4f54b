"""Which form a part of a layer takes, and what is said to keep it from a faster one."""

from __future__ import annotations

from dataclasses import replace

import pytest

from mlxrun.cli import forms as shown
from mlxrun.nn.forms import APART, BRANCH, LAUNCHES, ONE_NODE, forms_of, nodes_of, slow_note
from mlxrun.ops.choose import Chooser
from mlxrun.ops.device import Device, this_device
from mlxrun.spec import Attention, Decoder, Dense, Layer, Mamba1, MoE, Norm, Router

NORM = Norm(1e-5)
PLAIN = Layer(Attention(4, 2, 16, 0.25), Dense(96), NORM, ffn_norm=NORM)
STATE = replace(PLAIN, mixer=Mamba1(128, 16, 8, 4))
NORMED = replace(PLAIN, mixer=replace(PLAIN.mixer, out_norm=NORM))
SEEING = replace(PLAIN, mixer=replace(PLAIN.mixer, causal=False))
PROCESSOR, MAC = this_device("exact"), this_device("exact", native=False, chooser=Chooser("ours"))


def decoder(*layers: Layer, kind: str = "decoder") -> Decoder:
    return Decoder("made up", 64, 100, layers, NORM, tied=True, context=64, kind=kind)


def told(spec: Decoder, device: Device) -> list[list[tuple[str, str, str]]]:
    return [[(part.part, part.form, part.why) for part in parts] for parts in forms_of(spec, device)]


needs_native = pytest.mark.skipif(not PROCESSOR.native, reason="the native kernels are not built here")


@needs_native
def test_neighbours_on_a_processor_are_one_node() -> None:
    spec = decoder(PLAIN, STATE, NORMED, PLAIN)
    whole, normed = [("layer", ONE_NODE, "")], [("mixer", APART, "Attention.out_norm"), ("network", ONE_NODE, "")]
    assert told(spec, PROCESSOR) == [whole, whole, normed, whole]
    assert nodes_of(forms_of(spec, PROCESSOR)) == 3  # two layers; a mixer; a network with the last layer
    assert slow_note(spec, PROCESSOR) == (
        "Attention: 1 parts of 4 layers are computed operation by operation here, more slowly than others."
    )
    assert slow_note(decoder(PLAIN), PROCESSOR) is None


@needs_native
def test_an_encoder_has_branches() -> None:
    spec = decoder(SEEING, kind="encoder")
    assert told(spec, PROCESSOR) == [[("mixer", BRANCH, ""), ("network", BRANCH, "")]]


def test_on_a_gpu_parts_take_few_launches_or_say_why_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Chooser, "possible", lambda self: True)
    odd = replace(PLAIN, ffn=Dense(96, act="relu2"))
    experts = replace(PLAIN, ffn=MoE(8, 32, Router(2)))
    found = told(decoder(PLAIN, odd, experts, STATE), MAC)
    assert found[0] == [("mixer", LAUNCHES, ""), ("network", LAUNCHES, "")]
    assert found[1][1] == ("network", APART, "Dense.act")
    assert found[2][1] == ("network", LAUNCHES, "")
    assert found[3][0] == ("mixer", APART, "Mamba1")
    assert slow_note(decoder(STATE), MAC) is None


@needs_native
def test_the_lines_name_layers_and_fields() -> None:
    lines = shown.lines(decoder(STATE, NORMED, NORMED), PROCESSOR)
    assert lines[1:] == [
        "forms: 3 layers, 5 nodes a pass, on this processor",
        "  layer 0: one node, with its neighbours",
        "  layers 1-2: mixer (Attention) operation by operation, because of Attention.out_norm; "
        "network (Dense) one node",
    ]
    assert shown.data(decoder(PLAIN), PROCESSOR) == [[{"part": "layer", "kind": "", "form": ONE_NODE, "why": ""}]]
