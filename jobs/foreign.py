"""Other people's words, made fit for a page, a terminal or a log: they say what they say, and steer nothing."""

from __future__ import annotations

import re

LONGEST_NAME = 120
LONGEST_TEXT = 4000

# What is no picture: controls (shown as their signs, ␀ to ␟), and what would turn the text around it.
_CONTROLS = {code: 0x2400 + code for code in range(0x20) if chr(code) not in "\t\n"} | {0x7F: 0x2421}
_UNSHOWN = re.compile("[\x80-\x9f\u061c\u200e\u200f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")


def harmless(words: str) -> str:
    """All of it, line breaks and tabs too; what isn't to be seen is shown as a sign."""
    return _UNSHOWN.sub("\ufffd", words.translate(_CONTROLS))


def text(words: str, *, longest: int = LONGEST_TEXT) -> str:
    """Several lines, cut to `longest` characters, with the length said where something was cut."""
    cut = words[:longest]
    left = len(words) - len(cut)
    return f"{harmless(cut)}\n… and {left:,} more characters" if left else harmless(cut)


def name(words: str, *, longest: int = LONGEST_NAME) -> str:
    """One line, cut to `longest` characters; a line break is shown as ␊."""
    cut = harmless(words[:longest].replace("\n", "\u240a").replace("\t", "\u2409"))
    return f"{cut}…" if len(words) > longest else cut
