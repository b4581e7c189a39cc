"""The folder of a cross-validation: which runs are in it, whether they fit together, and which config has which."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from maskcls.config import Config, load_config
from maskcls.errors import UserError
from maskcls.evaluation.predictions import Predictions
from maskcls.training.folds import chosen_epoch, for_everybody, mean_scores, run_to_train
from maskcls.training.folds_folder import FoldsFolder
from maskcls.training.run_folder import RunFolder, write_lines
from tests.made import folds_folder, predictions, run_folder

SCORES = [{"f1": 0.5, "loss": 2.0}, {"f1": 0.7, "loss": 1.0}, {"f1": 0.6, "loss": 1.5}]


@pytest.fixture
def folds(tmp_path: Path) -> FoldsFolder:
    """Returns five folds of two seeds, 42 and 43."""
    said = [predictions(20, seed=seed) for seed in (0, 1)]
    return folds_folder(
        tmp_path / "runs" / "exp", *said, seeds=(42, 43), scores=SCORES, model_dir=str(tmp_path / "runs")
    )


def test_the_runs_of_the_configs_own_seed_come_first_and_are_called_by_their_fold(folds: FoldsFolder) -> None:
    names = [run.path.name for run in folds.runs().values()]
    assert names == [*(f"fold{fold}" for fold in range(5)), *(f"fold{fold}_seed43" for fold in range(5))]
    assert list(folds.runs())[:2] == [(42, 0), (42, 1)] and folds.seeds == [42, 43]
    assert FoldsFolder.of(folds.run_of(43, 2)) == folds and FoldsFolder.of(folds.run_of(42, None)) == folds
    assert FoldsFolder.of(RunFolder(folds.path)) is None
    assert FoldsFolder.all_in(folds.path.parent) == [folds]


def test_the_tables_of_all_seeds_have_one_order_and_their_mean_is_what_is_said_out_of_fold(folds: FoldsFolder) -> None:
    first, second = folds.tables().values()
    assert np.array_equal(first.keys, second.keys) and len(first) == 140
    assert list(folds.out_of_fold().probabilities) == list(first.probabilities)
    for head, values in folds.out_of_fold().probabilities.items():
        assert np.allclose(values, (first.probabilities[head] + second.probabilities[head]) / 2)


def test_every_fold_that_is_missing_or_unfinished_is_named(folds: FoldsFolder) -> None:
    folds.run_of(42, 1).finished.unlink()
    folds.run_of(43, 4).path.rename(folds.path / "away")
    with pytest.raises(UserError) as error:
        folds.finished_runs()
    assert "2 problems" in str(
        error.value
    ) and "fold1 has not finished; the command that trains the folds goes on" in str(error.value)
    assert "fold4_seed43 is missing: the folds are not all trained" in str(error.value)


def test_folds_that_share_people_are_refused(folds: FoldsFolder) -> None:
    write_lines(folds.run_of(42, 1).valid_profiles, sorted(folds.run_of(42, 0).validated_people()))
    with pytest.raises(UserError, match="the folds of seed 42 validate some of the same people, 4"):
        folds.finished_runs()


def test_predictions_about_the_people_of_another_fold_are_refused(folds: FoldsFolder) -> None:
    Predictions.load(folds.run_of(42, 0).predictions).save(folds.run_of(42, 1).predictions)
    with pytest.raises(UserError, match="validated some of the same photos"):
        folds.tables()


def test_folds_that_do_not_cover_each_other_are_refused(folds: FoldsFolder) -> None:
    run = folds.run_of(42, 2)
    write_lines(run.train_profiles, [*sorted(run.trained_people()), "000099_male_Asian_30"])
    with pytest.raises(UserError, match="fold2 is about other people than all folds validate, 1 of them"):
        folds.tables()


def test_what_is_no_folds_folder_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="does not exist"):
        FoldsFolder.existing(tmp_path / "nothing")
    with pytest.raises(UserError, match=r"is not a folds folder: it has no folds\.yaml"):
        FoldsFolder.existing(run_folder(tmp_path / "exp"))


def config_of(folds: FoldsFolder, **values: object) -> Config:
    return folds.read_config().model_copy(update=values)


@pytest.mark.parametrize(
    ("values", "is_found"),
    [
        ({}, True),
        ({"valid_batch_size": 7, "wandb": "offline"}, True),
        ({"lr": 0.5}, False),
        ({"epochs": 30}, False),
        ({"data_dir": "/other"}, False),
        ({"name": "another"}, False),
    ],
)
def test_the_same_command_finds_its_folds_and_another_one_does_not(
    folds: FoldsFolder, values: dict[str, object], is_found: bool
) -> None:
    assert FoldsFolder.of_config(config_of(folds, **values)) == (folds if is_found else None)


def test_a_new_folder_gets_the_next_number_and_goes_when_nothing_began_in_it(folds: FoldsFolder) -> None:
    new = FoldsFolder.create(config_of(folds, lr=0.5))
    assert new.path.name == "exp1" and load_config(new.config).lr == 0.5
    new.remove_if_empty()
    folds.remove_if_empty()
    assert not new.path.exists() and folds.path.exists() and not list(folds.path.parent.glob("*unfinished*"))


def test_of_two_commands_at_once_the_second_gets_the_folder_of_the_first(folds: FoldsFolder) -> None:
    config = config_of(folds, lr=0.5)
    first = FoldsFolder.create(config)
    assert first.path.name == "exp1" and FoldsFolder.create(config) == first  # it had looked before the first was made
    assert sorted(path.name for path in folds.path.parent.iterdir()) == ["exp", "exp1"]


def test_a_folder_in_which_another_command_begins_is_not_removed(folds: FoldsFolder) -> None:
    run = RunFolder(folds.path / "everybody")
    run.path.mkdir()
    with run.locked(), pytest.raises(UserError, match="is being trained by another process"):
        run_to_train(folds, folds.read_config(), 42, None)
    assert run.path.exists()


def test_a_fold_is_trained_resumed_or_left_as_its_folder_says(folds: FoldsFolder) -> None:
    config = folds.read_config()
    assert run_to_train(folds, config, 42, 0) is None
    folds.run_of(42, 1).finished.unlink()
    wish = run_to_train(folds, config, 42, 1)
    assert wish is not None and wish[1] == folds.run_of(42, 1)
    folds.run_of(43, 3).config.unlink()
    (folds.run_of(43, 3).path / "best").rmdir()
    folds.run_of(43, 3).metrics.unlink()
    new = run_to_train(folds, config, 43, 3)
    assert new is not None and new[1] is None and not folds.run_of(43, 3).path.exists()
    own = new[0]
    assert (own.fold, own.seed, own.split_seed, own.name) == (3, 43, 42, "fold3_seed43")
    assert own.model_dir == str(folds.path)
    with pytest.raises(UserError, match=r"fold0 was trained with another config: lr is 0\.5"):
        run_to_train(folds, config_of(folds, lr=0.5), 42, 0)


def test_the_epoch_for_everybody_is_the_best_one_on_average_over_all_runs(folds: FoldsFolder) -> None:
    folds.run_of(42, 0).log({"epoch": 3, "update": 9, "valid/f1": 5.0, "valid/loss": 9.0})
    scores = mean_scores(folds)
    assert list(scores) == [1, 2, 3] and scores[3]["f1"] == pytest.approx((9 * 0.6 + 5.0) / 10)
    assert chosen_epoch(folds, scores) == 3
    wish = run_to_train(folds, folds.read_config(), 42, None)
    assert wish is not None and wish[1] is None
    assert (wish[0].valid_profile, wish[0].stop_after_epoch, wish[0].name) == ("none", 3, "everybody")


def test_what_needs_people_who_validate_is_refused_for_everybody(folds: FoldsFolder) -> None:
    with pytest.raises(UserError, match="ReduceLROnPlateau follows the validation loss"):
        for_everybody(config_of(folds, scheduler="ReduceLROnPlateau", early_stopping_patience=2), 1)
    assert for_everybody(config_of(folds, early_stopping_patience=2), 1).early_stopping_patience is None


def test_mean_and_std_are_those_of_a_run_that_stores_the_same_pixels(folds: FoldsFolder) -> None:
    from maskcls.data.preprocessing import Preprocessing

    Preprocessing((48, 32), mean=[0.1] * 3, std=[0.2] * 3).save(RunFolder(folds.path / "fold3").preprocessing)
    assert folds.statistics(Preprocessing((48, 32))) == ((0.1, 0.1, 0.1), (0.2, 0.2, 0.2))
    assert folds.statistics(Preprocessing((64, 32))) is None
