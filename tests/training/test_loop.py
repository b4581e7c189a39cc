"""The loop on one process: exact counts, exact order, exact means, and the same weights however it is split."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
from accelerate import Accelerator
from datasets import Dataset
from sklearn.metrics import f1_score
from torch import nn

from maskcls.data.augmentation import Augmentation
from maskcls.data.augmenter import Augmenter
from maskcls.data.dataset import Photos
from maskcls.data.loader import BatchPlan
from maskcls.data.photo import BadPhotos
from maskcls.data.preprocessing import Preprocessing
from maskcls.data.views import VIEWS
from maskcls.labels import HEAD_CLASSES, OUTPUT_HEADS, head_predictions, head_probabilities, num_outputs, targets_of
from maskcls.modeling.loss import build_losses, cross_entropy
from maskcls.modeling.model import MODELS
from maskcls.training import loop
from maskcls.training.average import WeightAverage
from maskcls.training.batches import Batches
from maskcls.training.log_interval import NotFinite
from maskcls.training.loop import EndlessOverflow, Learner, predict, score, seed_dropout, train_one_epoch

CPU = torch.device("cpu")
SIZE = (4, 3)  # height, width
NUM_PER_CLASS = {head: [1] * len(classes) for head, classes in HEAD_CLASSES.items()}


class Toy(nn.Module):
    """One linear layer over the pixels, with what a transformers classifier shows of itself."""

    def __init__(self, num_labels: int, *, dropout: float = 0.0) -> None:
        super().__init__()
        self.layer = nn.Sequential(nn.Flatten(), nn.Dropout(dropout), nn.Linear(3 * SIZE[0] * SIZE[1], num_labels))
        self.config = SimpleNamespace(num_labels=num_labels)
        self.batch_sizes: list[int] = []
        self.was_training: set[bool] = set()

    def forward(self, *, pixel_values: torch.Tensor) -> Any:
        self.batch_sizes.append(len(pixel_values))
        self.was_training.add(self.training)
        return SimpleNamespace(logits=self.layer(pixel_values))


class MemoryPixels:
    """Photos in memory; those named bad cannot be read."""

    def __init__(self, num_photos: int, bad: Sequence[int] = ()) -> None:
        shape = (num_photos, *SIZE, 3)
        self.table = torch.randint(256, shape, dtype=torch.uint8, generator=torch.Generator().manual_seed(3))
        self.shape, self.bad, self.read = shape, set(bad), list[int]()

    def __call__(self, rows: np.ndarray) -> torch.Tensor:
        self.read += rows.tolist()
        if problems := [f"photo{row}.jpg: is not an image" for row in rows.tolist() if row in self.bad]:
            raise BadPhotos(*problems)
        return self.table[rows]


PREPROCESSING = Preprocessing(SIZE, mean=(0.5, 0.4, 0.3), std=(0.2, 0.25, 0.3))


def augmenter(augmentation: Augmentation | None = None) -> Augmenter:
    return Augmenter(augmentation or Augmentation(), PREPROCESSING, seed=5, device=CPU)


def photos_of(pixels: MemoryPixels, rows: np.ndarray | None = None) -> Photos:
    """Returns photos with the labels (N, 3) in their order."""
    rows = np.arange(pixels.shape[0]) if rows is None else rows
    truth = np.zeros((pixels.shape[0], 3), np.int64)
    truth[rows] = labels(len(rows))
    columns = {name: truth[:, number] for number, name in enumerate(("mask", "gender", "age_group"))}
    return Photos(Dataset.from_dict(columns), rows, pixels)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def accelerator() -> Accelerator:
    return Accelerator(cpu=True)


def labels(num: int) -> torch.Tensor:
    generator = torch.Generator().manual_seed(4)
    return torch.stack([torch.randint(k, (num,), generator=generator) for k in (3, 2, 3)], 1)


def toy(num_labels: int = 3, **options: Any) -> Toy:
    torch.manual_seed(0)
    return Toy(num_labels, **options)


def reference_logits(model: nn.Module, pixels: MemoryPixels, rows: np.ndarray) -> torch.Tensor:
    """Returns the logits of all rows at once."""
    with torch.no_grad():
        return model.eval()(pixel_values=PREPROCESSING.seen(pixels.table[rows])).logits


# predict


@pytest.mark.parametrize("num_threads", [0, 1, 3])
@pytest.mark.parametrize("batch_size", [1, 4, 6, 100])
def test_predict_keeps_the_order_and_drops_no_photo(
    accelerator: Accelerator, batch_size: int, num_threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "threads_ahead", lambda device: num_threads)  # as beside a GPU
    model, pixels = toy(), MemoryPixels(20)
    rows = np.array([19, 3, 3, 7, 0, 12, 11, 5, 18, 2, 1, 9, 14])  # 13: the last of 4 and of 6 is a single photo
    seen: list[int] = []
    logits = predict(
        accelerator, model, photos_of(pixels, rows), PREPROCESSING, batch_size=batch_size,
        progress=seen.append,
    )  # fmt: skip
    sizes = [len(rows[start : start + batch_size]) for start in range(0, 13, batch_size)]
    assert model.batch_sizes == seen == sizes and sum(seen) == 13
    assert logits.shape == (13, 3) and logits.dtype == torch.float32 and not logits.requires_grad
    assert sorted(pixels.read) == sorted(rows.tolist())
    torch.testing.assert_close(logits, reference_logits(model, pixels, rows), rtol=0, atol=1e-6)


def test_predict_keeps_its_own_copy_of_logits_that_the_model_writes_again(accelerator: Accelerator) -> None:
    """As a compiled model does whose CUDA graph is replayed: every batch comes in the same memory."""

    class Replayed(Toy):
        def forward(self, *, pixel_values: torch.Tensor) -> Any:
            logits = super().forward(pixel_values=pixel_values).logits
            return SimpleNamespace(logits=memory[: len(logits)].copy_(logits))

    memory, pixels, rows = torch.zeros(4, 3), MemoryPixels(9), np.arange(9)
    torch.manual_seed(0)
    logits = predict(accelerator, Replayed(3), photos_of(pixels, rows), PREPROCESSING, batch_size=4)
    torch.testing.assert_close(logits, reference_logits(toy(3), pixels, rows), rtol=0, atol=1e-6)


def test_predict_means_what_the_model_says_of_every_view_and_reads_each_photo_once(accelerator: Accelerator) -> None:
    model, pixels, rows = toy(), MemoryPixels(9), np.array([8, 2, 5, 0, 7])
    plain = predict(accelerator, model, photos_of(pixels, rows), PREPROCESSING, batch_size=2)
    mirrored = MemoryPixels(9)
    mirrored.table = pixels.table.flip(2)
    pixels.read.clear()
    model.batch_sizes.clear()
    logits = predict(accelerator, model, photos_of(pixels, rows), PREPROCESSING, batch_size=2, views=VIEWS["flip"])
    assert pixels.read == rows.tolist() and model.batch_sizes == [2, 2, 2, 2, 1, 1]
    expected = (plain + reference_logits(model, mirrored, rows)) / 2
    torch.testing.assert_close(logits, expected, rtol=0, atol=1e-6)
    assert (logits - plain).abs().max() > 0.01
    with pytest.raises(BadPhotos):
        bad = photos_of(MemoryPixels(5, bad=[3]), np.arange(5))
        predict(accelerator, model, bad, PREPROCESSING, batch_size=2, views=VIEWS["5"])


def test_predict_of_no_photos_has_no_rows_but_the_width(accelerator: Accelerator) -> None:
    logits = predict(accelerator, toy(8), photos_of(MemoryPixels(2), np.arange(0)), PREPROCESSING, batch_size=4)
    assert logits.shape == (0, 8)


def test_predict_runs_without_dropout(accelerator: Accelerator) -> None:
    model, pixels, rows = toy(dropout=0.5).train(), MemoryPixels(6), np.arange(6)
    logits = predict(accelerator, model, photos_of(pixels, rows), PREPROCESSING, batch_size=4)
    assert model.was_training == {False}
    torch.testing.assert_close(logits, reference_logits(model, pixels, rows), rtol=0, atol=1e-6)


def test_predict_takes_a_transformers_model(accelerator: Accelerator) -> None:
    torch.manual_seed(0)
    model = MODELS["vit"](
        image_size=SIZE, id2label={0: "a", 1: "b"}, attention="eager", patch_size=1, hidden_size=8,
        num_hidden_layers=1, num_attention_heads=2, intermediate_size=8,
    )  # fmt: skip
    pixels, rows = MemoryPixels(5), np.array([4, 0, 2])
    logits = predict(accelerator, model, photos_of(pixels, rows), PREPROCESSING, batch_size=2)
    torch.testing.assert_close(logits, reference_logits(model, pixels, rows), rtol=0, atol=1e-5)


@pytest.mark.parametrize("num_threads", [0, 1, 2])
def test_predict_names_every_bad_photo_and_not_only_the_first(
    accelerator: Accelerator, num_threads: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(loop, "threads_ahead", lambda device: num_threads)
    pixels = MemoryPixels(12, bad=[1, 2, 10])
    with pytest.raises(BadPhotos) as caught:
        predict(accelerator, toy(), photos_of(pixels, np.arange(12)), PREPROCESSING, batch_size=3)
    assert sorted(caught.value.args) == [f"photo{row}.jpg: is not an image" for row in (1, 10, 2)]
    assert str(caught.value).startswith("3 photos cannot be read:\n  - photo1.jpg: is not an image\n")
    assert sorted(pixels.read) == list(range(12))


# score


def own_losses(output: str, **head_weights: float) -> Any:
    return build_losses(
        cross_entropy, {}, output=output, num_per_class=NUM_PER_CLASS, head_weights=head_weights, device=CPU
    )


MEASURES = ["acc", "f1", "balanced_acc"]
HEADS_SCORES = [f"{head}_{name}" for head in ("mask", "gender", "age") for name in MEASURES]
HEADS_LOSSES = ["mask_loss", "gender_loss", "age_loss"]


@pytest.mark.parametrize(
    ("output", "width", "names"),
    [
        ("all", 8, ["loss", *HEADS_LOSSES, *MEASURES, *HEADS_SCORES]),
        ("class", 18, ["loss", *HEADS_LOSSES, *MEASURES, *HEADS_SCORES]),
        ("mask", 3, ["loss", *MEASURES]),
        ("gender", 2, ["loss", *MEASURES]),
        ("gender", 1, ["loss", *MEASURES]),
        ("age", 3, ["loss", *MEASURES]),
    ],
)
def test_score_names_and_values_every_score(output: str, width: int, names: list[str]) -> None:
    logits = torch.randn(37, width, generator=torch.Generator().manual_seed(0)) * 2
    truth = labels(37)
    scores, matrices = score(logits, truth.numpy(), own_losses(output), output=output)
    assert list(scores) == names
    targets, predicted = targets_of(truth, output), head_predictions(logits, output)
    probabilities = head_probabilities(logits, output)
    assert list(matrices) == list(predicted)
    for head in predicted:
        prefix = f"{head}_" if f"{head}_acc" in names else ""
        classes = range(len(HEAD_CLASSES[head]))
        f1 = f1_score(targets[head], predicted[head], labels=classes, average="macro", zero_division=0)
        assert scores[f"{prefix}acc"] == pytest.approx(float((targets[head] == predicted[head]).float().mean()))
        assert scores[f"{prefix}f1"] == pytest.approx(f1)
        assert matrices[head].sum() == 37
        if prefix:  # cross-entropy is the negative log-likelihood, of a head and of a marginal alike
            likelihood = probabilities[head][range(37), targets[head]].double()
            assert scores[f"{prefix}loss"] == pytest.approx(float(-likelihood.log().mean()), rel=1e-5)
    own = [float(-probabilities[head][range(37), targets[head]].double().log().mean()) for head in OUTPUT_HEADS[output]]
    assert scores["loss"] == pytest.approx(sum(own), rel=1e-5)


def test_score_of_hand_made_logits_has_the_values_worked_out_by_hand() -> None:
    truth = torch.tensor([[0, 1, 2], [1, 1, 0], [2, 0, 1]])
    z = torch.tensor([[0.0], [2.0], [2.0]])  # probability 0.5 is female; then right, then wrong
    scores, matrices = score(z, truth.numpy(), own_losses("gender"), output="gender")
    sigmoid = 1 / (1 + np.exp(-2.0))
    assert scores["loss"] == pytest.approx(-(np.log(0.5) + np.log(sigmoid) + np.log(1 - sigmoid)) / 3, rel=1e-6)
    assert scores["acc"] == pytest.approx(2 / 3) and scores["f1"] == pytest.approx((0 + 0.8) / 2)
    assert matrices["gender"].tolist() == [[0, 1], [0, 2]]


def test_head_weights_count_in_the_loss_but_not_in_the_heads_own() -> None:
    logits, truth = torch.randn(9, 8, generator=torch.Generator().manual_seed(0)), labels(9)
    plain, _ = score(logits, truth.numpy(), own_losses("all"), output="all")
    weighted, _ = score(logits, truth.numpy(), own_losses("all", age=3.0), output="all")
    assert weighted["age_loss"] == plain["age_loss"]
    assert weighted["loss"] == pytest.approx(plain["loss"] + 2 * plain["age_loss"], rel=1e-6)


def test_validation_loss_is_the_mean_over_photos_and_not_over_batches(accelerator: Accelerator) -> None:
    model, pixels, truth = toy(), MemoryPixels(9), labels(9)
    with torch.no_grad():
        model.layer[2].bias[:] = torch.tensor([3.0, 0.0, -3.0])  # so that photos differ much in their loss
    logits = predict(accelerator, model, photos_of(pixels, np.arange(9)), PREPROCESSING, batch_size=4)
    each = nn.functional.cross_entropy(logits, truth[:, 0], reduction="none")
    mean_of_batches = float(torch.stack([part.mean() for part in each.split(4)]).mean())
    scores, _ = score(logits, truth.numpy(), own_losses("mask"), output="mask")
    assert scores["loss"] == pytest.approx(float(each.mean()), rel=1e-6)
    assert abs(scores["loss"] - mean_of_batches) > 0.01


def test_without_a_criterion_there_is_no_loss() -> None:
    scores, _ = score(torch.randn(4, 18), labels(4).numpy(), None, output="class")
    assert list(scores) == [*MEASURES, *HEADS_SCORES]


def test_one_photo_can_be_scored() -> None:
    truth = torch.tensor([[1, 0, 2]])
    logits = nn.functional.one_hot(torch.tensor([1 * 6 + 0 * 3 + 2]), 18).float() * 50
    scores, matrices = score(logits, truth.numpy(), own_losses("class"), output="class")
    assert scores["acc"] == 1.0 and scores["f1"] == pytest.approx(1 / 18)
    assert int(matrices["class"].argmax()) % 18 == 1 * 6 + 0 * 3 + 2


# train_one_epoch


def trained(
    accelerator: Accelerator,
    model: nn.Module,
    *,
    num_photos: int = 23,
    batch_size: int = 5,
    max_device_batch_size: int | None = None,
    lr: float = 0.05,
    log_interval: int = 100,
    num_epochs: int = 1,
    output: str = "mask",
    augmentation: Augmentation | None = None,
    max_grad_norm: float | None = None,
    steps_on_score: bool = False,
    average_decay: float | None = None,
    fused: bool = False,
) -> tuple[Learner, list[dict[str, float]], int]:
    """Returns the learner, the log lines and the number of updates after some epochs of plain SGD."""
    photos = photos_of(MemoryPixels(num_photos + 2), np.arange(num_photos) + 2)
    plan = BatchPlan(num_photos, batch_size, 7, max_device_batch_size=max_device_batch_size)
    momentum = 0.0 if fused else 0.9  # torch's fused one is spoilt by an overflow in the first update
    optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=momentum, fused=fused)
    scheduler: Any = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda update: 1 / (1 + update))
    if steps_on_score:
        scheduler = torch.optim.lr_scheduler.ReduceLROnPlateau(optimizer)
    optimizer = accelerator.prepare(optimizer)
    learner = Learner(accelerator, model, model, own_losses(output), optimizer, scheduler, ema_decay=average_decay)
    batches = Batches(photos, plan, augmenter(augmentation), output)
    yields: list[dict[str, float]] = []
    for epoch in range(1, num_epochs + 1):
        yields += train_one_epoch(learner, batches, epoch=epoch, log_interval=log_interval, max_grad_norm=max_grad_norm)
    return learner, [values for values in yields if values], len(yields)


def weights(model: nn.Module) -> torch.Tensor:
    return torch.cat([parameter.detach().flatten() for parameter in model.parameters()])


@pytest.mark.parametrize(("log_interval", "expected"), [(1, [1] * 7), (3, [3, 3, 1]), (7, [7]), (20, [7])])
def test_every_update_is_in_a_log_line_the_leftovers_too(
    accelerator: Accelerator, log_interval: int, expected: list[int]
) -> None:
    model, at_line = toy(), []
    photos = photos_of(MemoryPixels(37))
    optimizer = accelerator.prepare(torch.optim.SGD(model.parameters(), lr=0.1))
    scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer.optimizer, 1.0)
    learner = Learner(accelerator, model, model, own_losses("mask"), optimizer, scheduler)
    batches = Batches(photos, BatchPlan(37, 5, 7), augmenter(), "mask")
    for values in train_one_epoch(learner, batches, epoch=1, log_interval=log_interval, max_grad_norm=None):
        if not values:
            continue
        at_line.append(learner.num_updates)
        assert list(values) == [
            "train/loss", "train/acc", "train/f1", "train/lr", "train/images_per_second", "train/waiting_share",
            "train/peak_memory_gb",
        ]  # fmt: skip
        assert values["train/images_per_second"] > 0 and 0 <= values["train/waiting_share"] <= 1
    assert [later - earlier for earlier, later in pairwise([0, *at_line])] == expected
    assert model.batch_sizes == [5] * 7  # 37 photos, the last two are dropped


@pytest.mark.parametrize("max_device_batch_size", [None, 2])
def test_log_lines_hold_the_means_over_their_updates(
    accelerator: Accelerator, max_device_batch_size: int | None
) -> None:
    model = toy()
    _, lines, updates = trained(accelerator, model, lr=0.0, log_interval=3, max_device_batch_size=max_device_batch_size)
    assert updates == 4 and len(lines) == 2
    order, truth = BatchPlan(23, 5, 7).order(1), labels(23)[:, 0]
    logits = reference_logits(model, MemoryPixels(25), order + 2)  # positions of the split are rows from 2 on
    for line, part in zip(lines, (slice(0, 15), slice(15, 20)), strict=True):
        target, own = truth[order[part]], logits[part]
        assert line["train/loss"] == pytest.approx(float(nn.functional.cross_entropy(own, target)), rel=1e-5)
        assert line["train/acc"] == pytest.approx(float((own.argmax(1) == target).float().mean()))
        f1 = f1_score(target, own.argmax(1), labels=range(3), average="macro", zero_division=0)
        assert line["train/f1"] == pytest.approx(f1)


def test_the_first_update_is_plain_sgd_on_the_mean_loss_of_its_batch(accelerator: Accelerator) -> None:
    model, reference = toy(), toy()
    trained(accelerator, model, num_photos=5, batch_size=5, lr=0.05)
    rows = BatchPlan(5, 5, 7).order(1) + 2
    logits = reference.train()(pixel_values=PREPROCESSING.seen(MemoryPixels(7).table[rows])).logits
    nn.functional.cross_entropy(logits, labels(5)[rows - 2, 0]).backward()
    with torch.no_grad():
        for parameter in reference.parameters():
            parameter -= 0.05 * parameter.grad
    torch.testing.assert_close(weights(model), weights(reference), rtol=0, atol=1e-6)


@pytest.mark.parametrize("augmentation", [None, Augmentation(flip=0.5, brightness=0.3, erase=0.5)])
@pytest.mark.parametrize("output", ["mask", "all"])
def test_accumulation_gives_the_same_weights(
    accelerator: Accelerator, output: str, augmentation: Augmentation | None
) -> None:
    results, sizes = [], []
    for max_device_batch_size in (None, 3, 1):  # 5 photos at once, 3 + 2, one by one
        model = toy(num_outputs(output))
        trained(
            accelerator, model, output=output, max_device_batch_size=max_device_batch_size, num_epochs=2,
            augmentation=augmentation,
        )  # fmt: skip
        results.append(weights(model))
        sizes.append(model.batch_sizes)
    assert sizes == [[5] * 8, [3, 2] * 8, [1] * 40]
    torch.testing.assert_close(results[1], results[0], rtol=0, atol=1e-5)
    torch.testing.assert_close(results[2], results[0], rtol=0, atol=1e-5)
    assert (results[0] - weights(toy(num_outputs(output)))).abs().max() > 0.01  # it did learn


def test_loading_ahead_changes_nothing(accelerator: Accelerator, monkeypatch: pytest.MonkeyPatch) -> None:
    here, ahead = toy(), toy()
    trained(accelerator, here, num_epochs=2)
    monkeypatch.setattr("maskcls.training.batches.threads_ahead", lambda device: 1)
    trained(accelerator, ahead, num_epochs=2)
    assert torch.equal(weights(here), weights(ahead))


def test_every_epoch_counts_its_updates_and_steps_the_schedule_on_each(accelerator: Accelerator) -> None:
    learner, lines, updates = trained(accelerator, toy(), num_epochs=3, log_interval=1)
    assert learner.num_updates == updates == 12
    # the rate that a line shows is the next update's
    assert [line["train/lr"] for line in lines] == pytest.approx([0.05 / (1 + update) for update in range(1, 13)])


def test_a_schedule_that_waits_for_a_score_is_not_stepped_by_updates(accelerator: Accelerator) -> None:
    _, lines, _ = trained(accelerator, toy(), num_epochs=2, log_interval=1, steps_on_score=True)
    assert [line["train/lr"] for line in lines] == [0.05] * 8


def test_gradients_are_clipped_to_the_norm_over_all_parameters(accelerator: Accelerator) -> None:
    before, model = weights(toy()), toy()
    trained(accelerator, model, num_photos=5, batch_size=5, lr=1.0, max_grad_norm=0.01)
    assert float((weights(model) - before).norm()) == pytest.approx(0.01, rel=1e-3)


def test_training_uses_dropout_and_the_same_seed_draws_it_again(accelerator: Accelerator) -> None:
    def run(seed_before: int) -> torch.Tensor:
        model = toy(dropout=0.5)
        torch.manual_seed(seed_before)  # what came before must not matter: a resumed run has another past
        trained(accelerator, model)
        assert model.was_training == {True}
        return weights(model)

    plain = toy()
    trained(accelerator, plain)
    assert torch.equal(run(1), run(2))
    assert not torch.allclose(run(1), weights(plain))


def test_dropout_is_drawn_anew_for_every_seed_update_pass_and_device() -> None:
    def draws(*key: int) -> tuple[float, ...]:
        seed_dropout(CPU, *key)
        return tuple(torch.rand(4).tolist())

    keys = [
        (seed, update, number, device)
        for seed in (0, 42) for update in (0, 1, 1000) for number in (1, 2) for device in (0, 1, 7)
    ]  # fmt: skip
    assert len({draws(*key) for key in keys}) == len(keys) == 36
    assert draws(42, 3, 1, 0) == draws(42, 3, 1, 0)


def test_dropout_of_a_cpu_is_drawn_as_after_torchs_own_manual_seed() -> None:
    seed_dropout(CPU, 42, 7, 1, 3)
    drawn = torch.rand(5)
    torch.manual_seed(((42 * 1_000_003 + 7) * 1_009 + 1) * 1_009 + 3)
    assert torch.equal(drawn, torch.rand(5))


@pytest.mark.parametrize("kind", ["cuda", "mps", "xpu"])
def test_dropout_of_a_device_is_keyed_with_its_own_generator(kind: str, monkeypatch: pytest.MonkeyPatch) -> None:
    given: list[int] = []
    monkeypatch.setattr(torch.get_device_module(kind), "manual_seed", given.append)
    seed_dropout(torch.device(kind), 42, 7, 1, 3)
    assert given == [torch.default_generator.initial_seed()]


@pytest.mark.parametrize("first_update", [0, 1, 3, 4])
def test_an_epoch_goes_on_with_the_photos_that_it_has_not_had(accelerator: Accelerator, first_update: int) -> None:
    pixels, model = MemoryPixels(23), toy()
    photos = photos_of(pixels)
    plan = BatchPlan(23, 5, 7)
    optimizer = accelerator.prepare(torch.optim.SGD(model.parameters(), lr=0.1))
    scheduler = torch.optim.lr_scheduler.ConstantLR(optimizer.optimizer, 1.0)
    learner = Learner(accelerator, model, model, own_losses("mask"), optimizer, scheduler)
    learner.num_updates, learner.num_skipped = 9, 2
    batches = Batches(photos, plan, augmenter(), "mask")
    updates = train_one_epoch(
        learner, batches, epoch=3, first_update=first_update, log_interval=100, max_grad_norm=None
    )
    yields = list(updates)
    assert pixels.read == plan.order(3)[first_update * 5 : 20].tolist()
    assert len(yields) == 4 - first_update and learner.num_updates == 9 + 4 - first_update
    assert learner.num_skipped == (2 if first_update else 0)  # the bound is an epoch's


def test_a_gradient_that_is_not_finite_is_seen_when_gradients_are_clipped(accelerator: Accelerator) -> None:
    """The loss is finite: it is the norm that tells."""
    model = toy()
    model.layer[2].bias.register_hook(lambda gradient: gradient * torch.inf)
    with pytest.raises(NotFinite) as caught:
        trained(accelerator, model, max_grad_norm=1.0)
    assert caught.value.update == 1


def test_training_averages_the_weights_once_per_update(accelerator: Accelerator) -> None:
    learner, _, _ = trained(accelerator, toy(), average_decay=0.9, max_device_batch_size=2)
    assert learner.average is not None and learner.average.num_updates == 4


# fp16


def with_loss_scale(scale: float) -> Accelerator:
    """Returns what Accelerate makes for fp16, though on a CPU."""
    accelerator = Accelerator(cpu=True)
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=scale)
    return accelerator


@pytest.mark.parametrize("fused", [False, True])  # a fused optimizer leaves the update out inside its kernel
def test_schedule_and_average_stand_still_while_fp16_overflows(fused: bool) -> None:
    model, overflows, before = toy(), list[bool](), list[torch.Tensor]()

    def rounded(gradient: torch.Tensor) -> torch.Tensor:
        before.append(weights(model))
        overflows.append(bool(gradient.half().isinf().any()))
        return gradient.half().float()

    model.layer[2].weight.register_hook(rounded)
    learner, lines, updates = trained(
        with_loss_scale(2.0**21), model, num_epochs=3, log_interval=1, average_decay=0.9, fused=fused
    )
    assert updates == learner.num_updates == 12 and learner.average is not None
    assert overflows[:2] == [True, True] and overflows[-2:] == [False, False]
    rates = [0.05 / (1 + overflows[:number].count(False)) for number in range(1, 13)]
    assert [line["train/lr"] for line in lines] == pytest.approx(rates)
    assert learner.average.num_updates == overflows.count(False)
    same = [torch.equal(one, other) for one, other in pairwise([*before, weights(model)])]
    assert same == overflows


def test_fp16_that_overflows_whatever_the_scale_is_not_tried_for_ever() -> None:
    model = toy()
    own = weights(model)
    model.layer[2].bias.register_hook(lambda gradient: gradient * torch.inf)
    with pytest.raises(EndlessOverflow) as caught:
        trained(with_loss_scale(2.0**6), model, num_epochs=3)
    assert caught.value.update == 7  # 64 halved so often is below 1
    assert torch.equal(weights(model), own)


# WeightAverage


@pytest.mark.parametrize("decay", [0.15, 0.999])
def test_the_weight_average_follows_its_formula(decay: float) -> None:
    model = toy()
    average, expected = WeightAverage(model, decay), weights(model).double()
    for update in range(1, 9):
        with torch.no_grad():
            for number, parameter in enumerate(model.parameters()):
                parameter += 0.1 * update + number
        average.update(model)
        share = min(decay, (1 + update) / (10 + update))
        expected = share * expected + (1 - share) * weights(model).double()
    flat = torch.cat([weight.flatten() for weight in average.weights]).double()
    torch.testing.assert_close(flat, expected, rtol=1e-5, atol=1e-6)


def test_the_average_is_applied_inside_and_the_own_weights_come_back_even_after_an_error() -> None:
    model = toy()
    average = WeightAverage(model, 0.5)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter += 1.0
    average.update(model)
    own, mean = weights(model), torch.cat([weight.flatten() for weight in average.weights])
    assert not torch.allclose(own, mean)
    for _ in range(2):
        with average.applied(model):
            assert torch.equal(weights(model), mean)
        assert torch.equal(weights(model), own)
    with pytest.raises(KeyboardInterrupt), average.applied(model):
        raise KeyboardInterrupt
    assert torch.equal(weights(model), own)
    assert torch.equal(torch.cat([weight.flatten() for weight in average.weights]), mean)
