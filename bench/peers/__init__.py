"""Other runtimes to be measured beside ours, one file a peer, each in an environment and a process of its own.

A peer module exports

* ``ENVIRONMENT``: the folder below .work/peers that holds its Python, "" for the project's own;
* ``REQUIREMENTS``: what pip installs there (``python -m bench.peers setup NAME...``);
* ``ROWS``: what is measured of it on whole networks (``bench.peers.row.Row``);
* ``OPERATOR_ROWS``: what is measured of it on single operators (``bench.one_op``);
* ``convert(kit, row)``: makes the row's model file in the kit folder (``bench.kit``) out of the kit's ONNX files;
* ``load(path, threads, feed, options) -> Loaded``: bound to one feed.

A peer module imports its runtime inside functions, and nothing of EdgeZip: its environment may not have it.
"""

from __future__ import annotations

# Files of this folder that are peers, in the order of the tables.
PEERS = ("onnxruntime", "openvino", "litert", "ncnn", "mnn", "torch", "executorch")
