from __future__ import annotations

import gzip
import struct
import zipfile
from importlib import resources
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from reference.notation import InputError, check_data
from verify.loading import DEFAULT_ROWS, DIGITS_ROWS, Table, load, prepare


def table(X: object, y: object | None = None) -> Table:
    rows = np.array(X, dtype=float)
    labels = np.arange(len(rows), dtype=float) if y is None else np.array(y, dtype=float)
    return Table(rows, labels, "made.csv", np.arange(len(rows)) + 2, "line", (), "made by hand")


def written(folder: Path, text: str, name: str = "file.csv") -> Path:
    path = folder / name
    path.write_text(text, encoding="utf-8")
    return path


def rng() -> np.random.Generator:
    return np.random.default_rng(0)


def test_digits_are_the_stated_file() -> None:
    digits = load("digits")
    assert digits.X.shape == (1797, 64)
    assert (digits.X >= 0).all()
    assert (digits.X <= 16).all()
    assert np.bincount(digits.y.astype(int)).tolist() == [178, 182, 177, 183, 181, 182, 181, 179, 174, 180]
    assert digits.places[0] == 1
    assert digits.default_rows == DIGITS_ROWS


def test_other_digits_than_those_shipped_are_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    shipped = resources.files("verify").joinpath("data", "digits.csv.gz").read_bytes()
    (tmp_path / "data").mkdir()
    monkeypatch.setattr(resources, "files", lambda package: tmp_path)
    (tmp_path / "data" / "digits.csv.gz").write_bytes(shipped)
    assert len(load("digits").X) == 1797
    fewer = b"\n".join(gzip.decompress(shipped).splitlines()[:200])
    for other in (shipped[:3000], gzip.compress(fewer)):
        (tmp_path / "data" / "digits.csv.gz").write_bytes(other)
        with pytest.raises(InputError, match="digits: the file is not the one that comes with the package; install"):
            load("digits")


@pytest.mark.parametrize("separator", [",", ";", "\t"])
@pytest.mark.parametrize("header", ["", "a{0}b{0}c\n", '"a"{0}"b"{0}"c"\n', "a{0}{0}c\n"])
def test_csv_separators_and_headers(tmp_path: Path, separator: str, header: str) -> None:
    text = (header + "1{0}2{0}3\n\n4{0}-5e-1{0} 6 \r\n").format(separator)
    read = load(written(tmp_path, text))
    assert read.X.tolist() == [[1.0, 2.0], [4.0, -0.5]]
    assert read.y.tolist() == [3.0, 6.0]
    assert read.places.tolist() == ([2, 4] if header else [1, 3])
    assert len(read.features) == (2 if header else 0)
    assert "2 row(s) of 2 feature(s)" in read.description
    assert ("with column names" in read.description) == bool(header)


@pytest.mark.parametrize("index", ["", "index"])
def test_names_that_count_up_are_known_by_the_index_below_the_first(tmp_path: Path, index: str) -> None:
    read = load(written(tmp_path, f"{index},0,1\n0,7,8\n1,9,10\n"))
    assert read.X.tolist() == [[0.0, 7.0], [1.0, 9.0]]
    assert read.features == (index, "0")


@pytest.mark.parametrize(
    "first", ["1,2,x", "0,1,NA", "0,1,", "NA,0,1", ",0,1", "NA,1,2", "x,NA,0", "0,x,1", "x,0,2", "1,2,y"]
)
def test_a_broken_first_row_is_not_taken_for_names(tmp_path: Path, first: str) -> None:
    """Nor dropped without a word, with the rows below it read as if they were all."""
    with pytest.raises(InputError, match=r"line 1, column \d is (an empty cell|'(x|y|NA)', not a number; .* names)"):
        load(written(tmp_path, f"{first}\n3,4,5\n6,7,8\n"))


def test_csv_may_be_compressed_and_carry_a_byte_order_mark(tmp_path: Path) -> None:
    path = tmp_path / "file.csv.gz"
    path.write_bytes(gzip.compress("\ufeffa,y\n1,2\n".encode()))
    read = load(str(path))
    assert read.features == ("a",)
    assert read.y.tolist() == [2.0]


@pytest.mark.parametrize(("target", "expected"), [(None, 3.0), ("b", 2.0), ("1", 3.0), (2, 2.0), ("3", 3.0)])
def test_target_by_name_before_number(tmp_path: Path, target: str | int | None, expected: float) -> None:
    # The third of the columns index, 0, 1 is named "1": the name wins over the number.
    header = "index,0,1\n" if target == "1" else "a,b,c\n"
    assert load(written(tmp_path, header + "0,2,3\n"), target=target).y.tolist() == [expected]


def test_npz_is_read(tmp_path: Path) -> None:
    np.savez(
        tmp_path / "file.npz", X=np.arange(6, dtype=np.int8).reshape(3, 2), y=np.array([True, False, True])
    )
    read = load(tmp_path / "file.npz")
    assert read.X.tolist() == [[0, 1], [2, 3], [4, 5]]
    assert read.y.tolist() == [1, 0, 1]
    assert (read.unit, read.places.tolist()) == ("row", [1, 2, 3])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "file.csv: the file is empty; pass"),
        (" \n\n", "the file is empty"),
        (",\n,\n", "no cell holds anything; pass"),
        ("a,b\n", "column names but no row of numbers; add"),
        ("1\n2\n", "only one column; pass features and a target"),
        ("1 2 3\n4 5 6\n", "only one column"),
        ("1,2\n3,4,5\n", r"line 2 has 3 cell\(s\) but line 1 has 2; give"),
        ("a,b\n1,2\n\n3\n", r"line 4 has 1 cell\(s\) but line 1 has 2"),
        ("a,b\n1,2\n3,x\n", r"line 3, column 2 \('b'\) is 'x', not a number; code categories"),
        ("1,x,3\n4,5,6\n", "line 1, column 2 is 'x', not a number"),
        ("1,2\n1_0,2\n", "line 2, column 1 is '1_0', not a number"),
        ("1;2\n1,5;2\n", "line 2, column 1 is '1,5', not a number; .* decimals with a point"),
        ("1,2\n,2\n", "line 2, column 1 is an empty cell; fill it"),
        ("nan,2\n", "line 1, column 1 is 'nan', not a finite number; fill it"),
        ("1,2\n3,-inf\n", "line 2, column 2 is '-inf', not a finite number"),
        ("1," + "x" * 99 + "\n", "x{40}\\.\\.\\.'"),
        ("1,2,3\n1,2,\x003\n", "line 2 holds a NUL byte, so this is no text; save"),
        ("\x001,2\n3,4\n", "line 1 holds a NUL byte"),
        (
            '1,2\n"' + "3" * 200_000 + '",4\n',
            "line 2 cannot be split into cells .*; check its quotation marks",
        ),
    ],
)
def test_bad_text_is_refused(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(InputError, match=message) as caught:
        load(written(tmp_path, text))
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize(
    ("header", "target", "message"),
    [
        ("a,b\n", "z", "no column 'z' to be the target; pass a number from 1 to 2 or one of a, b"),
        ("a,b\n", "3", "no column '3'"),
        ("a,b\n", "0", "no column '0'"),
        ("", "a", r"from 1 to 2 \(the file names no columns\)"),
        ("a,a\n", "a", "several columns are named 'a'; pass the target's column number"),
    ],
)
def test_missing_target_is_refused(tmp_path: Path, header: str, target: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        load(written(tmp_path, header + "1,2\n"), target=target)


def test_unreadable_files_are_refused(tmp_path: Path) -> None:
    (tmp_path / "folder.csv").mkdir()
    (tmp_path / "latin.csv").write_bytes(b"1,2\n\xe9,3\n")
    (tmp_path / "cut.csv.gz").write_bytes(gzip.compress(b"1,2\n" * 999)[:20])
    (tmp_path / "plain.csv.gz").write_bytes(b"1,2\n")
    for name, message in {
        "none.csv": "no such file; check",
        "folder.csv": "is a directory; name a file",
        "latin.csv": "byte 5 is no UTF-8 text; save",
        "cut.csv.gz": "not a complete gzip file .*; compress it again",
        "plain.csv.gz": "not a complete gzip file",
        "file.xlsx": "cannot tell the format from the name; pass",
        "file.npz.gz": "cannot tell the format",
        "\0.csv": "cannot be read",
    }.items():
        with pytest.raises(InputError, match=message):
            load(tmp_path / name)


def test_bad_archives_are_refused(tmp_path: Path) -> None:
    path = tmp_path / "file.npz"
    good = {"X": np.eye(2), "y": np.ones(2)}
    for arrays, message in [
        (
            {"X": np.eye(2), "labels": np.ones(2)},
            "no array y in the archive, which holds X, labels; write it",
        ),
        ({"y": np.ones(2)}, "no array X"),
        (
            {**good, "X": np.array([[1, "a"]], dtype=object)},
            "cannot be read as arrays of numbers .*; write it",
        ),
        ({**good, "X": np.array([["a", "b"]])}, "file.npz: X has dtype <U1; pass real numbers"),
        ({**good, "y": np.array(["a", "b"])}, "file.npz: y has dtype <U1; pass real numbers"),
        ({**good, "X": np.array([[1.0, np.nan]])}, r"X has a NaN or infinite entry at index \(0, 1\)"),
        ({**good, "X": np.ones(2)}, r"X has shape \(2,\); pass"),
        ({**good, "X": np.ones((0, 2))}, "X is empty"),
        ({**good, "y": np.ones(3)}, "y has 3 entries but X has 2 rows"),
    ]:
        np.savez(path, **arrays)
        with pytest.raises(InputError, match=message):
            load(path)
    np.savez(path, **good)
    with pytest.raises(InputError, match="can be named in a text file only; store the target as y"):
        load(path, target="y")
    whole = path.read_bytes()
    for content in (whole[: len(whole) // 2], b"PK no archive", b"text"):
        path.write_bytes(content)
        with pytest.raises(InputError, match="cannot be read as arrays of numbers"):
            load(path)
    with path.open("wb") as stream:
        np.save(stream, np.eye(2))
    with pytest.raises(InputError, match="holds a single array, not an archive; write it"):
        load(path)


def test_prepare_does_what_it_says_by_hand() -> None:
    given_X = [[4.0, 7.0, 1.0], [0.0, 7.0, -1.0], [2.0, 7.0, 3.0]]
    made = prepare(table(given_X, [1, 2, 6]), centre=True, scale=True, rng=rng())
    # Means 2, 7, 1; deviations sqrt(8/3), 0, sqrt(8/3); the constant column goes.
    expected = np.array([[1.0, 0.0], [-1.0, -1.0], [0.0, 1.0]]) / np.array([[1.0], [np.sqrt(2)], [1.0]])
    np.testing.assert_allclose(made.X, expected, atol=1e-15)
    np.testing.assert_allclose(made.y, np.array([-2.0, -1.0, 3.0]) / np.sqrt(14 / 3))
    assert made.dropped_columns == 1
    assert made.places.tolist() == [2, 3, 4]
    assert made.steps == (
        "read made by hand",
        "took all 3 row(s), which leaves no unseen points",
        "subtracted each column's mean",
        "divided each column by its deviation and dropped 1 constant column(s)",
        "divided each row by its length",
        "standardized the labels (they had mean 3 and deviation 2.16)",
    )


def test_prepare_leaves_the_table_alone() -> None:
    given_table = load("digits")
    before = given_table.X.copy(), given_table.y.copy()
    prepare(given_table, centre=True, scale=True, rng=rng())
    np.testing.assert_array_equal(given_table.X, before[0])
    np.testing.assert_array_equal(given_table.y, before[1])


def test_unseen_rows_are_other_rows_transformed_alike() -> None:
    X = rng().standard_normal((30, 4)) + 3
    made = prepare(table(X), rows=20, centre=True, scale=True, rng=rng())
    chosen = made.places - 2
    others = np.setdiff1d(np.arange(30), chosen)
    unseen = (X[others] - X[chosen].mean(axis=0)) / X[chosen].std(axis=0)
    np.testing.assert_allclose(made.unseen, unseen / np.linalg.norm(unseen, axis=1, keepdims=True))


def test_default_sample() -> None:
    X = rng().standard_normal((DEFAULT_ROWS + 5, 3))
    made = prepare(table(X), rng=rng())
    assert (len(made.X), len(made.unseen)) == (DEFAULT_ROWS, 5)
    assert (
        made.steps[1]
        == f"sampled {DEFAULT_ROWS} of the {len(X)} rows at random; 5 of the others are unseen points"
    )
    assert "neither centred nor scaled" in made.steps[2]


def test_unit_rows_and_equal_labels_are_left_alone_and_said() -> None:
    X = np.array([[0.6, 0.8], [1.0, 0.0]])
    made = prepare(table(X, [5, 5]), rng=rng())
    np.testing.assert_array_equal(made.X, X)
    assert made.y.tolist() == [5, 5]
    assert "found every row of unit length already" in made.steps
    assert "left the labels as they are, for they are all equal" in made.steps
    assert prepare(table(X, [3, 5]), standardize_target=False, rng=rng()).y.tolist() == [3, 5]


def test_tiny_and_large_rows_are_normalized() -> None:
    made = prepare(table([[3e-200, 4e-200], [1e149, 0.0]]), rng=rng())
    np.testing.assert_allclose(made.X, [[0.6, 0.8], [1.0, 0.0]])


REPEATS = [[1.0, 0.0], [0.0, 1.0], [2.0, 0.0], [0.0, 0.0], [0.0, -3.0], [1.0, 1.0]]


def test_repeats_are_dropped_on_request() -> None:
    made = prepare(table(REPEATS), drop_duplicates=True, rng=rng())
    assert made.places.tolist() == [2, 3, 7]
    assert made.dropped_rows == 3
    assert "dropped 3 row(s) that were zero, or equal or opposite to an earlier row" in made.steps


@pytest.mark.parametrize(
    ("X", "options", "message"),
    [
        (REPEATS, {}, "made.csv: line 5 has no direction .*; drop such rows with --drop-duplicates"),
        (REPEATS[:3], {}, "lines 2 and 4 are equal or opposite once normalized; .*--drop-duplicates"),
        (REPEATS[1:2] + REPEATS[4:], {}, "lines 2 and 3 are equal or opposite"),
        ([[0.1], [0.7]], {}, "with a single feature all rows are; add a column of ones"),
        ([[0.1, 0.3], [0.3, 0.1], [0.2, 0.2]], {"centre": True}, "line 4 has no direction"),
        ([[1.0, 2.0]], {"centre": True, "drop_duplicates": True}, "every row is zero; pass data that vary"),
        ([[1.0, 2.0]], {"scale": True}, "every column is constant; take more rows"),
        ([[1e151, 2.0]], {}, r"an entry exceeds 1e\+150; divide"),
        (REPEATS, {"rows": 7}, "rows is 7; pass 1 to 6"),
        (REPEATS, {"rows": 0}, "rows is 0; pass 1 to 6"),
    ],
)
def test_bad_tables_are_refused(X: list[list[float]], options: dict[str, object], message: str) -> None:
    with pytest.raises(InputError, match=message):
        prepare(table(X), rng=rng(), **options)


def test_prepare_needs_a_generator() -> None:
    with pytest.raises(InputError, match=r"rng is None; pass a numpy\.random\.Generator"):
        prepare(table(REPEATS), rng=None)  # type: ignore[arg-type]


@given(
    seed=st.integers(0, 2**32 - 1),
    n=st.integers(2, 12),
    d=st.integers(2, 6),
    size=st.sampled_from([1e-100, 1e-8, 1.0, 1e8, 1e100]),
    offset=st.sampled_from([0.0, 1.0, 1e6]),
    centre=st.booleans(),
    scale=st.booleans(),
)
def test_what_is_prepared_can_be_trained_on(
    seed: int, n: int, d: int, size: float, offset: float, centre: bool, scale: bool
) -> None:
    draw = np.random.default_rng(seed)
    X = size * (draw.integers(-2, 3, size=(n, d)) + offset)
    X[0] = size * (draw.standard_normal(d) + offset)  # so that some row differs, and every column varies
    made = prepare(table(X), centre=centre, scale=scale, drop_duplicates=True, rng=draw)
    check_data(made.X)
    np.testing.assert_allclose(np.linalg.norm(made.X, axis=1), 1, rtol=1e-6)
    assert len(made.X) == len(made.y) == len(made.places) == n - made.dropped_rows


@pytest.mark.parametrize(("field", "value"), [(6, 1), (8, 99)], ids=["encrypted", "unknown compression"])
def test_an_npz_that_zipfile_cannot_open_is_refused(tmp_path: Path, field: int, value: int) -> None:
    """Set the flag or the method of every member, in its own header and in the directory at the end."""
    path = tmp_path / "file.npz"
    np.savez(path, X=np.eye(3), y=np.ones(3))
    content = bytearray(path.read_bytes())
    for signature, offset in ((b"PK\x03\x04", field), (b"PK\x01\x02", field + 2)):
        at = content.find(signature)
        while at >= 0:
            content[at + offset] = value
            at = content.find(signature, at + 4)
    path.write_bytes(content)
    with pytest.raises(InputError, match=r"file\.npz: cannot be read as arrays of numbers .*numpy\.savez"):
        load(path)


@pytest.mark.parametrize("shape", ["(9999999999999999999999, 9)", "(True, 9)", "((9,"])
def test_an_npz_of_an_impossible_shape_is_refused(tmp_path: Path, shape: str) -> None:
    path = tmp_path / "file.npz"
    np.savez(path, y=np.ones(3))
    header = f"{{'descr': '<f8', 'fortran_order': False, 'shape': {shape}}}"
    with zipfile.ZipFile(path, "a") as archive:
        archive.writestr("X.npy", b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode() + bytes(72))
    with pytest.raises(InputError, match=r"file\.npz: cannot be read as arrays of numbers .*numpy\.savez"):
        load(path)
