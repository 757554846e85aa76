"""Programs of one recurrent layer, float or int8, for the batteries and the emulated machines."""

from __future__ import annotations

from recurrent_graphs import Net

from edgezip.compilation import compile
from edgezip.frontends.onnx import load
from edgezip.passes.quantize_recurrent import quantize_recurrent
from edgezip.program import Layout, Program

TARGETS = {(Layout.K4N16, 0x80): "x86-64", (Layout.K4N16, 0): "rpi5", (Layout.K8N16, 0): "rpi4"}
NETS = {
    "lstm": Net("LSTM", steps=3, batch=2, inputs=5, hidden=19, direction="bidirectional", lengths=(3, 2), peephole=True),
    "gru": Net("GRU", steps=3, batch=3, inputs=5, hidden=12, attributes={"clip": 1.5}),
    "rnn": Net("RNN", steps=2, batch=1, inputs=5, hidden=33, direction="reverse"),
}


def recurrent_program(name: str, is_int8: bool, layout: Layout = Layout.K4N16, act_sign: int = 0x80, vectors: int = 0) -> Program:
    """Packed for a target of that layout and sign."""
    model = load(NETS[name].model())
    if is_int8:
        quantize_recurrent(model, {"net"})
    return compile(model, TARGETS[layout, act_sign], vectors=vectors)
