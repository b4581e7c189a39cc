"""What is reported between two log lines: exact sums, the first broken update, and how long a device was idle."""

from __future__ import annotations

import time

import numpy as np
import pytest
import torch
from accelerate import Accelerator

from maskcls.training.log_interval import Idle, LogInterval, NotFinite


@pytest.fixture(scope="module")
def accelerator() -> Accelerator:
    return Accelerator(cpu=True)


def test_an_interval_that_is_put_in_again_has_the_means_of_all_its_updates(accelerator: Accelerator) -> None:
    def add(interval: LogInterval, seed: int) -> None:
        generator = torch.Generator().manual_seed(seed)
        truth, predicted = torch.randint(3, (2, 6), generator=generator)
        interval.add(torch.rand((), generator=generator) * 6, {"mask": predicted}, {"mask": truth})

    whole, first, second = (LogInterval(torch.device("cpu"), "mask") for _ in range(3))
    for seed in (1, 2):
        add(whole, seed)
    add(first, 1)
    second.restore(first.sums(accelerator))
    add(second, 2)
    assert second.sums(accelerator) == whole.sums(accelerator)
    one, other = (interval.close(accelerator, 0.1) for interval in (whole, second))
    assert {key: one[key] for key in ("train/loss", "train/acc", "train/f1")} == {
        key: other[key] for key in ("train/loss", "train/acc", "train/f1")
    }
    assert whole.sums(accelerator) == [0.0] * 10


def test_the_first_number_that_is_not_finite_is_the_one_that_is_named(accelerator: Accelerator) -> None:
    interval = LogInterval(torch.device("cpu"), "mask")
    for update, number in enumerate([1.0, -3.0, torch.inf, torch.nan, 2.0, -torch.inf], start=41):
        interval.watch(update, torch.tensor(number))
    with pytest.raises(NotFinite) as caught:
        interval.close(accelerator, 0.1)
    assert caught.value.update == 43


def test_the_sum_of_many_losses_is_as_exact_as_in_float64(accelerator: Accelerator) -> None:
    interval, losses = (
        LogInterval(torch.device("cpu"), "mask"),
        np.float32(1000) + np.arange(3000, dtype=np.float32) / 7,
    )
    for loss in losses:
        interval.add(torch.tensor(loss), {"mask": torch.tensor([0])}, {"mask": torch.tensor([0])})
    assert interval.sums(accelerator)[:2] == [pytest.approx(float(losses.astype(np.float64).sum()), rel=1e-15), 3000]
    assert abs(float(losses.cumsum()[-1]) - interval.sums(accelerator)[0]) > 0.05  # what float32 would have given


def test_a_sum_is_put_in_as_it_was_taken_out(accelerator: Accelerator) -> None:
    """2 ** 24 + 1 is no float32."""
    interval = LogInterval(torch.device("cpu"), "gender")
    interval.restore([1 / 3, 2.0**24 + 1, 0, 2, 3])
    assert interval.sums(accelerator) == [1 / 3, 2**24 + 1, 0, 2, 3]


def test_beside_a_cpu_all_of_a_wait_is_idle() -> None:
    idle = Idle(torch.device("cpu"))
    for _ in range(2):
        with idle.waiting():
            time.sleep(0.01)
    time.sleep(0.02)
    assert 0.02 <= idle.seconds() < 0.04


class Clock:
    """A GPU that works through what it is given, one after the other, while the program goes on; in milliseconds."""

    def __init__(self) -> None:
        self.now = self.busy_until = 0.0

    def give(self, work: float) -> None:
        self.busy_until = max(self.busy_until, self.now) + work

    def event(self, *, enable_timing: bool) -> Event:
        assert enable_timing
        return Event(self)


class Event:
    """A mark among the work of a Clock."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock

    def record(self) -> None:
        self.reached = max(self.clock.now, self.clock.busy_until)

    def elapsed_time(self, later: Event) -> float:
        return later.reached - self.reached


def test_a_wait_during_which_a_gpu_has_work_is_not_idle(monkeypatch: pytest.MonkeyPatch) -> None:
    clock = Clock()
    monkeypatch.setattr(torch.cuda, "Event", clock.event)
    idle = Idle(torch.device("cuda"))
    for wait in (0, 4, 6, 13):  # behind each wait 10 ms of work; the program runs ahead of it
        with idle.waiting():
            clock.now += wait
        clock.give(10)
    # Given at 0, 4, 10 and 23, the work ends at 10, 20, 30 and 40: never idle but for what was given too late.
    assert clock.busy_until == 40 and idle.seconds() == 0
    with idle.waiting():
        clock.now += 20  # to 43: done since 40
    assert idle.seconds() == pytest.approx(0.003)
