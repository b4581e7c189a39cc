"""Puts report.html together: sections, pictures, charts and the bundled chart library into one file."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from pathlib import Path
from typing import Any

from maskcls.errors import UserError
from maskcls.evaluation.findings import Findings
from maskcls.paths import written_whole
from maskcls.reporting.drawing import in_page
from maskcls.reporting.report import course, folds, mistakes, scores
from maskcls.reporting.report.document import document
from maskcls.reporting.report.material import Material
from maskcls.training.folds_folder import FoldsFolder
from maskcls.training.run_folder import RunFolder

MAX_BYTES = 5_000_000


def write_report(
    folder: RunFolder | FoldsFolder,
    *,
    language: str,
    against: RunFolder | FoldsFolder | None = None,
    findings: Findings | None = None,
) -> Path:
    """Writes report.html of a run or of a cross-validation into its folder and returns its path. Call it in one process
    of a launch.

    What the folder or the photos do not give (no epoch finished, photos gone) becomes a line in the report.
    language: en or ko. against: that with which scores and config are compared. findings: of the predictions, for who
    has them already. Raises UserError when the file cannot be written.
    """
    material = Material(folder, against, language, findings)
    left_out = set() if against is not None else {"comparison"}
    left_out |= set() if material.folds else {"folds"}
    left_out |= set() if material.has_validation else OF_ANSWERS
    names = [name for name in SECTIONS if name not in left_out]
    sections = {name: _content(SECTIONS[name], material) for name in names}
    page = _page(material, sections)
    for size in mistakes.SIZES[1:]:
        if len(page.encode()) <= MAX_BYTES or "mistakes" not in names:
            break
        sections["mistakes"] = _content(partial(mistakes.mistakes, size=size), material)
        page = _page(material, sections)
    with written_whole(folder.report) as unfinished:
        unfinished.write_text(page, encoding="utf-8")
    return folder.report


def _content(build: Callable[[Material], dict[str, Any]], material: Material) -> dict[str, Any]:
    """Returns a section's content, or the reason why there is none: a report must never cost a finished run."""
    try:
        return build(material)
    except UserError as error:
        return {"problem": str(error)}
    except Exception as error:
        return {"problem": f"{type(error).__name__}: {error}"}


def _page(material: Material, sections: dict[str, dict[str, Any]]) -> str:
    word, name = material.word, material.folder.path.name
    charts = (section.get("charts", {}) for section in sections.values())
    content = {
        "charts": {name: in_page(chart) for drawn in charts for name, chart in drawn.items()},
        "people": sections.get("mistakes", {}).get("people", {}),
        "words": {key: word.texts[key] for key in ("no_photo", "truth", "close", "shown")},
    }
    about = "" if "problem" in sections["config"] else _about(material)
    kind = word("kind_of_folds" if material.folds else "kind_of_page")
    return document(
        word, sections, kind=kind, title=word("title", run=name), name=name, about=about,
        libraries=[_library()], content=content, material=material, points=scores.points, limit=MAX_BYTES // 1_000_000,
    )  # fmt: skip


def _about(material: Material) -> str:
    config, word = material.config, material.word
    model = config.model_args.get("model_type") or config.model
    about = f"{word('model')} {model}, {config.output}, {' × '.join(map(str, config.height_width))} px"
    if not material.folds:
        return about
    seeds = ", ".join(map(str, material.folds.seeds))
    return f"{about} · {word('about_folds', folds=config.num_folds, seeds=seeds)}"


@cache  # it takes longer than the rest of a page
def _library() -> str:
    """Returns Vega, Vega-Lite and vega-embed (BSD-3-Clause) as one script."""
    import vl_convert

    return vl_convert.javascript_bundle("window.vegaEmbed = vegaEmbed;").replace("</script", "<\\/script")


# As they stand in the page: results first, then how they came about. Of each, sections/ has the HTML.
SECTIONS: dict[str, Callable[[Material], dict[str, Any]]] = {
    "summary": scores.summary,
    "comparison": scores.comparison,
    "folds": folds.folds,
    "confusion": scores.confusion,
    "slices": scores.groups,
    "mistakes": mistakes.mistakes,
    "calibration": scores.calibration,
    "consistency": scores.consistency,
    "curves": course.curves,
    "data": course.photos,
    "config": course.config_difference,
    "cost": course.cost,
}
OF_ANSWERS = {"confusion", "slices", "mistakes", "calibration", "consistency"}  # about photos that validated
