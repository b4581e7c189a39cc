"""Photos are decoded once, and the cache survives accidents, other launches and full disks."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
import time
from collections import namedtuple
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from threading import Barrier

import numpy as np
import pytest
import torch
from PIL import Image as Pillow

from maskcls.data import pixel_cache, profiles
from maskcls.data.photo import BadPhotos
from maskcls.data.pixel_cache import PixelCache
from maskcls.data.pixels import DecodedPixels
from maskcls.data.preprocessing import Preprocessing
from maskcls.errors import UserError
from tests.data.drawn import PERSON, RED, SMALL, is_all, stripes, table_of
from tests.helpers import as_nobody


@pytest.fixture
def decoded_names(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Returns a list that collects the name of every photo that is decoded."""
    names: list[str] = []
    real = Preprocessing.read

    def noted(preprocessing: Preprocessing, image: dict[str, object]) -> np.ndarray:
        names.append(str(image["path"]))
        return real(preprocessing, image)

    monkeypatch.setattr(Preprocessing, "read", noted)
    return names


def test_a_second_call_decodes_nothing(images: Path, tmp_path: Path, decoded_names: list[str]) -> None:
    table = table_of(images)
    PixelCache(table, SMALL, tmp_path).build(num_threads=2)
    assert len(decoded_names) == 7
    PixelCache(table_of(images), SMALL, tmp_path).build(num_threads=2)
    assert len(decoded_names) == 7


def test_another_photo_or_preprocessing_has_another_folder(images: Path, tmp_path: Path) -> None:
    table = table_of(images)
    several = [
        SMALL, Preprocessing((18, 24), margin=0.125), Preprocessing((24, 18)), Preprocessing((24, 18), "pad", margin=0.125),
        Preprocessing((24, 18), crop_box=(0, 0, 1, 0.5), margin=0.125),
    ]  # fmt: skip
    folders = {PixelCache(table, preprocessing, tmp_path).folder for preprocessing in several}
    assert len(folders) == len(several)
    assert PixelCache(table, Preprocessing((24, 18), crop_box=[0, 0, 1, 0.5], margin=0.125), tmp_path).folder in folders
    photo = images / PERSON / "normal.png"
    stripes(RED).save(photo)
    os.utime(photo, ns=(0, 1))
    changed = table_of(images)
    assert PixelCache(changed, SMALL, tmp_path).folder not in folders
    PixelCache(table, SMALL, tmp_path / "old").build(num_threads=0)
    PixelCache(changed, SMALL, tmp_path).build(num_threads=0)
    row = list(changed["stem"]).index("normal")
    assert is_all(PixelCache(changed, SMALL, tmp_path).open()(np.array([row]))[0].numpy(), RED)


def test_photos_that_cannot_be_read_are_all_named_in_one_message(images: Path, tmp_path: Path) -> None:
    folder = images / PERSON
    whole = folder / "mask1.png"
    Pillow.open(whole).resize((300, 300)).save(folder / "mask2.png")
    stored = (folder / "mask2.png").read_bytes()
    (folder / "mask2.png").write_bytes(stored[: len(stored) // 2])
    (folder / "mask3.png").write_text("not a photo")
    (folder / "mask4.png").write_bytes(b"")
    Pillow.open(whole).resize((300, 300)).save(folder / "mask5.jpg")
    (folder / "mask5.png").unlink()
    stored = (folder / "mask5.jpg").read_bytes()
    (folder / "mask5.jpg").write_bytes(stored[:-1000])
    table = table_of(images)
    bad = [str(folder / name) for name in ("mask2.png", "mask3.png", "mask4.png", "mask5.jpg")]
    reads: list[Callable[[], object]] = [
        lambda: PixelCache(table, SMALL, tmp_path).build(num_threads=0),
        lambda: PixelCache(table, SMALL, tmp_path).build(num_threads=3),
        lambda: PixelCache(table, SMALL, tmp_path).look_through(num_threads=3),
        lambda: DecodedPixels(table, SMALL)(np.arange(7)),
    ]
    for read in reads:
        with pytest.raises(BadPhotos) as error:
            read()
        assert str(error.value).splitlines()[0] == "4 photos cannot be read:"
        assert len(error.value.args) == 4
        for problem, path in zip(str(error.value).splitlines()[1:], bad, strict=True):
            assert problem.startswith(f"  - {path}: ")
        assert f"{bad[1]}: it is not an image" in str(error.value)
        assert f"{bad[2]}: it is not an image" in str(error.value)
        assert not (PixelCache(table, SMALL, tmp_path).folder / "complete").exists()
        assert not (PixelCache(table, SMALL, tmp_path).folder / "readable").exists()
    assert DecodedPixels(table, SMALL)(np.array([0])).shape == (1, 27, 20, 3)  # the others can be read


def test_no_shard_is_written_after_a_bad_photo(images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """They would hold the pixels of the wrong photos, and a later launch would take them for finished."""
    monkeypatch.setattr(pixel_cache, "SHARD_PHOTOS", 2)
    names = sorted(f"{stem}.png" for stem in profiles.STEMS)
    (images / PERSON / names[2]).write_text("not a photo")
    table = table_of(images)
    with pytest.raises(BadPhotos):
        PixelCache(table, SMALL, tmp_path).build(num_threads=2)
    assert [path.name for path in PixelCache(table, SMALL, tmp_path).folder.glob("*.arrow")] == ["00000000.arrow"]


def test_a_cache_is_whole_after_the_bad_photo_is_mended(images: Path, tmp_path: Path) -> None:
    photo = images / PERSON / "normal.png"
    stored = photo.read_bytes()
    photo.write_text("not a photo")
    with pytest.raises(BadPhotos, match=r"^[^\n]*normal\.png: it is not an image$"):
        PixelCache(table_of(images), SMALL, tmp_path).build(num_threads=1)
    photo.write_bytes(stored)
    table = table_of(images)
    PixelCache(table, SMALL, tmp_path).build(num_threads=1)
    assert torch.equal(
        PixelCache(table, SMALL, tmp_path).open()(np.arange(7)), DecodedPixels(table, SMALL)(np.arange(7))
    )


def test_a_killed_launch_costs_only_the_shards_that_it_had_not_finished(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoded_names: list[str]
) -> None:
    monkeypatch.setattr(pixel_cache, "SHARD_PHOTOS", 2)
    table = table_of(images)
    PixelCache(table, SMALL, tmp_path).build(num_threads=2)
    folder = PixelCache(table, SMALL, tmp_path).folder
    expected = PixelCache(table, SMALL, tmp_path).open()(np.arange(7))
    shards = sorted(folder.glob("*.arrow"))
    assert [shard.name for shard in shards] == [f"0000000{start}.arrow" for start in (0, 2, 4, 6)]
    for shard in shards:
        os.utime(shard, ns=(1, 1))
    (folder / "complete").unlink()
    shards[1].rename(folder / "00000002.unfinished")
    (folder / "00000002.unfinished").write_bytes(b"half")
    decoded_names.clear()
    PixelCache(table, SMALL, tmp_path).build(num_threads=2)
    assert [shard.stat().st_mtime_ns == 1 for shard in shards] == [True, False, True, True]
    assert len(decoded_names) == 2
    assert sorted(path.name for path in folder.iterdir()) == sorted([*(shard.name for shard in shards), "complete"])
    assert torch.equal(PixelCache(table, SMALL, tmp_path).open()(np.arange(7)), expected)


def test_a_launch_that_lost_only_the_marker_decodes_nothing(
    images: Path, tmp_path: Path, decoded_names: list[str]
) -> None:
    table = table_of(images)
    PixelCache(table, SMALL, tmp_path).build(num_threads=0)
    (PixelCache(table, SMALL, tmp_path).folder / "complete").unlink()
    PixelCache(table, SMALL, tmp_path).build(num_threads=0)
    assert len(decoded_names) == 7
    assert (PixelCache(table, SMALL, tmp_path).folder / "complete").exists()


def truncated(file: Path) -> None:
    os.truncate(file, file.stat().st_size // 2)


def zeroed(file: Path) -> None:
    file.write_bytes(bytes(file.stat().st_size))


def half_zeroed(file: Path) -> None:
    whole = file.read_bytes()
    file.write_bytes(whole[: len(whole) // 2] + bytes(len(whole) - len(whole) // 2))


@pytest.mark.parametrize("has_marker", [True, False])
@pytest.mark.parametrize("damage", [truncated, Path.unlink, zeroed, half_zeroed])
def test_a_damaged_shard_is_made_again_and_the_others_are_kept(
    damage: Callable[[Path], None], has_marker: bool, images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
    decoded_names: list[str],
) -> None:  # fmt: skip
    monkeypatch.setattr(pixel_cache, "SHARD_PHOTOS", 2)
    monkeypatch.setattr(pixel_cache, "SIGN_STEP", 1024)
    monkeypatch.setattr(pixel_cache, "SIGN_BYTES", 64)
    table = table_of(images)
    PixelCache(table, SMALL, tmp_path).build(num_threads=2)
    expected = PixelCache(table, SMALL, tmp_path).open()(np.arange(7))
    folder = PixelCache(table, SMALL, tmp_path).folder
    damage(folder / "00000002.arrow")
    if not has_marker:  # a launch was killed, and its machine lost its power
        if damage is half_zeroed:
            pytest.skip("what a killed launch left has no checksum yet")
        (folder / "complete").unlink()
    decoded_names.clear()
    PixelCache(table, SMALL, tmp_path).build(num_threads=2)
    assert len(decoded_names) == 2
    assert torch.equal(PixelCache(table, SMALL, tmp_path).open()(np.arange(7)), expected)
    PixelCache(table, SMALL, tmp_path).build(num_threads=2)
    assert len(decoded_names) == 2


@pytest.mark.parametrize("content", [b"", bytes(100), b"[]", b"{}", b'{"signs": {"x": 1}}', b"\xff"])
def test_a_damaged_marker_is_written_again_without_decoding(
    content: bytes, images: Path, tmp_path: Path, decoded_names: list[str]
) -> None:
    table = table_of(images)
    PixelCache(table, SMALL, tmp_path).build(num_threads=0)
    marker = PixelCache(table, SMALL, tmp_path).folder / "complete"
    whole = marker.read_bytes()
    marker.write_bytes(content)
    PixelCache(table, SMALL, tmp_path).build(num_threads=0)
    assert (marker.read_bytes(), len(decoded_names)) == (whole, 7)


@pytest.mark.parametrize("damage", [truncated, Path.unlink, zeroed])
def test_a_cache_that_is_damaged_when_it_is_opened_is_reported_with_the_folder_to_delete(
    damage: Callable[[Path], None], images: Path, tmp_path: Path
) -> None:
    table = table_of(images)
    PixelCache(table, SMALL, tmp_path).build(num_threads=0)
    folder = PixelCache(table, SMALL, tmp_path).folder
    damage(folder / "00000000.arrow")
    with pytest.raises(UserError, match=rf"^the decoded photos in {folder} are not whole \(.+\): delete that folder$"):
        PixelCache(table, SMALL, tmp_path).open()


def test_machines_whose_common_disk_has_no_locks_may_build_at_once(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(lock: object, **how: object) -> None:
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr("filelock.FileLock.acquire", refuse)
    monkeypatch.setattr(pixel_cache, "SHARD_PHOTOS", 2)
    table = table_of(images)
    real, barrier = PixelCache._write_shards, Barrier(2)

    def together(*arguments: object, **more: object) -> None:
        barrier.wait(30)
        real(*arguments, **more)

    monkeypatch.setattr(PixelCache, "_write_shards", together)
    with ThreadPoolExecutor(2) as pool:
        builds = [pool.submit(PixelCache(table, SMALL, tmp_path).build, num_threads=1) for _ in range(2)]
        for build in builds:
            build.result(60)
    assert torch.equal(
        PixelCache(table, SMALL, tmp_path).open()(np.arange(7)), DecodedPixels(table, SMALL)(np.arange(7))
    )
    names = {path.name for path in PixelCache(table, SMALL, tmp_path).folder.iterdir()}
    assert names == {"complete", *(f"0000000{start}.arrow" for start in (0, 2, 4, 6))}


def test_what_a_killed_launch_left_unfinished_is_removed(images: Path, tmp_path: Path) -> None:
    table = table_of(images)
    folder = PixelCache(table, SMALL, tmp_path).folder
    folder.mkdir(parents=True)
    (folder / "00000000-0123.unfinished").write_bytes(b"half")
    PixelCache(table, SMALL, tmp_path).build(num_threads=0)
    assert {path.name for path in folder.iterdir()} == {"00000000.arrow", "complete"}


def test_a_lock_that_cannot_be_taken_is_reported_with_its_folder(images: Path, tmp_path: Path) -> None:
    table = table_of(images)
    folder = PixelCache(table, SMALL, tmp_path).folder
    Path(f"{folder}.lock").mkdir(parents=True)
    with pytest.raises(UserError, match=rf"^cache_dir {tmp_path} cannot be written: Is a directory$"):
        PixelCache(table, SMALL, tmp_path).build(num_threads=0)


@pytest.mark.parametrize("fit", ["squash", "pad", "crop"])
@pytest.mark.parametrize("read_all", [PixelCache.build, PixelCache.look_through])
def test_photos_that_show_nothing_are_known_once_all_are_read(
    read_all: Callable[..., None], fit: str, images: Path, tmp_path: Path
) -> None:
    preprocessing = Preprocessing((24, 18), fit)
    table = table_of(images)
    read_all(PixelCache(table, preprocessing, tmp_path), num_threads=0)
    assert PixelCache(table, preprocessing, tmp_path).of_one_colour == []
    stripes(RED).save(images / PERSON / "mask2.png")
    Pillow.new("L", (50, 20), 128).save(images / PERSON / "normal.png")
    corner = np.full((20, 20, 3), 9, np.uint8)
    corner[-8:, -8:] = 200
    Pillow.fromarray(corner).save(images / PERSON / "mask3.png")
    table = table_of(images)
    assert PixelCache(table, preprocessing, tmp_path).of_one_colour == []  # not read yet
    for _ in range(2):
        read_all(PixelCache(table, preprocessing, tmp_path), num_threads=2)
        expected = [str(images / PERSON / name) for name in ("mask2.png", "normal.png")]
        assert PixelCache(table, preprocessing, tmp_path).of_one_colour == expected


def test_photos_are_looked_through_once_and_not_in_every_run(
    images: Path, tmp_path: Path, decoded_names: list[str]
) -> None:
    table = table_of(images)
    PixelCache(table, SMALL, tmp_path).look_through(num_threads=2)
    PixelCache(table, SMALL, tmp_path).look_through(num_threads=2)
    assert len(decoded_names) == 7
    PixelCache(table, SMALL, tmp_path / "other").build(num_threads=0)
    PixelCache(table, SMALL, tmp_path / "other").look_through(num_threads=2)  # the decoded pixels are proof enough
    assert len(decoded_names) == 14


def test_a_disk_that_is_too_small_is_reported_before_anything_is_decoded(
    images: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, decoded_names: list[str]
) -> None:
    usage = namedtuple("usage", "total used free")
    table = table_of(images)
    needed = 7 * 27 * 20 * 3
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 10**12, needed))
    with pytest.raises(UserError) as error:
        PixelCache(table, SMALL, tmp_path).build(num_threads=0)
    folder = PixelCache(table, SMALL, tmp_path).folder
    assert str(error.value) == (
        f"the decoded photos take 0.0 GB, but {folder} has 0.0 GB free: "
        "set cache_dir to a larger disk, lower image_size, or set cache: none"
    )
    assert decoded_names == []
    assert not (folder / "complete").exists()
    monkeypatch.setattr(shutil, "disk_usage", lambda path: usage(10**12, 0, 2 * needed))
    PixelCache(table, SMALL, tmp_path).build(num_threads=0)
    assert (folder / "complete").exists()


def test_a_cache_folder_that_cannot_be_written_is_named(images: Path, tmp_path: Path) -> None:
    table = table_of(images)
    (tmp_path / "file").touch()
    with pytest.raises(UserError, match=rf"^cache_dir {tmp_path}/file cannot be written: Not a directory$"):
        PixelCache(table, SMALL, tmp_path / "file").build(num_threads=0)


def test_decoding_tells_where_it_goes_and_how_large_it_is(
    images: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    table = table_of(images)
    PixelCache(table, Preprocessing((300, 300)), tmp_path).build(num_threads=0)
    folder = PixelCache(table, Preprocessing((300, 300)), tmp_path).folder
    assert capsys.readouterr().out.startswith(f"decoding once to {folder}: 2 MB (")


@pytest.mark.slow
def test_a_launch_waits_for_another_that_is_decoding_and_uses_its_pixels(
    sample: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    table = table_of(sample / "images")
    code = (
        "import sys\n"
        "from pathlib import Path\n"
        "import numpy\n"
        "from maskcls.data import profiles\n"
        "from maskcls.data.dataset import build_table\n"
        "from maskcls.data.pixel_cache import PixelCache\n"
        "from maskcls.data.preprocessing import Preprocessing\n"
        "images, cache = map(Path, sys.argv[1:])\n"
        "table = build_table(profiles.find_photos(images, profiles.profile_folders(images))[0], images)\n"
        "names, real = [], Preprocessing.read\n"
        "Preprocessing.read = lambda self, image: names.append(image['path']) or real(self, image)\n"
        "pixels = PixelCache(table, Preprocessing((24, 18), margin=0.125), cache)\n"
        "print('ready', flush=True)\n"
        "sys.stdin.readline()\n"
        "print('going', (pixels.folder / 'complete').exists(), flush=True)\n"
        "pixels.build(num_threads=1)\n"
        "print(len(names), int(pixels.open()(numpy.arange(84)).long().sum()))\n"
    )
    command = [sys.executable, "-c", code, str(sample / "images"), str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout.readline() == "ready\n"
        names: list[str] = []
        real = Preprocessing.read

        def let_the_other_go(preprocessing: Preprocessing, image: dict[str, object]) -> np.ndarray:
            names.append(str(image["path"]))
            if len(names) == 1:
                child.stdin.write("go\n")
                child.stdin.flush()
                assert child.stdout.readline() == "going False\n"
                time.sleep(0.2)  # it is at the lock now
            return real(preprocessing, image)

        monkeypatch.setattr(Preprocessing, "read", let_the_other_go)
        PixelCache(table, SMALL, tmp_path).build(num_threads=0)
        printed = child.communicate(timeout=60)[0].split()
    total = int(PixelCache(table, SMALL, tmp_path).open()(np.arange(84)).long().sum())
    assert (child.returncode, printed, len(names)) == (0, ["0", str(total)], 84)
    assert {path.name for path in PixelCache(table, SMALL, tmp_path).folder.iterdir()} == {"00000000.arrow", "complete"}
    assert len([path for path in (tmp_path / "pixels").iterdir() if path.is_dir()]) == 1


@pytest.mark.skipif(os.geteuid() != 0, reason="only root becomes another user")
def test_another_users_half_built_cache_is_reported(images: Path, everybodys: Path) -> None:
    table, preprocessing = table_of(images), Preprocessing((8, 6))
    PixelCache(table, preprocessing, everybodys).build(num_threads=0)
    assert (
        as_nobody(lambda: PixelCache(table, preprocessing, everybodys).build(num_threads=0)) == ""
    )  # what is whole may be read
    for file in PixelCache(table, preprocessing, everybodys).folder.iterdir():
        file.unlink()
    message = as_nobody(lambda: PixelCache(table, preprocessing, everybodys).build(num_threads=0))
    assert message.startswith(f"cache_dir {everybodys} cannot be written: ") and "Permission denied" in message
