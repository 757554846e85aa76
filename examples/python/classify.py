"""A network as a shared library, without EdgeZip and without NumPy: the C sources that EdgeZip made of it, through ctypes.

edgezip compile edgezip/data/demo/fashion_cnn.onnx -o demo --target host --emit c
make -C demo libdemo.so
python examples/python/classify.py demo/libdemo.so picture.bin        # 28 x 28 float32 between 0 and 1, row by row
"""

from __future__ import annotations

import array
import ctypes
import sys
from pathlib import Path

PIXELS, CLASSES = 28 * 28, 10


def main(library: str, picture: str) -> int:
    """Print the class of a picture."""
    demo = ctypes.CDLL(str(Path(library).resolve()))
    demo.demo_message.restype = ctypes.c_char_p
    if demo.demo_self_test():
        sys.exit(f"the network cannot run here: {demo.demo_message().decode()}")
    pixels = array.array("f", Path(picture).read_bytes())
    if len(pixels) != PIXELS:
        sys.exit(f"{picture}: expected {4 * PIXELS} bytes")
    read, scores = (ctypes.c_float * PIXELS)(*pixels), (ctypes.c_float * CLASSES)()
    inputs, outputs = (ctypes.c_void_p * 1)(ctypes.addressof(read)), (ctypes.c_void_p * 1)(ctypes.addressof(scores))
    if demo.demo_run(inputs, outputs):
        sys.exit(demo.demo_message().decode())
    best = max(range(CLASSES), key=scores.__getitem__)
    print(f"class {best}, score {scores[best]:.4f}")
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
