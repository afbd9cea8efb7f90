"""The picture of the forest shows what the forest did, and not what it ought to have done."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import pytest

from fast.threshold_search import ThresholdForest
from verify import forest_figure, plots
from verify.forest_figure import look_in_query, look_in_update

PICTURE = forest_figure.take_picture()
NODES = [
    (level, tree, node)
    for level, values in enumerate(PICTURE.before)
    for tree in range(values.shape[0])
    for node in range(values.shape[1])
]


def test_as_many_nodes_are_drawn_as_looked_at_as_the_forest_counts() -> None:
    looks = [look_in_query(PICTURE, *place) for place in NODES]
    assert len(looks) - looks.count("not looked at") == PICTURE.counts["query"]
    assert 0 < PICTURE.counts["query"] < len(NODES)
    assert looks.count("found") == PICTURE.found.sum()
    # Each node that the query turned back from is below the shift, as are all under it.
    for level, tree, node in NODES:
        if look_in_query(PICTURE, level, tree, node) == "looked at, and turned back":
            span = 2**level
            assert (PICTURE.before[0][tree, node * span : (node + 1) * span] < PICTURE.shift).all()


def test_what_is_found_is_what_a_scan_finds() -> None:
    np.testing.assert_array_equal(PICTURE.found, PICTURE.before[0] >= PICTURE.shift)
    assert PICTURE.found.any(axis=1).all()


def test_the_nodes_drawn_as_changed_are_those_that_a_rebuild_would_change() -> None:
    rebuilt = ThresholdForest.build_from_blocks(2, 8, [PICTURE.after[0]], fan_out=2)
    for level, values in enumerate(forest_figure.values(rebuilt)):
        np.testing.assert_array_equal(PICTURE.after[level], values)
    looks = [look_in_update(PICTURE, *place) for place in NODES]
    changed = sum(int((old != new).sum()) for old, new in zip(PICTURE.before, PICTURE.after, strict=True))
    assert looks.count("changed") == changed
    leaves = np.zeros(8, dtype=bool)
    leaves[PICTURE.neurons] = True
    np.testing.assert_array_equal((PICTURE.before[0] != PICTURE.after[0]).any(axis=0), leaves)
    assert "looked at, and turned back" in looks, "the picture is to show where climbing stops"
    # The forest counts a node each time it looks, so no fewer than the nodes shown.
    assert len(looks) - looks.count("not looked at") <= PICTURE.counts["update"]


def test_a_query_that_looks_at_everything_would_be_drawn_so(monkeypatch: pytest.MonkeyPatch) -> None:
    def scan(self: ThresholdForest, threshold: float) -> tuple[np.ndarray, np.ndarray]:
        for level in self.levels:
            level.reshape(-1).take(np.arange(level.size))
        return np.nonzero(np.asarray(self.levels[0]).reshape(self.n, -1) >= threshold)

    monkeypatch.setattr(ThresholdForest, "query", scan)
    picture = forest_figure.take_picture()
    assert all(look_in_query(picture, *place) != "not looked at" for place in NODES)


def test_reads_are_noted_through_views() -> None:
    array = np.arange(6.0).view(forest_figure.Watched)
    array.reshape(2, 3).take([1], axis=1)
    array.reshape(3, 2)[2, 0]
    assert array.read == [1, 4, 4]


def test_command_writes_a_picture_that_follows_light_and_dark(tmp_path: Path) -> None:
    path = tmp_path / "forest.svg"
    assert forest_figure.main([str(path)]) == 0
    svg = path.read_text()
    assert svg.startswith("<svg")
    assert "prefers-color-scheme: dark" in svg
    assert svg == plots.stand_alone(forest_figure.draw, "forest", forest_figure.CAPTION)
    labels = re.findall(r">([^<>]*)</text>", svg)
    nodes = [f"{value:.1f}" for values in (*PICTURE.before, *PICTURE.after) for value in values.ravel()]
    assert sorted(label for label in labels if re.fullmatch(r"-?\d\.\d", label)) == sorted(nodes)


@pytest.mark.parametrize("arguments", [[], ["a.svg", "b.svg"], ["forest.png"]])
def test_command_refuses_other_arguments_in_one_line(arguments: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    assert forest_figure.main(arguments) == 2
    assert capsys.readouterr().err == "forest_figure: pass one file to write, for instance forest.svg\n"
