"""The ``spinrt`` command. ``main`` finds the subcommand and turns errors into one line and an exit code; each
subcommand is a module of its own with ``add_arguments`` and ``run``. Only ``spinrt.__main__`` imports this package.
"""

import sys

INTERRUPTED = 130
"""The exit code of what Ctrl-C ended, as a shell shows it."""


def interrupted() -> int:
    """Say that Ctrl-C came, and return the exit code."""
    print("spinrt: interrupted", file=sys.stderr)
    return INTERRUPTED
