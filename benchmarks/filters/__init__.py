"""What a mail filter costs for each message: the same logic as extension, milter, policy service, hook and function.

``measure`` is the front door. Programs in here that are run by another Python than ours import nothing but the
standard library, so nothing is imported before it is asked for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from benchmarks.harness import Options, Result


def measure(options: Options) -> Result:
    """Run every form of the filter behind its mail server, and judge the target.

    Raises:
        PeerFailed: A server failed, refused a message, or a filter did not see one.
        SpinError: The messages that were asked for cannot be read, or the extension cannot be built.
    """
    from benchmarks.filters.benchmark import benchmark

    return benchmark(options)
