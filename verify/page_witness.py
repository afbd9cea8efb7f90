"""A witness that the code under test cannot deceive about an array: which of its pages the processor has read.

On Linux every page of memory has a *referenced* bit, which the processor sets on any access. Writing 1 to
``/proc/self/clear_refs`` clears the bits of this process, and ``/proc/self/smaps`` counts those that are set again. An
array whose rows start a page each therefore tells how many of its rows were read, even by code that only compares them
and throws the result away.

What it does not see: reads of a copy, for that has other pages; and how often a row was read. Under memory pressure the
system clears bits by itself, so a count can be too low, never too high.
"""

from __future__ import annotations

import mmap
import re
from pathlib import Path

import numpy as np

from reference.notation import FloatArray, InputError

PAGE = 4096
ENTRIES = PAGE // 8
"""Numbers of eight bytes on a page."""
CLEAR, MAPS = Path("/proc/self/clear_refs"), Path("/proc/self/smaps")


class PagedArray:
    """A float64 matrix in a memory mapping of its own, each row from the start of a page.

    Parameters
    ----------
    rows, columns : int
        Shape.

    Attributes
    ----------
    rows : ndarray (rows, columns)
        To be filled by the caller. As long as it lives, so does the mapping.
    pages_per_row : int
        Pages that each row takes.

    Raises
    ------
    InputError
        No rows or no columns.
    """

    def __init__(self, rows: int, columns: int) -> None:
        if rows < 1 or columns < 1:
            raise InputError(f"the shape is ({rows}, {columns}); pass at least one row and one column")
        self.pages_per_row = -(-columns // ENTRIES)
        mapping = mmap.mmap(-1, rows * self.pages_per_row * PAGE)
        if hasattr(mmap, "MADV_NOHUGEPAGE"):
            mapping.madvise(mmap.MADV_NOHUGEPAGE)  # a huge page has one bit for 512 small ones
        whole: FloatArray = np.frombuffer(mapping, dtype=np.float64)
        whole.fill(0.0)  # a page that nothing was written to does not exist
        self._start = whole.ctypes.data
        self._bytes = whole.nbytes
        self.rows: FloatArray = whole.reshape(rows, -1)[:, :columns]

    def pages_read(self) -> int:
        """Count the pages referenced since `forget`; -1 where the system does not tell."""
        try:
            text = MAPS.read_text(encoding="ascii", errors="replace")
        except OSError:
            return -1
        inside, found, covered = False, 0, 0
        for line in text.splitlines():
            if head := re.match(r"([0-9a-f]+)-([0-9a-f]+) ", line):
                start, end = (int(part, 16) for part in head.groups())
                # Neighbouring mappings may be shown as one; its other pages would count as ours.
                inside = start == self._start and end == self._start + self._bytes
                covered += self._bytes if inside else 0
            elif inside and line.startswith("Referenced:"):
                found += int(line.split()[1]) * 1024 // PAGE
        return found if covered == self._bytes else -1

    def forget(self) -> bool:
        """Clear the bits; tell whether the system can."""
        try:
            CLEAR.write_text("1", encoding="ascii")
        except OSError:
            return False
        return mmap.PAGESIZE == PAGE

    def tells(self) -> bool:
        """Try the witness itself: no page after nothing, a third of the rows after these, every page after a pass."""
        third = np.arange(0, len(self.rows), 3)
        trials = (
            (lambda: None, 0),
            (lambda: self.rows[third].sum(), len(third) * self.pages_per_row),
            (lambda: self.rows.sum(), len(self.rows) * self.pages_per_row),
        )
        for act, pages in trials:
            if not self.forget():
                return False
            act()
            if self.pages_read() != pages:
                return False
        return True
