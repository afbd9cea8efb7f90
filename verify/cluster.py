"""Measuring on a cluster that runs dask.distributed: connects, checks every worker, provides an executor.

A worker must run the same code and libraries as the process that started the run, with one thread for linear
algebra (dask's nannies see to that). It is asked before the first cell, and asked again with every cell, because
workers come and go. A worker that dies loses nothing: the scheduler gives its cells to another.

Calls and results travel pickled, which is dask's transport; no such file is written. Who can reach a scheduler can
run anything on its workers, so name only one that you trust.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from concurrent.futures import Executor
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from reference.notation import InputError
from verify import environment

if TYPE_CHECKING:
    from distributed import Client

ANSWER_SECONDS = 10.0
"""How long to wait for a scheduler, and then for its first worker."""
EXECUTOR = "dask workers with one linear algebra thread each; timed cells in one process of this machine"


@contextmanager
def connect(address: str) -> Iterator[tuple[Executor, dict[str, Any]]]:
    """Connect to a cluster and make sure that all of its workers may measure for this process.

    On an exception, cells that wait are cancelled; a cell that is running ends by itself, unheard.

    Parameters
    ----------
    address : str
        The scheduler's, ``tcp://HOST:PORT``.

    Yields
    ------
    executor : concurrent.futures.Executor
    about : dict
        What the environment should say: that dask was used, and which *other machines* the workers are on, when
        processor or platform are not this machine's (results may then differ in the last bits, and cells are kept
        apart from this machine's).

    Raises
    ------
    InputError
        dask.distributed is not installed; the address is malformed; no scheduler or no worker answers; a worker
        differs in code, libraries or linear algebra threads.
    """
    check_address(address)
    try:
        import distributed
    except ImportError:
        raise InputError(
            "--dask needs the package distributed; install it with python -m pip install -e '.[dask]'"
        ) from None
    try:
        asyncio.run(knock(address))
        client = distributed.Client(address, timeout=ANSWER_SECONDS, set_as_default=False)
    except (OSError, ValueError, ImportError) as error:
        raise InputError(
            f"no dask scheduler answers at {address} ({type(error).__name__}); start one with "
            "dask scheduler, or correct the address"
        ) from error
    try:
        about = check_workers(client, address)
        yield client.get_executor(pure=False), about
    finally:
        client.close()


def check_address(address: str) -> None:
    """Refuse what is no address of a scheduler; see `connect` for the errors."""
    match = re.fullmatch(r"tcp://(\[[0-9A-Fa-f:.]+\]|[\w.-]+):(\d{1,5})", address)
    if not match or not 0 < int(match[2]) < 2**16:
        raise InputError(
            f"--dask {address!r} is no address; pass the one that the scheduler printed, such as tcp://10.0.0.1:8786"
        )


async def knock(address: str) -> None:
    """See whether dask answers; a client would wait for ever where something else takes the call and says nothing."""
    from distributed.comm.core import connect as call

    called = await asyncio.wait_for(call(address, timeout=ANSWER_SECONDS), ANSWER_SECONDS)
    await called.close()


def check_workers(client: Client, address: str) -> dict[str, Any]:
    """Ask every worker whether it is as it must be.

    Parameters
    ----------
    client : distributed.Client
        Connected.
    address : str
        The scheduler's.

    Returns
    -------
    dict
        See `connect`, also for the errors.
    """
    try:
        client.wait_for_workers(1, timeout=ANSWER_SECONDS)
    except TimeoutError:
        raise InputError(
            f"the scheduler at {address} has no workers; start some with "
            f"dask worker {address} --nworkers N --nthreads 1"
        ) from None
    here = environment.describe()
    answers = client.run(answer, environment.must_agree(here), on_error="return")
    machines = set()
    for worker, found in sorted(answers.items()):
        if isinstance(found, BaseException):
            raise InputError(
                f"worker {worker} cannot run this package ({type(found).__name__}: {found}); "
                "install the same version there and start it anew"
            )
        unlike, machine = found
        if unlike:
            raise InputError(
                f"worker {worker} differs ({unlike}); start it anew with the same code and libraries, and with "
                "OPENBLAS_NUM_THREADS=1"
            )
        machines.add(machine)
    others = sorted(machines - {environment.machine(here)})
    return {"executor": EXECUTOR} | ({"other_machines": "; ".join(others)} if others else {})


def answer(expected: dict[str, str]) -> tuple[str, str]:
    """Say, as a worker, in what this process is not as expected, and on what machine it is."""
    return environment.differences(expected), environment.machine(environment.describe_machine())
