"""Pictures of charts: form, colours, what their pixels show, and Hangul with a font that has it or in Latin letters."""

from __future__ import annotations

import os
import subprocess
import sys
import unicodedata
from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from PIL import Image

from maskcls.errors import UserError
from maskcls.labels import HEAD_CLASSES
from maskcls.reporting import charts
from maskcls.reporting.drawing import drawn, in_page, pixels, save_chart
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


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="fontconfig says which fonts are installed")
def test_hangul_is_drawn_with_an_installed_font_that_has_it(tmp_path: Path) -> None:
    write_font(tmp_path / "toy.ttf", "실험")
    hangul, parts, other, latin = pictures(
        tmp_path, "실험1", unicodedata.normalize("NFD", "실험1"), "실실1", "silheom1"
    )
    assert hangul == parts
    assert hangul == other  # both are squares in this font: it was used
    assert hangul != latin


@pytest.mark.slow
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
    colours = {*map(tuple, pixels(drawn({**chart, "width": 200})).reshape(-1, 3).tolist())}
    assert {(255, 255, 255), (0x24, 0x58, 0xC6)} <= colours  # --card, --series-1


def cells(picture: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns the colour of each cell (rows, columns, 3) float; the blue diagonal shows where the matrix lies."""
    blue = picture[..., 2].astype(int) - picture[..., 0] > 60
    (top, *_, bottom), (left, *_, right) = (np.flatnonzero(blue.any(axis)) for axis in (1, 0))
    matrix = picture[top : bottom + 1, left : right + 1]
    rows = [np.array_split(row, num_classes, axis=1) for row in np.array_split(matrix, num_classes)]
    return np.array([[np.median(cell, axis=(0, 1)) for cell in row] for row in rows])


def test_a_cell_is_blue_where_right_orange_where_wrong_and_the_darker_the_more_of_the_row() -> None:
    counts = np.array([[8, 2, 0], [1, 9, 0], [0, 4, 6]])
    found = cells(pixels(drawn(charts.confusion({"age": counts}))), 3)
    redness = found[..., 0] - found[..., 2]
    assert (redness[np.diag_indices(3)] < -60).all()
    assert (redness[[0, 1, 2], [1, 0, 1]] > 10).all()
    assert (found[counts == 0] == 255).all()
    darkness = 255 - found.mean(-1)
    for pairs in (np.diag_indices(3), ([1, 0, 2], [0, 1, 1])):
        shares, dark = (counts / 10)[pairs], darkness[pairs]
        assert (np.argsort(shares) == np.argsort(dark)).all()
    assert darkness[2, 2] > darkness[2, 1]


def test_the_eighteen_classes_stand_at_the_left_of_the_heads() -> None:
    matrices = {head: np.eye(len(classes), dtype=int) for head, classes in HEAD_CLASSES.items()}
    alone, beside = (
        pixels(drawn(charts.confusion({"class": matrices["class"]}))),
        pixels(drawn(charts.confusion(matrices))),
    )
    assert beside.dtype == np.uint8 and beside.shape[2] == 3
    assert beside.shape[1] > alone.shape[1] + 200
    found = cells(alone, 18)
    assert (found[np.diag_indices(18)] < 200).any(-1).all()
    assert (found[~np.eye(18, dtype=bool)] == 255).all()


def test_the_curves_have_a_panel_each_in_two_columns() -> None:
    whole, fewer = (pixels(drawn(charts.curves_sheet(history))) for history in (HISTORY, HISTORY[:1]))
    assert whole.dtype == np.uint8 and whole.shape[1] > 1300
    assert np.abs(np.subtract(whole.shape, fewer.shape)).max() < 50  # two rows of two
    learning_rate = whole[whole.shape[0] // 2 :, whole.shape[1] // 2 :]
    assert (learning_rate == (0x24, 0x58, 0xC6)).all(-1).any()  # --series-1
