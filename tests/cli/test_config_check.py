"""`spinrt config check` refuses what `serve` would refuse, says where it stands, and leaves nothing behind."""

from __future__ import annotations

from pathlib import Path

import pytest

from spinrt.cli.main import main


@pytest.fixture(autouse=True)
def starter(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """An empty working directory with the starter configuration, and its text."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delenv("SPINRT_CONFIG", raising=False)
    assert main(["config", "init"]) == 0
    return (tmp_path / "spinrt.yaml").read_text()


def check(text: str, capsys: pytest.CaptureFixture[str]) -> tuple[int, str, str]:
    """Exit code, output and complaint for a configuration; what was printed before is not counted."""
    Path("spinrt.yaml").write_text(text)
    capsys.readouterr()
    code = main(["config", "check"])
    out, err = capsys.readouterr()
    return code, out, err


def test_a_good_configuration_touches_nothing(starter: str, capsys: pytest.CaptureFixture[str]) -> None:
    """Extensions were loaded; there is no data directory for it, and none is made."""
    code, out, _ = check(starter, capsys)

    assert code == 0 and "spinrt.yaml: good" in out
    assert sorted(path.name for path in Path().iterdir()) == ["spinrt.yaml"]


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ("  delivery:", "  parcels:", "extensions.parcels: found no extension at"),
        ("  delivery:", "  delivery:\n    path: .", "cannot be read"),
        ("mail/message@1.0.0: {}", "mail/messge@1.0.0: {}", "did you mean 'spinrt:mail/message@1.0.0'?"),
        ("mail/delivery@1.0.0: {}", "mail/delivery@1.0.0: {functions: [file-intoo]}", "did you mean 'file-into'?"),
        ("mail/delivery@1.0.0: {}", "mail/delivery@1.0.0: {functions: [file-into]}", "not granted: spinrt:mail/deliv"),
        ("mail/delivery@1.0.0: {}", "mail/delivery@1.0.0: {mailboxs: [INBOX]}", "found 'mailboxs'"),
        ("  delivery:", "  delivery:\n    config: {rules: [always -> fly]}", "init refused: rules, line 1"),
    ],
)
def test_what_an_extension_cannot_be_loaded_with(
    starter: str, capsys: pytest.CaptureFixture[str], old: str, new: str, expected: str
) -> None:
    """Code 2, one line, with the file and the line of the file."""
    assert old in starter

    code, _, err = check(starter.replace(old, new, 1), capsys)

    assert code == 2 and expected in err and err.count("\n") == 1
    assert "spinrt.yaml:2" in err  # the extensions stand in lines 20 to 29


def test_missing_certificates(starter: str, capsys: pytest.CaptureFixture[str]) -> None:
    """They are opened, not only named."""
    code, _, err = check(starter.replace("{self_signed: true}", "{certificate: a.pem, key: b.pem}"), capsys)

    assert code == 2 and "spinrt.yaml: tls.certificate" in err and "cannot be read" in err


def test_grants_and_limits_that_change_nothing_are_warnings(starter: str, capsys: pytest.CaptureFixture[str]) -> None:
    """The server starts with them; they are probably a misunderstanding."""
    more = "  delivery:\n    limits: {effects: 600}"
    text = starter.replace("  delivery:", more, 1).replace(
        "      spinrt:mail/delivery@1.0.0: {}", "      spinrt:mail/delivery@1.0.0: {}\n      spinrt:kv/store@1.0.0: {}"
    )

    code, out, _ = check(text, capsys)

    assert code == 0
    assert "delivery does not ask for it" in out and "kv/store" in out
    assert "limits.effects: 600 is above the manifest's" in out
