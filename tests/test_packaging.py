"""What lies in a wheel: the package, and what stands beside it in a checkout. Requirements pin what setup.cfg names."""

from __future__ import annotations

import configparser
import os
import shutil
import subprocess
import sys
import zipfile
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

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


def test_a_run_of_what_is_installed_in_another_project_does_not_name_its_commit(installed: Path) -> None:
    code = "from maskcls.training.environment import git_commit; print(git_commit())"
    identity = ("-c", "user.name=a", "-c", "user.email=a@b")
    for command in (["init"], [*identity, "commit", "--allow-empty", "-m", "theirs"]):
        subprocess.run(["git", *command], cwd=installed, capture_output=True, check=True)
    for folder, is_named in ((ROOT, True), (installed, False)):
        environment = {**os.environ, "PYTHONPATH": str(folder)}
        ended = subprocess.run(
            [sys.executable, "-c", code], cwd=folder, capture_output=True, text=True, env=environment
        )
        assert (len(ended.stdout.split("+")[0].strip()) == 40) is is_named and (
            ended.stdout == "None\n"
        ) is not is_named


def pinned(name: str) -> dict[str, str]:
    """Returns the versions that a file of requirements gives, by name; every line of it is an exact version."""
    lines = [line for line in (ROOT / name).read_text().splitlines() if not line.startswith(("#", "-r "))]
    pairs = [line.split("==") for line in lines]
    versions = {canonicalize_name(package): version for package, version in pairs}
    assert len(versions) == len(lines) and lines == sorted(
        lines, key=lambda line: canonicalize_name(line.split("==")[0])
    )
    return versions


def named(section: str, key: str) -> list[Requirement]:
    """Returns what setup.cfg asks for, with its ranges."""
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return [Requirement(line) for line in parser[section][key].splitlines() if line and not line.startswith("#")]


def with_what_they_need(requirements: list[Requirement]) -> set[str]:
    """Returns the names of the requirements and of all that they require in turn, as it is installed here."""
    found: set[tuple[str, str]] = set()
    waiting = [(requirement.name, extra) for requirement in requirements for extra in ("", *requirement.extras)]
    while waiting:
        name, extra = waiting.pop()
        if (canonicalize_name(name), extra) in found:
            continue
        found.add((canonicalize_name(name), extra))
        try:
            for further in map(Requirement, requires(name) or []):
                if further.marker is None or further.marker.evaluate({"extra": extra}):
                    waiting += [(further.name, more) for more in ("", *further.extras)]
        except PackageNotFoundError as error:
            raise AssertionError(f"{name} is needed and not installed") from error
    return {name for name, _ in found}


RUNNING, DEVELOPING = named("options", "install_requires"), named("options.extras_require", "dev")


def test_everything_that_setup_cfg_names_is_pinned_within_its_range() -> None:
    running, developing = pinned("requirements.txt"), pinned("requirements-dev.txt")
    assert "-r requirements.txt" in (ROOT / "requirements-dev.txt").read_text().splitlines()
    assert not running.keys() & developing.keys()
    for requirement in RUNNING:
        assert requirement.specifier.contains(running[canonicalize_name(requirement.name)]), requirement
    for requirement in DEVELOPING:
        assert requirement.specifier.contains((running | developing)[canonicalize_name(requirement.name)]), requirement
    assert len(RUNNING) > 15 and len(DEVELOPING) > 5


def test_the_pinned_files_hold_all_that_is_needed_and_users_install_no_tool_of_ours() -> None:
    running, developing = pinned("requirements.txt"), pinned("requirements-dev.txt")
    needed = {name for name in with_what_they_need(RUNNING) if not name.startswith(("nvidia", "cuda", "triton"))}
    assert running.keys() == needed  # but for what torch's build for GPUs brings in its own versions
    assert developing.keys() == with_what_they_need(DEVELOPING) - needed
    assert {"pytest", "ruff", "mypy", "playwright"} <= developing.keys()
