"""A picture of the forest of trees on a tiny network: one query, and one update after it.

``python -m verify.forest_figure FILE.svg`` writes it. Nothing in it is drawn from what the trees ought to do: the
forest is `fast.threshold_search.ThresholdForest`, with two children a node as in the paper in place of 16; its arrays
are watched while it answers, and what it reads is what is shown as looked at. The network is real as well: two data
points, eight neurons, and the update is what one Gauss-Newton step does to it.
"""

from __future__ import annotations

import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Patch

import reference.gauss_newton
from fast.threshold_search import ThresholdForest
from reference.notation import FloatArray, InputError, IntArray
from reference.two_layer import activation_pattern, initialize, preactivations, shift_for
from verify import plots
from verify.cells import write_atomically

N, DIM, WIDTH, FAN_OUT = 2, 2, 8, 2
ALPHA = 0.24
SEED = 67
"""A draw in which one tree is climbed to the top and the other is not."""

CAPTION = (
    "The forest of trees on a network of 8 neurons and 2 data points, with two children a node as in [A] (the fast "
    "code has 16). A leaf holds the score of a neuron on the point, an inner node the larger of its two children. "
    "Above, a query: it turns back at every node below the shift b. Below, the update after one Gauss-Newton step: it "
    "climbs only as long as a maximum changes. Drawn from what the data structure really reads and writes."
)


class Watched(np.ndarray[Any, np.dtype[np.float64]]):
    """An array that keeps a list of the places that were read from it, in views of it too."""

    read: list[int]

    def __array_finalize__(self, source: object) -> None:
        self.read = getattr(source, "read", [])

    def take(self, indices: IntArray, axis: int | None = None) -> FloatArray:  # type: ignore[override]
        """Read some entries."""
        self.read += self._places().take(indices, axis=axis).ravel().tolist()
        return np.asarray(self).take(indices, axis=axis)

    def __getitem__(self, key: tuple[IntArray, ...]) -> FloatArray:  # type: ignore[override]
        self.read += self._places()[key].ravel().tolist()
        return np.asarray(self)[key]

    def _places(self) -> IntArray:
        """Give each entry its number, which it keeps in views made by ``reshape``."""
        return np.arange(self.size).reshape(self.shape)


@dataclass(frozen=True)
class Picture:
    """What happened to the forest.

    Parameters
    ----------
    shift : float
        Threshold of the query.
    before, after : list of ndarray (n, nodes)
        Values of all nodes, leaves first, around the update.
    queried, updated : list of ndarray (n, nodes) of bool
        Nodes that the query, and the update, looked at.
    found : ndarray (n, m) of bool
        Pairs that the query returned.
    neurons : ndarray (k,)
        Those that the step moved.
    counts : dict
        The forest's own count of nodes looked at, in the query and in the update.
    """

    shift: float
    before: list[FloatArray]
    after: list[FloatArray]
    queried: list[np.ndarray[Any, np.dtype[np.bool_]]]
    updated: list[np.ndarray[Any, np.dtype[np.bool_]]]
    found: np.ndarray[Any, np.dtype[np.bool_]]
    neurons: IntArray
    counts: dict[str, int]


def take_picture() -> Picture:
    """Query and update the forest of the tiny network, and watch.

    Returns
    -------
    Picture
    """
    rng = np.random.default_rng(SEED)
    X = rng.standard_normal((N, DIM))
    X /= np.linalg.norm(X, axis=1, keepdims=True)
    shift = shift_for(WIDTH, ALPHA)
    network = initialize(WIDTH, DIM, shift=shift, rng=rng)
    trace = reference.gauss_newton.train(network, X, np.array([1.0, -1.0]), iterations=1)
    # A neuron that fires on no data point has no gradient, so these are the ones that the step moves.
    neurons = np.flatnonzero(activation_pattern(network, X).any(axis=0))
    moved = preactivations(trace.network.to_dense(), X)[:, neurons]

    forest = ThresholdForest.build_from_blocks(N, WIDTH, [preactivations(network, X)], fan_out=FAN_OUT)
    before = values(forest)
    watch(forest)
    found = np.zeros((N, WIDTH), dtype=np.bool_)
    found[forest.query(shift)] = True
    queried = looked_at(forest)
    watch(forest)
    forest.update(neurons, moved)
    counts = {name: forest.nodes_visited[name] for name in ("query", "update")}
    return Picture(shift, before, values(forest), queried, looked_at(forest), found, neurons, counts)


def values(forest: ThresholdForest) -> list[FloatArray]:
    """Copy the values of all nodes, level by level, (n, nodes) each."""
    return [np.array(level).reshape(forest.n, -1) for level in forest.levels]


def watch(forest: ThresholdForest) -> None:
    """Start to note what is read from the forest's arrays."""
    forest.levels = [np.asarray(level).view(Watched) for level in forest.levels]


def looked_at(forest: ThresholdForest) -> list[np.ndarray[Any, np.dtype[np.bool_]]]:
    """Tell which nodes were read since `watch`, level by level, (n, nodes) each."""
    masks = []
    for level in forest.levels:
        assert isinstance(level, Watched)
        mask = np.zeros(level.size, dtype=np.bool_)
        mask[level.read] = True
        masks.append(mask.reshape(forest.n, -1))
    return masks


LOOKS: dict[str, dict[str, Any]] = {
    "found": {"facecolor": plots.SERIES[2], "edgecolor": plots.SERIES[2], "linewidth": 1.4},
    "changed": {"facecolor": plots.SERIES[0], "edgecolor": plots.SERIES[0], "linewidth": 1.4},
    "looked at": {"facecolor": "#ffffff", "edgecolor": plots.INK, "linewidth": 1.4},
    "looked at, and turned back": {"facecolor": "#ffffff", "edgecolor": plots.SERIES[1], "linewidth": 1.4, "ls": "--"},
    "not looked at": {"facecolor": "#ffffff", "edgecolor": plots.GRID, "linewidth": 0.8},
}


def look_in_query(picture: Picture, level: int, tree: int, node: int) -> str:
    """Say what the query did at a node."""
    if not picture.queried[level][tree, node]:
        return "not looked at"
    if level == 0 and picture.found[tree, node]:
        return "found"
    return "looked at" if picture.before[level][tree, node] >= picture.shift else "looked at, and turned back"


def look_in_update(picture: Picture, level: int, tree: int, node: int) -> str:
    """Say what the update did at a node: it turns back where a child has changed and the maximum stays."""
    change = changes(picture)
    if change[level][tree, node]:
        return "changed"
    if not picture.updated[level][tree, node]:
        return "not looked at"
    below = level > 0 and change[level - 1][tree, node * FAN_OUT : (node + 1) * FAN_OUT].any()
    return "looked at, and turned back" if below else "looked at"


def draw(figure: Figure) -> None:
    """Draw the query above the update, one tree per data point."""
    picture = take_picture()
    figure.set_size_inches(7.6, 4.9)
    rows = figure.subplots(2, N)
    nodes = sum(level.size for level in picture.before)
    moved = " and ".join(str(neuron) for neuron in picture.neurons)
    titles = (
        f"Query at b = {picture.shift:.2f}: {picture.counts['query']} of {nodes} nodes looked at",
        f"Update of neurons {moved}: {sum(map(np.sum, changes(picture)))} of {nodes} nodes change",
    )
    for axes, title, look, levels in zip(
        rows, titles, (look_in_query, look_in_update), (picture.before, picture.after), strict=True
    ):
        axes[0].set_title(title)
        for tree in range(N):
            own = [values[tree] for values in levels]
            looks = [[look(picture, level, tree, node) for node in range(len(own[level]))] for level in range(len(own))]
            draw_tree(axes[tree], own, looks, f"x{tree + 1}")
    handles = [Patch(label=name, **look) for name, look in LOOKS.items()]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(LOOKS), columnspacing=1.2, handlelength=1.4)


def changes(picture: Picture) -> list[np.ndarray[Any, np.dtype[np.bool_]]]:
    """Tell which nodes the update changed, level by level, (n, nodes) each."""
    return [old != new for old, new in zip(picture.before, picture.after, strict=True)]


def draw_tree(axes: Axes, levels: list[FloatArray], looks: list[list[str]], name: str) -> None:
    """Draw one tree: leaves at the bottom with their neurons below, the data point at the top.

    Parameters
    ----------
    axes : Axes
        Where.
    levels : list of ndarray (nodes,)
        Values, leaves first.
    looks : list of list of str
        Key of `LOOKS` for every node.
    name : str
        Of the data point.
    """
    axes.set_axis_off()
    axes.set(xlim=(-0.6, WIDTH - 0.4), ylim=(-0.75, len(levels) + 0.35))
    # The largest of all scores is stored nowhere: a query starts at the top level's two nodes.
    top = (WIDTH - 1) / 2, len(levels)
    axes.text(*top, name, ha="center", va="center", zorder=3, bbox={"boxstyle": "round", **LOOKS["not looked at"]})
    for level, (numbers, names) in enumerate(zip(levels, looks, strict=True)):
        for node, (number, look) in enumerate(zip(numbers, names, strict=True)):
            x = place(level, node)
            parent = (place(level + 1, node // FAN_OUT), level + 1) if level + 1 < len(levels) else top
            pale = look == "not looked at"
            colour, width = (plots.GRID, 0.8) if pale else (plots.INK, 1.4)
            axes.plot([x, parent[0]], [level, parent[1]], color=colour, linewidth=width, zorder=2 - pale, marker="")
            filled = look in ("found", "changed")
            axes.text(
                x, level, f"{number:.1f}", ha="center", va="center", fontsize=7.5, zorder=3,
                color="#ffffff" if filled else plots.MUTED if pale else plots.INK,
                bbox={"boxstyle": "round,pad=0.3", **LOOKS[look]},
            )  # fmt: skip
            if level == 0:
                axes.text(x, -0.6, str(node), ha="center", va="center", fontsize=7, color=plots.MUTED)


def place(level: int, node: int) -> float:
    """Return the horizontal place of a node: the middle of its leaves."""
    span = float(FAN_OUT**level)
    return node * span + (span - 1) / 2


def main(arguments: list[str]) -> int:
    """Write the picture to the file named; returns the exit status."""
    try:
        if len(arguments) != 1 or not arguments[0].endswith(".svg"):
            raise InputError("pass one file to write, for instance forest.svg")
        write_atomically(Path(arguments[0]), plots.stand_alone(draw, "forest", CAPTION))
    except (InputError, OSError) as error:
        print(f"forest_figure: {error}", file=sys.stderr)
        return 2
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
