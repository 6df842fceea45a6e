"""Palette, axes and the plots that recur, alike in every chapter.

Importing this module sets Matplotlib's defaults for the session: colours that stay
apart for colour-blind readers and letters that can be read on a phone.

Introduced in: concepts/learning_from_data
"""

import matplotlib.pyplot as plt
import numpy as np
from matplotlib.ticker import MaxNLocator

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


def lines(ax, x, curves, *, xlabel, ylabel):
    """Draw one line an entry, each labelled at its end.

    ax: matplotlib Axes
    x: (n,) numbers, two or more, in rising order
    curves: dict of label (str) to values, each of shape (n,); four entries at most
    xlabel, ylabel: str, name and unit
    Returns: the Axes
    Raises: ValueError if there are no curves, more than four, or one does not fit x
    Introduced in: keras/xray_diagnosis
    """
    if not 1 <= len(curves) <= len(STYLES):
        raise ValueError(
            f"one to {len(STYLES)} curves can be told apart, got {len(curves)}: "
            "use more axes, side by side"
        )
    for (label, values), style in zip(curves.items(), STYLES, strict=False):
        if np.shape(values) != np.shape(x) or np.ndim(x) != 1 or len(x) < 2:
            raise ValueError(
                f"the curve {label!r} needs shape (n,) with two values or more, as x "
                f"has: got {np.shape(values)} and x of shape {np.shape(x)}"
            )
        ax.plot(x, values, style, label=label)
    _label_ends(ax)
    ax.set_xlabel(xlabel)
    ax.set_ylabel(ylabel)
    return ax


def learning_curves(ax, curves, *, ylabel):
    """Draw one line an entry against the epoch, each labelled at its end.

    ax: matplotlib Axes
    curves: dict of label (str) to values, each of shape (n_epochs,), two epochs at
        least; four entries at most
    ylabel: str, name and unit of the values
    Returns: the Axes
    Raises: ValueError as `lines` does
    Introduced in: concepts/learning_from_data
    """
    epochs = np.arange(1, 1 + max(map(len, curves.values()), default=0))
    ax.xaxis.set_major_locator(MaxNLocator(integer=True))  # no epoch 2.5
    return lines(ax, epochs, curves, xlabel="epoch", ylabel=ylabel)


def _label_ends(ax):
    """Write each line's label at its end, or as near as leaves none on another."""
    from scipy.optimize import isotonic_regression

    ax.autoscale_view()  # else the limits do not know the lines yet
    scale = ax.transScale + ax.transLimits  # so that a logarithmic axis works too
    ends = [(line.get_xdata()[-1], line.get_ydata()[-1]) for line in ax.lines]
    heights = scale.transform(ends)[:, 1]
    order, room = np.argsort(heights, kind="stable"), 0.09 * np.arange(len(ends))
    spread = isotonic_regression(heights[order] - room).x + room  # least squares
    lowest = min(np.nanmin(line.get_ydata()) for line in ax.lines)
    floor = scale.transform((ends[0][0], lowest))[1]  # above 0, if the data are
    spread = np.maximum(spread, floor + room)
    for k, height in zip(order, spread, strict=True):
        line = ax.lines[k]
        ax.annotate(
            line.get_label(),
            (ends[k][0], scale.inverted().transform((0, height))[1]),
            xytext=(5, 0),
            textcoords="offset points",
            va="center",
            color=line.get_color(),
            annotation_clip=False,  # a label may leave the axes
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
        bar = ax.plot([low, high], [place, place], "-", color=BLUE, linewidth=2.5)
        bar[0].set_solid_capstyle("butt")  # or it would be drawn beyond its ends
        ax.plot(estimate, place, "o", color=BLUE, markersize=7)
    _rows(ax, rows, xlabel)
    return ax


def reliability(ax, curves):
    """Draw found share against said risk, with intervals, and the line of equality.

    ax: matplotlib Axes
    curves: dict of label (str) to groups, each (mean risk, low, share, high, n), as
        `evaluate.reliability` returns them; two entries at most
    Returns: the Axes
    Raises: ValueError if there are no curves, more than two, or one without groups
    Introduced in: keras/tabular_diagnosis
    """
    if not 1 <= len(curves) <= 2 or not all(map(len, curves.values())):
        raise ValueError(
            "reliability draws one or two curves of one group or more, got "
            f"{ {label: len(groups) for label, groups in curves.items()} }: "
            "use more axes, side by side"
        )
    ax.plot([0, 1], [0, 1], ":", color=BLACK, linewidth=1)
    for k, (label, groups) in enumerate(curves.items()):
        said, low, share, high, _ = np.transpose(groups)
        gap = [share - low, high - share]
        style = MARKERS[k] + STYLES[k]
        ax.errorbar(said, share, gap, fmt=style, capsize=3, linewidth=1.2, label=label)
    if len(curves) > 1:
        ax.legend(loc="upper left", frameon=False)
    ax.set(xlabel="risk, mean of the group", ylabel="share with the event")
    return ax


def pictures(rows):
    """Draw gray images in rows, each row labelled at its left.

    rows: dict of label (str) to images, (n, height, width), the same n in each row;
        dark is low, and all share one scale
    Returns: array of Axes, shape (rows, n)
    Raises: ValueError if the rows are not alike, or empty
    Introduced in: keras/xray_diagnosis
    """
    shapes = {np.shape(images) for images in rows.values()}
    if len(shapes) != 1 or len(shape := shapes.pop()) != 3 or shape[0] == 0:
        got = {label: np.shape(images) for label, images in rows.items()}
        raise ValueError(
            f"pictures needs the same shape (n, height, width) in each row, got {got}"
        )
    size = (5.6, 0.2 + 5.6 / shape[0] * len(rows))
    _, grid = plt.subplots(
        len(rows), shape[0], figsize=size, squeeze=False, layout="constrained"
    )
    low = min(np.min(images) for images in rows.values())
    high = max(np.max(images) for images in rows.values())
    for line, (label, images) in zip(grid, rows.items(), strict=True):
        line[0].set_ylabel(label)
        for ax, image in zip(line, images, strict=True):
            ax.imshow(image, cmap="gray", vmin=low, vmax=high)
            _bare(ax)
    return grid


def _bare(ax):
    """No ticks and no frame: for images, whose pixels have no unit."""
    ax.set(xticks=[], yticks=[])
    ax.spines[:].set_visible(False)


def signed_maps(maps, *, label):
    """Draw signed images side by side on one scale centred at 0, with its bar.

    maps: dict of title (str) to image, (height, width), all of one shape
    label: str, name and unit of the values; blue is positive, red negative
    Returns: array of Axes, one a map
    Raises: ValueError if there are no maps or their shapes differ
    Introduced in: keras/xray_diagnosis
    """
    shapes = {np.shape(image) for image in maps.values()}
    if len(shapes) != 1 or len(shapes.pop()) != 2:
        raise ValueError(
            "signed_maps needs images of one shape (height, width), got "
            f"{ {title: np.shape(image) for title, image in maps.items()} }"
        )
    figure, grid = plt.subplots(
        1, len(maps), figsize=(5.6, 2.8), squeeze=False, layout="constrained"
    )
    limit = max(np.abs(image).max() for image in maps.values())
    for ax, (title, image) in zip(grid[0], maps.items(), strict=True):
        drawn = ax.imshow(image, cmap="RdBu", vmin=-limit, vmax=limit)
        ax.set_title(title, fontsize="medium")
        _bare(ax)
    figure.colorbar(drawn, ax=grid[0].tolist(), label=label)
    return grid[0]
