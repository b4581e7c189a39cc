"""Files to answers, against transformers' pipeline, and five runs together: python benchmarks/infer.py FOLDER [ROUNDS].

FOLDER holds images/. ViT-Ti/16 at 224, torch alone; the whole rate after the models are loaded. Last the rate of an
ensemble of five runs that see photos alike, against one fifth of that of one of them, both measured in one process.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from measure import ROOT, machine, parser, print_table, run_variant

TINY = {"hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768}


def pipeline_rate(images: str, model: str, precision: str) -> float:
    """Returns photos/s of transformers.pipeline with batches of 32."""
    import torch
    from transformers import pipeline

    dtype = torch.bfloat16 if precision == "bf16" else torch.float32
    classify = pipeline("image-classification", model=model, batch_size=32, dtype=dtype)
    paths = [str(path) for path in sorted(Path(images).iterdir())]
    started = time.perf_counter()
    answers = classify(paths, top_k=1)
    assert len(answers) == len(paths)
    return len(paths) / (time.perf_counter() - started)


def our_rate(images: str, model: str, precision: str, *, image_size: tuple[int, int] = (224, 224)) -> float:
    """Returns photos/s of our decoding and predict()."""
    from maskcls.machine import decoding_threads, keep_freed_memory

    keep_freed_memory()
    import datasets  # noqa: F401  imports are start-up, for both
    from accelerate import Accelerator

    from maskcls.data.inference import inference_data
    from maskcls.data.pixels import DecodedPixels
    from maskcls.data.preprocessing import Preprocessing
    from maskcls.modeling.model import attention_for, load_model
    from maskcls.training.loop import predict

    accelerator = Accelerator(mixed_precision="bf16" if precision == "bf16" else "no")
    network = load_model(model, attention=attention_for(accelerator.device))
    network = accelerator.prepare_model(network, evaluation_mode=True)
    preprocessing = Preprocessing(image_size, mean=[0.5] * 3, std=[0.5] * 3)
    started = time.perf_counter()
    photos = inference_data(Path(images).parent).photos
    reader = DecodedPixels(photos.table, preprocessing, num_threads=decoding_threads(None))
    logits = predict(accelerator, network, replace(photos, reader=reader), preprocessing, batch_size=32)
    return len(logits) / (time.perf_counter() - started)


def ensemble_rates(images: str, model: str, precision: str) -> list[float]:
    """Returns photos/s of one run and of five together, each with its own copy of the model; decoding included."""
    from maskcls.config import load_config
    from maskcls.data.inference import inference_data
    from maskcls.data.preprocessing import Preprocessing
    from maskcls.modeling.model import attention_for, load_model
    from maskcls.training.answering import LoadedRun, ask
    from maskcls.training.processes import Launch
    from maskcls.training.run_folder import RunFolder
    from maskcls.training.sharding import prepare_to_predict

    launch, photos = Launch(precision=precision.replace("fp32", "no")), inference_data(Path(images).parent).photos
    config = load_config(
        ROOT / "configs" / "exp.yaml", ["data_dir=.", "dataset_args.output=class", "valid_batch_size=32"]
    )
    runs = []
    for number in range(5):
        network = load_model(model, attention=attention_for(launch.accelerator.device))
        preprocessing = Preprocessing((224, 224), mean=[0.5] * 3, std=[0.5] * 3)
        ready = prepare_to_predict(launch.accelerator, network)
        runs.append(LoadedRun(RunFolder(Path(f"run{number}")), config, preprocessing, ready))
    rates = []
    for several in (runs[:1], runs):
        started = time.perf_counter()
        answered = ask(launch, several, photos, batch_size=None)
        assert len(answered.said) == len(several)
        rates.append(len(photos) / (time.perf_counter() - started))
    return rates


def main() -> None:
    """Measures all in turn."""
    if "--variant" in sys.argv:
        name, images, model, precision = sys.argv[2:6]
        variants = {"pipeline": pipeline_rate, "ours": our_rate, "ensemble": ensemble_rates}
        print(json.dumps(variants[name](images, model, precision)))
        return
    arguments = parser(__doc__, folder="with images/: DIR/eval of maskcls sample-data", rounds=3).parse_args()
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    images = str(Path(arguments.folder) / "images")
    with tempfile.TemporaryDirectory() as model:
        ViTForImageClassification(ViTConfig(num_labels=18, **TINY)).save_pretrained(model)
        ViTImageProcessor().save_pretrained(model)
        rates: dict[str, list[float]] = {}
        together: dict[str, list[float]] = {}
        for _ in range(arguments.rounds):
            for name in ("pipeline", "ours"):
                for precision in ("fp32", "bf16"):
                    rates.setdefault(f"{name}, {precision}", []).append(run_variant(name, images, model, precision))
            for precision in ("fp32", "bf16"):
                one, five = run_variant("ensemble", images, model, precision)
                together.setdefault(f"a fifth of one run's, {precision}", []).append(one / 5)
                together.setdefault(f"five runs together, {precision}", []).append(five)
    print(f"{len(list(Path(images).iterdir()))} photos; {machine()}")
    print_table(rates, unit="photos/s", baseline="pipeline, fp32")
    for precision in ("fp32", "bf16"):
        of_precision = {name: found for name, found in together.items() if name.endswith(precision)}
        print_table(of_precision, unit="photos/s", baseline=f"a fifth of one run's, {precision}")


if __name__ == "__main__":
    main()
