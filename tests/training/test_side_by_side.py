"""Several trainings at the same time: what each may use. That they train is seen in tests/test_folds.py."""

from __future__ import annotations

import os

import pytest

from maskcls.errors import Fault, UserError
from maskcls.training import side_by_side
from maskcls.training.side_by_side import train_side_by_side


@pytest.fixture
def gpus(monkeypatch: pytest.MonkeyPatch) -> pytest.MonkeyPatch:
    """Plays two GPUs, the third and the fifth of the machine."""
    monkeypatch.setattr(side_by_side, "num_accelerators", lambda: 2)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,4")
    return monkeypatch


def test_each_place_sees_one_of_the_gpus_that_the_command_may_use(gpus: pytest.MonkeyPatch) -> None:
    assert [place["CUDA_VISIBLE_DEVICES"] for place in side_by_side._environments(2)] == ["2", "4"]
    gpus.delenv("CUDA_VISIBLE_DEVICES")
    assert [place["CUDA_VISIBLE_DEVICES"] for place in side_by_side._environments(1)] == ["0"]


def test_more_places_than_gpus_are_refused(gpus: pytest.MonkeyPatch) -> None:
    with pytest.raises(UserError, match="--at_once is 3, but torch sees 2 GPUs"):
        train_side_by_side({}, at_once=3)


def test_without_gpus_the_cores_are_shared_unless_somebody_has_said_how(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(side_by_side, "num_accelerators", lambda: 0)
    monkeypatch.setattr(side_by_side, "num_cores", lambda: 8)
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)
    assert [place["OMP_NUM_THREADS"] for place in side_by_side._environments(3)] == ["2"] * 3
    monkeypatch.setenv("OMP_NUM_THREADS", "5")
    assert side_by_side._environments(1)[0]["OMP_NUM_THREADS"] == "5"


def test_what_a_launcher_told_its_process_is_not_told_to_the_runs(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in side_by_side.OF_A_LAUNCH:
        monkeypatch.setenv(name, "1")
    monkeypatch.setenv("ACCELERATE_MIXED_PRECISION", "bf16")
    (place,) = side_by_side._environments(1)
    assert not side_by_side.OF_A_LAUNCH & place.keys() and place["ACCELERATE_MIXED_PRECISION"] == "bf16"
    assert place.keys() >= os.environ.keys() - side_by_side.OF_A_LAUNCH


def test_runs_that_fail_are_named_and_the_others_go_on(capfd: pytest.CaptureFixture[str]) -> None:
    wrong, right = ["--config", "nothing.yaml"], ["--help"]
    with pytest.raises(Fault) as error:
        train_side_by_side({"fold 0": wrong, "fold 1": right, "fold 2": wrong}, at_once=2)
    assert str(error.value).startswith("2 runs failed:") and "fold 1" not in str(error.value)
    assert "fold 2 ended with exit code 2; its message stands above" in str(error.value)
    said = capfd.readouterr().out
    assert "[fold 0] error: " in said and "[fold 1] usage: train.py" in said
