"""Stored cells: one JSON file per cell of measurement, so that a killed run loses only what was running.

A cell's file is named by a hash of everything its numbers may depend on (experiment, inputs, root seed, stamp
of code and machine, planted fault). It appears whole or not at all: it is written beside its place, flushed to the
disk and renamed. It carries a hash of all it holds; a file that does not check out is corrupt, and is measured again.

One run at a time uses a folder (`sole_use`). What a killed run was writing stays behind under a temporary name,
and the next run clears it away.
"""

from __future__ import annotations

import hashlib
import json
import os
import re
import shutil
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from reference.notation import InputError
from verify.experiment import Inputs, Result

TEMPORARY = re.compile(r"\..+\.(\d+)\.part")
"""Name of a file that is being written; the number is the process that writes it."""
ASIDE = ".corrupt"
"""Suffix of a stored cell that did not check out."""


def canonical(value: object) -> str:
    """Write ``value`` as JSON in the one way that equal values share.

    Parameters
    ----------
    value : object
        JSON-able.

    Returns
    -------
    str

    Raises
    ------
    TypeError, ValueError
        Not JSON-able, or a number that is not finite.

    Examples
    --------
    >>> canonical({"m": 4, "d": [1, 2.5]})
    '{"d":[1,2.5],"m":4}'
    """
    return json.dumps(value, sort_keys=True, separators=(",", ":"), allow_nan=False)


def digest(text: str) -> str:
    """Hash a text to 24 hexadecimal digits."""
    return hashlib.sha256(text.encode()).hexdigest()[:24]


def write_atomically(path: Path, text: str) -> None:
    """Write a file so that no reader, and no crash, ever sees a part of it.

    Parameters
    ----------
    path : Path
        Where to; the folder is made when missing.
    text : str
        The content.

    Raises
    ------
    OSError
        No room, no permission.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    # Same folder, hence same file system: only there is a rename atomic. No two processes share the name.
    temporary = path.with_name(f".{path.name}.{os.getpid()}.part")
    try:
        with temporary.open("w", encoding="utf-8", newline="\n") as stream:
            stream.write(text)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.errno and not error.filename:  # a full disk comes without a name
            error.filename = str(path)
        raise


@contextmanager
def sole_use(out: Path) -> Iterator[None]:
    """Keep an output folder to this process, and clear away what a killed one was writing there.

    The operating system lets go of the folder when the process ends, however it ends; no worker process shares
    the hold. Where there is no such lock (Windows, some file systems), two runs may use one folder: every file stays
    whole, but both measure what neither has stored yet.

    Parameters
    ----------
    out : Path
        An output folder, made when missing.

    Yields
    ------
    None

    Raises
    ------
    InputError
        Another run uses the folder.
    OSError
        No room, no permission.
    """
    folder = out / "cells"
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / ".lock").open("a+", encoding="utf-8") as lock:
        if sys.platform != "win32":
            import fcntl

            try:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                lock.seek(0)
                holder = f" (process {number})" if (number := lock.read().strip()) else ""
                raise InputError(
                    f"--out {out} is in use by another run{holder}; wait for its end or name another folder"
                ) from None
            except OSError:
                pass  # a file system without locks
        lock.truncate(0)
        lock.write(f"{os.getpid()}\n")
        lock.flush()
        clear_leftovers(out)
        yield


def clear_leftovers(out: Path) -> None:
    """Remove half-written files of processes that have ended.

    Parameters
    ----------
    out : Path
        An output folder that this process has to itself, and in which it is writing nothing just now.
    """
    for path in [*out.glob(".*.part"), *(out / "cells").glob("*/.*.part")]:
        name = TEMPORARY.fullmatch(path.name)
        if name and path.is_file() and not is_alive(int(name[1])):
            path.unlink()


def is_alive(process: int) -> bool:
    """Tell whether another process of this number is running; this one does not count."""
    # In a container every run may have the same number, so a leftover with ours is from a run before.
    if process == os.getpid():
        return False
    if sys.platform == "win32":
        return True  # Windows has no harmless way to ask: os.kill would end the process.
    try:
        os.kill(process, 0)
    except (ProcessLookupError, OverflowError):
        return False
    except PermissionError:
        pass
    return True


@dataclass(frozen=True)
class Cell:
    """One cell of measurement.

    Parameters
    ----------
    experiment : str
        The experiment's name.
    inputs : dict
        What to measure; JSON-able.
    seed : int
        Root seed of the run.
    stamp : str
        Fingerprint of code and machine; see `verify.environment.stamp`.
    fault : str
        Id of the fault planted in what is measured; empty for the project's own code. Results of replaced
        routines must never pass for results of the project's own.
    """

    experiment: str
    inputs: Inputs
    seed: int
    stamp: str
    fault: str = ""

    @property
    def identity(self) -> dict[str, Any]:
        """Everything that the cell's numbers may depend on."""
        return {
            "experiment": self.experiment,
            "inputs": self.inputs,
            "seed": self.seed,
            "stamp": self.stamp,
            "fault": self.fault,
        }

    @property
    def name(self) -> str:
        """Hash of the identity, 24 hexadecimal digits."""
        return digest(canonical(self.identity))


@dataclass(frozen=True)
class Measured:
    """A cell's outcome.

    Parameters
    ----------
    result_text : str
        The canonical JSON of its result.
    seconds : float
        How long the measurement took.
    stream : str
        Hash of the state that its Generator started from; cells that share one are copies, not independent trials.
    """

    result_text: str
    seconds: float
    stream: str

    @property
    def result(self) -> Result:
        """The result as plain JSON values."""
        value: Result = json.loads(self.result_text)
        return value


class CorruptCellError(ValueError):
    """A stored cell is truncated, altered, or not the one that its name says."""


@dataclass(frozen=True)
class CellStore:
    """The folder ``cells`` of an output directory.

    Parameters
    ----------
    folder : Path
        Made on the first `save`.
    """

    folder: Path

    def path(self, cell: Cell) -> Path:
        """Say where the cell's file is, or will be."""
        return self.folder / cell.experiment / f"{cell.name}.json"

    def save(self, cell: Cell, measured: Measured) -> None:
        """Write the cell's file atomically, over whatever is in its place."""
        content = {**cell.identity, "result": measured.result, "seconds": measured.seconds, "stream": measured.stream}
        content["hash"] = digest(canonical(content))
        path = self.path(cell)
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)  # the one thing that a rename does not replace
        write_atomically(path, json.dumps(content, indent=1, allow_nan=False) + "\n")

    def load(self, cell: Cell) -> Measured | None:
        """Read the cell back.

        Parameters
        ----------
        cell : Cell
            Which one.

        Returns
        -------
        Measured or None
            None when it is not stored.

        Raises
        ------
        CorruptCellError
            The file exists but does not check out.
        """
        path = self.path(cell)
        try:
            if path.exists() and not path.is_file():  # a pipe, say, from which reading would wait forever
                raise OSError("not a file")
            content = json.loads(path.read_text(encoding="utf-8"))
            found = content.pop("hash")
            genuine = found == digest(canonical(content))
            identity = {key: content[key] for key in cell.identity}
            measured = Measured(canonical(content["result"]), float(content["seconds"]), str(content["stream"]))
        except FileNotFoundError:
            return None
        # Brackets nested thousands deep are a RecursionError.
        except (ValueError, KeyError, TypeError, AttributeError, RecursionError, OSError) as error:
            raise CorruptCellError(f"{path} cannot be read back ({type(error).__name__}: {error})") from error
        if not genuine or identity != cell.identity:
            raise CorruptCellError(f"{path} was altered after it was written")
        return measured

    def set_aside(self, cell: Cell) -> None:
        """Keep a corrupt file beside its place, as evidence, and make room for a new one."""
        # Where even this is refused, the new measurement is still good, and so is the sentence on the old one.
        with suppress(OSError):
            os.replace(self.path(cell), self.path(cell).with_suffix(ASIDE))

    def was_set_aside(self, cell: Cell) -> bool:
        """Tell whether the cell's file was corrupt once."""
        return self.path(cell).with_suffix(ASIDE).exists()
