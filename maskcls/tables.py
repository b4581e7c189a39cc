"""CSV files that a person opens in a table program: no cell of them is taken for a formula."""

from __future__ import annotations

import csv
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from maskcls.errors import UserError
from maskcls.paths import file_problem, write_problem

FORMULA_MARKS = ("=", "+", "-", "@", "\t")  # what a table program takes a cell for a formula by
SHIELD = "'"  # before such a text: the sign of table programs for "this is text"


def write_table(path: Path, columns: Sequence[str], rows: Iterable[Sequence[object]], *, overwrites: bool) -> None:
    """Writes rows under a header. Raises UserError when it cannot, FileExistsError when it would overwrite and may not.

    A name may hold bytes that are no UTF-8, or carriage returns, which end a row: they are written with backslashes.
    """
    try:
        mode = "w" if overwrites else "x"
        with path.open(mode, newline="", encoding="utf-8", errors="backslashreplace") as file:
            writer = csv.writer(file, lineterminator="\n")
            writer.writerow(columns)
            writer.writerows([_shielded(cell) for cell in row] for row in rows)
    except FileExistsError:
        raise
    except OSError as error:
        if not overwrites:  # made above and not whole: it would refuse the next one
            with suppress(OSError):
                path.unlink()
        raise write_problem(path, error) from None


def write_rows(path: Path, rows: Sequence[Mapping[str, Any]]) -> None:
    """Writes rows under the union of their keys. Raises UserError when the file cannot be written."""
    columns = list(dict.fromkeys(key for row in rows for key in row))
    write_table(path, columns, ([row.get(column) for column in columns] for row in rows), overwrites=True)


def read_table(path: Path, name: str) -> list[tuple[int, list[str]]]:
    """Returns the rows of a CSV that are not empty, the header among them, each with the number of its last line.

    name: what the file is to a person. Raises UserError when it is no CSV in UTF-8, or cannot be read.
    """
    if problem := file_problem(path):
        raise UserError(f"{name} {problem}")
    try:
        with path.open(newline="", encoding="utf-8-sig") as file:
            reader = csv.reader(file, strict=True)
            return [(reader.line_num, cells) for cells in reader if cells]
    except (ValueError, csv.Error) as error:
        raise UserError(f"{name} cannot be read as UTF-8 CSV: {error}") from None


def unshielded(cell: str) -> str:
    """Returns the text that `write_table` made a cell of."""
    return cell[1:] if cell.startswith(SHIELD) and _is_formula(cell) else cell


def _shielded(cell: object) -> object:
    if not isinstance(cell, str):
        return cell
    return (SHIELD if _is_formula(cell) and not _is_number(cell) else "") + cell.replace("\r", "\\r")


def _is_formula(cell: str) -> bool:
    return cell.lstrip(SHIELD).startswith(FORMULA_MARKS)


def _is_number(cell: str) -> bool:
    try:
        return bool(str(float(cell)))
    except ValueError:
        return False
