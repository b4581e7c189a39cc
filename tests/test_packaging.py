"""What lies in a wheel: the package, and what stands beside it in a checkout. Requirements pin what setup.cfg names."""

from __future__ import annotations

import shutil
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from tests.helpers import ROOT

BESIDE = ("train.py", "infer.py", "configs", "accelerate_configs")


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a wheel built from a copy of the checkout, so that nothing is left in it."""
    copy, built = tmp_path_factory.mktemp("checkout"), tmp_path_factory.mktemp("wheel")
    ignore = shutil.ignore_patterns("__pycache__")
    for name in ("maskcls", *BESIDE, "tests", "setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, copy / name, ignore=ignore)
        else:
            shutil.copy(ROOT / name, copy)
    code = f"import setuptools.build_meta as backend; backend.build_wheel({str(built)!r})"
    subprocess.run([sys.executable, "-c", code], cwd=copy, capture_output=True, check=True)
    (file,) = built.glob("maskcls-*-py3-none-any.whl")
    return file


@pytest.fixture(scope="module")
def installed(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder that holds the wheel's files, as site-packages does."""
    folder = tmp_path_factory.mktemp("site-packages")
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(folder)
    return folder


def files_of(folder: Path) -> dict[str, bytes]:
    """Returns the contents of all files, by their paths in the folder."""
    files = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in files}


def test_a_wheel_holds_the_package_and_in_it_what_lies_beside_it_in_a_checkout(installed: Path) -> None:
    assert {path.suffix or path.name for path in installed.iterdir()} == {"maskcls", ".dist-info"}
    inside = files_of(installed / "maskcls")
    beside = {name: content for name, content in inside.items() if name.startswith("top_level/")}
    expected = {f"{name}/{file}": content for name in BESIDE[2:] for file, content in files_of(ROOT / name).items()}
    expected |= {name: (ROOT / name).read_bytes() for name in BESIDE[:2]}
    assert {name.removeprefix("top_level/"): content for name, content in beside.items()} == expected
    assert inside.keys() - beside.keys() == files_of(ROOT / "maskcls").keys()
    assert len(beside) > 15 and len(inside) > 70


def test_what_is_installed_from_it_starts_away_from_the_checkout(installed: Path, tmp_path: Path) -> None:
    code = (
        "from maskcls.cli import main; from maskcls.paths import command, top_level;"
        "print(top_level(), command('train'), flush=True); main()"
    )
    ended = subprocess.run(
        [sys.executable, "-c", code, "train", "--help"], cwd=tmp_path, capture_output=True, text=True, check=True,
        env={"PYTHONPATH": str(installed)},
    )  # fmt: skip
    place, usage = ended.stdout.splitlines()[:2]
    assert place == f"{installed}/maskcls/top_level maskcls train" and usage.startswith("usage: maskcls train [-h]")
