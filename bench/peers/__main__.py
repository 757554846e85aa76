"""Environments of the peers.

    python -m bench.peers list
    python -m bench.peers setup [NAME ...]      (default: all; several GB each where torch comes along)

They are made below .work/peers, or below EDGEZIP_PEERS.
"""

from __future__ import annotations

import argparse
import sys

from bench.peers import PEERS, environments
from edgezip.errors import EdgeZipError


def main() -> int:
    """Exit code 1 when an environment could not be made; the others are made all the same."""
    parser = argparse.ArgumentParser(
        prog="python -m bench.peers", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("verb", choices=("list", "setup"))
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(PEERS))
    arguments = parser.parse_args()
    failed = 0
    for name in arguments.names or PEERS if arguments.verb == "setup" else ():
        try:
            environments.setup(name)
        except EdgeZipError as error:
            print(f"{name}: {error}", file=sys.stderr)
            failed = 1
    for name, state in environments.states():
        print(f"{name:16} {state}")
    return failed


if __name__ == "__main__":
    sys.exit(main())
