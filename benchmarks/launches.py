"""Launches, counted without a GPU: python benchmarks/launches.py [CONFIG ...].

Operations that a GPU would be given, one after the other, by the augmentation of a pass, and in bf16 by an update and
a prediction of configs/CONFIG.yaml (all of them when none is named). Torch's meta device stands in for the GPU, nothing
is computed. A launch takes the program 5 to 10 us; where their sum is more than the GPU's work, the GPU waits for them.
"""

from __future__ import annotations

import sys
import tempfile
from contextlib import redirect_stderr, redirect_stdout
from io import StringIO
from pathlib import Path

ROOT = Path(__file__).parents[1]
sys.path[:0] = [str(ROOT)]

from benchmarks.measure import parser  # noqa: E402

RECIPES: dict[str, tuple[str, dict[str, float]]] = {
    "none": ("none", {}),
    "light": ("light", {}),
    "light, parts resized": ("light", {"min_area": 0.5}),
    "light, half_cutmix": ("light", {"half_cutmix": 0.5}),
    "standard": ("standard", {}),
    "strong": ("strong", {}),
    "strong, mixup and cutmix": ("strong", {"mixup": 0.5, "cutmix": 0.4}),
}
CASTS = "aten._to_copy.default"


def augmentation_launches(name: str) -> int:
    """Returns the launches of one pass of a recipe, from stored pixels to the model's input and its targets."""
    import torch

    from maskcls.data.augmentation import AUGMENTATIONS
    from maskcls.data.augmenter import Augmenter
    from maskcls.data.preprocessing import Preprocessing
    from tests.stand_in import META, Watch

    recipe, strengths = RECIPES[name]
    preprocessing = Preprocessing((224, 224), mean=[0.5] * 3, std=[0.25] * 3)
    augmenter = Augmenter(AUGMENTATIONS[recipe](**strengths), preprocessing, seed=0, device=META)
    keys, target = torch.arange(64, device=META), torch.empty(64, 18, device=META)
    with Watch() as watch:
        x = augmenter.augmented(torch.empty(64, 252, 252, 3, dtype=torch.uint8, device=META), keys, epoch=1)
        augmenter.mixed(x, {"class": target}, keys, epoch=1)
    assert not watch.waits
    return watch.launches.total()


def config_launches(name: str, sample: Path, cache: Path) -> tuple[int, int, int]:
    """Returns the launches of an update, how many of them are casts, and those of a prediction of one batch."""
    from maskcls.training.loop import predict
    from tests.stand_in import Watch, epoch, shipped, standing_in

    with redirect_stdout(StringIO()), redirect_stderr(StringIO()), standing_in() as launch:
        faces, learner, watched = epoch(shipped(name, sample, cache), launch)
        with Watch() as predicted:
            predict(launch.accelerator, learner.model, faces.data.valid, faces.preprocessing, batch_size=512)
    update = watched[1]  # the first one also makes the optimizer's moments
    assert not update.waits
    return update.launches.total(), update.launches[CASTS], predicted.launches.total()


def main() -> None:
    """Counts and prints both tables."""
    names = sorted(path.stem for path in (ROOT / "configs").glob("*.yaml"))
    arguments = parser(__doc__)
    arguments.add_argument("configs", nargs="*", metavar="CONFIG", help=f"of {', '.join(names)}")
    chosen = arguments.parse_args().configs
    if unknown := [name for name in chosen if name not in names]:
        arguments.error(f"argument CONFIG: there is no config {unknown[0]!r}; there are {', '.join(names)}")
    import torch
    import transformers

    from maskcls.sample.write import write_sample_data

    print(f"torch {torch.__version__}, transformers {transformers.__version__}\n")
    print("| augmentation of a pass | launches |\n|---|---|")
    for name in RECIPES:
        print(f"| {name} | {augmentation_launches(name)} |")
    print("\n| config | an update | of them casts | a prediction |\n|---|---|---|---|")
    with tempfile.TemporaryDirectory() as folder:
        write_sample_data(Path(folder), num_people=12, seed=0)
        for name in chosen or names:
            update, casts, prediction = config_launches(name, Path(folder), Path(folder) / "cache")
            print(f"| {name} | {update:,} | {casts:,} | {prediction:,} |", flush=True)


if __name__ == "__main__":
    main()
