"""Learning rates against their formulas, update by update."""

from __future__ import annotations

import math
from typing import Any

import pytest
import torch
from torch.optim.lr_scheduler import ReduceLROnPlateau

from maskcls.config import TABLES
from maskcls.errors import UserError
from maskcls.modeling.scheduler import SCHEDULERS, build_scheduler, steps_on_score
from maskcls.registry import _public_classes

LR = 0.1


def build(name: str, *, total_updates: int = 100, **arguments: Any) -> Any:
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=LR)
    return build_scheduler(TABLES["scheduler"].builder(name), arguments, optimizer, total_updates=total_updates)


def rates(name: str, *, total_updates: int = 100, **arguments: Any) -> list[float]:
    """Returns the learning rate of every update, and the one that follows the last."""
    scheduler = build(name, total_updates=total_updates, **arguments)
    values = [scheduler.optimizer.param_groups[0]["lr"]]
    for _ in range(total_updates):
        scheduler.optimizer.step()
        scheduler.step()
        values.append(scheduler.optimizer.param_groups[0]["lr"])
    return values


def test_the_optimizer_is_as_it_was_but_for_the_first_learning_rate() -> None:
    """A schedule is tried out before it is built, and not on the optimizer itself."""
    optimizer = torch.optim.AdamW([{"params": [torch.nn.Parameter(torch.zeros(1))]}], lr=LR, betas=(0.9, 0.95))
    before = [dict(group) for group in optimizer.param_groups]
    arguments = {"max_lr": 1.0, "base_momentum": 0.1}
    scheduler = build_scheduler(TABLES["scheduler"].builder("OneCycleLR"), arguments, optimizer, total_updates=50)
    fresh = torch.optim.AdamW([{"params": [torch.nn.Parameter(torch.zeros(1))]}], lr=LR, betas=(0.9, 0.95))
    expected = torch.optim.lr_scheduler.OneCycleLR(fresh, **arguments, total_steps=50)
    for one, other in zip(optimizer.param_groups, fresh.param_groups, strict=True):
        assert {k: v for k, v in one.items() if k != "params"} == {k: v for k, v in other.items() if k != "params"}
    assert scheduler.last_epoch == expected.last_epoch == 0 and before[0]["lr"] == LR


def test_warmup_cosine_follows_its_formula_at_every_update() -> None:
    warmup, total, least = 10, 100, 0.05
    values = rates("warmup_cosine", warmup_updates=warmup, min_lr_fraction=least)
    for update, value in enumerate(values):
        if update < warmup:
            factor = (update + 1) / (warmup + 1)
        else:
            share = (update - warmup) / (total - warmup)
            factor = least + (1 - least) * (1 + math.cos(math.pi * share)) / 2
        assert value == pytest.approx(LR * factor, rel=1e-12), update
    assert len(values) == 101


def test_warmup_cosine_has_the_values_worked_out_by_hand() -> None:
    values = rates("warmup_cosine", warmup_updates=10, min_lr_fraction=0.01)
    assert values[0] == pytest.approx(LR / 11)  # not 0: the first update learns
    assert values[9] == pytest.approx(LR * 10 / 11)
    assert values[10] == pytest.approx(LR)  # the end of the warm-up is the peak
    assert values[55] == pytest.approx(LR * (0.01 + 0.99 / 2))  # half way down
    assert values[100] == pytest.approx(LR * 0.01)
    assert values.index(max(values)) == 10
    assert all(later < earlier for earlier, later in zip(values[10:], values[11:], strict=False))


def test_the_warm_up_is_a_twentieth_of_the_run_when_left_out() -> None:
    assert rates("warmup_cosine") == rates("warmup_cosine", warmup_updates=5)
    assert rates("warmup_cosine", warmup_fraction=0.2) == rates("warmup_cosine", warmup_updates=20)


@pytest.mark.parametrize("total_updates", [1, 2, 9])
def test_a_warm_up_that_rounds_to_no_update_starts_at_the_peak(total_updates: int) -> None:
    values = rates("warmup_cosine", total_updates=total_updates)  # 5 % of 9 updates rounds to 0
    assert values[0] == pytest.approx(LR) and values[-1] == pytest.approx(LR * 0.01)
    assert rates("warmup_cosine", total_updates=total_updates, warmup_updates=0) == values


@pytest.mark.parametrize("warmup_updates", [10, 11, 50])
def test_a_warm_up_as_long_as_the_run_only_rises(warmup_updates: int) -> None:
    values = rates("warmup_cosine", total_updates=10, warmup_updates=warmup_updates)[:10]
    assert all(0 < earlier < later <= LR for earlier, later in zip(values, values[1:], strict=False))


def test_after_the_last_update_the_rate_stays_at_its_least() -> None:
    scheduler = build("warmup_cosine", total_updates=5)
    for _ in range(12):
        scheduler.optimizer.step()
        scheduler.step()
    assert scheduler.optimizer.param_groups[0]["lr"] == pytest.approx(LR * 0.01)


def test_constant_stays_where_it_is() -> None:
    assert rates("constant") == [LR] * 101


def test_constant_rises_over_its_warm_up_first() -> None:
    values = rates("constant", warmup_updates=4)
    assert values[:5] == pytest.approx([LR * share for share in (0.2, 0.4, 0.6, 0.8, 1.0)])
    assert values[5:] == pytest.approx([LR] * 96)


def test_torchs_schedules_get_the_length_of_the_run() -> None:
    assert build("CosineAnnealingLR").T_max == 100
    assert build("OneCycleLR", max_lr=0.5).total_steps == 100
    assert build("LinearLR").total_iters == 100
    assert build("PolynomialLR").total_iters == 100
    assert rates("CosineAnnealingLR")[-1] == pytest.approx(0.0, abs=1e-12)
    assert rates("LinearLR", start_factor=1.0, end_factor=0.2)[-1] == pytest.approx(LR * 0.2)


def test_one_cycle_lasts_to_the_last_update() -> None:
    values = rates("OneCycleLR", max_lr=0.5)
    assert max(values) == pytest.approx(0.5) and values[99] == pytest.approx(0.5 / 25 / 1e4)


def test_a_length_in_the_arguments_wins() -> None:
    assert build("CosineAnnealingLR", T_max=7).T_max == 7
    assert build("LinearLR", total_iters=5).total_iters == 5


def test_only_reduce_on_plateau_waits_for_a_score() -> None:
    plateau = build("ReduceLROnPlateau", patience=0, factor=0.5)
    assert isinstance(plateau, ReduceLROnPlateau) and steps_on_score(plateau)
    plateau.step(1.0)
    plateau.step(2.0)  # the loss rose
    assert plateau.optimizer.param_groups[0]["lr"] == pytest.approx(LR * 0.5)
    assert not any(steps_on_score(build(name)) for name in ("constant", "warmup_cosine", "CosineAnnealingLR"))


def test_every_schedule_that_a_yaml_may_name_runs_from_the_first_to_the_last_update() -> None:
    needs: dict[str, dict[str, Any]] = {
        "CosineAnnealingWarmRestarts": {"T_0": 10},
        "CyclicLR": {"base_lr": 0.01, "max_lr": 0.1},
        "ExponentialLR": {"gamma": 0.9},
        "MultiStepLR": {"milestones": [3, 6]},
        "OneCycleLR": {"max_lr": 0.5},
        "StepLR": {"step_size": 3},
    }
    names = [*SCHEDULERS, *_public_classes("torch.optim.lr_scheduler")]
    for name in names:
        if name != "ReduceLROnPlateau":  # above
            values = rates(name, total_updates=20, **needs.get(name, {}))
            assert all(math.isfinite(value) and 0 <= value <= 0.5 for value in values), name
    assert len(names) == 13


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("StepLR", {}, "step_size"),
        ("OneCycleLR", {"max_lr": 0.5, "pct_start": 2.0}, "pct_start"),
        ("CosineAnnealingWarmRestarts", {"T_0": -1}, "T_0"),
        ("ConstantLR", {"factor": 2.0}, "multiplicative factor"),
        ("ReduceLROnPlateau", {"mode": "best"}, "mode best is unknown"),
        # What torch finds out when it makes a step
        ("StepLR", {"step_size": 0}, "modulo by zero"),
        ("StepLR", {"step_size": "x"}, "unsupported operand"),
        ("OneCycleLR", {"max_lr": 0.1, "total_steps": 2}, "The specified number of total steps is 2"),
        ("PolynomialLR", {"power": "x"}, "unsupported operand"),
        ("ReduceLROnPlateau", {"patience": "x"}, "not supported between"),
    ],
)
def test_an_argument_that_the_schedule_refuses_is_reported(name: str, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=rf"^scheduler {name} cannot be built: ") as caught:
        build(name, **arguments)
    assert words in str(caught.value)


@pytest.mark.parametrize(
    ("name", "arguments", "words"),
    [
        ("warmup_cosine", {"warmup_fraction": "a tenth"}, "warmup_fraction is 'a tenth'; it goes from 0 to 1"),
        ("warmup_cosine", {"warmup_fraction": 7}, "warmup_fraction is 7; it goes from 0 to 1"),
        ("warmup_cosine", {"warmup_updates": "10"}, "warmup_updates is '10'; it is a number, 0 or more"),
        ("warmup_cosine", {"warmup_updates": -5}, "warmup_updates is -5; it is a number, 0 or more"),
        ("warmup_cosine", {"min_lr_fraction": -3}, "min_lr_fraction is -3; it goes from 0 to 1"),
        ("constant", {"warmup_updates": -1}, "warmup_updates is -1; it is a number, 0 or more"),
    ],
)
def test_a_number_out_of_bounds_is_reported(name: str, arguments: dict[str, Any], words: str) -> None:
    with pytest.raises(UserError, match=rf"^scheduler_args: {words}$"):
        build(name, **arguments)
