"""``python -m spinrt``: the same as the ``spinrt`` command."""

from __future__ import annotations

import sys

from spinrt.cli.main import main

if __name__ == "__main__":
    sys.exit(main())
