"""Stored cells: one JSON file per cell of measurement, so that a killed run loses only what was running.

A cell's file is named by a hash of everything its numbers may depend on (experiment, inputs, root seed, stamp
of code and machine, planted fault). It appears whole or not at all: it is written beside its place, flushed to the
disk and renamed. It carries a hash of its result; a file that does not check out is corrupt, and is measured again.
"""

from __future__ import annotations

import hashlib
import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from verify.experiment import Inputs, Result


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
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


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
    """A cell's outcome: the canonical JSON of its result, and how long the measurement took in seconds."""

    result_text: str
    seconds: float

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
        """Write the cell's file atomically."""
        content = {
            **cell.identity,
            "result": measured.result,
            "result_hash": digest(measured.result_text),
            "seconds": measured.seconds,
        }
        write_atomically(self.path(cell), json.dumps(content, indent=1, allow_nan=False) + "\n")

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
            content = json.loads(path.read_text(encoding="utf-8"))
            measured = Measured(canonical(content["result"]), float(content["seconds"]))
            identity = {key: content[key] for key in cell.identity}
            genuine = identity == cell.identity and content["result_hash"] == digest(measured.result_text)
        except FileNotFoundError:
            return None
        except (ValueError, KeyError, TypeError, OSError) as error:
            raise CorruptCellError(f"{path} cannot be read back ({error})") from error
        if not genuine:
            raise CorruptCellError(f"{path} was altered after it was written")
        return measured
