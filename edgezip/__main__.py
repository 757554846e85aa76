"""``python -m edgezip``."""

import sys

from edgezip.cli.main import main

sys.exit(main())
