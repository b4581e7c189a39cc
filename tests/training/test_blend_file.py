"""A blend.yaml says the same from wherever it is read, and all that is wrong with one is said at once."""

from __future__ import annotations

from pathlib import Path

import pytest

from maskcls.errors import UserError
from maskcls.evaluation.decision import Decision, Step
from maskcls.evaluation.intervals import Interval
from maskcls.evaluation.paired import on_common_photos
from maskcls.training.blend_file import BlendFile
from maskcls.training.ensemble import read_ensemble
from tests import made


def test_what_is_written_is_read_with_full_paths(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "runs" / "a+b").mkdir(parents=True)
    (tmp_path / "files").mkdir()
    monkeypatch.chdir(tmp_path)
    decision = Decision(temperature=Step(Interval(0.1, 0.05, 0.2), {"class": 1.5}))
    members = {"runs/exp": 2, "runs/m+runs/g+runs/a": 1, "runs/f0,runs/f1": 3, "runs/a+b": 1, f"{tmp_path}/runs/x": 1}
    BlendFile(members, decision, {"measure": "f1"}).write(Path("files/blend.yaml"))
    text = Path("files/blend.yaml").read_text()
    assert "  ../runs/m+../runs/g+../runs/a: 1\n" in text and str(tmp_path) not in text
    monkeypatch.chdir("/")
    read = BlendFile.read(tmp_path / "files" / "blend.yaml")
    runs = tmp_path / "files" / ".." / "runs"
    assert read.members == {
        f"{runs}/exp": 2, f"{runs}/m+{runs}/g+{runs}/a": 1, f"{runs}/f0,{runs}/f1": 3, f"{runs}/a+b": 1, f"{runs}/x": 1,
    }  # fmt: skip
    assert (read.decision, read.scores) == (decision, {"measure": "f1"})


def test_members_are_runs_products_and_folds_given_one_by_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    table = made.predictions(10)
    is_first = table.people < table.people[35]
    for name, said in {"exp": table, "f0": table.rows(is_first), "f1": table.rows(~is_first)}.items():
        made.run_folder(tmp_path / "runs" / name, said)
    BlendFile({"runs/exp": 3, "runs/f0,runs/f1": 1}).write(tmp_path / "blend.yaml")
    answerer = read_ensemble("blend.yaml")
    assert [run.path.name for run in answerer.runs] == ["exp", "f0", "f1"]
    said, expected = on_common_photos([answerer.predictions(), table])
    assert said.probabilities["class"] == pytest.approx(expected.probabilities["class"], abs=1e-6)


def test_everything_wrong_is_said_with_its_line(tmp_path: Path) -> None:
    path = tmp_path / "blend.yaml"
    path.write_text("scores: {}\nmember: 3\nmembers: {a: 0, b: two, c.yaml: 1, d: .inf}\ndecision: {temperature: 2}\n")
    with pytest.raises(UserError) as raised:
        BlendFile.read(path)
    assert str(raised.value).splitlines() == [
        f"6 problems in {path}:",
        f"  - {path}:2: unknown key 'member'. Did you mean 'members'? Known: members, decision, scores",
        f"  - {path}:3: the weight of a is 0; it is a number above 0",
        f"  - {path}:3: the weight of b is 'two'; it is a number above 0",
        f"  - {path}:3: c.yaml is a blend itself: name its members",
        f"  - {path}:3: the weight of d is inf; it is a number above 0",
        f"  - {path}:4: decision is none that maskcls blend wrote: 'int' object is not subscriptable",
    ]
    path.write_text("scores: {}\n")
    with pytest.raises(UserError, match="members is None; it names each member with its weight, as in runs/exp: 2"):
        BlendFile.read(path)
    with pytest.raises(UserError, match=r"blend .*/nothing\.yaml does not exist"):
        BlendFile.read(tmp_path / "nothing.yaml")


@pytest.mark.parametrize("text", ["seed: 1\n", "no yaml: [\n", "plain text", ""])
def test_a_file_that_is_something_else_is_not_overwritten(tmp_path: Path, text: str) -> None:
    path = tmp_path / "exp.yaml"
    path.write_text(text)
    with pytest.raises(UserError, match=r"exp\.yaml is there and is no blend\.yaml: name another file, or delete it"):
        BlendFile.check_free(path)
    with pytest.raises(UserError, match=r"is there and is no blend\.yaml"):
        BlendFile.check_free(tmp_path)
    with pytest.raises(UserError, match=r"cannot be written: .*nowhere does not exist"):
        BlendFile.check_free(tmp_path / "nowhere" / "blend.yaml")


def test_a_blend_is_overwritten_and_a_folder_that_is_not_there_is_named(tmp_path: Path) -> None:
    for weight in (1, 2):
        BlendFile.check_free(tmp_path / "blend.yaml")
        BlendFile({str(tmp_path / "exp"): weight}).write(tmp_path / "blend.yaml")
    assert list(BlendFile.read(tmp_path / "blend.yaml").members.values()) == [2]
    with pytest.raises(UserError, match=r"nothing/blend\.yaml cannot be written: No such file or directory"):
        BlendFile({"a": 1}).write(tmp_path / "nothing" / "blend.yaml")
