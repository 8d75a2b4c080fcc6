"""``spinrt extension check``: what an author is told before a server sees the extension."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from spinrt.cli.main import main
from spinrt.mail.extensions import SHIPPED
from tests.guests import wat
from tests.mail.test_reload import write


@pytest.mark.parametrize("name", sorted(path.parent.name for path in SHIPPED.glob("*/manifest.yaml")))
def test_shipped_extensions_are_good_with_what_they_ask_for(
    name: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The grants that are printed are a policy that links."""
    assert main(["extension", "check", str(SHIPPED / name)]) == 0
    out = capsys.readouterr().out
    assert f"{name} " in out.splitlines()[0]
    assert out.splitlines()[0].endswith(": good")
    grants = yaml.safe_load(out[out.index("extensions:") :])["extensions"][name]
    (tmp_path / "policy.yaml").write_text(yaml.safe_dump(grants))
    assert main(["extension", "check", str(SHIPPED / name), "--policy", str(tmp_path / "policy.yaml")]) == 0


def test_missing_grants_are_listed_with_their_types(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Exit code 2, every import that is not granted, and what would grant it."""
    (tmp_path / "policy.yaml").write_text("grants: {}\n")
    assert main(["extension", "check", str(SHIPPED / "delivery"), "--policy", str(tmp_path / "policy.yaml")]) == 2
    captured = capsys.readouterr()
    assert "missing delivery: spinrt:mail/delivery@1.0.0: discard: func() -> result<_, problem> (not granted)" in (
        captured.out
    )
    assert "to grant it, put under extensions.delivery.grants" in captured.err


@pytest.mark.parametrize(
    ("policy", "says"),
    [
        ("[1]", "expected a mapping"),
        ("{", "not YAML"),
        ("grant: {}", "expected only"),
        ("grants: {'spinrt:mail/massage@1.0.0': {}}", "did you mean 'spinrt:mail/message@1.0.0'"),
    ],
)
def test_wrong_policies_are_one_line(
    policy: str, says: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Exit code 2 and what was expected."""
    (tmp_path / "policy.yaml").write_text(policy)
    assert main(["extension", "check", str(SHIPPED / "delivery"), "--policy", str(tmp_path / "policy.yaml")]) == 2
    lines = capsys.readouterr().err.splitlines()
    assert len(lines) == 1
    assert says in lines[0]


def test_extensions_that_do_not_load_or_start(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """No directory and no module are usage (2); a start function that traps is a failure of the extension (1)."""
    assert main(["extension", "check", str(tmp_path / "nowhere")]) == 2
    assert main(["extension", "check", str(write(tmp_path / "a", "1.0.0", module=b"nonsense"))]) == 2
    trap = wat("(module (func $s unreachable) (start $s))")
    assert main(["extension", "check", str(write(tmp_path / "a", "1.0.0", module=trap))]) == 1
    assert "unreachable" in capsys.readouterr().err.splitlines()[-1]
    assert main(["extension", "check", str(tmp_path / "a"), "--policy", str(tmp_path / "none.yaml")]) == 2
