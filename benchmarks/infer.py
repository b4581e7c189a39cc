"""Files to answers, against transformers' pipeline: python benchmarks/infer.py FOLDER [ROUNDS].

FOLDER holds images/. ViT-Ti/16 at 224, torch alone; the whole rate after the model is loaded, and of our whole process.
"""

from __future__ import annotations

import json
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

from measure import machine, parser, print_table, run_variant

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


def main() -> None:
    """Measures all in turn."""
    if "--variant" in sys.argv:
        name, images, model, precision = sys.argv[2:6]
        print(json.dumps({"pipeline": pipeline_rate, "ours": our_rate}[name](images, model, precision)))
        return
    arguments = parser(__doc__, folder="with images/: DIR/eval of maskcls sample-data", rounds=3).parse_args()
    from transformers import ViTConfig, ViTForImageClassification, ViTImageProcessor

    images = str(Path(arguments.folder) / "images")
    with tempfile.TemporaryDirectory() as model:
        ViTForImageClassification(ViTConfig(num_labels=18, **TINY)).save_pretrained(model)
        ViTImageProcessor().save_pretrained(model)
        rates: dict[str, list[float]] = {}
        for _ in range(arguments.rounds):
            for name in ("pipeline", "ours"):
                for precision in ("fp32", "bf16"):
                    rates.setdefault(f"{name}, {precision}", []).append(run_variant(name, images, model, precision))
    print(f"{len(list(Path(images).iterdir()))} photos; {machine()}")
    print_table(rates, unit="photos/s", baseline="pipeline, fp32")


if __name__ == "__main__":
    main()
