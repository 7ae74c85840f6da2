"""Signs that an encoding lacks, control characters, and whose prints go where."""

from __future__ import annotations

import ast
import io
import os
import subprocess
import sys
import tokenize
from pathlib import Path

import pytest

import fleetfoot
from fleetfoot import streams
from fleetfoot.errors import printable, visible

PACKAGE = Path(fleetfoot.__file__).parent


def literals() -> str:
    """Every string of the package's source."""
    found = []
    for file in PACKAGE.rglob("*.py"):
        with file.open("rb") as source:
            found += [t.string for t in tokenize.tokenize(source.readline) if t.type == 3]
    return "".join(found)


def test_every_sign_of_our_own_texts_has_a_plain_substitute():
    # names of people in docstrings are not printed
    missing = {one for one in literals() if ord(one) > 126} - set(streams.PLAIN) - set("áéü")
    assert not missing
    assert all(text.isascii() and text for text in streams.PLAIN.values())


@pytest.mark.parametrize(
    ("encoding", "shown"),
    [
        ("ascii", b"3x3 - 5 \\xe9 \\u732b"),
        ("latin-1", b"3\xd73 - 5 \xe9 \\u732b"),
        ("cp1252", b"3\xd73 - 5 \xe9 \\u732b"),
        ("gbk", b"3\xa1\xc13 - 5 \xa8\xa6 \xc3\xa8"),
    ],
)
def test_text_degrades_to_what_an_encoding_can_show(encoding, shown):
    text = "3×3 − 5 é 猫"
    assert text.encode(encoding, streams.ERRORS) == shown


def test_a_stream_of_any_encoding_takes_what_is_printed(monkeypatch):
    for encoding in ("ascii", "cp1252", "latin-1", "gbk", "utf-8"):
        held = io.BytesIO()
        monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(held, encoding=encoding))
        streams.echo("3×3 ≥ 1, caf\udce9")
        streams.echo_json({"path": "caf\udce9 ×"})
        first, second = held.getvalue().decode(encoding).splitlines()
        assert first in ("3x3 >= 1, caf\\xe9", "3×3 >= 1, caf\\xe9", "3×3 ≥ 1, caf\\xe9")
        assert second == '{"path": "caf\\udce9 \\u00d7"}'


def test_control_characters_are_escaped():
    assert visible("a\x1b]0;x\x07\nb\u202ec \udce9") == "a\\x1b]0;x\\x07\\x0ab\\u202ec \\xe9"
    assert printable("a\nb\r") == "a\nb\\x0d"


def test_a_console_escapes_them_too_and_keeps_its_own_colours(monkeypatch):
    from rich.text import Text

    from fleetfoot.report.kit.terminal import console

    monkeypatch.setattr(sys, "stdout", io.StringIO())
    made = console()
    made.print(Text.assemble(("one\x1b[2J", "bold"), "\ntwo"))
    assert sys.stdout.getvalue() == "one\\x1b[2J\ntwo\n"


STRANGER = """
import os, sys, ctypes
from fleetfoot import streams
from fleetfoot.errors import printable, visible
streams.prepare_streams()
with streams.results_apart():
    print("python")
    print("explicit", file=sys.stdout, flush=True)
    os.write(1, b"descriptor\\n")
    ctypes.CDLL(None).puts(b"c")
    ctypes.CDLL(None).fflush(None)
    streams.echo("result")
    os.system("echo child")
print("after")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="file descriptors of POSIX")
def test_only_results_reach_standard_output():
    done = subprocess.run([sys.executable, "-c", STRANGER], capture_output=True, text=True)
    assert done.stdout == "result\nafter\n"
    assert set(done.stderr.split()) == {"python", "explicit", "descriptor", "c", "child"}


@pytest.mark.skipif(sys.platform == "win32", reason="file descriptors of POSIX")
def test_a_closed_stream_is_opened_to_nowhere_and_no_file_gets_its_number(tmp_path):
    code = (
        "import os, sys; from fleetfoot import streams; streams.prepare_streams()\n"
        f"file = open({str(tmp_path / 'made')!r}, 'w')\n"
        "streams.echo('lost', err=True); streams.echo('lost'); os.write(1, b'lost')\n"
        "sys.exit(0 if file.fileno() > 2 else 1)"
    )
    words = f'exec "{sys.executable}" -c "$0" <&- >&- 2>&-'
    assert subprocess.run(["sh", "-c", words, code]).returncode == 0
    assert (tmp_path / "made").read_bytes() == b""


def test_an_error_of_standard_output_names_it_once_and_one_of_standard_error_is_no_error():
    if not os.path.exists("/dev/full"):
        pytest.skip("no /dev/full on this system")
    code = (
        "import sys; from fleetfoot import streams; streams.prepare_streams()\n"
        "streams.echo('lost', err=True)\n"
        "try:\n    streams.echo('lost')\n"
        "except OSError as error:\n    assert error.filename == streams.STANDARD_OUTPUT\n"
        "else:\n    sys.exit(1)\n"
        "streams.echo('lost too')\n"
    )
    words = f'exec "{sys.executable}" -c "$0" >/dev/full 2>/dev/full'
    assert subprocess.run(["sh", "-c", words, code]).returncode == 0


def test_every_file_that_is_read_or_written_as_text_has_its_encoding_stated():
    """The default is the system's, for example cp1252."""
    found = []
    for file in sorted(PACKAGE.rglob("*.py")):
        for node in ast.walk(ast.parse(file.read_text(encoding="utf-8"))):
            if not isinstance(node, ast.Call):
                continue
            stated = {one.arg: getattr(one.value, "value", None) for one in node.keywords}
            name = getattr(node.func, "attr", getattr(node.func, "id", ""))
            of_path = isinstance(node.func, ast.Attribute)
            asks = (
                (name == "read_text" and of_path and not node.args)
                or (name == "write_text" and of_path and len(node.args) == 1)
                or (name == "run" and stated.get("text") is True)
            )
            if asks and "encoding" not in stated:
                found.append(f"{file.name}:{node.lineno}")
    assert not found


INHERITED = """
import os
from fleetfoot import streams
streams.prepare_streams()
with streams.results_apart():
    with streams.results_inherited():
        os.system("echo result of a child")
    os.system("echo noise of a child")
    streams.echo("result")
"""


@pytest.mark.skipif(sys.platform == "win32", reason="file descriptors of POSIX")
def test_a_child_can_be_given_the_results_stream():
    done = subprocess.run([sys.executable, "-c", INHERITED], capture_output=True, text=True)
    assert done.stdout == "result of a child\nresult\n"
    assert done.stderr == "noise of a child\n"
