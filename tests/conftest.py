"""Shared folders of drawn faces, made once a session."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from maskcls.data.sample import write_sample_data

os.environ["MASKCLS_LANG"] = "en"  # tests quote English, whatever the machine speaks


@pytest.fixture(scope="session")
def sample(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Returns a folder written by `maskcls sample-data` with 12 people: images/, lists, eval/."""
    folder = tmp_path_factory.mktemp("sample")
    write_sample_data(folder, num_people=12, seed=0)
    return folder
