"""`python -m maskcls`: the `maskcls` command, for launchers that start a module: torchrun -m maskcls train."""

from __future__ import annotations

from maskcls.cli import main

if __name__ == "__main__":
    main()
