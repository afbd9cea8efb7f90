"""Network files: bit for bit there and back, whole or not at all, and every bad file named with cause and remedy."""

from __future__ import annotations

import io
import os
import struct
import tempfile
import warnings
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fast.gauss_newton
import fast.lazy_width
import fast.multi_layer_gauss_newton
from reference import network_file, two_layer
from reference.multi_layer import MultiLayerNetwork, initialize
from reference.network_file import check_writable, is_network_file, load, save
from reference.notation import InputError
from reference.signals import SHIFTS
from reference.two_layer import TwoLayerNetwork

Network = TwoLayerNetwork | MultiLayerNetwork


def matrices(network: Network) -> tuple[np.ndarray, ...]:
    return (network.weights,) if isinstance(network, TwoLayerNetwork) else network.weights


def assert_same(one: Network, other: Network) -> None:
    assert type(one) is type(other)
    assert (one.shift, getattr(one, "normalized", None)) == (other.shift, getattr(other, "normalized", None))
    assert one.signs.tobytes() == other.signs.tobytes()
    assert len(matrices(one)) == len(matrices(other))
    for first, second in zip(matrices(one), matrices(other), strict=True):
        assert first.shape == second.shape
        assert first.tobytes() == second.tobytes()  # -0.0 and subnormal numbers included
        for order in ("c_contiguous", "f_contiguous"):
            assert not getattr(first.flags, order) or getattr(second.flags, order)


def deep(width: int = 5, dim: int = 3, depth: int = 2) -> MultiLayerNetwork:
    return initialize(width, dim, depth, shift=0.5, rng=np.random.default_rng(0), normalized=True)


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    path = tmp_path / "network.npz"
    save(path, deep())
    return path


finite = st.floats(allow_nan=False, allow_infinity=False)


@st.composite
def networks(draw: st.DrawFn) -> Network:
    width, dim, depth = draw(st.integers(1, 5)), draw(st.integers(1, 4)), draw(st.integers(0, 3))

    def matrix(columns: int) -> np.ndarray:
        entries = draw(st.lists(finite, min_size=width * columns, max_size=width * columns))
        return np.array(entries).reshape((width, columns), order=draw(st.sampled_from("CF")))

    signs = draw(st.lists(st.sampled_from([-1.0, 1.0]), min_size=width, max_size=width))
    if not depth:
        return TwoLayerNetwork(matrix(dim), signs, draw(finite))
    shift = draw(st.floats(*SHIFTS))
    weights = tuple(matrix(width if layer else dim) for layer in range(depth))
    return MultiLayerNetwork(weights, signs, shift, draw(st.booleans()))


@given(network=networks())
def test_there_and_back_bit_for_bit(network: Network) -> None:
    with tempfile.TemporaryDirectory() as folder:
        save(f"{folder}/network.npz", network)
        assert_same(network, load(f"{folder}/network.npz"))
        assert os.listdir(folder) == ["network.npz"]


def test_the_memory_order_is_kept(saved: Path) -> None:
    first, second = matrices(load(saved))
    assert first.flags.c_contiguous
    assert not first.flags.f_contiguous
    assert second.flags.f_contiguous
    assert not second.flags.c_contiguous


def test_a_matrix_in_pieces_is_written_whole(tmp_path: Path) -> None:
    network = TwoLayerNetwork(np.arange(24.0).reshape(6, 4)[::2, ::2], [1, -1, 1], 0.0)
    save(tmp_path / "network.npz", network)
    assert_same(network, load(tmp_path / "network.npz"))


def test_trained_networks_are_written_out(tmp_path: Path) -> None:
    path, X, y = tmp_path / "network.npz", np.eye(3), [1.0, -1.0, 1.0]
    trained = fast.multi_layer_gauss_newton.train(deep(200), X, y, trained_layers=(1, 2), iterations=3).network
    save(path, trained)
    assert_same(trained.to_dense(), load(path))
    start = two_layer.initialize(200, 3, shift=0.5, rng=np.random.default_rng(0))
    two = fast.gauss_newton.train(start, X, y, iterations=3).network
    save(path, two)
    assert_same(two.to_dense(), load(path))
    lazy = fast.lazy_width.initialize(X, width=2**20, shift=2.0, rng=np.random.default_rng(0))
    save(path, lazy)
    assert_same(lazy.to_dense(), load(path))


def test_what_is_no_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="network is a list; pass a TwoLayerNetwork"):
        save(tmp_path / "network.npz", [1.0])
    assert not any(tmp_path.iterdir())


# ---- whole or not at all


@pytest.mark.parametrize(
    "error", [KeyboardInterrupt(), MemoryError(), OSError(28, "No space left on device")], ids=lambda error: repr(error)
)
def test_an_interrupted_save_leaves_the_old_file(
    saved: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException
) -> None:
    before = saved.read_bytes()

    def broken(stream: io.BufferedWriter, **arrays: np.ndarray) -> None:
        stream.write(b"PK\x03\x04 half of it")
        assert len(list(saved.parent.iterdir())) == 2
        raise error

    monkeypatch.setattr(np, "savez", broken)
    with pytest.raises((type(error), InputError)) as caught:
        save(saved, deep(7))
    assert saved.read_bytes() == before
    assert list(saved.parent.iterdir()) == [saved]
    if isinstance(error, OSError):
        assert caught.match(r"network\.npz: cannot be written \(No space left on device\); free some space")


def test_a_file_is_replaced_only_once_the_new_one_is_on_the_disk(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    before, synced, real = saved.read_bytes(), [], os.fsync

    def fsync(descriptor: int) -> None:
        assert saved.read_bytes() == before
        synced.append(descriptor)
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    save(saved, deep(7))
    assert len(synced) == 1
    assert load(saved).width == 7


def test_a_link_stays_a_link(saved: Path) -> None:
    link = saved.with_name("link.npz")
    link.symlink_to(saved)
    save(link, deep(7))
    assert link.is_symlink()
    assert load(saved).width == 7


@pytest.mark.parametrize(
    ("name", "words"),
    [
        (".", "is a directory; name a file in it"),
        ("nowhere/network.npz", "no such folder .*nowhere; make it first"),
        ("network.npz/below", "no such folder"),
        ("x" * 300, "cannot be written .*name too long"),
        ("a\0b", "cannot be written"),
        ("/dev/null", "is no regular file"),
    ],
)
def test_places_that_cannot_be_written(saved: Path, name: str, words: str) -> None:
    with pytest.raises(InputError, match=f"(?i){words}"):
        save(saved.parent / name, deep())
    assert list(saved.parent.iterdir()) == [saved]
    with pytest.raises(InputError, match=f"(?i){words}"):
        check_writable(saved.parent / name)


def test_a_name_may_be_as_long_as_the_file_system_allows(tmp_path: Path) -> None:
    longest = os.pathconf(tmp_path, "PC_NAME_MAX")
    for length in range(longest - 11, longest + 1):
        path = tmp_path / "x".rjust(length, "x")
        save(path, deep())
        assert_same(deep(), load(path))
        path.unlink()
    with pytest.raises(InputError, match=r"cannot be written \(File name too long\); .* name another file"):
        check_writable(tmp_path / "x".rjust(longest + 1, "x"))
    assert not any(tmp_path.iterdir())


def test_a_folder_that_vanishes_is_named(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What is left of the temporary file cannot be removed either."""

    def vanished(path: Path, mode: str = "r") -> None:
        raise OSError(5, "Input/output error")

    def stuck(path: Path, missing_ok: bool = False) -> None:
        raise OSError(30, "Read-only file system")

    monkeypatch.setattr(Path, "open", vanished)
    monkeypatch.setattr(Path, "unlink", stuck)
    with pytest.raises(InputError, match=r"network\.npz: cannot be written \(Input/output error\)"):
        save(saved, deep())


def test_a_folder_without_permission(saved: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "access", lambda path, mode: mode != os.W_OK | os.X_OK)
    with pytest.raises(InputError, match=r"network\.npz: the folder .* is not yours to write; name a file elsewhere"):
        save(saved, deep())


# ---- bad files

Change = Callable[[dict[str, np.ndarray]], object]


def changed(path: Path, change: Change) -> None:
    with np.load(path) as archive:
        arrays = dict(archive)
    change(arrays)
    np.savez(path, **arrays)


def entry(name: str, value: object) -> Change:
    return lambda arrays: arrays.update({name: np.asarray(value)})


W = np.ones((5, 3))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda arrays: arrays.pop("format"), r"no network file \(it holds version, kind"),
        (entry("format", "other"), "no network file"),
        (entry("format", 1), "no network file"),
        (entry("version", 2), "network file of version 2, and this code reads up to 1; update the code"),
        (entry("version", 1.0), "version of the network file is 1.0, no whole number"),
        (entry("version", 0), "is 0, no whole number from 1 on"),
        (entry("version", [1]), r"is \[1\], no whole number"),
        (lambda arrays: arrays.pop("version"), "is none, no whole number"),
        (lambda arrays: arrays.pop("signs"), "lacks signs; write it again"),
        (lambda arrays: (arrays.pop("kind"), arrays.pop("shift")), "lacks kind, shift; write it again"),
        (lambda arrays: arrays.pop("weights_1"), "lacks weights_1"),
        (lambda arrays: (arrays.pop("weights_1"), arrays.pop("weights_2")), "lacks weights_1"),
        (lambda arrays: arrays.pop("weights_2"), "lacks weights_2"),
        (entry("depth", 3), "lacks weights_3"),
        (entry("depth", 1), "holds weights_2 beside a network of depth 1; write it again"),
        (entry("weights_3", W), "holds weights_3 beside a network of depth 2"),
        (entry("weights_01", W), "holds weights_01 beside a network of depth 2"),
        (entry("notes", "mine"), "holds notes beside a network of depth 2"),
        (entry("depth", 1000), "depth is 1000, and not the number of matrices in the file; write it again"),
        (entry("depth", 0), "depth is 0, and not"),
        (entry("depth", 2.0), "depth is 2.0, and not"),
        (entry("depth", [2]), r"depth is \[2\], and not"),
        (lambda arrays: arrays.pop("depth"), "lacks depth"),
        (entry("kind", "three-layer"), "kind of network is 'three-layer' with 2 matrices, normalized True"),
        (entry("kind", "two-layer"), "kind of network is 'two-layer' with 2 matrices"),
        (entry("kind", [1.0]), "kind of network is ''"),
        (entry("normalized", 1), "normalized is no single True or False"),
        (entry("normalized", [True]), "normalized is no single True or False"),
        (entry("weights_1", W.astype(np.float32)), "weights_1 has dtype float32, not float64"),
        (entry("weights_1", W.astype(complex)), "weights_1 has dtype complex128"),
        (entry("weights_1", W.astype(str)), "weights_1 has dtype <U"),
        (entry("signs", np.ones(5, dtype=int)), "signs has dtype int"),
        (entry("weights_1", W.astype(object)), r"cannot be read as a network \(object arrays\); write it again"),
        (entry("weights_1", np.full((5, 3), np.nan)), r"weights\[0\] has a NaN or infinite entry at index \(0, 0\)"),
        (entry("shift", np.inf), "shift has a NaN or infinite entry"),
        (entry("shift", [1.0]), "shift has shape"),
        (entry("shift", 50.0), "shift is 50; pass one from"),
        (entry("weights_1", W[:4]), r"weights\[0\] has shape \(4, 3\); signs has 5 entries"),
        (entry("weights_2", W), r"weights\[1\] has shape \(5, 3\)"),
        (entry("weights_2", W.ravel()), r"weights\[1\] has shape \(15,\)"),
        (entry("weights_1", W[:, :0]), r"weights\[0\] is empty"),
        (entry("signs", np.full(5, 0.5)), r"signs\[0\] is 0.5; every sign must be -1 or \+1"),
    ],
)
def test_files_with_a_bad_entry(saved: Path, change: Change, words: str) -> None:
    changed(saved, change)
    with pytest.raises(InputError, match=rf"^{saved}: .*{words}") as caught:
        load(saved)
    assert "pickle" not in str(caught.value)


@pytest.mark.parametrize("name", ["weights_1", "signs", "shift.npy", "weights_2.npy", "format.npy"])
def test_two_members_of_one_name_are_refused(saved: Path, name: str) -> None:
    with zipfile.ZipFile(saved, "a") as archive, warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zipfile's own, for the writer
        archive.writestr(name, archive.read(name.removesuffix(".npy") + ".npy"))
    with pytest.raises(InputError, match=rf"holds {name.removesuffix('.npy')} more than once; write it again"):
        load(saved)


def test_a_normalized_two_layer_network_is_refused(saved: Path) -> None:
    changed(
        saved,
        lambda arrays: (arrays.pop("weights_2"), arrays.update(depth=np.array(1), kind=np.array("two-layer"))),
    )
    with pytest.raises(InputError, match="has one matrix and is not normalized"):
        load(saved)


def test_numbers_of_the_other_byte_order_are_read(saved: Path) -> None:
    network = load(saved)
    changed(saved, lambda arrays: arrays.update(weights_1=arrays["weights_1"].astype(">f8")))
    assert_same(network, load(saved))


@pytest.mark.parametrize(
    ("content", "words"),
    [
        (b"", "no NPZ archive, or a damaged one"),
        (b"not a zip at all", "no NPZ archive"),
        (b"PK\x03\x04 not a zip", "no NPZ archive"),
        (b"\x80\x04\x95pickled", "no NPZ archive"),
    ],
)
def test_files_that_are_something_else(saved: Path, content: bytes, words: str) -> None:
    saved.write_bytes(content)
    with pytest.raises(InputError, match=rf"network\.npz: cannot be read as a network \({words}"):
        load(saved)


def test_a_single_array(saved: Path) -> None:
    with saved.open("wb") as stream:
        np.save(stream, W)
    with pytest.raises(InputError, match=r"network\.npz: cannot be read as a network \(no NPZ archive"):
        load(saved)


def test_a_file_of_data(saved: Path) -> None:
    np.savez(saved, X=W, y=W[:, 0])
    with pytest.raises(InputError, match=r"network\.npz: no network file \(it holds X, y\)"):
        load(saved)
    np.savez(saved, **dict.fromkeys("abcdefghi", W))  # type: ignore[arg-type]
    with pytest.raises(InputError, match=r"\(it holds a, b, c, d, e, f, g, h\)"):
        load(saved)
    np.savez(saved)
    with pytest.raises(InputError, match=r"\(it holds nothing\)"):
        load(saved)


def test_a_file_says_of_itself_whether_it_holds_a_network(saved: Path, tmp_path: Path) -> None:
    assert is_network_file(saved)
    foreign = tmp_path / "foreign.npz"
    for arrays in ({"X": np.eye(2)}, {"format": "another"}, {"format": np.array([network_file.FORMAT], dtype=object)}):
        np.savez(foreign, **arrays)  # type: ignore[arg-type]
        assert not is_network_file(foreign)
    foreign.write_bytes(saved.read_bytes()[:100])
    assert not is_network_file(foreign)
    assert not is_network_file(tmp_path / "nowhere.npz")


class Trap:
    """Unpickled, it makes a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def __reduce__(self) -> tuple[object, ...]:
        return os.mkdir, (str(self.folder),)


def test_nothing_in_a_file_is_executed(saved: Path, tmp_path: Path) -> None:
    np.savez(saved, format=np.array(Trap(tmp_path / "executed"), dtype=object))
    assert not is_network_file(saved)
    with pytest.raises(InputError, match="object arrays"):
        load(saved)
    assert not (tmp_path / "executed").exists()


def test_missing_files_and_folders(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"none\.npz: no such file; check the name and the folder"):
        load(tmp_path / "none.npz")
    with pytest.raises(InputError, match=r"cannot be read \(Is a directory\)"):
        load(tmp_path)


def test_every_truncation_is_noticed(saved: Path) -> None:
    content = saved.read_bytes()
    for length in range(0, len(content), 13):
        saved.write_bytes(content[:length])
        with pytest.raises(InputError, match="cannot be read as a network"):
            load(saved)


def test_no_flipped_bit_changes_a_network_unnoticed(saved: Path) -> None:
    content, network = saved.read_bytes(), load(saved)
    noticed = 0
    for place in range(0, len(content), 7):
        flipped = bytearray(content)
        flipped[place] ^= 4
        saved.write_bytes(bytes(flipped))
        try:
            found = load(saved)
        except InputError:
            noticed += 1
        else:
            assert_same(network, found)  # a date or a name that does not matter
    assert noticed > len(content) / 14


HEADER = "{'descr': '<f8', 'fortran_order': False, 'shape': %s}"


@pytest.mark.parametrize(
    "header",
    [
        HEADER % f"({1 << 40}, {1 << 18})",
        HEADER % "(9999999999999999999999, 9)",
        HEADER % "(-1, 9)",
        HEADER % "((9,",
        "{[]: 2}",
    ],
)
def test_an_impossible_header_is_an_error_and_not_a_crash(saved: Path, header: str) -> None:
    damaged = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header.encode()
    with zipfile.ZipFile(saved) as archive:
        parts = {name: archive.read(name) for name in archive.namelist()}
    with zipfile.ZipFile(saved, "w") as archive:
        for name, content in parts.items():
            archive.writestr(name, damaged if name == "weights_1.npy" else content)
    with pytest.raises(InputError, match="cannot be read as a network"):
        load(saved)


def test_names_of_the_format_do_not_change_unnoticed(saved: Path) -> None:
    # Files of users outlive this code.
    with np.load(saved) as archive:
        assert archive.files == [
            *("format", "version", "kind", "depth", "signs", "shift", "normalized", "weights_1", "weights_2")
        ]
    assert (network_file.FORMAT, network_file.VERSION) == ("sublinear-gauss-newton network", 1)
    assert (network_file.TWO_LAYER, network_file.MULTI_LAYER) == ("two-layer", "multi-layer")
