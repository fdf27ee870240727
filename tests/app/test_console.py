"""Output of the commands on unusual terminals and of unusual texts."""

import errno
import io
import os
import re
import runpy
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import typer

from batchnorm_app import console
from batchnorm_app.cli.errors import report_errors
from tests.app.cli.calling import call, error

pytestmark = pytest.mark.no_backend

# An emoji's code, a style of Rich's, a colour of terminals, and what no encoding has.
ODD = "run:100:x [bold]a[/bold] drop:-1 \x1b[31m caf\udce9"
SHOWN = "run:100:x [bold]a[/bold] drop:-1 \\x1b[31m caf\\udce9"


@pytest.fixture
def narrow(monkeypatch: pytest.MonkeyPatch) -> Callable[[str], io.BytesIO]:
    """Puts a stream of an encoding in the place of both standard streams."""
    monkeypatch.setenv("COLUMNS", "20")

    def replace(encoding: str) -> io.BytesIO:
        content = io.BytesIO()
        for name in ("stdout", "stderr"):
            stream = io.TextIOWrapper(content, encoding, write_through=True)
            monkeypatch.setattr(sys, name, stream)
        console.encode_everything()
        return content

    return replace


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "latin-1", "cp437"])
@pytest.mark.parametrize("terminal", [False, True])
def test_texts_appear_as_they_are(
    narrow: Callable[[str], io.BytesIO],
    monkeypatch: pytest.MonkeyPatch,
    encoding: str,
    terminal: bool,
) -> None:
    monkeypatch.setenv("NO_COLOR", "1")
    if terminal:
        monkeypatch.setenv("FORCE_COLOR", "1")
        monkeypatch.setenv("TERM", "xterm-256color")
    content = narrow(encoding)
    console.say(f"{ODD} \u00fc\u4f60\nsecond")
    console.say("third", console.console(stderr=True))
    lines = content.getvalue().decode(encoding).splitlines()
    other = "\u00fc\u4f60".encode(encoding, "backslashreplace").decode(encoding)
    assert lines == [f"{SHOWN} {other}", "second", "third"]


def test_a_table_in_a_pipe_is_lines(capsys: pytest.CaptureFixture[str]) -> None:
    rows = [("a" * 300, (1, 2)), ("b\nc\td", "e\u2028f"), (ODD, None)]
    console.print_table("title", ("x", "y"), rows)
    console.print_table("title", ("x", "y"), rows, bare=True)
    lines = [f"{'a' * 300}\t(1, 2)", "b\\nc\\td\te\\u2028f", f"{SHOWN}\tNone"]
    assert capsys.readouterr().out.splitlines() == ["title", *lines, *lines]


@pytest.mark.parametrize("encoding", ["utf-8", "ascii"])
def test_a_table_on_a_narrow_terminal(
    narrow: Callable[[str], io.BytesIO], monkeypatch: pytest.MonkeyPatch, encoding: str
) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    monkeypatch.setenv("NO_COLOR", "1")
    content = narrow(encoding)
    console.print_table("T", ("x", "y"), [("layer/normalization:x:" * 3, "1"), ("[b]", ODD)])
    text = re.sub(r"\x1b\[\d*m", "", content.getvalue().decode(encoding))
    assert max(map(len, text.splitlines())) == 20
    cells = "".join(letter for letter in text if letter.isalnum() or letter in ":/[]")
    assert ("layer/normalization:x:" * 3)[:9] in cells and "[b]" in cells


def test_a_path_is_no_emoji_in_errors() -> None:
    text = error(call("sample", "run:100:x"))
    assert text.startswith("error: run:100:x is not a run")
    text = error(call("train", "lenet", "--schedule", "drop:-1", "--output", "a:x:"), code=2)
    assert "--schedule drop:-1: expected constant" in text
    assert "':smile:' is unknown" in error(call("train", "lenet", "--data", ":smile:"), code=2)
    assert "\\x1b[31m is not a run" in error(call("features", "\x1b[31m"))


def test_a_path_is_no_emoji_in_results(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("batchnorm_app.train.pictures.draw_feature_maps", lambda *_: Path(ODD))
    assert call("features", "run").stdout == f"Drawn: {SHOWN}\n"


@pytest.mark.parametrize(
    "cause, words",
    [
        (OSError(errno.ENOSPC, "No space left", "a/b"), "a/b cannot be used: No space left. Make"),
        (OSError(errno.ENOSPC, "No space left"), "error: No space left. Make room on the disk"),
        (OSError(errno.EACCES, "Permission denied", "a"), "Get the permission to use it"),
        (OSError(errno.EIO, "Input/output error", ":x:"), ":x: cannot be used: Input/output error"),
        (OSError("in words already"), "error: in words already"),
        (FileNotFoundError("a does not exist. Take b."), "error: a does not exist. Take b."),
    ],
)
def test_errors_of_the_system_name_the_file(
    cause: OSError, words: str, capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(typer.Exit) as caught, report_errors():
        raise cause
    assert caught.value.exit_code == 1
    text = capsys.readouterr().err
    assert words in text and "Errno" not in text


@pytest.mark.parametrize("gone", [BrokenPipeError(errno.EPIPE, "Broken pipe"), SystemExit(1)])
def test_nobody_reads_the_output(
    gone: BaseException, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Rich makes an exit of a broken pipe; a run that has begun can be continued."""
    for begun in (False, True):
        if begun:
            (tmp_path / "config.json").touch()
        with pytest.raises(type(gone)), report_errors("batchnorm train ... --resume", tmp_path):
            raise gone
    text = "The output is no longer read. To continue: batchnorm train ... --resume\n"
    assert capsys.readouterr().err == text


@pytest.mark.parametrize("arguments", ["--help", "train lenet --help", "--version", "trian"])
def test_a_pipe_that_is_closed_early(arguments: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    command = [sys.executable, "-m", "batchnorm_app", *arguments.split()]
    ran = subprocess.run(command, stdout=writing, stderr=subprocess.PIPE, text=True)
    os.close(writing)
    assert ran.returncode in (1, 2)
    assert "Traceback" not in ran.stderr and "Exception ignored" not in ran.stderr


@pytest.mark.parametrize("changes", [{"PYTHONIOENCODING": "ascii"}, {"LC_ALL": "C"}])
def test_help_and_errors_in_ascii(changes: dict[str, str]) -> None:
    for arguments in ("--help", "caf\u00e9"):
        command = [sys.executable, "-m", "batchnorm_app", arguments]
        environment = os.environ | changes | {"COLUMNS": "20", "NO_COLOR": "1"}
        ran = subprocess.run(command, capture_output=True, env=environment)
        assert ran.returncode == (0 if arguments == "--help" else 2)
        assert b"Traceback" not in ran.stderr
        if "PYTHONIOENCODING" in changes:
            assert (ran.stdout + ran.stderr).isascii()


def test_the_package_says_how_the_command_is_called(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys, "argv", ["batchnorm", "train", "lenet"])
    with pytest.raises(SystemExit) as caught:
        runpy.run_module("batchnorm", run_name="__main__")
    assert caught.value.code == 2
    text = capsys.readouterr().err
    assert "use batchnorm ... or python -m batchnorm_app ..." in text and text.count("\n") == 1
