"""Fonts that have the characters which are to be drawn, or an error that says how to get one."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("fontTools", reason="needs the visualdl extra, which brings fonts")
pytest.importorskip("matplotlib", reason="needs its fonts")

from fontTools.ttLib import TTFont
from PIL import ImageFont

from paddle_warm_callbacks.errors import SourceError
from recipes.common.fonts import bundled_fonts, fonts_for, lacking

HAN = "元件"


@pytest.fixture
def with_han(tmp_path: Path) -> Path:
    """A font that has two Chinese characters: DejaVu, in which they look like A and B."""
    file = tmp_path / "installed" / "han.ttf"
    file.parent.mkdir()
    with TTFont(bundled_fonts()[0]) as font:
        for table in font["cmap"].tables:
            if table.isUnicode():
                table.cmap.update({ord(HAN[0]): "A", ord(HAN[1]): "B"})
        font.save(file)
    return file


@pytest.fixture
def installed(with_han: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """What the operating system is said to have: first a file that is no font, and one without the characters."""
    broken = with_han.with_name("broken.ttf")
    broken.write_bytes(b"no font at all")
    files = [str(with_han), str(bundled_fonts()[1]), str(broken)]
    monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", lambda: files)
    return files


def test_dejavu_where_it_has_the_characters_and_what_is_installed_elsewhere(
    installed: list[str], with_han: Path
) -> None:
    assert len(installed) == 3
    assert fonts_for("Aé€%") == bundled_fonts()
    assert fonts_for("A" + HAN) == [with_han]
    assert ImageFont.truetype(str(with_han), 20).getmask(HAN[0]).getbbox() is not None


def test_no_font_that_has_them_is_an_error_with_a_remedy(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("matplotlib.font_manager.findSystemFonts", list)
    with pytest.raises(SourceError, match=rf"(?s)data\.fonts.*lacks '{HAN}'.*apt install fonts-noto-cjk"):
        fonts_for("A" + HAN)


def test_a_given_font_that_lacks_a_character_or_is_none_is_named(with_han: Path, tmp_path: Path) -> None:
    assert fonts_for(HAN, [with_han]) == [with_han]
    assert lacking(with_han, HAN + "角A") == "角"
    with pytest.raises(SourceError, match=r"(?s)data\.fonts=.*han\.ttf.*no glyphs for '角'"):
        fonts_for(HAN + "角", [with_han])
    (tmp_path / "text.ttf").write_text("no font", encoding="utf-8")
    for file in ("text.ttf", "typo.ttf"):
        with pytest.raises(SourceError, match=rf"(?s)not a font.*{file}"):
            fonts_for("A", [tmp_path / file])


def test_chinese_is_drawn_with_a_font_of_this_machine() -> None:
    try:
        found = fonts_for("0A年月日元件台")
    except SourceError:
        pytest.skip("no font with Chinese is installed")
    assert found
    for font in found:
        glyphs = {character: ImageFont.truetype(str(font), 30).getmask(character) for character in "年月日"}
        assert len({bytes(glyph) for glyph in glyphs.values()}) == 3  # no boxes in place of what is not there
