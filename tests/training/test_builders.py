"""What a config describes is built as a run that resumes has it."""

from __future__ import annotations

from pathlib import Path

import pytest

from maskcls.config import Config, load_config
from maskcls.errors import UserError
from maskcls.training.builders import preprocessing_of
from maskcls.training.processes import Launch
from maskcls.training.run_folder import RunFolder
from tests.helpers import ROOT, overrides


def config(sample: Path, folder: Path, **more: object) -> Config:
    return load_config(ROOT / "configs" / "mask.yaml", overrides(sample, folder, model="convnext", **more))


def test_a_run_resumes_with_the_statistics_that_it_has_computed(sample: Path, tmp_path: Path) -> None:
    launch, run, own = Launch(), RunFolder(tmp_path), config(sample, tmp_path)
    assert not preprocessing_of(own, launch, None).is_complete
    computed = preprocessing_of(own, launch, None).with_statistics([0.5, 0.4, 0.3], [0.2, 0.2, 0.2])
    computed.save(run.preprocessing)
    assert preprocessing_of(own, launch, run) == computed
    same = config(sample, tmp_path, **{"dataset_args.mean": "[0.5, 0.4, 0.3]"})
    assert preprocessing_of(same, launch, run) == computed


def test_a_run_does_not_resume_with_others(sample: Path, tmp_path: Path) -> None:
    launch, run = Launch(), RunFolder(tmp_path)
    own = preprocessing_of(config(sample, tmp_path), launch, None)
    own.with_statistics([0.5, 0.4, 0.3], [0.2, 0.2, 0.2]).save(run.preprocessing)
    other = config(sample, tmp_path, **{"dataset_args.mean": "[0.5, 0.4, 0.25]"})
    with pytest.raises(
        UserError, match=r"cannot resume with another preprocessing: mean is .*0.25.*, in the run .*0.3"
    ):
        preprocessing_of(other, launch, run)
