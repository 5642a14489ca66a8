"""Other people's words steer neither a page nor a terminal."""

from __future__ import annotations

from io import StringIO

import pytest
from rich.text import Text

from jobs import foreign, printing
from jobs.console import Console

STEERING = "\x1b]0;mine\x07\x1b[31mred\u202e\x9b2J"
SHOWN = "␛]0;mine␇␛[31mred\ufffd\ufffd2J"


def test_words_are_cut_and_controls_are_seen() -> None:
    """Names are one line, texts are several; what is cut is said."""
    assert foreign.name("a\nb\x00\u202e") == "a␊b␀\ufffd"
    assert foreign.name("x" * 200) == "x" * 120 + "…"
    assert foreign.text("a\nb\x1b") == "a\nb␛"
    assert foreign.text("x" * 10, longest=4) == "xxxx\n… and 6 more characters"
    assert foreign.name("\ud800") == "\ufffd"  # or the page could not be written as UTF-8


def test_a_console_has_colours_and_shows_words_as_signs() -> None:
    """What rich itself says to the terminal goes through."""
    file = StringIO()
    Console(file=file, force_terminal=True, color_system="standard", width=80).print(Text(STEERING, style="green"))
    assert SHOWN.replace("␇", "") in file.getvalue()  # rich has taken the bell away
    assert "\x1b[32m" in file.getvalue()
    assert "\x1b]" not in file.getvalue()


def test_a_message_steers_nothing(capsys: pytest.CaptureFixture[str]) -> None:
    """Wherever it goes."""
    printing.say(STEERING)
    assert capsys.readouterr().err == SHOWN + "\n"
