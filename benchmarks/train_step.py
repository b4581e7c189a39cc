"""Training images/s of our step, augmentation included, against transformers: python benchmarks/train_step.py [ROUNDS].

Every figure comes from a process of its own, the variants in turn. The share of the peak is what torch counts for
forward and backward, over the machine's own matmul of the same type.
"""

from __future__ import annotations

import statistics
import sys
from typing import Any

from measure import machine, matmul_peak, parser, print_table, run_variant, timed, training_flops

MODELS: dict[str, tuple[str, int, dict[str, Any]]] = {
    "ViT-Ti/16 at 224": ("vit", 224, {"hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768}),
    "ViT-Ti/16 at 96": ("vit", 96, {"hidden_size": 192, "num_attention_heads": 3, "intermediate_size": 768}),
    "ViT-S/16 at 224": ("vit", 224, {"hidden_size": 384, "num_attention_heads": 6, "intermediate_size": 1536}),
    "ConvNeXt-Atto at 224": ("convnext", 224, {"hidden_sizes": [40, 80, 160, 320], "depths": [2, 2, 6, 2]}),
}
VARIANTS = ("transformers", "transformers, bf16", "ours, fp32", "ours, bf16")
BATCH = 32


def images_per_second(name: str, variant: str) -> dict[str, float]:
    """Returns images/s and the share of the machine's matmul peak, measured in this process."""
    if variant.startswith("ours"):
        from maskcls.machine import keep_freed_memory

        keep_freed_memory()
    import torch
    from transformers import AutoConfig, AutoModelForImageClassification

    from maskcls.data.augmentation import AUGMENTATIONS
    from maskcls.data.augmenter import Augmenter
    from maskcls.data.preprocessing import Preprocessing
    from maskcls.modeling.loss import build_losses
    from maskcls.modeling.model import MODELS as BUILDERS
    from maskcls.modeling.model import attention_for
    from maskcls.modeling.optim import build_optimizer

    device = torch.device("cuda" if torch.cuda.is_available() else "cpu")
    model_type, size, fields = MODELS[name]
    autocast = torch.autocast(device.type, torch.bfloat16, enabled="bf16" in variant)
    random = torch.Generator().manual_seed(0)
    labels = torch.randint(18, (BATCH,), generator=random).to(device)
    if variant.startswith("ours"):
        stored = torch.randint(256, (BATCH, size * 9 // 8, size * 9 // 8, 3), dtype=torch.uint8, generator=random)
        preprocessing = Preprocessing((size, size), mean=[0.5] * 3, std=[0.25] * 3)
        augmenter = Augmenter(AUGMENTATIONS["light"], preprocessing, seed=0, device=device)
        attention = attention_for(device)
        model = BUILDERS[model_type](
            image_size=(size, size), id2label=dict.fromkeys(range(18), ""), attention=attention, **fields
        )
        model = model.to(device)
        optimizer = build_optimizer(torch.optim.AdamW, {}, model, lr=1e-3, weight_decay=0.05)
        from maskcls.modeling.loss import cross_entropy

        counts = {"class": [1] * 18}
        losses = build_losses(cross_entropy, {}, output="class", num_per_class=counts, head_weights={}, device=device)

        def step(number: int) -> None:
            x = augmenter.augmented(stored.to(device), torch.arange(BATCH, device=device), epoch=number)
            with autocast:
                logits = model(pixel_values=x).logits
            loss = losses.total(losses.per_head(logits.float(), {"class": labels})).mean()
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()
    else:
        config = AutoConfig.for_model(model_type, image_size=size, num_labels=18, **fields)
        model = AutoModelForImageClassification.from_config(config).to(device)
        optimizer = torch.optim.AdamW(model.parameters(), 1e-3)
        x = torch.randn(BATCH, 3, size, size, generator=random).to(device)

        def step(number: int) -> None:
            with autocast:
                loss = model(pixel_values=x, labels=labels).loss
            loss.backward()
            optimizer.step()
            optimizer.zero_grad()

    seconds = [timed(lambda number=number: step(number), device) for number in range(6)][2:]
    rate = BATCH / statistics.median(seconds)
    peak = matmul_peak(device, is_bf16="bf16" in variant)
    return {"rate": rate, "share": rate * training_flops(model, (size, size), device) / peak}


def main() -> None:
    """Measures every model in every variant, in turn."""
    if "--variant" in sys.argv:
        import json

        print(json.dumps(images_per_second(*sys.argv[2:4])))
        return
    arguments = parser(__doc__, rounds=3).parse_args()
    print(f"batch {BATCH}; {machine()}")
    for name in MODELS:
        rates: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
        shares: dict[str, list[float]] = {variant: [] for variant in VARIANTS}
        for _ in range(arguments.rounds):
            for variant in VARIANTS:
                result = run_variant(name, variant)
                rates[variant].append(result["rate"])
                shares[variant].append(result["share"])
        notes = {variant: f"{statistics.median(values):.0%} of the matmul peak" for variant, values in shares.items()}
        print(f"\n{name}")
        print_table(rates, unit="images/s", baseline="transformers", notes=notes)


if __name__ == "__main__":
    main()
