"""Shared folders of drawn faces, made once a session."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from maskcls.sample.write import write_sample_data

os.environ["MASKCLS_LANG"] = "en"  # tests quote English, whatever the machine speaks


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder written by `maskcls sample-data` with 12 people: images/, lists, eval/."""
    folder = tmp_path_factory.mktemp("sample")
    write_sample_data(folder, num_people=12, seed=0)
    return folder


@pytest.fixture
def everybodys() -> Iterator[Path]:
    """Returns a folder that other users may enter, which pytest's own are not."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o755)
        yield Path(name)
