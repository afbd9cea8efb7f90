"""Named random streams: one root seed, one independent child per key.

A key is a tuple of plain values. Its stream depends on the root seed and on the key alone, so adding a cell to a sweep
shifts no other cell's numbers.
"""

from __future__ import annotations

import hashlib
import json

import numpy as np


def generator(root: int, *key: object) -> np.random.Generator:
    """Make the Generator that belongs to ``key`` under the root seed.

    Parameters
    ----------
    root : int
        Root seed, 0 or more.
    *key
        JSON-able values, for instance an experiment's name and a cell's inputs.

    Returns
    -------
    numpy.random.Generator

    Examples
    --------
    >>> first, again, other = (generator(0, "sparsity", width).integers(10**9) for width in (64, 64, 128))
    >>> bool(first == again), bool(first == other)
    (True, False)
    """
    text = json.dumps(key, sort_keys=True, separators=(",", ":"))
    words = np.frombuffer(hashlib.sha256(text.encode()).digest(), dtype="<u4")  # the same on every processor
    return np.random.default_rng(np.random.SeedSequence(root, spawn_key=tuple(int(word) for word in words)))
