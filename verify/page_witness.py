"""A witness that the code under test cannot deceive about an array: which of its rows the processor has read.

The array is a file in memory, mapped into this process. Told that the mapping is not needed for now
(``MADV_DONTNEED``), Linux forgets where its pages are and keeps what is in them; the first access to a page finds it
again, and ``/proc/self/pagemap`` tells which have been found. A row that was read shows, even if the code only compares
it and throws the result away. Linux also finds the neighbours of a page, as far as one mapping goes; therefore every
row has a mapping of its own. Rows lie in the file in reverse order, or neighbouring mappings would be joined.

What it does not see: reads of a copy, for that has other pages, or by another process; and how often a row was read.
The *referenced* bits of pages would tell the same, but the system clears them when it likes (to learn which memory is
idle), so they get lost.
"""

from __future__ import annotations

import ctypes
import mmap
import os
from pathlib import Path
from typing import Self

import numpy as np

from reference.notation import BoolArray, FloatArray, InputError

PAGE = 4096
ENTRIES = PAGE // 8
"""Numbers of eight bytes on a page."""
FOUND = Path("/proc/self/pagemap")
MAPPINGS, MOST_MAPPINGS = Path("/proc/self/maps"), Path("/proc/sys/vm/max_map_count")
SPARE = 1 << 12
"""Mappings that are left to the rest of the process; without any it could not even allocate an array."""
PRESENT = np.uint64(1 << 63)
FIXED = 0x10
"""``MAP_FIXED``, to map at a given place, which `mmap` does not offer."""
MOST_ROWS = 1 << 13


class PagedArray:
    """A float64 matrix whose rows that were read can be told, each from the start of a page; a context.

    Parameters
    ----------
    rows, columns : int
        Shape.

    Attributes
    ----------
    rows : ndarray (rows, columns)
        To be filled by the caller; without its values when the context ends.

    Raises
    ------
    InputError
        No rows or columns, or too many rows: Linux allows some 65,000 mappings a process.
    """

    def __init__(self, rows: int, columns: int) -> None:
        if rows < 1 or columns < 1:
            raise InputError(f"the shape is ({rows}, {columns}); pass at least one row and one column")
        if rows > MOST_ROWS:
            raise InputError(f"there are {rows} rows, each a mapping of its own; pass at most {MOST_ROWS}")
        self._pages = -(-columns // ENTRIES)
        """Pages of each row."""
        self._mapping = mmap.mmap(-1, rows * self._pages * PAGE)
        whole: FloatArray = np.frombuffer(self._mapping, dtype=np.float64)
        self._start = whole.ctypes.data
        self._in_a_file = _room(rows) and _put_in_a_file(self._mapping, self._start, rows)
        whole.fill(0.0)  # a page that nothing was written to does not exist
        self.rows: FloatArray = whole.reshape(rows, -1)[:, :columns]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *error: object) -> None:
        if self._in_a_file:  # one mapping again, however long the array itself is kept
            _map(self._start, len(self._mapping), mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS, -1, 0)
            self._in_a_file = False

    def rows_read(self) -> int:
        """Count the rows read since `forget`; -1 where the system does not tell."""
        pages = len(self.rows) * self._pages
        try:
            with FOUND.open("rb") as file:
                file.seek(self._start // PAGE * 8)
                told = file.read(pages * 8)
        except OSError:
            return -1
        if not self._in_a_file or len(told) != pages * 8:
            return -1
        found: BoolArray = np.frombuffer(told, dtype=np.uint64) & PRESENT != 0
        return int(found.reshape(len(self.rows), -1).any(axis=1).sum())

    def forget(self) -> None:
        """Forget what was read until now; the values stay."""
        if self._in_a_file:
            self._mapping.madvise(mmap.MADV_DONTNEED)

    def tells(self) -> bool:
        """Try the witness itself: no row after nothing, every third after these, every row after a pass."""
        third = np.arange(0, len(self.rows), 3)
        trials = (
            (lambda: None, 0),
            (lambda: self.rows[third, -1].sum(), len(third)),
            (lambda: self.rows.sum(), len(self.rows)),
        )
        for act, rows in trials:
            self.forget()
            act()
            if self.rows_read() != rows:
                return False
        return True


def _room(rows: int) -> bool:
    """Tell whether there are such files here, and so many mappings left, with some to spare."""
    if not hasattr(os, "memfd_create"):
        return False
    try:
        return len(MAPPINGS.read_bytes().splitlines()) + rows + SPARE <= int(MOST_MAPPINGS.read_text())
    except (OSError, ValueError):
        return False


def _put_in_a_file(mapping: mmap.mmap, start: int, rows: int) -> bool:
    """Map a file in memory over plain memory, row by row; tell whether that went well."""
    size = len(mapping) // rows
    file = os.memfd_create("paged array")
    try:
        os.truncate(file, len(mapping))
        done = [_map(start + row * size, size, mmap.MAP_SHARED, file, (rows - 1 - row) * size) for row in range(rows)]
    finally:
        os.close(file)
    mapping.madvise(mmap.MADV_NOHUGEPAGE)  # a huge page would be found as a whole
    return all(done) and mmap.PAGESIZE == PAGE


def _map(start: int, size: int, kind: int, file: int, offset: int) -> bool:
    """Map at ``start``, over what is there; tell whether that went well."""
    library = ctypes.CDLL(None)
    library.mmap.restype = ctypes.c_void_p
    library.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, *3 * [ctypes.c_int], ctypes.c_long]
    access = mmap.PROT_READ | mmap.PROT_WRITE
    return bool(library.mmap(start, size, access, kind | FIXED, file, offset) == start)
