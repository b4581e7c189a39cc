"""Pictures of a run: what their pixels show."""

from __future__ import annotations

import numpy as np

from maskcls.labels import HEAD_CLASSES
from maskcls.reporting.pictures import confusion_picture, curves_picture
from tests.reporting.test_charts import HISTORY


def cells(picture: np.ndarray, num_classes: int) -> np.ndarray:
    """Returns the colour of each cell (rows, columns, 3) float; the blue diagonal shows where the matrix lies."""
    blue = picture[..., 2].astype(int) - picture[..., 0] > 60
    (top, *_, bottom), (left, *_, right) = (np.flatnonzero(blue.any(axis)) for axis in (1, 0))
    matrix = picture[top : bottom + 1, left : right + 1]
    rows = [np.array_split(row, num_classes, axis=1) for row in np.array_split(matrix, num_classes)]
    return np.array([[np.median(cell, axis=(0, 1)) for cell in row] for row in rows])


def test_a_cell_is_blue_where_right_orange_where_wrong_and_the_darker_the_more_of_the_row() -> None:
    counts = np.array([[8, 2, 0], [1, 9, 0], [0, 4, 6]])
    found = cells(confusion_picture({"age": counts}), 3)
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
    alone, beside = confusion_picture({"class": matrices["class"]}), confusion_picture(matrices)
    assert beside.dtype == np.uint8 and beside.shape[2] == 3
    assert beside.shape[1] > alone.shape[1] + 200
    found = cells(alone, 18)
    assert (found[np.diag_indices(18)] < 200).any(-1).all()
    assert (found[~np.eye(18, dtype=bool)] == 255).all()


def test_the_curves_have_a_panel_each_in_two_columns() -> None:
    whole, fewer = curves_picture(HISTORY), curves_picture(HISTORY[:1])
    assert whole.dtype == np.uint8 and whole.shape[1] > 1300
    assert np.abs(np.subtract(whole.shape, fewer.shape)).max() < 50  # two rows of two
    learning_rate = whole[whole.shape[0] // 2 :, whole.shape[1] // 2 :]
    assert (learning_rate == (0x24, 0x58, 0xC6)).all(-1).any()  # --series-1
