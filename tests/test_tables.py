"""Tables that people open: every cell is read as what it is, and comes back as it was."""

from __future__ import annotations

import csv
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from maskcls.errors import UserError
from maskcls.tables import FORMULA_MARKS, read_table, unshielded, write_table
from tests.helpers import files_of_at_most


def cells(path: Path) -> list[list[str]]:
    with path.open(newline="", encoding="utf-8") as file:
        return list(csv.reader(file))


def test_what_a_table_program_would_take_for_a_formula_is_text_and_numbers_stay_numbers(tmp_path: Path) -> None:
    row = ["=1+1.jpg", "+a", "-b", "@c", "\td", "'=e", "'f", "김", "", None, -0.5, 3, "-0.5", "+1e-3", ">=60"]
    write_table(tmp_path / "a.csv", ["x"] * len(row), [row], overwrites=True)
    assert cells(tmp_path / "a.csv")[1] == [
        "'=1+1.jpg", "'+a", "'-b", "'@c", "'\td", "''=e", "'f", "김", "", "", "-0.5", "3", "-0.5", "+1e-3", ">=60"
    ]  # fmt: skip


@settings(
    max_examples=100, derandomize=True, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture]
)
@given(
    text=st.text(st.characters(exclude_characters="\r", exclude_categories=["Cs"]))
    | st.lists(st.sampled_from([*FORMULA_MARKS, "'", "a", "1"])).map("".join)
)
def test_every_text_comes_back_as_it_was(text: str, tmp_path: Path) -> None:
    write_table(tmp_path / "a.csv", ["x", "y"], [[text, "end"]], overwrites=True)
    cell = cells(tmp_path / "a.csv")[1][0]
    assert unshielded(cell) == text
    assert not cell.startswith(FORMULA_MARKS) or float(cell) == float(text)


def test_a_name_that_is_not_utf_8_is_written_with_backslashes(tmp_path: Path) -> None:
    write_table(tmp_path / "a.csv", ["x"], [["\udcff\r"]], overwrites=True)
    assert cells(tmp_path / "a.csv") == [["x"], ["\\udcff\\r"]]


def test_a_table_that_is_there_is_kept_unless_it_may_be_overwritten(tmp_path: Path) -> None:
    write_table(tmp_path / "a.csv", ["x"], [], overwrites=False)
    write_table(tmp_path / "a.csv", ["y"], [], overwrites=True)
    with pytest.raises(FileExistsError):
        write_table(tmp_path / "a.csv", ["z"], [], overwrites=False)
    assert cells(tmp_path / "a.csv") == [["y"]]


def test_a_table_that_cannot_be_written_is_reported_by_name(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"none/a\.csv cannot be written: No such file or directory"):
        write_table(tmp_path / "none" / "a.csv", ["x"], [], overwrites=True)


def test_a_table_that_finds_no_room_leaves_nothing_that_would_refuse_the_next(tmp_path: Path) -> None:
    rows = [["x" * 100]] * 1000
    with files_of_at_most(4096), pytest.raises(UserError, match="found cannot be written: File too large"):
        write_table(tmp_path / "found", ["a"], rows, overwrites=False)
    write_table(tmp_path / "found", ["a"], rows, overwrites=False)
    assert len((tmp_path / "found").read_text().splitlines()) == 1001


def test_rows_are_read_with_the_number_of_their_line_and_without_empty_ones(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_text('\ufeffx,y\r\n\r\n"a\nb",1\n김,\n', encoding="utf-8")
    assert read_table(tmp_path / "a.csv", "table") == [(1, ["x", "y"]), (4, ["a\nb", "1"]), (5, ["김", ""])]


def test_what_is_no_table_is_reported_by_what_it_is_to_a_person(tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("x\n김".encode("cp949"))
    with pytest.raises(UserError, match=r"^my table cannot be read as UTF-8 CSV: .*can't decode byte"):
        read_table(tmp_path / "a.csv", "my table")
    with pytest.raises(UserError, match=r"^my table is a folder, not a file$"):
        read_table(tmp_path, "my table")
