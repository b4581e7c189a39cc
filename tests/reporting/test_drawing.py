"""Pictures of charts: their form, light colours, and names in Hangul with a font that has it or in Latin letters."""

from __future__ import annotations

import os
import subprocess
import sys
import unicodedata
from io import BytesIO
from pathlib import Path

import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from PIL import Image

from maskcls.errors import UserError
from maskcls.reporting import charts
from maskcls.reporting.drawing import drawn, in_page, save_chart
from maskcls.words import Words
from tests.helpers import ROOT
from tests.reporting.test_charts import HISTORY, comparison


def write_font(path: Path, characters: str) -> None:
    """Writes a font that draws each of the characters as a filled square."""
    pen = TTGlyphPen(None)
    for move, point in ((pen.moveTo, (0, 0)), (pen.lineTo, (0, 800)), (pen.lineTo, (800, 800)), (pen.lineTo, (800, 0))):
        move(point)
    pen.closePath()
    square, names = pen.glyph(), [".notdef", *(f"uni{ord(character):04X}" for character in characters)]
    font = FontBuilder(1000, isTTF=True)
    font.setupGlyphOrder(names)
    font.setupCharacterMap({ord(character): name for character, name in zip(characters, names[1:], strict=True)})
    font.setupGlyf(dict.fromkeys(names, square))
    font.setupHorizontalMetrics(dict.fromkeys(names, (1000, 0)))
    font.setupHorizontalHeader(ascent=800, descent=-200)
    font.setupNameTable({"familyName": "Toy Hangul", "styleName": "Regular", "psName": "ToyHangul"})
    font.setupOS2()
    font.setupPost()
    font.save(path)


def pictures(fonts: Path, *names: str) -> list[bytes]:
    """Returns a picture for each name of a run, drawn where no fonts but those of a folder are installed."""
    settings = fonts / "fonts.conf"
    settings.write_text(f"<?xml version='1.0'?><fontconfig><dir>{fonts}</dir></fontconfig>", encoding="utf-8")
    code = (
        "import sys\nfrom pathlib import Path\nfrom maskcls.reporting import charts, drawing\n"
        "from tests.reporting.test_charts import comparison\n"
        "for number, name in enumerate(sys.argv[2:]):\n"
        "    drawing.save_chart(Path(sys.argv[1], f'{number}.png'), charts.comparison(comparison(name)))"
    )
    environment = {**os.environ, "FONTCONFIG_FILE": str(settings), "PYTHONPATH": str(ROOT), "PYTHONUTF8": "1"}
    subprocess.run([sys.executable, "-c", code, str(fonts), *names], env=environment, check=True)
    return [(fonts / f"{number}.png").read_bytes() for number in range(len(names))]


@pytest.mark.skipif(sys.platform != "linux", reason="fontconfig says which fonts are installed")
def test_hangul_is_drawn_with_an_installed_font_that_has_it(tmp_path: Path) -> None:
    write_font(tmp_path / "toy.ttf", "실험")
    hangul, parts, other, latin = pictures(
        tmp_path, "실험1", unicodedata.normalize("NFD", "실험1"), "실실1", "silheom1"
    )
    assert hangul == parts
    assert hangul == other  # both are squares in this font: it was used
    assert hangul != latin


@pytest.mark.skipif(sys.platform != "linux", reason="fontconfig says which fonts are installed")
def test_hangul_without_a_font_is_written_in_latin_letters_and_nothing_is_drawn_as_a_box(tmp_path: Path) -> None:
    hangul, latin, others, codes = pictures(
        tmp_path, "runs/실험1", "runs/silheom1", "증강 猫 é 😀", "jeunggang \\u732b é \\U0001f600"
    )
    assert hangul == latin
    assert others == codes


def test_a_picture_has_the_form_that_its_ending_names(tmp_path: Path) -> None:
    chart = charts.comparison(comparison("실험1"))
    for name, start in (("c.png", b"\x89PNG"), ("c.svg", b"<svg"), ("c.PDF", b"%PDF")):
        save_chart(tmp_path / name, chart)
        assert (tmp_path / name).read_bytes().startswith(start), name
    assert Image.open(tmp_path / "c.png").size[0] > 1000
    svg = (tmp_path / "c.svg").read_text(encoding="utf-8")
    assert svg.count(">실험1<") == 2  # whoever opens it has other fonts
    assert "var(" not in svg and "#2458c6" in svg
    for name in ("c.txt", "c"):
        with pytest.raises(UserError, match=rf"{name} has no ending that says which form .*: \.png, \.svg or \.pdf$"):
            save_chart(tmp_path / name, chart)
    with pytest.raises(UserError, match=r"none/c\.png cannot be written: No such file or directory"):
        save_chart(tmp_path / "none" / "c.png", chart)


def test_the_page_and_a_picture_share_all_but_size_and_colours() -> None:
    chart = charts.curves(HISTORY, Words("en"))["chart_loss"]
    assert {**in_page(chart), **chart} == in_page(chart)
    assert in_page(chart)["layer"][2]["mark"]["color"] == "var(--muted)"
    picture = Image.open(BytesIO(drawn({**chart, "width": 200}))).convert("RGB")
    colours = {colour for _, colour in picture.getcolors(100_000) or []}
    assert {(255, 255, 255), (0x24, 0x58, 0xC6)} <= colours  # --card, --series-1
