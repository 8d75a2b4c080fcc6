"""``spinrt bindgen``: the header and glue that a guest in C is compiled with."""

from __future__ import annotations

import argparse
from pathlib import Path

from spinrt.errors import UsageError
from spinrt.sandbox.bindgen import generate_c
from spinrt.sandbox.manifest import Manifest
from spinrt.sandbox.wit import Interfaces, shipped

EPILOG = """\
NAME is the id of an interface that the guest calls, or the directory of an
extension: then its manifest says what is imported, exported and handled.

examples:
  spinrt bindgen spinrt:logging/logging@1.0.0 --out src
  spinrt bindgen spinrt:mail/message@1.0.0 --export spinrt:mail/delivery-events@1.0.0#deliver
  spinrt bindgen extensions/delivery --out build/delivery
"""
MANIFEST_NAME = "manifest.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    parser.add_argument("names", nargs="+", metavar="NAME", help="interface id or extension directory")
    parser.add_argument("--lang", choices=["c"], default="c", help="language of the guest (default: %(default)s)")
    parser.add_argument("--out", type=Path, default=Path(), metavar="DIR", help="where to write (default: here)")
    parser.add_argument(
        "--export", action="append", default=[], metavar="ID", help="interface, or id#function, that the guest provides"
    )
    parser.add_argument(
        "--wit", action="append", default=[], type=Path, metavar="PATH", help="more WIT files, or directories of them"
    )


def run(arguments: argparse.Namespace) -> int:
    interfaces = Interfaces.load(arguments.wit, known=shipped()) if arguments.wit else shipped()
    imports: list[str] = []
    exports: list[str] = list(arguments.export)
    for name in arguments.names:
        if ":" in name:
            imports.append(name)
        else:
            _from_manifest(Path(name), imports, exports)
    texts = generate_c(interfaces, imports, exports)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for file, text in texts.items():
        (arguments.out / file).write_text(text, encoding="utf-8")
        print(f"wrote {arguments.out / file}")
    return 0


def _from_manifest(directory: Path, imports: list[str], exports: list[str]) -> None:
    if not (directory / MANIFEST_NAME).is_file():
        raise UsageError(
            f"{directory}: found no {MANIFEST_NAME}, expected an interface id or the directory of an extension"
        )
    manifest = Manifest.read(directory / MANIFEST_NAME)
    imports.extend(wanted.interface for wanted in manifest.imports)
    exports.extend([*manifest.exports, *(handler.event for handler in manifest.handlers)])
