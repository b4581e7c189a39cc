"""The empty figure that every picture of curves and tables begins with."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from matplotlib.figure import Figure


def new_figure(**settings: Any) -> Figure:
    """Returns an empty figure, for a user without a home folder as well.

    matplotlib then keeps its list of fonts in a temporary folder, and would say so in the middle of a run's lines.
    """
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # before its first import, which looks for the folder
    from matplotlib.figure import Figure

    return Figure(**settings)
