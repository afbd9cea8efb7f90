"""Common look of the plots, and how a figure becomes part of a page.

Experiments draw on a `matplotlib.figure.Figure` that they are given; there is no pyplot and no current
figure. What is drawn without naming colours follows `STYLE`. The page shows the same figure on light and on
dark ground: on the way to SVG each colour named here becomes a variable of the page's style sheet, with the
light one as its default.

The series' colours follow Okabe and Ito's, which colour-blind readers can tell apart, darkened for white
ground. Matplotlib's own first six colours are shown as these.
"""

from __future__ import annotations

import io
import math
import re
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from cycler import cycler
from matplotlib import style
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.scale import LogTransform
from matplotlib.ticker import FuncFormatter, LogFormatter, LogFormatterSciNotation
from numpy.typing import ArrayLike

PALETTE: dict[str, tuple[str, str]] = {
    "paper": ("#ffffff", "#14171b"),
    "panel": ("#f5f6f8", "#1d2126"),
    "ink": ("#1b1f24", "#e6e8eb"),
    "muted": ("#666d76", "#9aa1aa"),
    "grid": ("#d9dde2", "#343a42"),
    "series-1": ("#0868ac", "#5eb1ec"),
    "series-2": ("#c44e00", "#f58f4c"),
    "series-3": ("#00846b", "#3ec9a7"),
    "series-4": ("#a8457f", "#e58cc0"),
    "series-5": ("#8a6d00", "#d8b93e"),
    "series-6": ("#3d8fc4", "#9bd0f0"),
    "holds": ("#0b6e3a", "#5fd391"),
    "fails": ("#b3261e", "#ff8a80"),
    "undecided": ("#8a5a00", "#f0b955"),
    "invalid": ("#7b2d8b", "#d9a0e6"),
}
"""Name of a page's variable to its colour on light and on dark ground."""

INK = PALETTE["ink"][0]
"""Text, axes and everything that is not a series."""
MUTED = "#7a8088"
"""Laws and margins to compare with; readable on light and dark ground."""
GRID = PALETTE["grid"][0]
SERIES = tuple(PALETTE[f"series-{number}"][0] for number in range(1, 7))
MATPLOTLIB = ("#1f77b4", "#ff7f0e", "#2ca02c", "#d62728", "#9467bd", "#8c564b")

VARIABLES = {INK: "ink", MUTED: "muted", GRID: "grid", "#000000": "ink", PALETTE["paper"][0]: "paper"}
for colours in (SERIES, MATPLOTLIB):
    VARIABLES |= {colour: f"series-{number}" for number, colour in enumerate(colours, start=1)}
"""Colour to name of the page's variable; black and white stand for ink and paper."""

STYLE: dict[str, Any] = {
    "figure.facecolor": "none",
    "figure.constrained_layout.use": True,
    "savefig.facecolor": "none",
    "axes.facecolor": "none",
    "axes.edgecolor": INK,
    "axes.labelcolor": INK,
    "axes.titlecolor": INK,
    "axes.titlesize": "medium",
    "axes.titlelocation": "left",
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.axisbelow": True,
    "axes.prop_cycle": cycler(color=SERIES),
    "grid.color": GRID,
    "grid.linewidth": 0.6,
    "text.color": INK,
    "xtick.color": INK,
    "ytick.color": INK,
    "lines.linewidth": 1.5,
    "lines.markersize": 4.5,
    "legend.frameon": False,
    "legend.fontsize": "small",
    "font.size": 9.5,
    "svg.fonttype": "none",
    "svg.hashsalt": "verify",
}

RAISED = str.maketrans("-0123456789", "\u207b\u2070\u00b9\u00b2\u00b3\u2074\u2075\u2076\u2077\u2078\u2079")

SIZE = (7.2, 3.6)
"""Inches; an experiment may enlarge its figure with ``figure.set_size_inches``."""


def palette(selector: str = ":root") -> str:
    """Write the style sheet that gives every colour its value, by the reader's choice of light or dark; paper is light.

    Parameters
    ----------
    selector : str
        The element that the variables belong to.

    Returns
    -------
    str
        CSS.
    """
    light, dark = (" ".join(f"--{name}: {pair[place]};" for name, pair in PALETTE.items()) for place in (0, 1))
    return (
        f"{selector} {{ color-scheme: light dark; {light} }}\n"
        f"@media screen and (prefers-color-scheme: dark) {{ {selector} {{ {dark} }} }}\n"
    )


def new_figure() -> Figure:
    """Make an empty figure. Make it, draw on it and save it inside ``matplotlib.style.context(STYLE)``."""
    return Figure(figsize=SIZE)


def log_log(axes: Axes, *, x: str, y: str, title: str = "", base: int = 2) -> None:
    """Make both axes logarithmic and label them.

    Parameters
    ----------
    axes : Axes
        Where.
    x, y : str
        Labels, with units.
    title : str
        What the picture shows.
    base : int
        Of the x axis; widths are powers of 2.
    """
    axes.set_xscale("log", base=base)
    axes.set_yscale("log")
    axes.set(xlabel=x, ylabel=y, title=title)


def law(axes: Axes, x: ArrayLike, y: ArrayLike, label: str, *, line: str = "--") -> None:
    """Draw what theory predicts: a muted line without markers, so that it is not taken for a measurement.

    Parameters
    ----------
    axes : Axes
        Where.
    x, y : array_like (k,)
        The curve.
    label : str
        For the legend.
    line : str
        Matplotlib's line style; use another for a second law.
    """
    axes.plot(x, y, color=MUTED, linestyle=line, marker="", label=label, zorder=1.5)


def interval_bars(
    axes: Axes,
    labels: Sequence[str],
    intervals: Sequence[tuple[float, float, float]],
    *,
    margin: tuple[float | None, float | None] = (None, None),
    x: str = "",
) -> None:
    """Draw intervals one below the other, with the margin that they must stay inside.

    Parameters
    ----------
    axes : Axes
        Where.
    labels : sequence of str
        One per interval.
    intervals : sequence of (estimate, low, high)
        Finite numbers.
    margin : tuple of two floats
        Its ends; None for an open end.
    x : str
        What the numbers are.
    """
    heights = range(len(labels))
    for height, (estimate, low, high) in zip(heights, intervals, strict=True):
        axes.plot([low, high], [height, height], color=SERIES[0], marker="|", linewidth=2)
        axes.plot([estimate], [height], color=SERIES[0], marker="o")
    for end in margin:
        if end is not None:
            axes.axvline(end, color=MUTED, linestyle="--", zorder=1.5)
    axes.set_yticks(heights, labels)
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_xlabel(x)
    axes.grid(visible=False, axis="y")


def to_svg(figure: Figure, name: str, description: str) -> str:
    """Turn a figure into an SVG element for a page: the same bytes each time, no two plots sharing a name.

    Parameters
    ----------
    figure : Figure
        What to show. Call this inside ``matplotlib.style.context(STYLE)``.
    name : str
        Letters, digits, hyphens; different for each figure of a page.
    description : str
        Read out in place of the picture.

    Returns
    -------
    str
        One ``<svg>`` element without scripts, links to elsewhere, date or version.
    """
    stream = io.StringIO()
    figure.savefig(stream, format="svg")
    svg = stream.getvalue()
    svg = svg[svg.index("<svg") :].strip()
    svg = re.sub(r"<metadata>.*?</metadata>", "", svg, flags=re.DOTALL)
    svg = re.sub(r'(\bid="|url\(#|href="#)', rf"\g<1>{name}-", svg)
    svg = re.sub(r'("|: ?)(#[0-9a-f]{6})\b', _variable, svg)
    label = description.replace("&", "&amp;").replace('"', "&quot;").replace("<", "&lt;")
    return svg.replace("<svg ", f'<svg role="img" aria-label="{label}" ', 1)


def _variable(match: re.Match[str]) -> str:
    """Replace one of our colours by the page's variable; leave others alone."""
    before, colour = match.groups()
    # A variable works in a style, not in an attribute such as fill="#000000".
    known = VARIABLES.get(colour) if before != '"' else None
    return f"{before}var(--{known}, {colour})" if known else match.group()


class MinorPowers(LogFormatter):
    """Labels the ticks between powers of ``base`` where matplotlib would, as `as_power` writes them."""

    def __init__(self, base: float) -> None:
        super().__init__(base, minor_thresholds=(1, 0.4))  # matplotlib's own
        self.base = base

    def __call__(self, x: float, pos: int | None = None) -> str:
        """Write the label of the tick at ``x``; empty where it has none."""
        return as_power(x, pos or 0, base=self.base) if super().__call__(x, pos) else ""


def as_power(value: float, place: int, *, base: float) -> str:
    """Write a tick as a power, in plain characters: reading TeX would take a third of the time of a report.

    Parameters
    ----------
    value : float
        Above 0.
    place : int
        Of the tick on its axis; matplotlib passes it, and it does not matter.
    base : float
        Of the power.

    Returns
    -------
    str
        A number that is no power of the base is written as it is.

    Examples
    --------
    >>> as_power(1024.0, 0, base=2), as_power(30.0, 1, base=10)
    ('2\u00b9\u2070', '30')
    """
    del place
    exponent = math.log(value, base)
    if abs(exponent - round(exponent)) > 1e-9:
        return f"{value:g}"
    return f"{base:g}" + str(round(exponent)).translate(RAISED)


def render(draw: Callable[[Figure], None], name: str, description: str) -> str:
    """Draw on a new figure in the common style and return it as an SVG element.

    Parameters
    ----------
    draw : callable
        ``draw(figure)``.
    name, description : str
        See `to_svg`.

    Returns
    -------
    str
    """
    # Reset first: the reader's own matplotlibrc must not change the report's bytes.
    with style.context(STYLE, after_reset=True):
        figure = new_figure()
        draw(figure)
        for axes in figure.axes:
            for axis in (axes.xaxis, axes.yaxis):
                scale = axis.get_transform()
                # Where an experiment has no labels of its own.
                if isinstance(scale, LogTransform) and isinstance(axis.get_major_formatter(), LogFormatterSciNotation):
                    axis.set_major_formatter(FuncFormatter(partial(as_power, base=scale.base)))
                    axis.set_minor_formatter(MinorPowers(scale.base))
        return to_svg(figure, name, description)


def stand_alone(draw: Callable[[Figure], None], name: str, description: str) -> str:
    """Draw as `render` does, but for a file of its own, which follows light and dark wherever it is shown.

    Parameters
    ----------
    draw, name, description
        See `render`.

    Returns
    -------
    str
        Content of an SVG file.
    """
    svg = render(draw, name, description)
    end_of_tag = svg.index(">") + 1
    return f"{svg[:end_of_tag]}\n<style>\n{palette('svg')}</style>{svg[end_of_tag:]}\n"
