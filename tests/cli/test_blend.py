"""The command as a person types it: what it prints and writes, and what infer.py reads of that."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from pyarrow import parquet

from infer import infer
from maskcls.training.blend_file import BlendFile
from maskcls.training.ensemble import read_ensemble
from maskcls.training.run_folder import RunFolder
from tests import made
from tests.helpers import maskcls


@pytest.fixture
def runs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    monkeypatch.chdir(tmp_path)
    for name, said in zip("ab", made.two_halves(20), strict=True):
        run = RunFolder(made.run_folder(tmp_path / "runs" / name, said, dataset_args={"output": "age"}))
        run.save_split([], np.unique(said.people).tolist())
    return ["runs/a", "runs/b"]


def test_the_blend_is_printed_and_written_for_infer(runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    maskcls("blend", *runs)
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("20 people (140 photos) that all candidates validated")
    path = Path("blend.yaml").absolute()
    assert lines[-3].startswith("decisions: offsets ")
    assert lines[-2:] == [f"blend {path}", f"next: maskcls infer --model_dir {path}"]
    answerer = read_ensemble("blend.yaml")
    assert [run.path.name for run in answerer.runs] == ["a", "b"]
    said = answerer.predictions()
    assert (said.predicted("age") == said.truth("age")).all()
    maskcls("blend", *runs, "--lang", "ko")  # again, over its own file
    assert "앙상블" in capsys.readouterr().out


def test_another_file_of_that_name_is_kept(runs: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    Path("exp.yaml").write_text("seed: 1\n")
    with pytest.raises(SystemExit) as ended:
        maskcls("blend", *runs, "-o", "exp.yaml")
    printed = capsys.readouterr()
    assert (ended.value.code, printed.out) == (2, "")
    assert printed.err.startswith(f"error: {Path('exp.yaml').absolute()} is there and is no blend.yaml")
    assert Path("exp.yaml").read_text() == "seed: 1\n"


def test_blending_does_not_import_torch(runs: list[str]) -> None:
    code = "import sys; from maskcls.cli import main; main(); print('torch' in sys.modules, 'numpy' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code, "blend", *runs], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "False True"


@pytest.mark.slow
def test_infer_answers_with_the_weights_of_a_blend(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of two unlike models: 18 classes and three heads, two image sizes."""
    made.run(sample, tmp_path, name="one", output="class", epochs=1)
    made.run(sample, tmp_path, name="two", output="all", epochs=1, overrides=["image_size=[64, 48]"])
    monkeypatch.chdir(tmp_path)
    weights = {"one": 2, "two": 1}
    BlendFile(weights).write(Path("blend.yaml").absolute())
    for name in ("one", "two", "blend.yaml"):
        infer(name, str(sample / "eval"), batch_size=None, output_dir=f"out/{name}", lang="en")
    said = {name: table_of(Path("out") / name) for name in ("one", "two", "blend.yaml")}
    columns = [name for name in said["one"] if name.startswith(("class_", "mask_", "gender_", "age_"))]
    assert len(columns) == 26
    for column in columns:
        expected = np.average([said[name][column] for name in weights], axis=0, weights=[*weights.values()])
        assert said["blend.yaml"][column] == pytest.approx(expected, abs=1e-6)
    assert not np.allclose(said["one"]["class_0"], said["two"]["class_0"], atol=1e-3)


def table_of(folder: Path) -> dict[str, np.ndarray]:
    """Returns the columns of the probabilities that infer.py wrote."""
    table = parquet.read_table(folder / "probabilities.parquet")
    return {name: table[name].to_numpy() for name in table.column_names}
