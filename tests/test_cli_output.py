"""Lines, tables and progress bars of the command line, in a terminal and in a pipe."""

import json
import os
import pty
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lookalike.cli import output, terminal_images
from lookalike.tables import printable, text_table


def in_a_terminal(program: str, **variables: str) -> str:
    """Return the output of a program in a terminal, on both streams."""
    controller, terminal = pty.openpty()
    environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100", **variables}
    process = subprocess.Popen(
        [sys.executable, "-c", program], stdout=terminal, stderr=terminal, stdin=terminal, env=environment
    )
    os.close(terminal)
    parts = []
    while True:
        try:
            part = os.read(controller, 65536)
        except OSError:  # Linux, when the last writer has closed it
            break
        if not part:
            break
        parts.append(part)
    os.close(controller)
    assert process.wait() == 0
    return b"".join(parts).decode()


LONG_WORK = """
import time
from lookalike.cli import output
with output.progress_bar() as progress:
    for i in range(3):
        progress.advance("decoding", 1200 + i, 4000)
        time.sleep(0.15)
    progress.note("One image is [broken].")
    progress.advance("joining", 5, 10, "7 pairs")
    time.sleep(0.15)
    progress.advance("writing", 0, 0)
    time.sleep(0.15)
print("done")
"""


def test_a_progress_bar_shows_each_stage_with_counts_and_details() -> None:
    shown = in_a_terminal(LONG_WORK)
    for part in ("decoding", "1,202/4,000", "One image is [broken].", "joining", "7 pairs", "writing"):
        assert part in shown
    assert shown.rstrip().endswith("done")
    assert "joining" not in shown[shown.index("writing") :]


def test_short_work_writes_only_notes_into_a_pipe() -> None:
    done = subprocess.run([sys.executable, "-c", LONG_WORK], capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("done\n", "One image is [broken].\n")


def test_long_work_writes_a_line_every_few_seconds_into_a_pipe(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    now = 100.0
    monkeypatch.setattr(time, "monotonic", lambda: now)
    with output.progress_bar() as progress:
        for second in range(13):
            now = 100.0 + second
            progress.advance("drawing", 100 * second, 1200, "7\x1b pairs")
        now += 5
        progress.advance("joining", 3, 0)
    assert capsys.readouterr().err.splitlines() == [
        "drawing 500/1,200 7\\x1b pairs",
        "drawing 1,000/1,200 7\\x1b pairs",
        "joining",
    ]


def test_pillows_warnings_of_damaged_metadata_do_not_reach_the_user() -> None:
    program = (
        "import typer, types, warnings; from lookalike.cli import app\n"
        "warn = lambda: warnings.warn_explicit('Corrupt EXIF data.', UserWarning, 'x.py', 1, module='PIL.TiffImagePlugin')\n"
        "typer.main.get_command = lambda _: types.SimpleNamespace(main=lambda **_: warn())\n"
        "warn(); app.run()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stderr.count("Corrupt EXIF data.") == 1


def test_styles_are_for_terminals_and_can_be_switched_off() -> None:
    program = "from lookalike.cli import output; output.stdout.print('a line', style='red')"
    assert in_a_terminal(program) == "\x1b[31ma line\x1b[0m\r\n"
    assert in_a_terminal(program, NO_COLOR="1") == "a line\r\n"
    assert subprocess.run([sys.executable, "-c", program], capture_output=True, check=True).stdout == b"a line\n"


def test_control_characters_of_names_do_not_reach_the_terminal(capsys: pytest.CaptureFixture[str]) -> None:
    output.stdout.print("a\x1b[2Jb\x07\x9bc\udcffd\ne", style="bold")
    output.print_table(
        [("0.10", "x\x1b]0;title\x07.jpg"), ("0.20", "two\nlines\u2028\u202e.jpg")], ("distance", "image")
    )
    output.print_facts([("name", "shop\r")])
    assert capsys.readouterr().out.splitlines() == [
        r"a\x1b[2Jb\x07\x9bc\xffd\ne",
        "distance  image",
        r"    0.10  x\x1b]0;title\x07.jpg",
        r"    0.20  two\nlines\u2028\u202e.jpg",
        r"name  shop\r",
    ]


@pytest.mark.parametrize(
    ("name", "shown"),
    [
        ("a\tb\r", r"a\tb\r"),
        ("\x1b]8;;http://x\x1b\\link\x1b]8;;\x1b\\", r"\x1b]8;;http://x\x1b\link\x1b]8;;\x1b" + "\\"),
        ("zero\u200bwidth\ufeff\u2060\u200d", r"zero\u200bwidth\ufeff\u2060\u200d"),
        ("\u202egpj.\u2066x\u2069", r"\u202egpj.\u2066x\u2069"),
        ("lone \ud800 \udce9", r"lone \ud800 \xe9"),
        ("tag \U000e0041", r"tag \U000e0041"),
        ("[red]a[/red] C:\\new", "[red]a[/red] C:\\new"),
        ("café 画像 👨\u200d👩\u200d👧 ❤\ufe0f می\u200cخواهم", "café 画像 👨\u200d👩\u200d👧 ❤\ufe0f می\u200cخواهم"),
    ],
)
def test_only_characters_that_hide_or_control_are_escaped(name: str, shown: str) -> None:
    assert printable(name) == shown


def test_columns_align_for_wide_and_combining_characters() -> None:
    table = text_table(("name", "label"), [("画像", "a"), ("cafe\u0301", "b"), ("plain", "c")])
    assert table.splitlines() == ["name   label", "画像   a", "cafe\u0301   b", "plain  c"]


ODD = "a\x1b[31m\n\x9b\u202e\u200bž😀\udcff"


@pytest.mark.parametrize("encoding", ["utf-8", "ascii", "cp1252", "utf-16"])
def test_json_is_valid_in_any_encoding_and_controls_no_terminal(encoding: str) -> None:
    program = (
        f"from lookalike.cli import _open_streams, output; _open_streams(); output.write_json({{'name': {ODD!r}}})"
    )
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        check=True,
        env={**os.environ, "PYTHONIOENCODING": encoding},
    )
    text = done.stdout.decode(encoding)
    assert json.loads(text) == {"name": ODD}
    assert text.rstrip("\n").isprintable()


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "ascii:strict", "utf-8:strict"])
def test_output_escapes_what_its_encoding_cannot_write(encoding: str) -> None:
    program = f"from lookalike.cli import _open_streams, output; _open_streams(); output.stdout.print({ODD!r} + '→')"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": encoding},
        check=True,
    )
    assert done.stderr == b""
    assert rb"a\x1b[31m\n\x9b\u202e\u200b" in done.stdout
    assert done.stdout.count(b"\n") == 1


def test_bars_are_plain_in_a_narrow_encoding() -> None:
    program = "from lookalike.cli import _open_streams, output; _open_streams(); output.stdout.print('█▉▊▋▌▍▎▏')"
    done = subprocess.run(
        [sys.executable, "-c", program],
        capture_output=True,
        env={**os.environ, "PYTHONIOENCODING": "cp1252"},
        check=True,
    )
    assert done.stdout.split() == [b"########"]


def test_details_of_a_progress_bar_are_escaped_and_have_no_markup() -> None:
    program = (
        "import time\nfrom lookalike.cli import output\n"
        "with output.progress_bar() as progress:\n"
        "    progress.advance('[red]stage[/red]', 1, 2, 'x\\x1b[2J\\n[bold]y[/bold]')\n    time.sleep(0.3)\n"
        "    progress.note('one\\ntwo\\x1b[2J')\n"
    )
    shown = in_a_terminal(program)
    for part in ("[red]stage[/red]", r"x\x1b[2J\n[bold]y[/bold]", r"one\ntwo\x1b[2J"):
        assert part in shown


def test_only_the_first_skipped_images_are_listed(capsys: pytest.CaptureFixture[str]) -> None:
    output.print_skipped([f"{i}.jpg" for i in range(1234)])
    lines = capsys.readouterr().err.splitlines()
    assert (len(lines), lines[0], lines[-1]) == (11, "skipped: 0.jpg", "skipped: and 1,224 more")


def test_images_are_drawn_in_a_terminal_with_colours_only(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    program = (
        "from pathlib import Path; from PIL import Image; from lookalike.cli import terminal_images\n"
        "Image.new('RGB', (8, 8), 'red').save(Path({0!r}) / 'red.png')\n"
        "terminal_images.print_row([(Path({0!r}) / 'red.png', '[query]'), (Path({0!r}) / 'none.png', 'gone')])"
    ).format(str(tmp_path))
    shown = in_a_terminal(program, COLORTERM="truecolor")
    assert "[query]" in shown
    assert "gone" not in shown
    assert "38;2;255;0;0;48;2;255;0;0m▀" in shown
    terminal_images.print_row([(tmp_path / "red.png", "query")])
    assert not capsys.readouterr().out
