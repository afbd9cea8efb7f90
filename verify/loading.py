"""A user's own data: read a table of numbers, then turn it into a problem that the theory speaks about.

The theory wants unit rows ``x_i``, no two equal or opposite, and one real label each. A file has neither::

    load      CSV, TSV or NPZ               -> Table      numbers as they stand in the file
    prepare   sample rows, centre, scale,   -> Prepared   unit rows, labels, unseen rows, what was done
              normalize, drop repeats

Rows become unit rows ``x / ||x||`` always: the mathematics needs it. Centring and scaling are choices, made
on request, and use the sampled rows alone. Centring matters: columns that are never negative leave all rows
in a narrow cone, and a narrow cone means small separation. Rows that were not sampled go through the same
transformation and serve as unseen points.

Every number in a message is a place in the file: lines and columns (CSV) or rows (NPZ), counted from 1.
"""

from __future__ import annotations

import csv
import gzip
import hashlib
import io
import zlib
from dataclasses import dataclass
from importlib import resources
from pathlib import Path

import numpy as np

from reference.network_file import UNREADABLE_NPZ
from reference.notation import (
    UNIT_LENGTH_SLACK,
    UNIT_ROUNDOFF,
    BoolArray,
    FloatArray,
    InputError,
    IntArray,
    as_float_array,
    check_generator,
    check_labels,
    closest_pair,
)

DIGITS = "digits"
"""The name under which the shipped handwritten digits are loaded."""

DIGITS_SHA256 = "09f66e6debdee2cd2b5ae59e0d6abbb73fc2b0e0185d2e1957e9ebb51e23aa22"
"""Hash of their file."""

DIGITS_ROWS = 100
"""Rows of the digits that are sampled unless told otherwise: few enough to run the reference as well."""

DEFAULT_ROWS = 256
"""Rows of any other file that are sampled unless told otherwise."""

UNSEEN_ROWS = 256
"""At most this many of the remaining rows are kept as unseen points."""

LARGEST = 1e150
"""Entries beyond this would overflow when squared."""

SAME = 64 * UNIT_ROUNDOFF
"""Unit rows closer than this, up to sign, count as equal: the limit of `reference.notation.check_data`."""

TEXT_SUFFIXES = (".csv", ".tsv", ".txt")
NPZ_REMEDY = "write it with numpy.savez(file, X=X, y=y)"


@dataclass(frozen=True, eq=False)
class Table:
    """The numbers of a file.

    Parameters
    ----------
    X : ndarray (n, d)
        Features, as they stand in the file.
    y : ndarray (n,)
        The target.
    name : str
        File name, for messages.
    places : ndarray (n,) of int
        Where each row stands in the file, counted from 1.
    unit : {"line", "row"}
        What `places` counts.
    features : tuple of str
        Names of the columns of ``X``; empty when the file names none.
    description : str
        What was read, in one sentence.
    default_rows : int
        Rows to sample when nothing else is asked for.
    """

    X: FloatArray
    y: FloatArray
    name: str
    places: IntArray
    unit: str
    features: tuple[str, ...]
    description: str
    default_rows: int = DEFAULT_ROWS


@dataclass(frozen=True, eq=False)
class Prepared:
    """A problem made of a table.

    Parameters
    ----------
    X : ndarray (n, d)
        Unit rows, no two equal or opposite.
    y : ndarray (n,)
        Labels.
    unseen : ndarray (k, d)
        Unit rows that are not trained on; ``k`` may be 0.
    name : str
        File name.
    places : ndarray (n,) of int
        Where each row of ``X`` stands in the file, counted from 1.
    unit : {"line", "row"}
        What `places` counts.
    steps : tuple of str
        What was done, in order, in plain words.
    dropped_rows, dropped_columns : int
        How many sampled rows (zero, equal or opposite) and columns (constant) were dropped.
    """

    X: FloatArray
    y: FloatArray
    unseen: FloatArray
    name: str
    places: IntArray
    unit: str
    steps: tuple[str, ...]
    dropped_rows: int = 0
    dropped_columns: int = 0


def load(source: str | Path, *, target: str | int | None = None) -> Table:
    """Read a table of numbers.

    Parameters
    ----------
    source : str or Path
        ``"digits"`` for the shipped handwritten digits, or a file: ``.csv``, ``.tsv``, ``.txt``, each also
        with ``.gz``, separated by commas, semicolons or tabs, with or without a line of column names; or
        ``.npz`` with arrays ``X`` and ``y``.
    target : str or int, optional
        Name of the target column, or its number counted from 1 (a name goes before a number); the last column
        when not given. Text files only.

    Returns
    -------
    Table

    Raises
    ------
    InputError
        The file cannot be read, or is not a table of finite numbers; the message names place and remedy.

    Examples
    --------
    >>> table = load("digits")
    >>> table.X.shape, table.y[:5]
    ((1797, 64), array([0., 1., 2., 3., 4.]))
    """
    if str(source) == DIGITS:
        packed = resources.files("verify").joinpath("data", "digits.csv.gz").read_bytes()
        # Processes read it at any time in a run, so a hash of the folder at its start would not do.
        if hashlib.sha256(packed).hexdigest() != DIGITS_SHA256:
            raise InputError(f"{DIGITS}: the file is not the one that comes with the package; install it again")
        return _read_text(_decode(gzip.decompress(packed), DIGITS), DIGITS, target, DIGITS_ROWS)
    path = Path(source)
    packed_text = path.suffix.lower() == ".gz"
    suffix = Path(path.stem).suffix.lower() if packed_text else path.suffix.lower()
    if suffix not in TEXT_SUFFIXES and (packed_text or suffix != ".npz"):
        raise InputError(
            f"{path.name}: cannot tell the format from the name; pass a .csv, .tsv or .txt file (also .gz), "
            f"an .npz file, or the word {DIGITS}"
        )
    content = _read_bytes(path)
    if suffix == ".npz":
        return _read_npz(content, path.name, target)
    if packed_text:
        try:
            content = gzip.decompress(content)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{path.name}: not a complete gzip file ({error}); compress it again") from error
    return _read_text(_decode(content, path.name), path.name, target, DEFAULT_ROWS)


def prepare(
    table: Table,
    *,
    rows: int | None = None,
    centre: bool = False,
    scale: bool = False,
    drop_duplicates: bool = False,
    standardize_target: bool = True,
    rng: np.random.Generator,
) -> Prepared:
    """Turn a table into a problem: unit rows, no two equal or opposite, and labels.

    Parameters
    ----------
    table : Table
        Not modified.
    rows : int, optional
        Sample this many rows at random; when not given, all up to ``table.default_rows``.
    centre : bool
        Subtract each column's mean.
    scale : bool
        Divide each column by its standard deviation, and drop constant columns.
    drop_duplicates : bool
        Drop rows that come out zero, equal or opposite, keeping the first; otherwise they are an error.
    standardize_target : bool
        Shift and scale the labels to mean 0 and variance 1.
    rng : numpy.random.Generator
        Source of the sample.

    Returns
    -------
    Prepared

    Raises
    ------
    InputError
        ``rows`` out of range, entries too large to square, rows that come out zero, equal or opposite.

    Examples
    --------
    >>> problem = prepare(load("digits"), rows=50, centre=True, rng=np.random.default_rng(0))
    >>> problem.X.shape, problem.unseen.shape, bool(np.allclose(np.linalg.norm(problem.X, axis=1), 1))
    ((50, 64), (256, 64), True)
    >>> print(problem.steps[1])
    sampled 50 of the 1797 rows at random; 256 of the others are unseen points
    """
    check_generator(rng)
    if max(np.abs(table.X).max(), np.abs(table.y).max()) > LARGEST:
        raise InputError(f"{table.name}: an entry exceeds {LARGEST:g}; divide such columns by a constant")
    chosen, others, sampled = _sample(table, rows, rng)
    X, unseen, dropped_columns, transformed = _transform(table, chosen, others, centre=centre, scale=scale)
    steps = [f"read {table.description}", sampled, *transformed]
    X, were_unit = _normalize(X)
    unseen, _ = _normalize(unseen)
    unseen = unseen[unseen.any(axis=1)]
    steps.append("found every row of unit length already" if were_unit else "divided each row by its length")

    keep = _usable_rows(X, table, chosen, drop=drop_duplicates)
    dropped_rows = len(chosen) - int(keep.sum())
    if drop_duplicates:
        steps.append(f"dropped {dropped_rows} row(s) that were zero, or equal or opposite to an earlier row")
    y, note = _labels(table.y[chosen[keep]], standardize_target)
    steps.append(note)
    return Prepared(
        X[keep],
        y,
        unseen,
        table.name,
        table.places[chosen[keep]],
        table.unit,
        tuple(steps),
        dropped_rows,
        dropped_columns,
    )


def _read_bytes(path: Path) -> bytes:
    """Read a whole file."""
    if path.is_dir():
        raise InputError(f"{path}: is a directory; name a file in it")
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; check the name and the folder") from error
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}); check its permissions and its name") from error
    if not content:
        raise InputError(f"{path.name}: the file is empty; pass a file with at least one row of numbers")
    return content


def _decode(content: bytes, name: str) -> str:
    """Decode UTF-8, with or without a byte order mark."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{name}: byte {error.start + 1} is no UTF-8 text; save the file as UTF-8"
        ) from error


def _read_text(text: str, name: str, target: str | int | None, default_rows: int) -> Table:
    """Read separated text."""
    lines, separator = _split(text, name)
    width = len(lines[0][1])
    for place, cells in lines:
        if len(cells) != width:
            raise InputError(
                f"{name}: line {place} has {len(cells)} cell(s) but line {lines[0][0]} has {width}; "
                "give every line the same number, separated alike"
            )
    if width == 1:
        raise InputError(
            f"{name}: only one column; pass features and a target, separated by commas, semicolons or tabs"
        )
    header = tuple(cell.strip() for cell in lines[0][1]) if _is_header(lines) else ()
    body = lines[1:] if header else lines
    if not body:
        raise InputError(f"{name}: column names but no row of numbers; add at least one row")
    column = _target_column(target, header, width, name)
    numbers = np.array([_parse(cells, place, header, name, first=place == lines[0][0]) for place, cells in body])
    features = tuple(title for index, title in enumerate(header) if index != column)
    label = f"column {column + 1}" + (f", {header[column]!r}" if header else "")
    description = (
        f"{len(body)} row(s) of {width - 1} feature(s), separated by {separator}, "
        f"{'with' if header else 'without'} column names; the target is {label}"
    )
    return Table(
        np.delete(numbers, column, axis=1),
        numbers[:, column].copy(),
        name,
        np.array([place for place, _ in body]),
        "line",
        features,
        description,
        default_rows,
    )


def _split(text: str, name: str) -> tuple[list[tuple[int, list[str]]], str]:
    """Split text into lines of cells, each with its line number; blank lines are skipped."""
    if "\0" in text:
        line = text.count("\n", 0, text.index("\0")) + 1
        raise InputError(f"{name}: line {line} holds a NUL byte, so this is no text; save the file as UTF-8")
    first = next((line for line in text.splitlines() if line.strip()), None)
    if first is None:
        raise InputError(f"{name}: the file is empty; pass a file with at least one row of numbers")
    # A comma comes last: beside a tab or a semicolon it is a decimal comma or part of a name.
    separators = {"\t": "tabs", ";": "semicolons", ",": "commas"}
    separator = next((mark for mark in separators if mark in first), ",")
    reader = csv.reader(io.StringIO(text, newline=""), delimiter=separator)
    lines = []
    try:
        for cells in reader:
            if any(cell.strip() for cell in cells):
                lines.append((reader.line_num, cells))
    except csv.Error as error:
        raise InputError(
            f"{name}: line {reader.line_num} cannot be split into cells ({error}); check its quotation marks"
        ) from error
    if not lines:
        raise InputError(f"{name}: no cell holds anything; pass a file with at least one row of numbers")
    return lines, separators[separator]


def _number(cell: str) -> float | None:
    """Read one cell as a number, NaN and infinity included; ``None`` when it is none."""
    try:
        return None if "_" in cell else float(cell)  # Python would read "1_000" as a number
    except ValueError:
        return None


def _is_header(lines: list[tuple[int, list[str]]]) -> bool:
    """Tell column names from a first row of data.

    Names are a line without any number; or, as data frames write unnamed rows and columns, 0, 1, 2 and so on after a
    first cell that is none, above a first column that counts likewise. Any other mixture is a row with a broken cell:
    it must not be skipped.
    """
    first, *others = [_number(cell) for cell in lines[0][1]]
    if first is None and all(number is None for number in others):
        return True
    rows = [_number(cells[0]) for _, cells in lines[1:]]
    return first is None and len(others) > 1 and others == [*range(len(others))] and rows == [*range(len(rows))]


def _target_column(target: str | int | None, header: tuple[str, ...], width: int, name: str) -> int:
    """Find the target's column, counted from 0."""
    if target is None:
        return width - 1
    wanted = str(target).strip()
    if header.count(wanted) == 1:
        return header.index(wanted)
    if header.count(wanted) > 1:
        raise InputError(f"{name}: several columns are named {wanted!r}; pass the target's column number")
    if wanted.isdecimal() and 1 <= int(wanted) <= width:
        return int(wanted) - 1
    named = ", ".join(header[:12]) + (", ..." if len(header) > 12 else "")
    raise InputError(
        f"{name}: no column {wanted!r} to be the target; pass a number from 1 to {width}"
        + (f" or one of {named}" if header else " (the file names no columns)")
    )


def _parse(cells: list[str], place: int, header: tuple[str, ...], name: str, *, first: bool) -> list[float]:
    """Read one line of numbers; the ``first`` of a file may be meant as something else."""
    numbers = []
    for index, cell in enumerate(cells):
        number = _number(cell)
        if number is not None and np.isfinite(number):
            numbers.append(number)
            continue
        where = f"{name}: line {place}, column {index + 1}" + (f" ({header[index]!r})" if header else "")
        shown = repr(cell if len(cell) <= 40 else cell[:40] + "...")
        if not cell.strip():
            raise InputError(f"{where} is an empty cell; fill it or remove the line")
        if number is not None:
            raise InputError(f"{where} is {shown}, not a finite number; fill it or remove the line")
        raise InputError(
            f"{where} is {shown}, not a number; code categories as numbers, write decimals with a point, "
            "or remove the column" + ("; in a line of column names none may be a number" if first else "")
        )
    return numbers


def _read_npz(content: bytes, name: str, target: str | int | None) -> Table:
    """Read arrays ``X`` and ``y`` from an NPZ archive; pickled objects are refused."""
    if target is not None:
        raise InputError(f"{name}: a target column can be named in a text file only; store the target as y")
    try:
        archive = np.load(io.BytesIO(content), allow_pickle=False)
        if not isinstance(archive, np.lib.npyio.NpzFile):
            raise InputError(f"{name}: holds a single array, not an archive; {NPZ_REMEDY}")
        missing = [key for key in ("X", "y") if key not in archive.files]
        if missing:
            raise InputError(
                f"{name}: no array {missing[0]} in the archive, which holds "
                f"{', '.join(archive.files) or 'nothing'}; {NPZ_REMEDY}"
            )
        given = {key: archive[key] for key in ("X", "y")}
    except InputError:
        raise
    except UNREADABLE_NPZ as error:
        # NumPy's own message advises to load unsafely.
        cause = "object arrays" if "Object arrays" in str(error) else "no NPZ archive, or a damaged one"
        raise InputError(f"{name}: cannot be read as arrays of numbers ({cause}); {NPZ_REMEDY}") from error
    X = as_float_array(f"{name}: X", given["X"], 2)
    y = check_labels(as_float_array(f"{name}: y", given["y"], 1), len(X))
    description = f"arrays X {X.shape} and y {y.shape}"
    return Table(X, y, name, np.arange(1, len(X) + 1), "row", (), description)


def _sample(table: Table, rows: int | None, rng: np.random.Generator) -> tuple[IntArray, IntArray, str]:
    """Choose the rows to train on and the unseen ones, both in the order of the file."""
    available = len(table.X)
    if rows is not None and (isinstance(rows, bool) or not 1 <= rows <= available):
        raise InputError(f"{table.name}: rows is {rows}; pass 1 to {available}, the rows of the file")
    wanted = min(available, table.default_rows) if rows is None else rows
    order = rng.permutation(available)
    chosen, others = np.sort(order[:wanted]), np.sort(order[wanted : wanted + UNSEEN_ROWS])
    if wanted == available:
        return chosen, others, f"took all {available} row(s), which leaves no unseen points"
    note = (
        f"sampled {wanted} of the {available} rows at random; {len(others)} of the others are unseen points"
    )
    return chosen, others, note


def _transform(
    table: Table, chosen: IntArray, others: IntArray, *, centre: bool, scale: bool
) -> tuple[FloatArray, FloatArray, int, list[str]]:
    """Centre and scale the columns by what the chosen rows say; returns both sets of rows."""
    X, unseen = table.X[chosen], table.X[others]
    steps = []
    dropped = 0
    spread = np.std(X, axis=0)
    # A constant column's deviation can come out as rounding error instead of 0.
    constant = (np.ptp(X, axis=0) == 0) | (spread == 0)
    if centre:
        middle = np.mean(X, axis=0)
        middle[constant] = X[0, constant]
        # What is left of an entry equal to its mean is rounding error and no direction: make it 0.
        noise = SAME * np.abs(X).max(axis=0)
        X, unseen = X - middle, unseen - middle
        X[np.abs(X) <= noise] = 0.0
        unseen[np.abs(unseen) <= noise] = 0.0
        steps.append("subtracted each column's mean")
    if scale:
        dropped = int(constant.sum())
        if constant.all():
            raise InputError(f"{table.name}: every column is constant; take more rows, or do not scale")
        X, unseen = X[:, ~constant] / spread[~constant], unseen[:, ~constant] / spread[~constant]
        steps.append(f"divided each column by its deviation and dropped {dropped} constant column(s)")
    if not steps:
        steps.append("left the columns as they are (neither centred nor scaled)")
    return X, unseen, dropped, steps


def _normalize(X: FloatArray) -> tuple[FloatArray, bool]:
    """Give every row unit length, zero rows excepted; tell whether all had it before."""
    lengths = np.linalg.norm(X, axis=1, keepdims=True)
    if len(X) and np.abs(lengths - 1).max() <= UNIT_LENGTH_SLACK:
        return X, True
    # By the largest entry first: the square of a tiny entry would be lost.
    largest = np.abs(X).max(axis=1, keepdims=True)
    X = X / np.where(largest > 0, largest, 1.0)
    lengths = np.linalg.norm(X, axis=1, keepdims=True)
    return X / np.where(lengths > 0, lengths, 1.0), False


def _usable_rows(X: FloatArray, table: Table, chosen: IntArray, *, drop: bool) -> BoolArray:
    """Mark rows that are neither zero nor equal or opposite to an earlier one; raise unless ``drop``."""
    keep: BoolArray = np.asarray(X.any(axis=1))
    place = table.places[chosen]
    if not drop and not keep.all():
        raise InputError(
            f"{table.name}: {table.unit} {place[np.argmin(keep)]} has no direction (it is zero, "
            "or centring made it so); drop such rows with --drop-duplicates"
        )
    if not drop:
        delta, first, second = closest_pair(X)
        if delta > SAME:
            return keep
        pair = f"{table.unit}s {place[first]} and {place[second]}"
        remedy = "keep the first of such rows with --drop-duplicates"
        if X.shape[1] == 1:
            remedy = "with a single feature all rows are; add a column of ones to the file"
        raise InputError(f"{table.name}: {pair} are equal or opposite once normalized; {remedy}")
    for i in np.flatnonzero(keep):
        if keep[i]:
            later = i + 1 + np.flatnonzero(keep[i + 1 :])
            apart = np.linalg.norm(X[later] - X[i], axis=1)
            opposite = np.linalg.norm(X[later] + X[i], axis=1)
            keep[later[np.minimum(apart, opposite) <= SAME]] = False
    if not keep.any():
        raise InputError(f"{table.name}: every row is zero; pass data that vary, or do not centre")
    return keep


def _labels(y: FloatArray, standardize: bool) -> tuple[FloatArray, str]:
    """Standardize the labels on request; equal labels have no scale and stay as they are."""
    if not standardize:
        return y, "left the labels as they are"
    if np.ptp(y) == 0 or np.std(y) == 0:
        return y, "left the labels as they are, for they are all equal"
    mean, deviation = float(np.mean(y)), float(np.std(y))
    note = f"standardized the labels (they had mean {mean:.4g} and deviation {deviation:.4g})"
    return (y - mean) / deviation, note
