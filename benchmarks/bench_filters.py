"""What a mail filter costs for each message: as an extension, and as everything else that mail servers know.

docs/benchmarks.md says what each row and target means. Peers come by ``benchmarks/install-peers`` and ``make setup``;
one that is missing is left out, with its reason.
"""

from __future__ import annotations

import sys

from benchmarks.filters import measure
from benchmarks.harness import Options, Result, main


def benchmark(options: Options) -> Result:
    """Everything, at full or quick scale."""
    return measure(options)


if __name__ == "__main__":
    sys.exit(main("filters", benchmark, takes=["only", "mail"]))
