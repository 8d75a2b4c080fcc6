"""``python -m spinrt``, and the ``spinrt`` command: the same.

Little is imported before Ctrl-C is one line here: the rest takes some tens of milliseconds, and it may come then.
"""

from __future__ import annotations

import sys

from spinrt.cli import interrupted


def main() -> int:
    """Run the command line and return its exit code; see `spinrt.cli.main.main`."""
    try:
        from spinrt.cli.main import main as run
    except KeyboardInterrupt:
        return interrupted()
    return run()


if __name__ == "__main__":
    sys.exit(main())
