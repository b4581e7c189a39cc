"""The page of `maskcls diff`: the photos that two tables of answers are not at one about."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from maskcls.config import load_config
from maskcls.errors import UserError, listed
from maskcls.paths import folder_problem, full_path, written_whole
from maskcls.reporting.difference import Difference
from maskcls.reporting.report.document import document
from maskcls.reporting.thumbnails import packed
from maskcls.training.folds_folder import FoldsFolder
from maskcls.training.run_folder import RunFolder
from maskcls.words import Words

NUM_KINDS, NUM_OF_KIND = 24, 12  # changes of an answer to another that photos are shown of, and photos of each
CARD = 128  # pixels: the longer side of a photo


def photo_folder(infer_data_dir: str | None, tables: list[Path]) -> Path:
    """Returns where the photos lie: as given, or as the run or the folds say in whose folder one of the tables lies.

    Raises UserError when nobody says it, or it is no folder.
    """
    from maskcls.data.inference import images_in

    configs = [kind(table.parent).config for table in tables for kind in (RunFolder, FoldsFolder)]
    known = (
        [infer_data_dir] if infer_data_dir else [load_config(path).infer_data_dir for path in configs if path.exists()]
    )
    said = next(filter(None, known), None)
    if said is None:
        raise UserError("the page shows photos: say with --infer_data_dir where they lie")
    folder = full_path(said)
    if problem := folder_problem(folder):
        raise UserError(f"infer_data_dir {folder} {problem}")
    return images_in(folder)


def write_difference_page(path: Path, difference: Difference, folder: Path, word: Words) -> None:
    """Writes the page, of the most frequent changes first.

    Raises UserError when `folder` holds none of the photos, or as `written_whole` does.
    """
    chosen = {}
    for (before, after), _ in difference.kinds[:NUM_KINDS]:
        rows = np.flatnonzero((difference.before == before) & (difference.after == after))
        chosen[before, after] = rows[:NUM_OF_KIND].tolist()
    paths = {row: folder / str(difference.image_ids[row]) for rows in chosen.values() for row in rows}
    if paths and not any(path.is_file() for path in paths.values()):
        names = listed(difference.image_ids[list(paths)])
        raise UserError(f"{folder} holds none of the photos that are answered differently: {names}")
    images = packed(paths.values(), CARD)
    groups = {pair: [_card(difference, row, images[paths[row]], word) for row in rows] for pair, rows in chosen.items()}
    kinds = [(difference.change(*pair, word), count, groups.get(pair)) for pair, count in difference.kinds]
    counts = {word(head): count for head, count in difference.of_attributes.items()}
    facts = {word("answered_otherwise"): len(difference.rows), **counts}
    sections = {"changes": {"facts": facts, "kinds": kinds, "total": len(difference.before)}}
    sections["changed_photos"] = {"kinds": [kind for kind in kinds if kind[2]]}
    kind, name = word("kind_of_difference"), " → ".join(difference.names)
    page = document(word, sections, kind=kind, title=f"{kind}: {name}", name=name, about="")
    with written_whole(path) as unfinished:
        unfinished.write_text(page, encoding="utf-8")


def _card(difference: Difference, row: int, image: str | None, word: Words) -> dict[str, Any]:
    labels = difference.before[row], difference.after[row]
    shares = [None if of is None else float(of[row]) for of in difference.sureness]
    said = [(difference.label(label, word), share) for label, share in zip(labels, shares, strict=True)]
    return {"id": str(difference.image_ids[row]), "image": image, "said": said}
