"""A folder on disk is whole or as it was, and damage to it is found and named."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from maskcls.errors import Fault
from maskcls.training.durable import MANIFEST, damage_of, put_in_place, unfinished_beside, write_manifest

FILES = {"a.json": b"{}" * 50, "b.bin": bytes(range(256)), "c.yaml": b"key: value\n"}


def filled(folder: Path, files: dict[str, bytes] = FILES) -> None:
    """Makes a folder with its manifest."""
    folder.mkdir()
    for name, data in files.items():
        (folder / name).write_bytes(data)
    write_manifest(folder)


def contents(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    filled(tmp_path / "last")
    assert damage_of(tmp_path / "last") is None
    return tmp_path / "last"


def cut(folder: Path) -> str:
    os.truncate(folder / "b.bin", 128)
    return "b.bin has 128 bytes instead of 256"


def emptied(folder: Path) -> str:
    (folder / "a.json").write_bytes(b"")
    return "a.json has 0 bytes instead of 100"


def changed(folder: Path) -> str:
    (folder / "c.yaml").write_bytes(b"key: valuf\n")
    return "c.yaml has changed since it was written"


def deleted(folder: Path) -> str:
    (folder / "b.bin").unlink()
    return "b.bin is missing"


def without_manifest(folder: Path) -> str:
    (folder / MANIFEST).unlink()
    return "manifest.json is missing"


def with_half_a_manifest(folder: Path) -> str:
    os.truncate(folder / MANIFEST, 40)
    return "manifest.json cannot be read: "


def with_another_manifest(folder: Path) -> str:
    (folder / MANIFEST).write_text('["a.json"]')
    return "manifest.json cannot be read: "


def empty(folder: Path) -> str:
    shutil.rmtree(folder)
    folder.mkdir()
    return "manifest.json is missing"


@pytest.mark.parametrize(
    "damaged", [cut, emptied, changed, deleted, without_manifest, with_half_a_manifest, with_another_manifest, empty]
)
def test_damage_is_named(damaged: Callable[[Path], str], folder: Path) -> None:
    words = damaged(folder)
    assert (damage_of(folder) or "").startswith(words)


def test_every_changed_byte_of_every_file_is_found(folder: Path) -> None:
    found = 0
    for name, data in contents(folder).items():
        for place in range(len(data)):
            flipped = bytearray(data)
            flipped[place] ^= 0x10
            (folder / name).write_bytes(flipped)
            assert damage_of(folder), f"{name}, byte {place}"
            found += 1
        (folder / name).write_bytes(data)
        assert damage_of(folder) is None
    assert found > 500


@pytest.mark.parametrize("keeps", [True, False])
def test_the_new_folder_takes_the_place_of_the_one_that_was_there(keeps: bool, folder: Path) -> None:
    former, before = folder.with_name("previous"), contents(folder)
    for number in range(3):
        with put_in_place(folder, former=former if keeps else None) as unfinished:
            assert unfinished == unfinished_beside(folder) and not unfinished.exists()
            filled(unfinished, {"new": bytes([number])})
    assert contents(folder)["new"] == b"\2" and "a.json" in before and "a.json" not in contents(folder)
    assert {path.name for path in folder.parent.iterdir()} == ({"last", "previous"} if keeps else {"last"})
    assert not keeps or contents(former)["new"] == b"\1"


def test_a_disk_that_takes_no_more_is_a_fault_and_the_folder_stays_as_it_was(folder: Path) -> None:
    before = contents(folder)
    with (
        pytest.raises(
            Fault, match=r"last cannot be written: No space left.*\. The state before it is whole\. To resume"
        ),
        put_in_place(folder) as unfinished,
    ):
        filled(unfinished, {"half": b"half"})
        raise OSError("No space left on device")
    assert contents(folder) == before and os.listdir(folder.parent) == ["last"]


def test_what_a_kill_has_left_is_in_nobodys_way(folder: Path) -> None:
    filled(unfinished_beside(folder), {"half": b"half"})
    with put_in_place(folder) as unfinished:
        filled(unfinished, {"new": b"whole"})
    assert contents(folder).keys() == {"new", MANIFEST} and os.listdir(folder.parent) == ["last"]
