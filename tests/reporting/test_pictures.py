"""Names in pictures: Hangul with a font that has it, else in Latin letters, and never a box."""

from __future__ import annotations

import unicodedata
import warnings
from pathlib import Path

import numpy as np
import pytest
from fontTools.fontBuilder import FontBuilder
from fontTools.pens.ttGlyphPen import TTGlyphPen
from matplotlib import font_manager
from matplotlib.backends.backend_agg import FigureCanvasAgg

from maskcls.evaluation.intervals import Difference, Interval
from maskcls.reporting.comparison import Comparison, comparison_picture, drawable_names


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
    font.setupNameTable({"familyName": "Toy Hangul", "styleName": "Regular"})
    font.setupOS2()
    font.setupPost()
    font.save(path)


def comparison(first: str, second: str) -> Comparison:
    interval = Interval(0.5, 0.4, 0.6)
    differences = [Difference(Interval(0.1, 0.0, 0.2), 0.9, 10, 70)]
    return Comparison((first, second), {}, {"f1": [interval] * 2}, "f1", differences, ["better"], [])


def drawn(runs: Comparison) -> tuple[list[str], np.ndarray]:
    """Returns the texts of the comparison's picture that name runs, and its pixels; a box would be a warning."""
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        figure = comparison_picture(runs)
        canvas = FigureCanvasAgg(figure)
        canvas.draw()
    left, right = figure.axes
    return [*(tick.get_text() for tick in left.get_yticklabels()), right.get_title()], np.asarray(canvas.buffer_rgba())


def test_hangul_is_drawn_with_an_installed_font_that_has_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    write_font(tmp_path / "NanumGothic.ttf", "실험")
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [str(tmp_path / "NanumGothic.ttf")])
    names, families = drawable_names(["실험1", "exp"])
    assert names == ["실험1", "exp"]
    assert families[-1] == "Toy Hangul" and len(families) > 1
    assert drawable_names([unicodedata.normalize("NFD", "실험1")])[0] == ["실험1"]
    texts, pixels = drawn(comparison("실험1", "exp"))
    assert texts == ["실험1", "exp", "difference from 실험1"]
    assert (drawn(comparison("실실1", "exp"))[1] == pixels).all()  # both are squares in this font: it was used


def test_hangul_without_a_font_is_written_in_latin_letters(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: [])
    texts, _ = drawn(comparison("runs/실험1", "증강 猫 é"))
    assert texts == ["runs/silheom1", "jeunggang \\u732b é", "difference from runs/silheom1"]


def test_fonts_are_looked_for_only_when_a_name_needs_one(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(font_manager, "findSystemFonts", lambda: pytest.fail("read every font folder"))
    assert drawable_names(["runs/exp", "exp_1"])[0] == ["runs/exp", "exp_1"]
