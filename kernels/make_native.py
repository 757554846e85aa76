"""Write the C source of the extension ``edgezip.kernels._native`` (cffi API mode, limited ABI).

Usage: ``make_native.py INCLUDE_FOLDER OUT.c``. cffi sees what stands between ``cffi-begin`` and ``cffi-end`` in every header
of the folder, in alphabetical order.
"""

import re
import sys
from pathlib import Path

from cffi import FFI

_MARKED = re.compile(r"/\* cffi-begin \*/(.*?)/\* cffi-end \*/", re.DOTALL)


def main(folder: Path, out: Path) -> None:
    """Collect the marked declarations and emit the module's source."""
    ffi = FFI()
    includes = []
    for header in sorted(folder.glob("*.h")):
        parts = _MARKED.findall(header.read_text())
        if parts:
            ffi.cdef("\n".join(parts))
            includes.append(f'#include "edgezip/{header.name}"')
    ffi.set_source("edgezip.kernels._native", "\n".join(includes), py_limited_api=True)
    ffi.emit_c_code(str(out))


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(sys.argv[2]))
