"""One HTML file with everything in it, opened in any browser without server or network: the frame of every page."""

from __future__ import annotations

import base64
import hashlib
import json
import re
import time
from collections.abc import Mapping, Sequence
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup, escape

from maskcls.reporting.drawing import report_file
from maskcls.words import Words

Sections = Mapping[str, Mapping[str, Any]]


def document(
    word: Words, sections: Sections, *, kind: str, title: str, name: str, about: str, libraries: Sequence[str] = (),
    content: Mapping[str, Any] | None = None, **values: Any,
) -> str:  # fmt: skip
    """Returns a page: its heading, and its sections in order. Every text is escaped.

    sections: name -> what the section's file in sections/ finds as `found`, {"problem": reason} where there is nothing.
    kind, name, about: the lines of the heading. libraries: scripts that stand before script.js, which reads `content`.
    values: what the files of the sections read besides.
    """
    environment = Environment(
        loader=PackageLoader("maskcls.reporting.report", ""), autoescape=True, undefined=StrictUndefined,
        keep_trailing_newline=True, trim_blocks=True, lstrip_blocks=True,
    )  # fmt: skip
    environment.policies["json.dumps_kwargs"] = {"ensure_ascii": False, "separators": (",", ":")}
    environment.filters |= {"percent": "{:.1%}".format, "breakable": _breakable, "hash": script_hash}
    heading = {"kind": kind, "title": title, "name": name, "about": about, "date": time.strftime("%Y-%m-%d %H:%M")}
    read = {"charts": {}, "people": {}, "words": {}, **(content or {})}
    return environment.get_template("template.html").render(
        word=word,
        sections=sections,
        style=report_file("style.css"),
        scripts=[*libraries, report_file("script.js")],
        content=json.loads(json.dumps(read), parse_constant=lambda name: None),  # JSON has no NaN
        **heading,
        **values,
    )


def script_hash(script: str) -> str:
    """Returns the name under which the page's content security policy lets a script run."""
    return f"sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode()}"


def _breakable(text: str) -> Markup:
    """Returns the escaped text; a line may break after slash, comma, equals sign, underscore, and dot before a name."""
    return Markup(re.sub(r"([/,=_]|\.(?=[a-z]))", r"\1<wbr>", str(escape(text))))
