"""Palette, axes and the plots that recur, alike in every chapter.

Importing this module sets Matplotlib's defaults for the session: colours that stay
apart for colour-blind readers and letters that can be read on a phone.

Introduced in: concepts/learning_from_data
"""

import matplotlib.pyplot as plt
import numpy as np

BLUE, ORANGE, GREEN, PINK, BLACK = "#0072B2", "#D55E00", "#009E73", "#CC79A7", "#000000"
MARKERS = ("o", "s", "^", "D")
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

    columns: int, how many axes stand side by side; they share both scales
    height: float, inches; the figure is 5.6 inches wide
    Returns: one Axes, or an array of shape (columns,) if columns is more than 1
    Introduced in: concepts/learning_from_data
    """
    size = (5.6, height)
    _, ax = plt.subplots(
        1, columns, figsize=size, sharex=True, sharey=True, layout="constrained"
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
        ax.plot(np.arange(1, len(values) + 1), values, style, label=label)
    _label_ends(ax)
    ax.set_xlabel("epoch")
    ax.set_ylabel(ylabel)
    return ax


def _label_ends(ax):
    """Write each line's label at its end, pushed up where two would overlap."""
    low, high = ax.get_ylim()
    gap, below = 0.09 * (high - low), -np.inf
    for line in sorted(ax.lines, key=lambda line: line.get_ydata()[-1]):
        x, y = line.get_xdata()[-1], line.get_ydata()[-1]
        below = max(y, below + gap)
        ax.annotate(
            line.get_label(),
            (x, below),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            color=line.get_color(),
        )


def dots(ax, groups, *, reference, label, xlabel):
    """Draw one row of dots an entry, and a line through all rows to compare with.

    ax: matplotlib Axes
    groups: dict of name (str) to values, each of shape (n,), n of 1 or more; the
        first entry is the top row; four entries at most
    reference: float, where the line stands, in the unit of the values
    label: str, what the line is
    xlabel: str, name and unit of the values
    Returns: the Axes
    Raises: ValueError if there are no groups, more than four, or one is empty
    Introduced in: concepts/learning_from_data
    """
    if not 1 <= len(groups) <= len(MARKERS):
        raise ValueError(
            f"dots draws one to {len(MARKERS)} groups, got {len(groups)}: "
            "use more axes, side by side"
        )
    for row, (name, values) in enumerate(groups.items()):
        values = np.asarray(values, dtype=float)
        if values.ndim != 1 or values.size == 0:
            raise ValueError(
                f"the group {name!r} needs shape (n,) with one value or more, "
                f"got {values.shape}"
            )
        height = row + np.linspace(-0.2, 0.2, len(values))  # equal values stay apart
        ax.plot(values, height, MARKERS[row], clip_on=False)
    ax.axvline(reference, color=BLACK, linestyle="--", linewidth=1.2)
    _rows(ax, groups, xlabel)
    ax.annotate(
        label,
        (reference, 1),
        xycoords=ax.get_xaxis_transform(),
        xytext=(0, 3),
        textcoords="offset points",
        ha="center",
    )
    return ax


def _rows(ax, names, xlabel):
    """Label the rows of a plot, the first on top."""
    ax.set_ylim(len(names) - 0.5, -0.5)
    ax.set_yticks(range(len(names)), names)
    ax.tick_params(axis="y", length=0)
    ax.spines["left"].set_visible(False)
    ax.set_xlabel(xlabel)


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
    _rows(ax, rows, xlabel)
    return ax
