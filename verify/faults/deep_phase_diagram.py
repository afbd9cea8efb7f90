"""Planted faults of the deep phase diagram: networks that are not as sparse as asked for.

Networks that are never normalized are in `verify.faults.signals`.
"""

from __future__ import annotations

from functools import partial

from verify.faults.deep_routines import few, frozen_shift
from verify.faults.fault import Fault

FAULTS: tuple[Fault, ...] = (
    Fault(
        "deep-frozen-shift",
        "Networks are drawn with the same shift at every width and alpha.",
        "value",
        {"deep_phase_diagram.plain_dies": "fails", "deep_phase_diagram.sparse": "fails"},
        {"deep_initialize": frozen_shift},
        only=partial(few, 5),
    ),
)
"""Each claim of `verify.claims.deep_phase_diagram` is flipped by one of them, or of that module, at least."""
