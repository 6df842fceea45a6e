import matplotlib

matplotlib.use("agg")

import matplotlib.pyplot as plt
import numpy as np
import pytest
from matplotlib.colors import to_rgb

from helpers import figures


@pytest.fixture(autouse=True)
def closed_figures():
    yield
    plt.close("all")


def contrast_on_white(color):
    """WCAG 2 contrast ratio of a colour on white."""
    channels = [
        c / 12.92 if c <= 0.03928 else ((c + 0.055) / 1.055) ** 2.4
        for c in to_rgb(color)
    ]
    return 1.05 / (np.dot([0.2126, 0.7152, 0.0722], channels) + 0.05)


@pytest.mark.parametrize("color", plt.rcParams["axes.prop_cycle"].by_key()["color"])
def test_every_colour_of_the_cycle_is_seen_on_white(color):
    assert contrast_on_white(color) >= 3


def test_axes_side_by_side_share_their_scales():
    left, right = figures.axes(2)
    left.plot([0, 9])
    assert right.axis() == left.axis()


def test_learning_curves_are_labelled_directly_and_count_epochs_from_one():
    ax = figures.axes()
    assert (
        figures.learning_curves(ax, {"a": [3, 2, 1], "b": [4, 3, 3]}, ylabel="loss")
        is ax
    )
    assert [t.get_text() for t in ax.texts] == ["a", "b"]
    assert [line.get_linestyle() for line in ax.lines] == ["-", "--"]
    assert list(ax.lines[0].get_xdata()) == [1, 2, 3]
    assert ax.get_legend() is None
    assert (ax.get_xlabel(), ax.get_ylabel()) == ("epoch", "loss")


def test_labels_of_curves_that_end_together_stay_apart():
    ax = figures.axes()
    figures.learning_curves(ax, {"a": [3, 1], "b": [2, 1]}, ylabel="loss")
    ax.figure.canvas.draw()
    lower, upper = (text.get_window_extent() for text in ax.texts)
    assert lower.y1 <= upper.y0


def test_labels_stay_above_the_lowest_value_so_that_the_axis_may_become_logarithmic():
    ax = figures.axes()
    figures.learning_curves(ax, {"a": [9, 0.1], "b": [5, 0.1]}, ylabel="loss")
    assert min(text.xy[1] for text in ax.texts) == pytest.approx(0.1)
    ax.set_yscale("log")
    ax.figure.canvas.draw()  # a label at a value below 0 would warn


def test_labels_that_are_pushed_above_the_axes_are_still_drawn():
    ax = figures.axes()
    curves = dict(zip("abcd", ([0, end] for end in (1, 1.01, 1.01, 1.01)), strict=True))
    figures.learning_curves(ax, curves, ylabel="AUC")
    ax.figure.canvas.draw()
    heights = [text.xy[1] for text in ax.texts]
    assert heights == sorted(heights) and heights[-1] > ax.get_ylim()[1]
    assert np.mean(heights) == pytest.approx(1.0075)  # as far down as up
    assert not any(text.get_annotation_clip() for text in ax.texts)
    assert ax.texts[-1].get_window_extent().y1 <= ax.figure.bbox.y1


@pytest.mark.parametrize(
    ("curves", "message"),
    [
        ({}, "one to 4 curves can be told apart, got 0"),
        (
            {str(k): [1, 2] for k in range(5)},
            "one to 4 curves can be told apart, got 5",
        ),
        ({"short": [1]}, r"'short' needs shape \(n,\).*got \(1,\)"),
        ({"square": np.ones((2, 2))}, r"got \(2, 2\)"),
    ],
)
def test_learning_curves_refuses_what_it_cannot_draw(curves, message):
    with pytest.raises(ValueError, match=message):
        figures.learning_curves(figures.axes(), curves, ylabel="loss")


def test_epochs_are_counted_in_whole_numbers():
    ax = figures.axes()
    figures.learning_curves(ax, {"a": range(20)}, ylabel="loss")
    assert all(tick == round(tick) for tick in ax.get_xticks())


def test_intervals_put_the_first_row_on_top():
    ax = figures.axes()
    rows = {"first": (0.1, 0.2, 0.4), "second": (0.5, 0.5, 0.5)}
    assert figures.intervals(ax, rows, xlabel="risk") is ax
    assert [label.get_text() for label in ax.get_yticklabels()] == ["first", "second"]
    low, high = ax.get_ylim()
    assert low > high  # row 0 above row 1
    assert list(ax.lines[0].get_xdata()) == [0.1, 0.4]
    assert ax.lines[0].get_solid_capstyle() == "butt"  # not drawn beyond its ends


@pytest.mark.parametrize(
    ("rows", "message"),
    [
        ({}, "at least one row"),
        ({"out": (0.2, 0.1, 0.4)}, "'out' needs low <= estimate <= high"),
        ({"nan": (0.2, float("nan"), 0.4)}, "'nan' needs low <= estimate <= high"),
    ],
)
def test_intervals_refuses_an_estimate_outside_its_interval(rows, message):
    with pytest.raises(ValueError, match=message):
        figures.intervals(figures.axes(), rows, xlabel="risk")


def test_dots_keep_equal_values_apart_and_name_the_reference():
    ax = figures.axes()
    groups = {"top": [0.5, 0.5, 0.5], "single": [0.2]}
    assert (
        figures.dots(ax, groups, reference=0.6, label="rule", xlabel="accuracy") is ax
    )
    heights = ax.lines[0].get_ydata()
    assert len(set(heights)) == 3 and max(abs(heights)) < 0.5
    assert [text.get_text() for text in ax.texts] == ["rule"]
    assert [label.get_text() for label in ax.get_yticklabels()] == ["top", "single"]


@pytest.mark.parametrize(
    ("groups", "message"),
    [
        ({}, "one to 4 groups, got 0"),
        ({str(k): [1] for k in range(5)}, "one to 4 groups, got 5"),
        ({"empty": []}, "'empty' needs shape"),
        ({"square": np.ones((2, 2))}, r"got \(2, 2\)"),
    ],
)
def test_dots_refuses_what_it_cannot_draw(groups, message):
    with pytest.raises(ValueError, match=message):
        figures.dots(figures.axes(), groups, reference=0, label="", xlabel="")


def test_pictures_share_one_gray_scale_and_label_their_rows():
    rows = {"dark": np.zeros((3, 4, 5)), "light": np.full((3, 4, 5), 200.0)}
    grid = figures.pictures(rows)
    assert grid.shape == (2, 3)
    assert {ax.images[0].get_clim() for ax in grid.flat} == {(0, 200)}
    assert {ax.images[0].get_cmap().name for ax in grid.flat} == {"gray"}
    assert [line[0].get_ylabel() for line in grid] == ["dark", "light"]


@pytest.mark.parametrize(
    "rows",
    [{}, {"a": np.zeros((4, 5))}, {"a": np.zeros((2, 4, 4)), "b": np.zeros((3, 4, 4))}],
)
def test_pictures_of_unlike_rows_are_refused(rows):
    with pytest.raises(ValueError, match="same shape \\(n, height, width\\)"):
        figures.pictures(rows)


def test_signed_maps_share_a_scale_centred_at_zero_and_have_a_bar():
    maps = {"less": np.full((3, 3), -2.0), "more": np.eye(3)}
    grid = figures.signed_maps(maps, label="gray values")
    assert {ax.images[0].get_clim() for ax in grid} == {(-2, 2)}
    assert [ax.get_title() for ax in grid] == ["less", "more"]
    assert "gray values" in [ax.get_ylabel() for ax in grid[0].figure.axes]


@pytest.mark.parametrize(
    "maps", [{}, {"a": np.zeros(3)}, {"a": np.eye(2), "b": np.eye(3)}]
)
def test_signed_maps_of_unlike_images_are_refused(maps):
    with pytest.raises(ValueError, match="one shape \\(height, width\\)"):
        figures.signed_maps(maps, label="")


GROUPS = [(0.1, 0.05, 0.2, 0.4, 20), (0.7, 0.6, 0.8, 0.9, 20)]


def test_reliability_puts_risks_to_the_right_and_shares_upwards():
    ax = figures.reliability(figures.axes(), {"network": GROUPS})
    equality, (dots, _, (bars,)) = ax.lines[0], ax.containers[0]
    assert equality.get_xydata().tolist() == [[0, 0], [1, 1]]
    assert dots.get_xydata().tolist() == [[0.1, 0.2], [0.7, 0.8]]
    ends = [segment[:, 1].tolist() for segment in bars.get_segments()]
    np.testing.assert_allclose(ends, [[0.05, 0.4], [0.6, 0.9]])
    assert ax.get_legend() is None


def test_two_reliability_curves_are_named():
    ax = figures.reliability(figures.axes(), {"before": GROUPS, "after": GROUPS[:1]})
    assert [t.get_text() for t in ax.get_legend().get_texts()] == ["before", "after"]


@pytest.mark.parametrize("curves", [{}, dict.fromkeys("abc", GROUPS), {"a": []}])
def test_reliability_refuses_what_it_cannot_draw(curves):
    with pytest.raises(ValueError, match="one or two curves of one group or more, got"):
        figures.reliability(figures.axes(), curves)
