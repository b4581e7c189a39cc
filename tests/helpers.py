"""What several end-to-end tests do: small overrides, commands, files read back."""

from __future__ import annotations

import csv
import json
import os
import resource
import struct
import subprocess
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from wandb.proto.wandb_internal_pb2 import Record

from maskcls.errors import UserError

if TYPE_CHECKING:
    from maskcls.config import Config
    from maskcls.data.dataset import FaceData
    from maskcls.data.loader import BatchPlan
    from maskcls.data.preprocessing import Preprocessing
    from maskcls.training.batches import Batches
    from maskcls.training.processes import Launch

ROOT = Path(__file__).parents[1]
CPU = {"ACCELERATE_USE_CPU": "true", "OMP_NUM_THREADS": "1", "HF_HUB_OFFLINE": "1"}  # environment of what is started

TINY = {
    "vit": "{patch_size: 16, hidden_size: 32, num_hidden_layers: 2, num_attention_heads: 2, intermediate_size: 64}",
    "convnext": "{patch_size: 4, hidden_sizes: [16, 32], depths: [1, 1]}",
    "convnextv2": "{patch_size: 4, hidden_sizes: [16, 32], depths: [1, 1]}",
    "auto": "{model_type: resnet, layer_type: basic, embedding_size: 16, hidden_sizes: [16, 32], depths: [1, 1]}",
}


def overrides(sample: Path, tmp_path: Path, *, model: str, **more: object) -> list[str]:
    """Returns the overrides that turn any config into a run of seconds on the sample data."""
    return [
        f"data_dir={sample}/images", f"train_profile={sample}/train_profiles.txt",
        f"valid_profile={sample}/valid_profiles.txt", f"infer_data_dir={sample}/eval",
        f"model_dir={tmp_path}/runs", f"cache_dir={tmp_path}/cache", f"model_args={TINY[model]}", "image_size=[48, 32]",
        "train_batch_size=12", "valid_batch_size=16", "epochs=1", "log_interval=2", "wandb=disabled", "tensorboard=false",
        "report=false",
        *(f"{key}={value}" for key, value in more.items()),
    ]  # fmt: skip


def launcher(processes: int) -> list[str]:
    """Returns what starts a script: python, or torchrun when there are several processes."""
    torchrun = ["-m", "torch.distributed.run", "--nproc_per_node", str(processes), "--standalone"]
    return [sys.executable, *(torchrun if processes > 1 else [])]


class Faces(NamedTuple):
    """What a run learns from."""

    data: FaceData
    batches: Batches

    @property
    def plan(self) -> BatchPlan:
        return self.batches.plan

    @property
    def preprocessing(self) -> Preprocessing:
        return self.batches.augmenter.preprocessing

    def opened(self, reader: Any) -> Faces:
        """Returns the same with another reader of the pixels."""
        data = self.data.opened(reader)
        return Faces(data, replace(self.batches, photos=data.train))


def open_faces(config: Config, launch: Launch, data: FaceData | None = None) -> Faces:
    """Returns the decoded photos of a config, and the batches of those of training. Collective."""
    from maskcls.training.batches import Batches
    from maskcls.training.builders import build_augmenter, build_plan, open_data, open_pixels

    data, preprocessing = open_pixels(config, launch, data or open_data(config, launch))
    plan = build_plan(config, data.train, num_processes=launch.num_processes)
    augmenter = build_augmenter(config, preprocessing, launch.accelerator.device)
    return Faces(data, Batches(data.train, plan, augmenter, config.output))


def run(
    *command: str | Path, processes: int = 1, timeout: float = 180, **environment: str | None
) -> subprocess.CompletedProcess[str]:
    """Returns a finished script of the repository: python, or torchrun when there are several processes.

    environment: variables of the script; None takes one away.
    """
    return subprocess.run(
        [*launcher(processes), *map(str, command)], cwd=ROOT, capture_output=True, text=True, timeout=timeout,
        check=False,
        env={name: value for name, value in {**os.environ, **CPU, **environment}.items() if value is not None},
    )  # fmt: skip


def maskcls(*words: object) -> None:
    """Runs the command in this process, as a person types it."""
    from maskcls.cli import main

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sys, "argv", ["maskcls", *map(str, words)])
        main()


@contextmanager
def files_of_at_most(num_bytes: int) -> Iterator[None]:
    """Lets the system refuse to make any file longer, as a full disk does."""
    former = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (num_bytes, former[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, former)


def json_lines(path: Path) -> list[dict[str, Any]]:
    """Returns the objects of a .jsonl file."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def rows(path: Path) -> list[dict[str, str]]:
    """Returns the rows of a CSV."""
    with path.open(newline="") as file:
        return list(csv.DictReader(file))


def wandb_records(file: Path) -> list[Record]:
    """Returns the records of a run file. Its form is LevelDB's log: blocks of 32 KiB, a header of 7 bytes before each
    piece (checksum, length, kind: 1 whole, 2 first, 3 middle, 4 last). wandb's own reader is compiled since 0.31.
    """
    data, records, pieces = file.read_bytes(), [], b""
    assert data[:4] == b":W&B"
    position = 7
    while position + 7 <= len(data):
        if (left := 32768 - position % 32768) < 7:  # no header fits: the block's end is padding
            position += left
            continue
        _, length, kind = struct.unpack("<IHB", data[position : position + 7])
        pieces += data[position + 7 : position + 7 + length]
        position += 7 + length
        if kind in (1, 4):
            records.append(Record.FromString(pieces))
            pieces = b""
    assert position == len(data) and not pieces and len(records) > 3
    return records


def of_kind(records: list[Record], kind: str) -> list[Any]:
    """Returns the records of one kind: history, summary, files, ..."""
    return [getattr(record, kind) for record in records if record.WhichOneof("record_type") == kind]


def values_of(items: Iterable[Any]) -> dict[str, Any]:
    """Returns the values of a record's items; a nested one stands as outer -> inner -> value."""
    values: dict[str, Any] = {}
    for item in items:
        *outer, last = item.nested_key or [item.key]
        target = values
        for key in outer:
            target = target.setdefault(key, {})
        target[last] = json.loads(item.value_json)
    return values


def as_nobody(work: Callable[[], object]) -> str:
    """Returns the message of what `work` raises, or nothing, as a user who owns nothing. Only root may become one."""
    read, write = os.pipe()
    child = os.fork()
    if child == 0:
        try:
            os.setgroups([])
            os.setresgid(65534, 65534, 65534)
            os.setresuid(65534, 65534, 65534)
            work()
        except BaseException as error:
            os.write(write, f"{'' if isinstance(error, UserError) else f'{type(error).__name__}: '}{error}".encode())
        finally:
            os._exit(0)
    os.close(write)
    os.waitpid(child, 0)
    with open(read, encoding="utf-8") as file:
        return file.read()


class Parsed(HTMLParser):
    """The elements of a page: (tag, attributes), and the text outside of scripts and styles."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str]]] = []
        self.text = ""
        self._inside = ""
        self.feed(text)

    def handle_starttag(self, tag: str, attributes: list[tuple[str, str | None]]) -> None:
        self._inside = tag
        self.elements.append((tag, {name: value or "" for name, value in attributes}))

    def handle_data(self, data: str) -> None:
        if self._inside not in ("script", "style"):
            self.text += data

    def having(self, attribute: str) -> list[dict[str, str]]:
        """Returns the attributes of the elements that have this one."""
        return [attributes for _, attributes in self.elements if attribute in attributes]
