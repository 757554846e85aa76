"""Writes a BERT encoder (Devlin et al. 2018) with mean pooling as ONNX, the way PyTorch exports one at opset 17."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from bench.zoo.onnx_writer import GraphWriter
from bench.zoo.task import Array

EPSILON = 1e-12
MASKED = -1e4  # added to the scores of padding


def write(state: dict[str, Array], heads: int, path: Path) -> Path:
    """``path``: input_ids and attention_mask int64 [n, s] -> embedding [n, width], a unit vector."""
    return _Encoder(state, heads).write(path)


class _Encoder:
    def __init__(self, state: dict[str, Array], heads: int) -> None:
        self.state, self.heads = state, heads
        self.width = state["embeddings.word_embeddings.weight"].shape[1]
        self.layers = 1 + max(int(key.split(".")[2]) for key in state if key.startswith("encoder.layer."))
        self.g = GraphWriter("encoder")

    def write(self, path: Path) -> Path:
        g = self.g
        mask = g.op("Cast", "mask", ["attention_mask"], to=1)
        hidden = [g.op("Unsqueeze", "mask.row", [mask, self.numbers("axes.row", 1, 2)])]
        hidden.append(g.op("Sub", "mask.padding", [self.scalar("one", 1), hidden[0]]))
        bias = g.op("Mul", "mask.bias", [hidden[1], self.scalar("masked", MASKED)])
        x = self.embeddings()
        for number in range(self.layers):
            x = self.layer(f"encoder.layer.{number}", x, bias)
        self.pool(x, mask)
        inputs: dict[str, Sequence[int | str]] = {name: ["n", "s"] for name in ("input_ids", "attention_mask")}
        return g.save(path, inputs, {"embedding": ("n", self.width)}, integers=tuple(inputs))

    def embeddings(self) -> str:
        """Word, place and kind of text (always the first), added and normed."""
        g, start = self.g, self.numbers("zero", 0)
        length = g.op(
            "Slice", "length", [g.op("Shape", "shape", ["input_ids"]), self.numbers("second", 1), self.numbers("third", 2)]
        )
        places = g.op("Slice", "places", [self.weight("embeddings.position_embeddings.weight"), start, length])
        words = g.op("Gather", "words", [self.weight("embeddings.word_embeddings.weight"), "input_ids"])
        kind = g.constant("embeddings.kind", self.state["embeddings.token_type_embeddings.weight"][0])
        total = g.op("Add", "words.kind", [g.op("Add", "words.places", [words, places]), kind])
        return self.norm("embeddings.LayerNorm", total)

    def layer(self, name: str, x: str, bias: str) -> str:
        """Attention and feed-forward, each added to its input and normed."""
        attended = self.linear(f"{name}.attention.output.dense", self.attention(f"{name}.attention", x, bias))
        x = self.norm(f"{name}.attention.output.LayerNorm", self.g.op("Add", f"{name}.attention.add", [attended, x]))
        y = self.gelu(f"{name}.gelu", self.linear(f"{name}.intermediate.dense", x))
        y = self.linear(f"{name}.output.dense", y)
        return self.norm(f"{name}.output.LayerNorm", self.g.op("Add", f"{name}.add", [y, x]))

    def attention(self, name: str, x: str, bias: str) -> str:
        """softmax(q k^T / sqrt(d) + bias) v over all heads."""
        g, size = self.g, self.width // self.heads
        split, join = self.numbers("heads", 0, 0, self.heads, size), self.numbers("joined", 0, 0, self.width)
        turned = {}
        for part, perm in (("query", [0, 2, 1, 3]), ("key", [0, 2, 3, 1]), ("value", [0, 2, 1, 3])):
            rows = g.op("Reshape", f"{name}.{part}.split", [self.linear(f"{name}.self.{part}", x), split])
            turned[part] = g.op("Transpose", f"{name}.{part}.turn", [rows], perm=perm)
        scores = g.op("MatMul", f"{name}.scores", [turned["query"], turned["key"]])
        scores = g.op("Mul", f"{name}.scaled", [scores, self.scalar("scale", 1 / np.sqrt(size))])
        chances = g.op("Softmax", f"{name}.softmax", [g.op("Add", f"{name}.masked", [scores, bias])], axis=-1)
        mixed = g.op("Transpose", f"{name}.back", [g.op("MatMul", f"{name}.mix", [chances, turned["value"]])], perm=[0, 2, 1, 3])
        return g.op("Reshape", f"{name}.join", [mixed, join])

    def gelu(self, name: str, x: str) -> str:
        """x / 2 (1 + erf(x / sqrt 2)), in PyTorch's five nodes."""
        g = self.g
        erf = g.op("Erf", f"{name}.erf", [g.op("Div", f"{name}.div", [x, self.scalar("root", np.sqrt(2))])])
        grown = g.op("Mul", f"{name}.mul", [x, g.op("Add", f"{name}.add", [erf, self.scalar("one", 1)])])
        return g.op("Mul", f"{name}.half", [grown, self.scalar("half", 0.5)])

    def pool(self, x: str, mask: str) -> str:
        """Mean over the tokens that are not padding, brought to length 1."""
        g, axis = self.g, self.numbers("second", 1)
        kept = g.op("Mul", "pool.masked", [x, g.op("Unsqueeze", "pool.mask", [mask, self.numbers("third", 2)])])
        total = g.op("ReduceSum", "pool.sum", [kept, axis], keepdims=0)
        mean = g.op("Div", "pool.mean", [total, g.op("ReduceSum", "pool.count", [mask, axis], keepdims=1)])
        length = g.op("ReduceL2", "pool.length", [mean], axes=[1], keepdims=1)
        return g.op("Div", "pool.unit", [mean, length], "embedding")

    def linear(self, name: str, x: str) -> str:
        """x @ weight.T + bias."""
        g = self.g
        weight = g.constant(f"{name}.weight", self.state[f"{name}.weight"].T)
        return g.op("Add", f"{name}.add", [g.op("MatMul", name, [x, weight]), self.weight(f"{name}.bias")])

    def norm(self, name: str, x: str) -> str:
        held = [self.weight(f"{name}.weight"), self.weight(f"{name}.bias")]
        return self.g.op("LayerNormalization", name, [x, *held], axis=-1, epsilon=EPSILON)

    def weight(self, name: str) -> str:
        return self.g.constant(name, self.state[name])

    def scalar(self, name: str, value: float) -> str:
        return self.g.constant(f"scalar.{name}", np.array(value, np.float32))

    def numbers(self, name: str, *values: int) -> str:
        return self.g.constant(f"numbers.{name}", np.array(values, np.int64))
