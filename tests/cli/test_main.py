"""The command line as a whole: exit codes, one line for every error, nothing loaded for nothing."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from spinrt.cli import main as main_module
from spinrt.cli.main import COMMANDS, error_line, exit_code, main, make_parser
from spinrt.errors import (
    Busy,
    ConfigError,
    CorruptRecord,
    DataLocked,
    FormatUnknown,
    InternalError,
    LinkDenied,
    NotFound,
    SpinError,
)

ROOT = Path(__file__).parents[2]


def run(*arguments: str, **settings: object) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "PYTHONPATH": str(ROOT), "SPINRT_DEBUG": "0"}
    command = [sys.executable, "-m", "spinrt", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=False, **settings)  # type: ignore[call-overload, no-any-return]


@pytest.mark.parametrize(
    ("error", "code"),
    [
        (SpinError("x"), 1),
        (NotFound("x"), 1),
        (InternalError("x"), 1),
        (ValueError("x"), 1),
        (OSError(errno.ENOENT, "x"), 1),
        (ConfigError("x"), 2),
        (LinkDenied("x"), 2),
        (CorruptRecord("x"), 3),
        (FormatUnknown("x"), 3),
        (DataLocked("x"), 4),
        (Busy("x"), 4),
        (OSError(errno.EADDRINUSE, "x"), 4),
    ],
)
def test_exit_code_of_an_error(error: Exception, code: int) -> None:
    """Whose fault it is, and whether trying again helps, can be told from the exit code."""
    assert exit_code(error) == code


def test_error_line_names_code_and_hint() -> None:
    """One line for people and programs."""
    assert error_line(ConfigError("f:3: a: found b, expected c", hint="do d")) == (
        "config: f:3: a: found b, expected c (do d)"
    )
    assert error_line(FileNotFoundError(2, "No such file or directory", "x.yaml")) == (
        "x.yaml: No such file or directory"
    )
    assert "please report" in error_line(KeyError("k"))


def fails(error: BaseException) -> Callable[[object], int]:
    def perform(_: object) -> int:
        raise error

    return perform


@pytest.mark.parametrize(
    ("error", "code", "shown"),
    [
        (ConfigError("thing: bad"), 2, "spinrt: config: thing: bad\n"),
        (ZeroDivisionError("oops"), 1, "spinrt: internal: ZeroDivisionError: oops (please report this"),
        (KeyboardInterrupt(), 130, "spinrt: interrupted\n"),
    ],
)
def test_errors_become_one_line(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str], error: BaseException, code: int, shown: str
) -> None:
    """No traceback, whatever is raised; with SPINRT_DEBUG=1 there is one."""
    monkeypatch.setattr(main_module, "_run", fails(error))
    monkeypatch.delenv("SPINRT_DEBUG", raising=False)

    assert main(["bench"]) == code
    text = capsys.readouterr().err
    assert text.startswith(shown)
    assert text.count("\n") == (1 if shown else 0)

    monkeypatch.setenv("SPINRT_DEBUG", "1")
    assert main(["bench"]) == code
    assert ("Traceback" in capsys.readouterr().err) == (code not in (130, 141))


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_has_help_with_an_example(name: str, capsys: pytest.CaptureFixture[str]) -> None:
    """`spinrt COMMAND --help` says what it does and shows it being used."""
    with pytest.raises(SystemExit) as end:
        make_parser(name).parse_args([name, "--help"])

    assert end.value.code == 0
    text = capsys.readouterr().out
    assert "example" in text
    assert f"spinrt {name}" in text.split("example", 1)[1]


@pytest.mark.parametrize(
    "arguments", [[], ["fly"], ["queue"], ["queue", "hold"], ["serve", "--port"], ["config", "init", "--x"]]
)
def test_wrong_usage_is_one_line_and_code_2(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as end:
        main(arguments)

    assert end.value.code == 2
    text = capsys.readouterr().err
    assert text.startswith("spinrt: usage: ")
    assert text.count("\n") == 1


def test_version_and_help_load_little() -> None:
    """`--help` and `--version` work without the engine, the mail system or the core."""
    code = (
        "import sys; from spinrt.cli.main import main\n"
        "try: main(sys.argv[1:])\n"
        "except SystemExit: pass\n"
        "heavy = {'wasmtime', 'spinrt._core', 'spinrt.mail', 'sqlite3', 'asyncio'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    for option in ("--version", "--help"):
        done = subprocess.run(
            [sys.executable, "-c", code, option], capture_output=True, text=True, cwd=ROOT, timeout=60, check=False
        )
        assert done.returncode == 0, done.stderr
        assert "spinrt" in done.stdout


def test_closed_pipe_is_quiet() -> None:
    """`spinrt … | head -1` does not complain."""
    done = subprocess.run(
        ["bash", "-c", f'set -o pipefail; "{sys.executable}" -c "{_TALKATIVE}" | head -1'],
        capture_output=True,
        text=True,
        cwd=ROOT,
        timeout=60,
        check=False,
    )

    assert done.stderr == ""
    assert done.returncode == main_module.PIPE_CLOSED


_TALKATIVE = (
    "import sys; from spinrt.cli import main as m; "
    "m._run = lambda _: [print('x' * 70) for _ in range(100000)] and 0; sys.exit(m.main(['bench']))"
)


def test_interrupt_is_one_line_and_130() -> None:
    """Ctrl-C ends with 130 and no traceback."""
    code = (
        "import signal, sys, time; from spinrt.cli import main as m\n"
        "signal.signal(signal.SIGINT, signal.default_int_handler)\n"  # whoever runs the tests may ignore it
        "def wait(_):\n"
        "    print('ready', flush=True)\n"
        "    time.sleep(60)\n"
        "m._run = wait\n"
        "sys.exit(m.main(['bench']))\n"
    )
    with subprocess.Popen(
        [sys.executable, "-c", code], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        assert process.stdout.readline() == "ready\n"
        process.send_signal(signal.SIGINT)
        assert process.wait(30) == 130
        assert process.stderr.read() == "spinrt: interrupted\n"


def test_interrupt_while_the_command_is_imported_is_the_same() -> None:
    """A person has pressed Ctrl-C before the parser is there."""
    code = (
        "import sys\n"
        "class Finder:\n"
        "    def find_spec(self, name, *_):\n"
        "        if name == 'argparse': raise KeyboardInterrupt\n"
        "sys.meta_path.insert(0, Finder())\n"
        "from spinrt.__main__ import main\n"
        "sys.exit(main())\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, timeout=60, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (130, "", "spinrt: interrupted\n")


def test_module_runs_as_the_command(tmp_path: Path) -> None:
    """`python -m spinrt` is the command; a missing configuration is a hint, not a traceback."""
    done = run("config", "check", cwd=tmp_path)

    assert done.returncode == 2
    assert done.stderr == (
        "spinrt: config: no configuration: looked for spinrt.yaml, var/spinrt.yaml, /etc/spinrt/spinrt.yaml"
        " (name one with --config FILE; `spinrt config init` writes a first one)\n"
    )
