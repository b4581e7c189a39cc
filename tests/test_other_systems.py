"""macOS and Windows, as far as Linux can play them: what they lack is taken away, and files behave as on Windows."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from tests.helpers import ROOT, overrides, run

# What others wrote is imported first: their builds for those systems do without, our one code must.
WINDOWS = """
import importlib, os, pkgutil, shutil, signal, sys
import accelerate, datasets, evaluate, pyarrow.parquet, torch, torch.distributed.checkpoint.state_dict
import torch.utils.tensorboard, transformers, vl_convert, wandb

for name in ("fcntl", "resource", "pwd", "grp", "termios", "tty", "pty"):
    sys.modules[name] = None  # importing it raises ImportError
for name in ("sched_getaffinity", "uname", "getuid", "geteuid", "getpgid", "killpg", "setsid", "fork"):
    delattr(os, name)
for name in ("SIGHUP", "SIGUSR1", "SIGUSR2", "SIGALRM", "SIGQUIT"):
    delattr(signal, name)
shutil._use_fd_functions = False  # Windows deletes a tree by its names

def refuse_what_is_open(path):
    path = os.path.realpath(path)
    files = {line.split(None, 5)[5].strip() for line in open("/proc/self/maps", encoding="utf-8") if "/" in line}
    for number in os.listdir("/proc/self/fd"):
        try:
            files.add(os.readlink("/proc/self/fd/" + number))
        except OSError:
            pass  # the one of the listing
    if held := [file for file in files if file == path or file.startswith(path + os.sep)]:
        raise PermissionError(13, "it is open: %s" % held, path)

def with_rules(name, rules):
    real = getattr(os, name)
    def function(*arguments, **named):
        rules(*arguments)
        return real(*arguments, **named)
    setattr(os, name, function)

def of_open(path, flags, *_):
    if os.path.isdir(path) and flags & os.O_TMPFILE != os.O_TMPFILE:  # how Linux alone makes a file without a name
        raise PermissionError(13, "a folder cannot be opened", str(path))

def of_rename(source, target):
    if os.path.exists(target):
        raise FileExistsError(17, "it exists", str(target))
    refuse_what_is_open(source)

def of_replace(source, target):
    if os.path.isdir(target):
        raise PermissionError(13, "a folder is not replaced", str(target))
    refuse_what_is_open(source)
    refuse_what_is_open(target)

def of_fsync(descriptor):
    flags = open("/proc/self/fdinfo/%d" % descriptor, encoding="utf-8").read().split("flags:")[1].split()[0]
    if int(flags, 8) & os.O_ACCMODE == os.O_RDONLY:
        raise OSError(9, "Bad file descriptor")

for name, rules in {"fsync": of_fsync, "open": of_open, "rename": of_rename, "replace": of_replace, "unlink": refuse_what_is_open}.items():
    with_rules(name, rules)
"""
EVERYTHING = """
import maskcls
from maskcls.cli import main

modules = [module.name for module in pkgutil.walk_packages(maskcls.__path__, "maskcls.")]
for name in modules:
    importlib.import_module(name)
print(len(modules), "modules", flush=True)
for arguments in {commands!r}:
    sys.argv = ["maskcls", *arguments]
    main()
"""


@pytest.mark.slow
def test_every_module_is_imported_and_a_run_is_trained_resumed_and_used(sample: Path, tmp_path: Path) -> None:
    folder = tmp_path / "runs" / "exp"
    more = {"tensorboard": "true", "report": "true", "checkpoint_interval": "2 updates", "ema_decay": "0.9"}
    commands = [
        ["train", "--config", "configs/demo.yaml", *overrides(sample, tmp_path, model="auto", **more)],
        ["train", "--resume", str(folder), "epochs=2"],
        ["check", "--config", str(folder / "config.yaml")],
        ["infer", "--model_dir", str(folder)],
        ["runs", str(folder.parent)],
    ]
    ended = run("-X", "warn_default_encoding", "-c", WINDOWS + EVERYTHING.format(commands=commands), timeout=150)
    assert ended.returncode == 0, ended.stderr[-3000:]
    assert int(ended.stdout.split()[0]) > 60
    names = {"best", "last", "previous", "report.html", "output.csv", "curves.png", "finished.json"}
    assert names <= {path.name for path in folder.iterdir()}
    # Text in the system's own encoding, which is not UTF-8 there, is told by Python.
    ours = re.findall(rf"{re.escape(str(ROOT))}/(?:maskcls|train|infer)\S*: EncodingWarning", ended.stderr)
    assert "EncodingWarning" in ended.stderr and ours == []
