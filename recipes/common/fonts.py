"""Fonts to draw text lines with: DejaVu, which matplotlib brings, or installed ones that have the characters."""

from __future__ import annotations

import importlib.util
from collections.abc import Iterable, Sequence
from pathlib import Path

from fontTools.ttLib import TTFont

from paddle_warm_callbacks.errors import SourceError

_BUNDLED = ("DejaVuSans.ttf", "DejaVuSans-Bold.ttf", "DejaVuSansMono.ttf")
_AT_MOST = 3


def fonts_for(characters: str, given: Sequence[Path] = ()) -> list[Path]:
    """Return TrueType files that have every one of the characters.

    Args:
        characters: What is to be drawn.
        given: The fonts to use; none for DejaVu if it has them all, else for up to three of those that are installed.

    Raises:
        SourceError: A given font cannot be read or lacks a character; or none is given, and none that is installed has
            them all.
    """
    if given:
        for font in given:
            _require_all(font, characters)
        return list(given)
    bundled = bundled_fonts()
    if not any(lacking(font, characters) for font in bundled):
        return bundled
    installed = [font for font in _installed() if not lacking(font, characters)]
    if not installed:
        raise SourceError(
            "no font has the characters that are to be drawn",
            where="data.fonts",
            received=f"none given; DejaVu lacks {lacking(bundled[0], characters)!r}, and so do the installed ones",
            expected="a TrueType file that has all of them",
            remedy="for Chinese: apt install fonts-noto-cjk or fonts-wqy-microhei; or pass data.fonts=[font.ttf]",
        )
    return installed[:_AT_MOST]


def bundled_fonts() -> list[Path]:
    """Return the DejaVu fonts that are installed with matplotlib, without importing it.

    Raises:
        SourceError: matplotlib is not installed.
    """
    found = importlib.util.find_spec("matplotlib")
    if found is None or found.origin is None:
        raise SourceError(
            "no fonts to draw text with",
            where="data.fonts",
            received="none given, and matplotlib is not installed",
            expected="TrueType files, or the DejaVu fonts that come with matplotlib",
            remedy='pip install "paddle-warm-callbacks[visualdl]", which brings it, or pass data.fonts=[font.ttf]',
        )
    folder = Path(found.origin).parent / "mpl-data" / "fonts" / "ttf"
    return [folder / name for name in _BUNDLED]


def lacking(font: Path, characters: Iterable[str]) -> str:
    """Return those of the characters that a font has no glyph for; of a collection its first face counts.

    Raises:
        SourceError: It is no font.
    """
    try:
        # A file of our own: TTFont leaves one that it opened open if it cannot read it.
        with font.open("rb") as file, TTFont(file, fontNumber=0, lazy=True) as opened:
            glyphs = opened.getBestCmap() or {}
    except Exception as broken:  # fontTools raises whatever a broken table leads to
        raise SourceError(
            "not a font",
            where=str(font),
            received=f"{type(broken).__name__}: {broken}",
            expected="a TrueType or OpenType file, or a collection of them",
        ) from broken
    return "".join(character for character in dict.fromkeys(characters) if ord(character) not in glyphs)


def _require_all(font: Path, characters: str) -> None:
    missing = lacking(font, characters)
    if missing:
        raise SourceError(
            "a font lacks characters that are to be drawn",
            where=f"data.fonts={font}",
            received=f"no glyphs for {missing!r}",
            expected="all characters of data.known and data.new",
        )


def _installed() -> list[Path]:
    """Return the readable fonts that the operating system has, in the order of their names."""
    from matplotlib.font_manager import findSystemFonts

    readable = []
    for font in sorted(map(Path, findSystemFonts())):
        try:
            lacking(font, "")
        except SourceError:  # somebody's broken file is not our concern
            continue
        readable.append(font)
    return readable
