"""From a chart's specification to the page that embeds it and to pictures: colours, font, size, and names in Hangul."""

from __future__ import annotations

import json
import re
import unicodedata
from io import BytesIO
from pathlib import Path

import numpy as np

from maskcls.data.photo import opened
from maskcls.errors import UserError
from maskcls.paths import written_whole
from maskcls.reporting.charts import Spec

FORMS = ("png", "svg", "pdf")
SCALE = 1.25  # pixels of a PNG for each pixel of a chart
FONT = '"Liberation Sans", sans-serif'  # vl-convert brings it: the same picture everywhere
NOWHERE = "\U0010ffff"  # stands for no character, so no font has it


def report_file(name: str) -> str:
    """Returns the text of a file that makes the report's looks."""
    return (Path(__file__).with_name("report") / name).read_text(encoding="utf-8")


def in_page(chart: Spec) -> Spec:
    """Returns a chart for report.html: as wide as its place, in the colours that the page has just then."""
    size = {"width": "container", "autosize": {"type": "fit-x", "contains": "padding"}}
    return _framed({**size, "background": None, "padding": 2, **chart}, _light()["--font"])


def drawn(chart: Spec, form: str = "png") -> bytes:
    """Returns a picture of a chart in light colours: png, svg or pdf.

    The first call of a process starts Vega (about 0.4 s). A process that is forked later must not draw: it would wait
    for ever.
    """
    import vl_convert

    light = _light()
    # A font with Hangul makes 324 numbers a second slower.
    font = FONT if json.dumps(chart, ensure_ascii=False).isascii() else light["--font"]
    text = json.dumps(_framed({"background": "var(--card)", "padding": 12, **chart}, font), ensure_ascii=False)
    text = re.sub(r"var\((--[\w-]+)\)", lambda match: light[match[1]], text)
    if form == "svg":  # drawn by its reader, with the reader's fonts
        return vl_convert.vegalite_to_svg(text).encode()
    text = _drawable(text, font)
    return vl_convert.vegalite_to_pdf(text) if form == "pdf" else vl_convert.vegalite_to_png(text, scale=SCALE)


def pixels(picture: bytes) -> np.ndarray:
    """Returns (H, W, 3) uint8 of a PNG."""
    with opened(BytesIO(picture)) as image:
        return np.asarray(image.convert("RGB"))


def save_chart(path: Path, chart: Spec) -> None:
    """Draws a chart in the form that the ending names. Raises UserError when there is none or writing fails."""
    form = path.suffix.lower().removeprefix(".")
    if form not in FORMS:
        raise UserError(f"{path} has no ending that says which form the picture has: .png, .svg or .pdf")
    picture = drawn(chart, form)
    with written_whole(path) as unfinished:
        unfinished.write_bytes(picture)


def _framed(chart: Spec, font: str) -> Spec:
    """Returns a chart with the theme of all of them."""
    config = {"font": font, **json.loads(report_file("theme.json"))}  # Vega measures its texts with the font
    return {"$schema": "https://vega.github.io/schema/vega-lite/v6.json", **chart, "config": config}


def _light() -> dict[str, str]:
    """Returns the variables of the page, as they are in light colours."""
    return dict(re.findall(r"(--[\w-]+): ([^;]+);", report_file("style.css").partition("}")[0]))


def _drawable(text: str, font: str) -> str:
    """Returns the JSON of a chart as a picture can show it, without boxes.

    Hangul that no font has is written in Latin letters: 실험 as silheom; of any other such character stands its code.
    """
    from html import escape

    import vl_convert

    def sample(character: str) -> bytes:
        shape = f'<text y="15" font-family="{escape(font)}">{escape(character)}</text>'
        return vl_convert.svg_to_png(f'<svg xmlns="http://www.w3.org/2000/svg" width="20" height="20">{shape}</svg>')

    def written(character: str) -> str:
        syllable = re.fullmatch("HANGUL SYLLABLE (.+)", unicodedata.name(character, ""))
        return syllable[1].lower() if syllable else json.dumps(ascii(character)[1:-1])[1:-1]

    text = unicodedata.normalize("NFC", text)  # macOS spells a syllable of a folder's name in parts, drawn side by side
    others = {character for character in text if not character.isascii()}
    box = sample(NOWHERE) if others else b""
    return text.translate({ord(character): written(character) for character in others if sample(character) == box})
