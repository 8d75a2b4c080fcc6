"""Manifests: what is good is read, what is not gives one line that names the key."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from spinrt.errors import ManifestError
from spinrt.sandbox.manifest import Limits, Manifest

GOOD = """
spinrt: 1
name: my-filter
version: 1.2.3
module: my-filter.wasm
imports:
  - spinrt:clock/clock@1.0.0
  - {interface: spinrt:kv/store@1.0.0, functions: [get], why: remembers senders}
handlers:
  - {event: spinrt:mail/delivery-events@1.0.0#deliver, order: 5}
limits: {deadline_ms: 7}
build: {sources: [src/a.c]}
"""


def test_good_manifest_is_read() -> None:
    """Short and long forms of imports, defaults for what is left out."""
    manifest = Manifest.parse(GOOD)
    assert [one.interface for one in manifest.imports] == ["spinrt:clock/clock@1.0.0", "spinrt:kv/store@1.0.0"]
    assert manifest.imports[1].functions == ("get",)
    assert (manifest.handlers[0].order, manifest.limits) == (5, Limits(deadline_ms=7))


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("spinrt: 1", "spinrt: 2"), "format"),
        (("my-filter\nversion", "My_Filter\nversion"), "name"),
        (("1.2.3", "one"), "version"),
        (("my-filter.wasm", "../other.wasm"), "module"),
        (("my-filter.wasm", "/etc/passwd"), "module"),
        (("spinrt:clock/clock@1.0.0", "clock"), "imports[0].interface"),
        (("functions: [get]", "functions: get"), "functions"),
        (("order: 5", "order: first"), "handlers[0].order"),
        (("#deliver", ""), "handlers[0].event"),
        (("deadline_ms: 7", "deadline_ms: 0"), "limits.deadline_ms"),
        (("deadline_ms: 7", "speed: 7"), "limits"),
        (("sources: [src/a.c]", "sources: [/etc/passwd]"), "build.sources"),
        (("spinrt: 1", "spinrt: 1\nextra: 2"), "extra"),
        (("name: my-filter", "name: [unclosed"), "line"),
    ],
)
def test_bad_manifest_names_the_key(change: tuple[str, str], says: str) -> None:
    """Each mistake is one line with the place and what was expected."""
    with pytest.raises(ManifestError) as caught:
        Manifest.parse(GOOD.replace(*change, 1), where="manifest.yaml")
    assert "\n" not in str(caught.value)
    assert says in str(caught.value)


def test_missing_and_oversized_files_are_refused(tmp_path: Path) -> None:
    """A manifest that cannot be read or is far too large is one line too."""
    with pytest.raises(ManifestError, match="cannot be read"):
        Manifest.read(tmp_path / "manifest.yaml")
    (tmp_path / "manifest.yaml").write_text("#" * 100_000)
    with pytest.raises(ManifestError, match="bytes"):
        Manifest.read(tmp_path / "manifest.yaml")


@given(st.binary(max_size=200) | st.text(max_size=200))
def test_garbage_never_escapes_as_another_error(text: bytes | str) -> None:
    """Whatever the bytes are, the answer is a ManifestError."""
    with pytest.raises(ManifestError):
        Manifest.parse(text)


def test_aliases_are_refused() -> None:
    """A few bytes of aliases would stand for gigabytes."""
    bomb = "a: &a [x, x, x, x]\n" + "".join(f"k{n}: &b{n} [*a, *a, *a, *a]\n" for n in range(3))
    with pytest.raises(ManifestError, match="alias"):
        Manifest.parse(GOOD + bomb)
