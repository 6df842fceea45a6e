"""Palette, axes and the plots that recur, alike in every chapter.

Importing this module sets Matplotlib's defaults for the session: colours that stay
apart for colour-blind readers and letters that can be read on a phone.

Introduced in: concepts/learning_from_data
"""

import matplotlib.pyplot as plt
import numpy as np

BLUE, ORANGE, GREEN, PINK, BLACK = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000"
STYLES = ("-", "--", "-.", ":")

plt.rcParams.update(
    {
        "axes.prop_cycle": plt.cycler(color=[BLUE, ORANGE, GREEN, PINK, BLACK]),
        "axes.spines.top": False,
        "axes.spines.right": False,
        "figure.dpi": 144,
        "figure.facecolor": "white",
        "font.size": 11,
        "lines.linewidth": 1.8,
        "savefig.facecolor": "white",
    }
)


def axes(columns=1, *, height=3.2):
    """Make the axes of one figure, as wide as the text of a page.

    columns: int, how many axes stand side by side
    height: float, inches; the figure is 5.6 inches wide
    Returns: one Axes, or an array of shape (columns,) if columns is more than 1
    Introduced in: concepts/learning_from_data
    """
    _, ax = plt.subplots(
        1, columns, figsize=(5.6, height), sharey=columns > 1, layout="constrained"
    )
    return ax


def learning_curves(ax, curves, *, ylabel):
    """Draw one line an entry against the epoch, each labelled at its end.

    ax: matplotlib Axes
    curves: dict of label (str) to values, each of shape (n_epochs,), two epochs at
        least; four entries at most
    ylabel: str, name and unit of the values
    Returns: the Axes
    Raises: ValueError if there are no curves, more than four, or one is too short
    Introduced in: concepts/learning_from_data
    """
    if not 1 <= len(curves) <= len(STYLES):
        raise ValueError(
            f"learning_curves draws one to {len(STYLES)} curves, got {len(curves)}: "
            "use more axes, side by side"
        )
    for (label, values), style in zip(curves.items(), STYLES, strict=False):
        values = np.asarray(values, dtype=float)
        if values.ndim != 1 or len(values) < 2:
            raise ValueError(
                f"the curve {label!r} needs shape (n_epochs,) with two epochs or more, "
                f"got {values.shape}"
            )
        epochs = np.arange(1, len(values) + 1)
        (line,) = ax.plot(epochs, values, style)
        ax.annotate(
            label,
            (epochs[-1], values[-1]),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            color=line.get_color(),
        )
    ax.set_xlabel("epoch")
    ax.set_ylabel(ylabel)
    return ax


def intervals(ax, rows, *, xlabel):
    """Draw one row an entry: an estimate as a dot, its interval as a bar.

    ax: matplotlib Axes
    rows: dict of label (str) to (low, estimate, high), in one unit; the first entry
        is the top row
    xlabel: str, name and unit of the estimates
    Returns: the Axes
    Raises: ValueError if there are no rows or an estimate lies outside its interval
    Introduced in: concepts/learning_from_data
    """
    if not rows:
        raise ValueError("intervals needs at least one row, got an empty dict")
    for place, (label, row) in enumerate(rows.items()):
        low, estimate, high = map(float, row)
        if not low <= estimate <= high:
            raise ValueError(
                f"the row {label!r} needs low <= estimate <= high, "
                f"got {low:.4g}, {estimate:.4g}, {high:.4g}"
            )
        ax.plot([low, high], [place, place], "-", color=BLUE, linewidth=2.5)
        ax.plot(estimate, place, "o", color=BLUE, markersize=7)
    ax.set_ylim(len(rows) - 0.5, -0.5)
    ax.set_yticks(range(len(rows)), rows)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set_xlabel(xlabel)
    return ax
