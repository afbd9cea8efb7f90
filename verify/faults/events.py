"""Planted faults for the claims on the event-driven path: missed flips, uncounted work, work that never rests."""

from __future__ import annotations

from fast.all_pairs import AllTrial
from fast.gauss_newton import EventRun
from fast.regression import solve_cholesky
from fast.watched_pairs import RealArray, Trial, WatchedPairs
from reference.notation import FloatArray
from verify.experiment import Inputs
from verify.faults import loops
from verify.faults.fault import Fault


class LateLook(WatchedPairs):
    """Thinks that a pair may rest for eight times as long as it may."""

    def _later(self, slack: RealArray, rate: RealArray) -> FloatArray:
        return super()._later(8 * slack, rate)


class LateEvents(EventRun):
    """Watches pairs so."""

    watch = LateLook


class HiddenScan(WatchedPairs):
    """Forms the forbidden product in every step, and throws it away."""

    def try_step(self, g: FloatArray) -> Trial:
        """Find the pairs that would flip; see `WatchedPairs.try_step`."""
        _ = self.weights @ self.X.T
        return super().try_step(g)


class HiddenEvents(EventRun):
    """Watches pairs so."""

    watch = HiddenScan


class ScanningEvents(EventRun):
    """Forms the product of all weights with the data in every iteration, and counts it."""

    def _try(self, g: FloatArray) -> Trial | AllTrial:
        scores = self.initial.weights @ self.X.T
        self._count(compute=scores.size * self.initial.dim)
        return super()._try(g)


class QuietEvents(EventRun):
    """Does not count what it does on whole arrays."""

    def _try(self, g: FloatArray) -> Trial | AllTrial:
        trial = super()._try(g)
        if isinstance(trial, AllTrial):
            self._phases = dict.fromkeys(self._phases, 0)
        return trial


class FactoringEvents(EventRun):
    """Factors ``G`` in every iteration."""

    def _solve(self) -> FloatArray:
        self._count(solve=len(self.X) ** 3 // 3)
        return solve_cholesky(self._gram(), self.residual)


def light(inputs: Inputs) -> bool:
    """Take the cheap cells of every sweep; all seeds, which the fits of named terms need."""
    most = {"width": 1 << 14, "points": 1 << 20, "late": 1 << 20, "families": 1 << 20}[inputs["sweep"]]
    return bool(inputs["width"] <= most and (inputs["sweep"] not in ("points", "late") or inputs["n"] in (8, 24)))


def late(inputs: Inputs) -> bool:
    """Take these and all of the sweep that waits for the pattern to rest."""
    return light(inputs) or bool(inputs["sweep"] == "late")


FAULTS = (
    Fault(
        "late-look",
        "A pair that may flip is looked at too late.",
        "value",
        {"events.exact": "fails"},
        {"start_events": LateEvents},
        only=light,
    ),
    Fault(
        "step-0.4-of-events",
        "Every step of the event-driven path is 0.4 of Gauss-Newton's.",
        "value",
        {"events.exact": "fails", "events.flips": "fails"},
        {"start_events": loops.TimidEvents},
        only=light,
    ),
    Fault(
        "unrecorded-scan-of-events",
        "Every step multiplies all weights with the data, and does not count it.",
        "cost",
        {
            "events.witness": "fails",
            "events.width": "invalid",
            "events.forbidden": "invalid",
            "events.cubic": "invalid",
            "events.late": "invalid",
            "events.families": "invalid",
        },
        {"start_events": HiddenEvents},
        only=light,
    ),
    Fault(
        "dense-scan-of-events",
        "Every step multiplies all weights with the data.",
        "cost",
        {
            "events.width": "fails",
            "events.forbidden": "fails",
            "events.late": "fails",
            "events.families": "fails",
            "events.witness": "fails",
        },
        {"start_events": ScanningEvents},
        only=light,
    ),
    Fault(
        "whole-arrays-for-nothing",
        "What is done on whole arrays is not counted.",
        "cost",
        {"events.counters": "fails", "events.leaving": "fails"},
        {"start_events": QuietEvents},
        only=light,
    ),
    Fault(
        "factor-every-iteration",
        "Every iteration factors the Gram matrix.",
        "cost",
        {"events.cubic": "fails"},
        {"start_events": FactoringEvents},
        only=late,
    ),
)
"""One fault at least for each claim."""
