"""``spinrt bindgen``: the header and glue that a guest in C is compiled with."""

from __future__ import annotations

import argparse
from pathlib import Path

from spinrt.errors import UsageError
from spinrt.sandbox.bindgen import Wanted, generate_c
from spinrt.sandbox.manifest import Manifest
from spinrt.sandbox.wit import Interfaces, shipped

EPILOG = """\
NAME is the id of an interface that the guest calls, or the directory of an
extension: then its manifest says what is imported, exported and handled, with
the exports, closures, filters and guards that it names. --manifest takes the
manifest itself.

examples:
  spinrt bindgen spinrt:logging/logging@1.0.0 --out src
  spinrt bindgen spinrt:mail/message@1.0.0 --export spinrt:mail/delivery-events@1.0.0#deliver
  spinrt bindgen extensions/delivery --out build/delivery
  spinrt bindgen --manifest manifest.yaml --out generated
"""
MANIFEST_NAME = "manifest.yaml"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.epilog = EPILOG
    parser.add_argument("names", nargs="*", metavar="NAME", help="interface id or extension directory")
    parser.add_argument(
        "--manifest", action="append", default=[], type=Path, metavar="FILE", help="manifest of an extension"
    )
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
    wanted = Wanted(exports=tuple(arguments.export))
    for name in arguments.names:
        wanted += Wanted(imports=(name,)) if ":" in name else _of_manifest(_manifest_in(Path(name)), interfaces)
    for path in arguments.manifest:
        wanted += _of_manifest(path, interfaces)
    if wanted == Wanted():
        raise UsageError("bindgen: found nothing to write, expected an interface id, a directory or --manifest")
    texts = generate_c(interfaces, wanted.imports, wanted.exports, wanted.named)
    arguments.out.mkdir(parents=True, exist_ok=True)
    for file, text in texts.items():
        (arguments.out / file).write_text(text, encoding="utf-8")
        print(f"wrote {arguments.out / file}")
    return 0


def _manifest_in(directory: Path) -> Path:
    if not (directory / MANIFEST_NAME).is_file():
        raise UsageError(
            f"{directory}: found no {MANIFEST_NAME}, expected an interface id or the directory of an extension"
        )
    return directory / MANIFEST_NAME


def _of_manifest(path: Path, interfaces: Interfaces) -> Wanted:
    return Wanted.of_manifest(Manifest.read(path), interfaces)
