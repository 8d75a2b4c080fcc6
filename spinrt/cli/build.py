"""``spinrt build``: extensions from C to WebAssembly, with the toolchain that is a Python package."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

import spinrt
from spinrt.errors import UsageError
from spinrt.sandbox.build import build_all, build_extension

EPILOG = """\
Without DIR: all extensions of this checkout, into spinrt/extensions. With DIR:
those, each into a directory of its name below --out. Needs the toolchain:
`pip install spinrt[build]`, or `make setup` in a checkout.

examples:
  spinrt build
  spinrt build ./my-extension --out build
"""
PACKAGE = Path(spinrt.__file__).parent


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    parser.add_argument("directories", nargs="*", type=Path, metavar="DIR", help="directory with a manifest.yaml")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: build, or spinrt/extensions)")


def run(arguments: argparse.Namespace) -> int:
    if arguments.directories:
        out = arguments.out or Path("build")
        built = [build_extension(directory, out, report=_report) for directory in arguments.directories]
    else:
        built = build_all(_checkout_sources(), arguments.out or PACKAGE / "extensions", report=_report)
    for directory in built:
        print(f"built {directory}")
    return 0


def _report(text: str) -> None:
    print(text, file=sys.stderr)


def _checkout_sources() -> Path:
    sources = PACKAGE.parent / "extensions"
    if not sources.is_dir():
        raise UsageError(
            f"build: found no sources beside {PACKAGE}: they are not part of the installed package",
            hint="name the directory of an extension",
        )
    return sources
