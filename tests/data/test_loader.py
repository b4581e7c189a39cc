"""The plan is the same for any number of processes and from any position; batches come in order."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator

import numpy as np
import pytest

from maskcls.data.loader import BatchPlan, map_ahead, split_evenly
from maskcls.errors import UserError

NUM_PHOTOS, BATCH_SIZE = 103, 12
NUM_PROCESSES = [1, 2, 3, 4]
BOUNDS = [None, 3, 1]


def make_plan(num_processes: int = 1, bound: int | None = None, seed: int = 7) -> BatchPlan:
    return BatchPlan(NUM_PHOTOS, BATCH_SIZE, seed, num_processes=num_processes, max_device_batch_size=bound)


def batches(plan: BatchPlan, epoch: int, first_update: int = 0) -> list[list[int]]:
    """Returns update by update the positions of all processes together, in the processes' order."""
    processes = [plan.parts(epoch, process, first_update=first_update) for process in range(plan.num_processes)]
    return [
        np.concatenate([part for parts in update for part in parts]).tolist() for update in zip(*processes, strict=True)
    ]


def test_every_epoch_is_a_permutation() -> None:
    plan = make_plan()
    orders = [plan.order(epoch) for epoch in range(1, 21)]
    assert all(sorted(order.tolist()) == list(range(NUM_PHOTOS)) for order in orders)
    assert len({tuple(order) for order in orders}) == 20  # another in each
    assert all(not np.array_equal(order, np.arange(NUM_PHOTOS)) for order in orders)


def test_the_order_depends_on_seed_and_epoch_alone() -> None:
    assert np.array_equal(make_plan().order(3), make_plan(num_processes=4, bound=1).order(3))
    assert not np.array_equal(make_plan(seed=7).order(3), make_plan(seed=8).order(3))
    assert not np.array_equal(make_plan(seed=3).order(4), make_plan(seed=4).order(3))


def test_no_photo_is_twice_in_an_epoch_and_the_last_partial_batch_is_dropped() -> None:
    plan = make_plan()
    dropped = set()
    for epoch in range(1, 6):
        seen = sum(batches(plan, epoch), [])
        assert len(seen) == len(set(seen)) == plan.num_updates * BATCH_SIZE == 96
        dropped.add(frozenset(range(NUM_PHOTOS)) - frozenset(seen))
    assert all(len(photos) == NUM_PHOTOS - 96 for photos in dropped)
    assert len(dropped) == 5  # other photos each time


def test_over_many_epochs_every_photo_is_seen() -> None:
    assert set(sum((sum(batches(make_plan(), epoch), []) for epoch in range(10)), [])) == set(range(NUM_PHOTOS))


def test_a_split_that_fills_its_batches_drops_nothing() -> None:
    plan = BatchPlan(24, 12, 0)
    assert plan.num_updates == 2
    assert sorted(sum(batches(plan, 1), [])) == list(range(24))


@pytest.mark.parametrize("bound", BOUNDS)
@pytest.mark.parametrize("num_processes", NUM_PROCESSES)
def test_any_number_of_processes_makes_the_same_updates(num_processes: int, bound: int | None) -> None:
    one, many = make_plan(), make_plan(num_processes, bound)
    for epoch in (1, 2):
        assert [sorted(batch) for batch in batches(many, epoch)] == [sorted(batch) for batch in batches(one, epoch)]
        assert batches(many, epoch) == batches(one, epoch)  # in the same order too
    assert many.num_updates == one.num_updates == 8


@pytest.mark.parametrize(
    ("num_processes", "bound"),
    [(processes, bound) for processes in NUM_PROCESSES for bound in BOUNDS] + [(5, None), (5, 2)],
)
def test_micro_batches_keep_the_bound_and_are_as_many_on_every_process(num_processes: int, bound: int | None) -> None:
    plan = make_plan(num_processes, bound)
    num_checked = 0
    for process in range(num_processes):
        for micro_batches in plan.parts(1, process):
            assert len(micro_batches) == plan.num_accumulated
            sizes = [len(part) for part in micro_batches]
            assert max(sizes) <= (bound or BATCH_SIZE)
            assert max(sizes) - min(sizes) <= 1
            num_checked += 1
    assert num_checked == plan.num_updates * num_processes
    share = -(-BATCH_SIZE // num_processes)
    assert plan.num_accumulated == (1 if bound is None else -(-share // bound))


def test_no_micro_batch_is_empty() -> None:
    """The model cannot run on none: such numbers are refused, or the photos are dealt otherwise."""
    num_checked = 0
    for batch_size in range(1, 14):
        for num_processes in range(1, batch_size + 1):
            for bound in (None, 1, 2, 3, 5):
                try:
                    plan = BatchPlan(NUM_PHOTOS, batch_size, 0, num_processes, bound)
                except UserError:
                    assert bound == 1
                    assert batch_size % num_processes
                    continue
                parts = [next(plan.parts(1, process)) for process in range(num_processes)]
                assert min(len(part) for part in sum(parts, [])) > 0, (batch_size, num_processes, bound)
                num_checked += 1
    assert num_checked > 13 * 14 / 2 * 4


def test_a_bound_that_is_never_reached_changes_nothing() -> None:
    assert make_plan(2, 6).num_accumulated == make_plan(2, 100).num_accumulated == 1
    assert make_plan(2, 5).num_accumulated == 2


@pytest.mark.parametrize("first_update", [0, 1, 5, 7, 8])
@pytest.mark.parametrize("num_processes", [1, 3])
def test_a_later_start_gives_the_rest_of_the_uninterrupted_epoch(num_processes: int, first_update: int) -> None:
    plan = make_plan(num_processes, 3)
    assert batches(plan, 2, first_update) == batches(plan, 2)[first_update:]
    assert len(batches(plan, 2, first_update)) == 8 - first_update


def test_numbers_that_cannot_be_met_are_refused() -> None:
    with pytest.raises(UserError, match=r"^train_batch_size is 12, but there are 11 training photos$"):
        BatchPlan(11, 12, 0)
    with pytest.raises(UserError, match=r"^train_batch_size is 3, too few for 4 processes$"):
        BatchPlan(100, 3, 0, num_processes=4)
    assert BatchPlan(12, 12, 0, num_processes=12).num_updates == 1


def test_parts_are_consecutive_and_even() -> None:
    parts = split_evenly(np.arange(10), 4)
    assert [part.tolist() for part in parts] == [[0, 1, 2], [3, 4, 5], [6, 7], [8, 9]]


# map_ahead


def slow_square(number: int) -> int:
    time.sleep(0.002 * (number % 3))  # later ones finish first
    return number * number


@pytest.mark.parametrize(("num_threads", "ahead"), [(0, 1), (1, 1), (3, 1), (3, 4), (3, 100)])
def test_results_come_in_the_order_of_the_items(num_threads: int, ahead: int) -> None:
    results = map_ahead(slow_square, range(20), num_threads=num_threads, ahead=ahead)
    assert list(results) == [number * number for number in range(20)]


@pytest.mark.parametrize("num_threads", [0, 3])
def test_nothing_comes_from_nothing(num_threads: int) -> None:
    assert list(map_ahead(slow_square, [], num_threads=num_threads, ahead=3)) == []


@pytest.mark.parametrize("num_threads", [0, 3])
def test_an_exception_comes_up_at_its_item(num_threads: int) -> None:
    def fail_at_three(number: int) -> int:
        if number == 3:
            raise ValueError("three")
        return number

    results = map_ahead(fail_at_three, range(10), num_threads=num_threads, ahead=4)
    assert [next(results) for _ in range(3)] == [0, 1, 2]
    with pytest.raises(ValueError, match="three"):
        next(results)
    assert not loader_threads()


@pytest.mark.parametrize("num_threads", [0, 3])
def test_an_exception_of_the_items_comes_up_too(num_threads: int) -> None:
    def items() -> Iterator[int]:
        yield 1
        raise KeyError("items")

    with pytest.raises(KeyError, match="items"):
        list(map_ahead(slow_square, items(), num_threads=num_threads, ahead=1))


@pytest.mark.parametrize(("num_threads", "ahead"), [(0, 3), (1, 3), (3, 3), (2, 1)])
def test_no_item_is_begun_more_than_ahead_items_early(num_threads: int, ahead: int) -> None:
    taken: list[int] = []

    def items() -> Iterator[int]:
        for number in range(12):
            taken.append(number)
            yield number

    for num_yielded, _ in enumerate(map_ahead(slow_square, items(), num_threads=num_threads, ahead=ahead), start=1):
        assert len(taken) == min(num_yielded + (ahead if num_threads else 0), 12)


def test_items_are_worked_out_while_the_caller_is_busy() -> None:
    started: list[int] = []
    fifth = threading.Event()

    def note(number: int) -> int:
        started.append(number)
        if number == 4:
            fifth.set()
        return number

    results = map_ahead(note, range(100), num_threads=2, ahead=4)
    assert next(results) == 0
    assert fifth.wait(timeout=10)
    assert sorted(started) == [0, 1, 2, 3, 4]


def test_a_caller_that_stops_early_leaves_no_threads_and_no_work() -> None:
    started: list[int] = []

    def note(number: int) -> int:
        started.append(number)
        time.sleep(0.01)
        return number

    results = map_ahead(note, range(1000), num_threads=2, ahead=50)
    assert next(results) == 0
    assert len(loader_threads()) == 2
    results.close()
    assert not loader_threads()
    assert len(started) < 20


def loader_threads() -> list[str]:
    return [thread.name for thread in threading.enumerate() if thread.name.startswith("loader")]


def test_a_balanced_epoch_takes_equally_many_photos_of_each_class_and_repeats_evenly() -> None:
    classes = np.repeat([0, 1, 2], [70, 20, 6])
    plan = BatchPlan(96, 12, seed=3, balanced_over=classes)
    keys = plan.order(1)
    assert len(keys) == 96
    assert len(set(keys.tolist())) == 96  # a repeated photo has another key, so it is augmented otherwise
    positions = keys % 96
    assert np.bincount(classes[positions]).tolist() == [32, 32, 32]
    for label, size in ((0, 70), (1, 20), (2, 6)):
        counts = np.bincount(positions[classes[positions] == label], minlength=96)[classes == label]
        assert counts.max() - counts.min() <= 1
        assert (keys // 96)[classes[positions] == label].max() == -(-32 // size) - 1
    assert not np.array_equal(plan.order(2), keys)
    np.testing.assert_array_equal(BatchPlan(96, 12, seed=3, num_processes=4, balanced_over=classes).order(1), keys)


@pytest.mark.parametrize("num_processes", [1, 2, 3])
@pytest.mark.parametrize("most", [None, 2, 5])
def test_pairs_to_mix_stay_together_on_any_number_of_processes(num_processes: int, most: int | None) -> None:
    plan = BatchPlan(50, 24, seed=1, num_processes=num_processes, max_device_batch_size=most, unit=2)
    batch = plan.order(1)[:24].reshape(-1, 2).tolist()
    pairs = []
    for process in range(num_processes):
        micro_batches = next(plan.parts(1, process))
        assert len(micro_batches) == plan.num_accumulated
        assert all(len(keys) <= (most or 24) for keys in micro_batches)
        pairs += [pair for keys in micro_batches for pair in keys.reshape(-1, 2).tolist()]
    assert pairs == batch


def test_a_pair_needs_room_for_two() -> None:
    with pytest.raises(UserError, match="max_device_batch_size is 1, too few for a pair to mix"):
        BatchPlan(50, 24, seed=1, max_device_batch_size=1, unit=2)
    with pytest.raises(UserError, match="train_batch_size is 3, too few for 2 processes, each with a pair to mix"):
        BatchPlan(50, 3, seed=1, num_processes=2, unit=2)
