"""``spinrt build``: extensions from C to WebAssembly, with the toolchain that is a Python package."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

import spinrt
from spinrt.errors import UsageError
from spinrt.sandbox.build import build_all, build_extension
from spinrt.sandbox.wit import Interfaces, shipped

EPILOG = """\
Without DIR: all extensions of this checkout, into spinrt/extensions. With DIR:
those, each into a directory of its name below --out. Needs the toolchain:
`pip install spinrt[build]`, or `make setup` in a checkout.

examples:
  spinrt build
  spinrt build ./my-extension --out build
  spinrt build ./my-extension --wit shop.wit      with interfaces of your own
"""
PACKAGE = Path(spinrt.__file__).parent


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    parser.add_argument("directories", nargs="*", type=Path, metavar="DIR", help="directory with a manifest.yaml")
    parser.add_argument("--out", type=Path, metavar="DIR", help="where to write (default: build, or spinrt/extensions)")
    parser.add_argument(
        "--wit", action="append", default=[], type=Path, metavar="PATH", help="more WIT files, or directories of them"
    )


def run(arguments: argparse.Namespace) -> int:
    interfaces = Interfaces.load(arguments.wit, known=shipped()) if arguments.wit else shipped()
    settings: dict[str, Any] = {"interfaces": interfaces, "report": _report}
    if arguments.directories:
        out = arguments.out or Path("build")
        built = [build_extension(directory, out, **settings) for directory in arguments.directories]
    else:
        built = build_all(_checkout_sources(), arguments.out or PACKAGE / "extensions", **settings)
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
