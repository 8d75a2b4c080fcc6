"""``spinrt``: find the subcommand, run it, turn what it raises into one line and an exit code.

Exit codes: 0 it worked; 1 the operation failed; 2 wrong usage or configuration; 3 stored data is damaged; 4 somebody
else holds what is needed (data directory, port), try later; 130 interrupted.

A traceback is shown only with ``SPINRT_DEBUG=1`` in the environment.
"""

from __future__ import annotations

import argparse
import errno
import importlib
import os
import sys
import traceback
from collections.abc import Sequence
from typing import Any, Final, NoReturn

import spinrt
from spinrt.cli import interrupted
from spinrt.errors import Busy, CorruptRecord, DataLocked, FormatUnknown, LinkError, SpinError, UsageError

OK: Final = 0
FAILED: Final = 1
USAGE: Final = 2
DAMAGED: Final = 3
BUSY: Final = 4
PIPE_CLOSED: Final = 141
"""As a shell shows a program that SIGPIPE ended."""

COMMANDS: Final = {
    "demo": "send mail through three sandboxed extensions, end to end",
    "serve": "serve SMTP, LMTP and IMAP in the foreground",
    "config": "check, show or start a configuration file",
    "user": "add, list, change and remove accounts",
    "reload": "bring changed extensions into the running server",
    "check": "try an extension before a server sees it",
    "queue": "see and steer mail that waits to leave",
    "inspect": "see what extensions hold, may do and did",
    "profile": "see where extensions spend their time",
    "replay-fault": "run the call of a crash record again",
    "snapshot": "keep the mail store as it is now, see it as it was",
    "mirror": "keep a second copy elsewhere, and go on there",
    "backup": "copy the data directory, also while the server runs",
    "log": "see what is stored, record by record",
    "fsck": "check everything that is stored, and mend it",
    "build": "compile extensions from C to WebAssembly",
    "bindgen": "write a C header and glue from WIT interfaces",
    "bench": "run a benchmark of this checkout",
}
"""Name and one line of help of each subcommand; its module is ``spinrt.cli.<name>``, with underscores."""

DESCRIPTION = """\
In-process extension runtime: sandboxed WebAssembly at the speed of a call,
with a mail system built on it.
"""
EPILOG = """\
examples:
  spinrt demo                                   see it work, no configuration needed
  spinrt config init spinrt.yaml                write a first configuration
  spinrt user add alice                         add an account (asks for a password)
  spinrt serve                                  serve what ./spinrt.yaml says
  spinrt queue list                             mail that waits to leave
  spinrt inspect                                extensions, grants, handles, counters
  spinrt COMMAND --help                         more on one command

The configuration is --config FILE, else $SPINRT_CONFIG, else ./spinrt.yaml,
else ./var/spinrt.yaml (from `make run`), else /etc/spinrt/spinrt.yaml.

exit codes: 0 worked, 1 failed, 2 wrong usage or configuration,
3 stored data damaged, 4 in use by another process, 130 interrupted
"""


class _Parser(argparse.ArgumentParser):
    """Complains in one line."""

    def error(self, message: str) -> NoReturn:
        self.exit(USAGE, f"spinrt: usage: {message} (see `{self.prog} --help`)\n")


def make_parser(chosen: str | None = None) -> argparse.ArgumentParser:
    """Return the parser of the command line; only the arguments of the chosen subcommand are filled in.

    Filling in all of them would import all of them, and ``spinrt --help`` should not load a WebAssembly engine.
    """
    parser = _Parser(
        prog="spinrt",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--version", action="version", version=f"spinrt {spinrt.__version__}")
    commands = parser.add_subparsers(dest="command", metavar="COMMAND", required=True)
    for name, text in COMMANDS.items():
        below = commands.add_parser(
            name,
            help=text,
            description=f"{text[0].upper()}{text[1:]}.",
            formatter_class=argparse.RawDescriptionHelpFormatter,
            allow_abbrev=False,
        )
        if name == chosen:
            _module_of(name).add_arguments(below)
    return parser


def main(arguments: Sequence[str] | None = None) -> int:
    """Run the command line and return its exit code; never raises, except SystemExit for usage and ``--help``."""
    given = list(sys.argv[1:] if arguments is None else arguments)
    chosen = next((argument for argument in given if not argument.startswith("-")), None)
    try:
        parsed = make_parser(chosen).parse_args(given)
        code = _run(parsed)
        sys.stdout.flush()
        return code
    except BrokenPipeError:
        _drop_output()
        return PIPE_CLOSED
    except KeyboardInterrupt:
        return interrupted()
    except Exception as error:
        return _report(error)


def _module_of(name: str) -> Any:
    return importlib.import_module(f"spinrt.cli.{name.replace('-', '_')}")


def _run(parsed: argparse.Namespace) -> int:
    code: int = _module_of(parsed.command).run(parsed)
    return code


def _report(error: Exception) -> int:
    """Write an error as one line and return its exit code."""
    if os.environ.get("SPINRT_DEBUG") == "1":
        traceback.print_exception(error)
    print(f"spinrt: {error_line(error)}", file=sys.stderr)
    return exit_code(error)


def error_line(error: Exception) -> str:
    """What the user is told of an error."""
    if isinstance(error, SpinError):
        return error.line()
    if isinstance(error, OSError):
        about = f"{error.filename}: " if error.filename is not None else ""
        return f"{about}{error.strerror or error}"
    return f"internal: {type(error).__name__}: {error} (please report this; SPINRT_DEBUG=1 shows where it happened)"


def exit_code(error: Exception) -> int:
    """The exit code of an error; see the head of this file."""
    match error:
        case CorruptRecord() | FormatUnknown():
            return DAMAGED
        case DataLocked() | Busy():
            return BUSY
        case _ if _is_port_taken(error) or _is_port_taken(error.__context__):
            return BUSY
        case UsageError() | LinkError():
            return USAGE
        case _:
            return FAILED


def _is_port_taken(error: BaseException | None) -> bool:
    return isinstance(error, OSError) and error.errno == errno.EADDRINUSE


def _drop_output() -> None:
    """Nobody reads any more: what Python flushes when it ends must not complain again."""
    nowhere = os.open(os.devnull, os.O_WRONLY)
    os.dup2(nowhere, sys.stdout.fileno())
    os.close(nowhere)


if __name__ == "__main__":
    sys.exit(main())
