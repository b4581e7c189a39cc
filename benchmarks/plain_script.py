"""The standard recipe as one plain script, for comparison: transformers at its defaults, Pillow transforms in workers.

python benchmarks/plain_script.py FOLDER SIZE NUM_TRAIN NUM_VALID PRECISION OUTPUT; one epoch and one validation.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
from loader import MEAN, STD, standard_recipe
from measure import count, folder, parser
from PIL import Image
from tqdm import tqdm

from maskcls.data import profiles
from maskcls.labels import class_of

if TYPE_CHECKING:
    import torch


class Photos:
    """Photos decoded and transformed one by one."""

    def __init__(self, folder: str, photos: list[profiles.Photo], size: int, *, is_training: bool) -> None:
        self.folder, self.photos, self.size, self.is_training = folder, photos, size, is_training

    def __len__(self) -> int:
        return len(self.photos)

    def __getitem__(self, index: int) -> dict[str, torch.Tensor]:
        import torch

        photo = self.photos[index]
        path = f"{self.folder}/{photo.profile}/{photo.file}"
        if self.is_training:
            pixels = standard_recipe(path, np.random.default_rng(index), self.size)
        else:
            image = Image.open(path).convert("RGB").resize((self.size, self.size), Image.Resampling.BILINEAR)
            pixels = ((np.asarray(image, np.float32) / 255 - MEAN) / STD).transpose(2, 0, 1)
        label = class_of(photo.labels)
        return {"pixel_values": torch.from_numpy(pixels), "labels": torch.tensor(label)}


def main() -> None:
    """Trains and validates."""
    reader = parser(__doc__)
    reader.add_argument("folder", type=folder, help="with profile folders")
    for name, text in (("size", "pixels"), ("num_train", "photos"), ("num_valid", "photos")):
        reader.add_argument(name, type=count, help=text)
    reader.add_argument("precision", choices=["fp32", "bf16"])
    reader.add_argument("output", help="folder for the model")
    given = reader.parse_args()
    import evaluate
    import torch
    from accelerate import Accelerator
    from torch.utils.data import DataLoader
    from transformers import ViTConfig, ViTForImageClassification, get_scheduler

    size, num_train, num_valid = given.size, given.num_train, given.num_valid
    accelerator = Accelerator(
        mixed_precision="bf16" if given.precision == "bf16" else "no", cpu=not torch.cuda.is_available()
    )
    photos, _ = profiles.find_photos(given.folder, profiles.profile_folders(given.folder))
    train = Photos(given.folder, photos[:num_train], size, is_training=True)
    valid = Photos(given.folder, photos[num_train : num_train + num_valid], size, is_training=False)
    train_loader = DataLoader(train, batch_size=32, shuffle=True, num_workers=2, drop_last=True)
    valid_loader = DataLoader(valid, batch_size=32, num_workers=2)
    config = ViTConfig(
        image_size=size, num_labels=18, hidden_size=192, num_attention_heads=3, intermediate_size=768
    )  # fmt: skip
    model = ViTForImageClassification(config)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3)
    scheduler = get_scheduler("cosine", optimizer, num_warmup_steps=5, num_training_steps=len(train_loader))
    model, optimizer, train_loader, valid_loader = accelerator.prepare(model, optimizer, train_loader, valid_loader)
    assert evaluate.Metric  # such scripts load their accuracy from the Hub; the import is what costs
    model.train()
    for batch in tqdm(train_loader):
        loss = model(**batch).loss
        accelerator.backward(loss)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
    model.eval()
    right = 0
    for batch in valid_loader:
        with torch.no_grad():
            logits = model(**batch).logits
        right += int((accelerator.gather_for_metrics(logits.argmax(1)) == batch["labels"]).sum())
    print(f"accuracy {right / len(valid):.4f}")
    accelerator.unwrap_model(model).save_pretrained(given.output)


if __name__ == "__main__":
    main()
