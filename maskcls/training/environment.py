"""What a run ran on: versions, git commit, hardware."""

from __future__ import annotations

import platform
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

from maskcls.machine import num_cores, processor

PACKAGES = ("torch", "accelerate", "transformers", "datasets", "evaluate", "pillow", "wandb", "numpy")


def current_environment() -> dict[str, Any]:
    """Returns what environment.json says of every run: where this process runs."""
    import torch

    num_gpus = torch.cuda.device_count() if torch.cuda.is_available() else 0
    return {
        "command": sys.argv,
        "python": platform.python_version(),
        "platform": platform.platform(),
        "packages": {name: version_of(name) for name in PACKAGES},
        "git_commit": git_commit(),
        "cpu": processor(),
        "cores": num_cores(),
        "gpus": [torch.cuda.get_device_name(i) for i in range(num_gpus)],
    }


def version_of(name: str) -> str | None:
    """Returns the version of an installed package; None: it is not here."""
    try:
        return version(name)
    except PackageNotFoundError:
        return None


def git_commit() -> str | None:
    """Returns the commit of the code that runs, with "+changes" when files differ from it; None outside a checkout."""

    def git(*arguments: str) -> str:
        here = Path(__file__).parent
        return subprocess.run(
            ["git", *arguments], cwd=here, capture_output=True, encoding="utf-8", timeout=10, check=True
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", Path(__file__).name)  # fails in the environment of another repository
        return git("rev-parse", "HEAD") + ("+changes" if git("status", "--porcelain", "-uno") else "")
    except (OSError, subprocess.SubprocessError):
        return None
