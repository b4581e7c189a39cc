"""Several runs answer together: the numbers are those of each run, photos are read once, in one process and in two."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

import infer
from maskcls.labels import ATTRIBUTES, HEAD_CLASSES
from maskcls.training.run_folder import RunFolder
from tests import made
from tests.helpers import rows, run

# Each with another form of its output, another model, another size or fit of the photos.
RUNS: dict[str, dict[str, object]] = {
    "class": {"output": "class"},
    "all": {"output": "all", "model": "vit", "overrides": ["fit=pad", "valid_batch_size=5"]},
    "mask": {"output": "mask", "overrides": ["image_size=[32, 32]"]},
    "gender": {"output": "gender", "overrides": ["criterion=BCELoss", "seed=1"]},
    "age": {"output": "age", "model": "convnext", "overrides": ["image_size=[64, 48]"]},
    "class2": {"output": "class", "overrides": ["seed=7"]},
}


@pytest.fixture(scope="module")
def runs(sample: Path, tmp_path_factory: pytest.TempPathFactory) -> dict[str, RunFolder]:
    folder = tmp_path_factory.mktemp("runs")
    return {name: made.run(sample, folder, name=name, **given) for name, given in RUNS.items()}  # type: ignore[arg-type]


def answers(text: str, photos: Path, out: Path, **options: object) -> dict[str, np.ndarray]:
    """Returns the columns of what infer writes, ans among them."""
    infer.infer(text, str(photos), **{"batch_size": None, **options}, output_dir=str(out))  # type: ignore[arg-type]
    return written(out)


def written(out: Path) -> dict[str, np.ndarray]:
    table = parquet.read_table(out / "probabilities.parquet")
    given = rows(out / "output.csv")
    columns = {name: table[name].to_numpy() for name in table.column_names}
    assert [row["ImageID"] for row in given] == columns["ImageID"].tolist()
    return {**columns, "ans": np.array([int(row["ans"]) for row in given])}


def heads_of(columns: dict[str, np.ndarray], head: str) -> np.ndarray:
    return np.stack([columns[f"{head}_{label}"] for label in range(len(HEAD_CLASSES[head]))], axis=1)


def test_two_runs_give_the_mean_of_their_probabilities(
    runs: dict[str, RunFolder], sample: Path, tmp_path: Path
) -> None:
    each = [answers(str(runs[name].path), sample / "eval", tmp_path / name) for name in ("class", "all")]
    both = answers(f"{runs['class'].path},{runs['all'].path}", sample / "eval", tmp_path / "both")
    assert both["ImageID"].tolist() == each[0]["ImageID"].tolist()
    for head in HEAD_CLASSES:
        means = (heads_of(each[0], head).astype(np.float64) + heads_of(each[1], head)) / 2
        np.testing.assert_array_equal(heads_of(both, head), means.astype(np.float32))
    np.testing.assert_array_equal(both["ans"], heads_of(both, "class").argmax(1))


def test_three_attribute_runs_give_the_product(runs: dict[str, RunFolder], sample: Path, tmp_path: Path) -> None:
    each = {head: answers(str(runs[head].path), sample / "eval", tmp_path / head) for head in ATTRIBUTES}
    text = "+".join(str(runs[head].path) for head in ("gender", "age", "mask"))
    columns = answers(text, sample / "eval", tmp_path / "out")
    mask, gender, age = (heads_of(each[head], head) for head in ATTRIBUTES)
    product = np.einsum("nm,ng,na->nmga", mask, gender, age).reshape(-1, 18)
    np.testing.assert_allclose(heads_of(columns, "class"), product, rtol=1e-6)
    for head in ATTRIBUTES:
        np.testing.assert_array_equal(heads_of(columns, head), heads_of(each[head], head))
    np.testing.assert_array_equal(columns["ans"], mask.argmax(1) * 6 + gender.argmax(1) * 3 + age.argmax(1))


@pytest.mark.slow
def test_two_processes_answer_as_one(runs: dict[str, RunFolder], sample: Path, tmp_path: Path) -> None:
    text = f"{runs['class'].path},{runs['all'].path}," + "+".join(str(runs[head].path) for head in ATTRIBUTES)
    one = answers(text, sample / "eval", tmp_path / "one", batch_size=4)
    command = ("infer.py", "--model_dir", text, "--infer_data_dir", sample / "eval", "--output_dir", tmp_path / "two")
    done = run(*command, "--batch_size", "4", processes=2)
    assert done.returncode == 0, done.stderr
    two = written(tmp_path / "two")
    assert one["ImageID"].tolist() == two["ImageID"].tolist() and one["ans"].tolist() == two["ans"].tolist()
    for head in HEAD_CLASSES:
        np.testing.assert_allclose(heads_of(one, head), heads_of(two, head), atol=1e-6)
