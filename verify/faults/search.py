"""Faults in the trees: wrong results, dishonest counters, honest waste."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import ArrayLike

from fast.threshold_search import ThresholdForest
from reference.notation import FloatArray, IntArray
from reference.threshold_search import MaxTree
from verify.experiment import Inputs, Verdict
from verify.faults.fault import Fault, Kind

Pairs = tuple[IntArray, IntArray]


def small_trees(inputs: Inputs) -> bool:
    """Keep widths to 2^14."""
    return bool(inputs["width"] <= 1 << 14)


class HalvedQueries(ThresholdForest):
    """Counts half of the nodes that queries look at."""

    def query(self, threshold: float) -> Pairs:
        """Query, and halve the counter."""
        before = self.nodes_visited["query"]
        found = super().query(threshold)
        self.nodes_visited["query"] = (before + self.nodes_visited["query"]) // 2
        return found


class HalvedUpdates(ThresholdForest):
    """Counts half of the nodes that updates look at."""

    def update(self, neurons: ArrayLike, scores: ArrayLike) -> None:
        """Update, and halve the counter."""
        super().update(neurons, scores)
        self.nodes_visited["update"] //= 2


class HalvedBuild(ThresholdForest):
    """Counts half of the nodes that it builds."""

    def __init__(self, levels: list[FloatArray], width: int) -> None:
        super().__init__(levels, width)
        self.nodes_visited["build"] //= 2


class HiddenScan(ThresholdForest):
    """Counts what a search would look at, and looks at every leaf."""

    def query(self, threshold: float) -> Pairs:
        """Scan."""
        super().query(threshold)
        i, r = np.nonzero(self.levels[0].reshape(self.n, -1)[:, : self.width] >= threshold)
        return i, r


class HiddenScanOfMaxima(ThresholdForest):
    """Counts what a search would look at, and looks at every maximum of 16 leaves."""

    def query(self, threshold: float) -> Pairs:
        """Scan the lowest maxima."""
        super().query(threshold)
        i, v = np.nonzero(self.levels[1].reshape(self.n, -1) >= threshold)
        at, place = np.nonzero(self.levels[0][i, v] >= threshold)
        return i[at], 16 * v[at] + place


class CountedScan(ThresholdForest):
    """Looks at every leaf and says so."""

    def query(self, threshold: float) -> Pairs:
        """Scan."""
        self.nodes_visited["query"] += self.n * self.width
        i, r = np.nonzero(self.levels[0].reshape(self.n, -1)[:, : self.width] >= threshold)
        return i, r


class BuiltTwice(ThresholdForest):
    """Builds every level a second time and says so."""

    def __init__(self, levels: list[FloatArray], width: int) -> None:
        super().__init__([level.copy() for level in levels], width)
        self.nodes_visited["build"] *= 2


class StaleTop(ThresholdForest):
    """Forgets the top level in its updates."""

    def update(self, neurons: ArrayLike, scores: ArrayLike) -> None:
        """Update all levels but the top."""
        top = self.levels[-1].copy()
        super().update(neurons, scores)
        self.levels[-1][:] = top


class ForgetsTies(ThresholdForest):
    """Takes a score equal to the threshold for one below it."""

    def query(self, threshold: float) -> Pairs:
        """Query for more than the threshold."""
        i, r = super().query(threshold)
        above = self.levels[0].reshape(self.n, -1)[i, r] > threshold
        return i[above], r[above]


class FindsTwice(ThresholdForest):
    """Reports the last pair twice."""

    def query(self, threshold: float) -> Pairs:
        """Query, and repeat the end."""
        i, r = super().query(threshold)
        return np.append(i, i[-1:]), np.append(r, r[-1:])


class RebuildsAtEveryUpdate(ThresholdForest):
    """Forgets nothing, and says honestly that it looked at everything for each neuron."""

    def update(self, neurons: ArrayLike, scores: ArrayLike) -> None:
        """Update, at the cost of a rebuild a neuron."""
        super().update(neurons, scores)
        self.nodes_visited["update"] = np.size(neurons) * self.nodes_visited["build"]


class SortsUpdates(ThresholdForest):
    """Sorts the neurons of an update, but not their scores."""

    def update(self, neurons: ArrayLike, scores: ArrayLike) -> None:
        """Update."""
        super().update(np.sort(np.asarray(neurons)), scores)


class AsksTheFirst(ThresholdForest):
    """Queries its first tree, whichever it is asked for."""

    def query_one(self, i: int, threshold: float) -> IntArray:
        """Query the first tree."""
        return super().query_one(0, threshold)


class AsksAll(ThresholdForest):
    """Queries all trees to answer for one."""

    def query_one(self, i: int, threshold: float) -> IntArray:
        """Query all trees."""
        data_index, neuron_index = self.query(threshold)
        own: IntArray = neuron_index[data_index == i]
        return own


class PlainTreeForgetsTies(MaxTree):
    """Takes a score equal to the threshold for one below it."""

    def query(self, threshold: float) -> IntArray:
        """Query for more than the threshold."""
        found = super().query(threshold)
        return found[self.node[self.size + found] > threshold]


class PlainTreeNeverClimbs(MaxTree):
    """Writes a leaf, and counts the maxima above it as if they had been written."""

    def update(self, neuron: int, score: float) -> None:
        """Update a leaf."""
        self.node[self.size + neuron] = score
        self.nodes_visited += self.size.bit_length()


class PlainTreeVisitsAll(MaxTree):
    """Finds what it should by visiting every node."""

    def query(self, threshold: float) -> IntArray:
        """Scan the leaves."""
        self.nodes_visited += len(self.node) - 1
        return np.flatnonzero(self.node[self.size :] >= threshold)


def scan_without_ties(scores: ArrayLike, threshold: float) -> IntArray:
    """Find the scores above the threshold."""
    return np.flatnonzero(np.asarray(scores) > threshold)


def planted(
    identity: str,
    description: str,
    kind: Kind,
    forest: type[ThresholdForest],
    fails: Sequence[str],
    invalid: Sequence[str] = (),
) -> Fault:
    """Describe a faulty forest."""
    verdicts: dict[str, Verdict] = {f"search.{claim}": "fails" for claim in fails}
    verdicts |= {f"search.{claim}": "invalid" for claim in invalid}
    return Fault(identity, description, kind, verdicts, {"forest": forest}, only=small_trees)


FAULTS: tuple[Fault, ...] = (
    planted("halved-query-counter", "Queries count half of their nodes.", "cost", HalvedQueries, ["exact"]),
    planted("halved-update-counter", "Updates count half of their nodes.", "cost", HalvedUpdates, ["exact"]),
    planted("halved-build-counter", "Building counts half of the nodes.", "cost", HalvedBuild, ["exact"]),
    planted(
        "unrecorded-scan", "Queries scan every score and count what a search would look at.", "cost", HiddenScan,
        ["witness"], ["query", "growth"],
    ),
    planted(
        "unrecorded-scan-of-maxima", "Queries scan all maxima of 16 scores and do not count them.", "cost",
        HiddenScanOfMaxima, ["witness"], ["query", "growth"],
    ),
    planted(
        "recorded-scan", "Queries scan every score and say so.", "cost", CountedScan,
        ["exact", "query", "growth", "witness"],
    ),
    planted("trees-built-twice", "Every level is built twice.", "cost", BuiltTwice, ["exact", "build"]),
    planted(
        "rebuild-at-every-update", "An update looks at the whole forest for each neuron.", "cost",
        RebuildsAtEveryUpdate, ["exact", "update"],
    ),
    planted("stale-tree-node", "Updates leave the top of the trees as it was.", "value", StaleTop, ["exact"]),
    planted("forgotten-ties", "A score equal to the threshold is not found.", "value", ForgetsTies, ["exact"]),
    planted("found-twice", "The last pair is reported twice.", "value", FindsTwice, ["exact"]),
    planted("sorted-updates", "Updates sort the neurons, but not their scores.", "value", SortsUpdates, ["exact"]),
    planted("first-tree-for-any", "A query of one tree is one of the first.", "value", AsksTheFirst, ["exact"]),
    planted("all-trees-for-one", "A query of one tree is one of all trees.", "cost", AsksAll, ["exact"]),
    Fault(
        "plain-tree-forgets-ties", "The plain tree takes a score equal to the threshold for one below it.", "value",
        {"search.exact": "fails"}, {"max_tree": PlainTreeForgetsTies}, only=small_trees,
    ),
    Fault(
        "plain-tree-never-climbs", "An update of the plain tree writes the leaf alone, and counts the climb.", "value",
        {"search.exact": "fails"}, {"max_tree": PlainTreeNeverClimbs}, only=small_trees,
    ),
    Fault(
        "plain-tree-visits-all", "A query of the plain tree visits every node.", "cost",
        {"search.exact": "fails"}, {"max_tree": PlainTreeVisitsAll}, only=small_trees,
    ),
    Fault(
        "scan-forgets-ties", "The plain scan takes a score equal to the threshold for one below it.", "value",
        {"search.exact": "fails"}, {"scan": scan_without_ties}, only=small_trees,
    ),
)  # fmt: skip
