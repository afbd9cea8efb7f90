"""Networks in files: ``save`` and ``load``, exact to the last bit, never half written, never executed.

A network file is an ``.npz`` archive of plain arrays; nothing in it is pickled::

    format      "sublinear-gauss-newton network"
    version     1; a later version of this project may write more, and says so here
    kind        "two-layer" or "multi-layer"
    depth       how many matrices there are
    weights_1 .. weights_L    float64, in the memory order that they had (row by row or column by column)
    signs       float64 (m,)
    shift       float64
    normalized  bool; False for two layers

A file appears whole or not at all: it is written beside its place, flushed to the disk and renamed, so an interrupted
`save` leaves the old file as it was. What is read is checked: by the archive's own check sums, here, and by the
constructors of the networks.

Cost: the size of the weights, once.
"""

from __future__ import annotations

import os
import secrets
import zipfile
import zlib
from collections import Counter
from contextlib import suppress
from pathlib import Path
from tokenize import TokenError

import numpy as np
from numpy.typing import NDArray

from reference.multi_layer import MultiLayerNetwork
from reference.notation import InputError
from reference.trace import Network
from reference.two_layer import TwoLayerNetwork

FORMAT = "sublinear-gauss-newton network"
VERSION = 1
TWO_LAYER, MULTI_LAYER = "two-layer", "multi-layer"
WEIGHTS = "weights_"
"""What the names of the matrices begin with; the number of the layer follows."""
BESIDE_WEIGHTS = {"format", "version", "kind", "depth", "signs", "shift", "normalized"}
"""The names of everything else."""

UNREADABLE_NPZ = (
    *(ValueError, OSError, EOFError, KeyError, RuntimeError, TypeError, TokenError),
    *(MemoryError, OverflowError, zipfile.BadZipFile, zlib.error),
)
"""What `numpy.load` raises for a file that is damaged, pickled or something else; `RuntimeError` or a kind of it for an
archive that is encrypted, or compressed in a way that Python does not know; `TypeError` and `TokenError` for the header
of an array that is none; `MemoryError` and `OverflowError` for a size that cannot be true."""

REMEDY = "write it again with reference.network_file.save(path, network)"


def save(path: str | os.PathLike[str], network: Network) -> None:
    """Write a network to a file, as a whole or not at all.

    Parameters
    ----------
    path : str or path-like
        Where to, as given; an existing file is replaced once the new one is complete. Customary is ``.npz``.
    network : TwoLayerNetwork, MultiLayerNetwork, or a trained one
        Implicit weights are written out (``to_dense``).

    Raises
    ------
    InputError
        No such folder, no permission, no room, not a regular file; or no network.
    """
    dense = network.to_dense() if hasattr(network, "to_dense") else network
    if isinstance(dense, TwoLayerNetwork):
        kind, normalized, weights = TWO_LAYER, False, [dense.weights]
    elif isinstance(dense, MultiLayerNetwork):
        kind, normalized, weights = MULTI_LAYER, dense.normalized, list(dense.weights)
    else:
        raise InputError(
            f"network is a {type(network).__name__}; pass a TwoLayerNetwork, a MultiLayerNetwork or a trained one"
        )
    place = check_writable(path)
    arrays: dict[str, NDArray[np.generic]] = {
        "format": np.array(FORMAT),
        "version": np.array(VERSION),
        "kind": np.array(kind),
        "depth": np.array(len(weights)),
        "signs": dense.signs,
        "shift": np.array(dense.shift),
        "normalized": np.array(normalized),
    }
    arrays |= {f"{WEIGHTS}{layer}": W for layer, W in enumerate(weights, start=1)}
    # Same folder, hence same file system: only there is a rename atomic. No two savers share the name, and it is
    # short, for the name of the file may be as long as the file system allows.
    temporary = place.with_name(f".{secrets.token_hex(8)}.part")
    try:
        with temporary.open("wb") as stream:
            np.savez(stream, **arrays)  # type: ignore[arg-type]
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, place)
    except BaseException as error:
        with suppress(OSError):
            temporary.unlink()
        if isinstance(error, OSError):
            raise _cannot_write(path, error) from error
        raise


def check_writable(path: str | os.PathLike[str]) -> Path:
    """Tell early whether `save` could write here; nothing is written or changed.

    Parameters
    ----------
    path : str or path-like
        Where to.

    Returns
    -------
    Path
        The file itself, behind links.

    Raises
    ------
    InputError
        No such folder, no permission, not a regular file, a name that is too long.
    """
    try:
        place = Path(path).resolve()
        if place.is_dir():
            raise InputError(f"{path}: is a directory; name a file in it")
        if place.exists() and not place.is_file():
            raise InputError(f"{path}: is no regular file; name another file")
        if not place.parent.is_dir():
            raise InputError(f"{path}: no such folder {place.parent}; make it first, or name another file")
        writable = os.access(place.parent, os.W_OK | os.X_OK)
        with suppress(FileNotFoundError):
            place.lstat()  # a name that is too long
    except InputError:
        raise
    except (OSError, ValueError, RuntimeError) as error:  # RuntimeError: a circle of links
        raise _cannot_write(path, error) from error
    if not writable:
        raise InputError(f"{path}: the folder {place.parent} is not yours to write; name a file elsewhere")
    return place


def load(path: str | os.PathLike[str]) -> TwoLayerNetwork | MultiLayerNetwork:
    """Read a network back, bit for bit as `save` got it.

    Parameters
    ----------
    path : str or path-like
        A file that `save` wrote.

    Returns
    -------
    TwoLayerNetwork or MultiLayerNetwork
        Matrices stored column by column come back so.

    Raises
    ------
    InputError
        No such file, a damaged or foreign one, a newer version, values that make no network; the message names file,
        cause and remedy.

    Examples
    --------
    >>> import tempfile
    >>> network = MultiLayerNetwork([[[2.0], [-3.0]]], [1, 1], 0.0)
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     save(f"{folder}/network.npz", network)
    ...     load(f"{folder}/network.npz").predict([[1.0], [-1.0]])
    array([2., 3.])
    """
    arrays = _read(path)
    kind = _text(arrays["kind"])
    matrices = _matrices(path, arrays)
    for name in ("signs", "shift", *matrices):
        found = arrays[name].dtype
        if found.kind != "f" or found.itemsize != 8:
            raise InputError(f"{path}: {name} has dtype {found}, not float64; {REMEDY}")
    normalized = arrays["normalized"]
    if normalized.dtype != np.bool_ or normalized.ndim:
        raise InputError(f"{path}: normalized is no single True or False; {REMEDY}")
    weights, signs = tuple(arrays[name] for name in matrices), arrays["signs"]
    try:
        if kind == MULTI_LAYER:
            return MultiLayerNetwork(weights, signs, arrays["shift"], bool(normalized))  # type: ignore[arg-type]
        if kind == TWO_LAYER and len(weights) == 1 and not normalized:
            return TwoLayerNetwork(weights[0], signs, arrays["shift"])  # type: ignore[arg-type]
    except InputError as error:
        raise InputError(f"{path}: holds no valid network: {error}; then {REMEDY}") from error
    raise InputError(
        f"{path}: the kind of network is {kind!r} with {len(weights)} matrices, normalized "
        f"{bool(normalized)}; a {TWO_LAYER} one has one matrix and is not normalized, else it is "
        f"{MULTI_LAYER}: {REMEDY}"
    )


def is_network_file(path: str | os.PathLike[str]) -> bool:
    """Tell whether a file says of itself that it holds a network, of any version; its arrays are not checked.

    Parameters
    ----------
    path : str or path-like
        Any file, or none.

    Returns
    -------
    bool
    """
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as archive:
            return _says_so(archive)
    except UNREADABLE_NPZ:
        return False


def _read(path: str | os.PathLike[str]) -> dict[str, NDArray[np.generic]]:
    """Read all arrays of a network file; check that it is one, and not newer than this code."""
    try:
        with open(path, "rb") as stream, np.load(stream, allow_pickle=False) as archive:
            _check_format(path, archive)
            missing = sorted(BESIDE_WEIGHTS - set(archive.files))
            if missing:
                raise InputError(f"{path}: the network file lacks {', '.join(missing)}; {REMEDY}")
            twice = sorted(name for name, times in Counter(archive.files).items() if times > 1)
            if twice:
                raise InputError(f"{path}: the network file holds {twice[0]} more than once; {REMEDY}")
            return {name: archive[name] for name in archive.files}
    except InputError:
        raise
    except FileNotFoundError as error:
        raise InputError(f"{path}: no such file; check the name and the folder") from error
    except (IsADirectoryError, PermissionError) as error:
        raise InputError(f"{path}: cannot be read ({error.strerror}); name a file that you may read") from error
    except UNREADABLE_NPZ as error:  # TypeError also for a single array, which is no archive to open
        # NumPy's own message advises to load unsafely.
        cause = "object arrays" if "Object arrays" in str(error) else "no NPZ archive, or a damaged one"
        raise InputError(f"{path}: cannot be read as a network ({cause}); {REMEDY}") from error


def _check_format(path: str | os.PathLike[str], archive: np.lib.npyio.NpzFile) -> None:
    """Stop at a file that is no network file, or a newer one."""
    if not _says_so(archive):
        held = ", ".join(archive.files[:8]) or "nothing"
        raise InputError(f"{path}: no network file (it holds {held}); {REMEDY}")
    version = archive["version"] if "version" in archive.files else np.array("none")
    if version.ndim or version.dtype.kind not in "iu" or version < 1:
        raise InputError(f"{path}: the version of the network file is {version}, no whole number from 1 on; {REMEDY}")
    if version > VERSION:
        raise InputError(
            f"{path}: a network file of version {version}, and this code reads up to {VERSION}; update the code"
        )


def _says_so(archive: np.lib.npyio.NpzFile) -> bool:
    return "format" in archive.files and _text(archive["format"]) == FORMAT


def _matrices(path: str | os.PathLike[str], arrays: dict[str, NDArray[np.generic]]) -> list[str]:
    """List the names of the matrices, the first layer first."""
    depth = arrays["depth"]
    if depth.ndim or depth.dtype.kind not in "iu" or not 1 <= int(depth) <= len(arrays):
        raise InputError(f"{path}: depth is {depth}, and not the number of matrices in the file; {REMEDY}")
    names = [f"{WEIGHTS}{layer}" for layer in range(1, int(depth) + 1)]
    missing = [name for name in names if name not in arrays]
    if missing:
        raise InputError(f"{path}: the network file lacks {missing[0]}; {REMEDY}")
    foreign = sorted(set(arrays) - BESIDE_WEIGHTS - set(names))
    if foreign:
        raise InputError(f"{path}: the network file holds {foreign[0]} beside a network of depth {depth}; {REMEDY}")
    return names


def _text(array: NDArray[np.generic]) -> str:
    """Read a single string; anything else is no name that we know."""
    return str(array) if array.dtype.kind == "U" and not array.ndim else ""


def _cannot_write(path: str | os.PathLike[str], error: Exception) -> InputError:
    reason = error.strerror if isinstance(error, OSError) and error.strerror else error
    return InputError(f"{path}: cannot be written ({reason}); free some space, or name another file")
