"""The command line: ``python -m verify`` measures, decides, prints a table and writes a report.

It does three things in this order, so that bad input leaves nothing behind: understand the arguments and read
the user's file; measure; write. An error in the input is one line on stderr and exit status 2.
"""

from __future__ import annotations

import os

from verify import early

if __name__ == "__main__":
    early.answer_ctrl_c()  # the imports below take a while

from verify import source  # before them, for it says whether the files changed meanwhile

# One thread for linear algebra, here and in the workers, which inherit this. It must be set before NumPy is
# loaded: with more threads a busy neighbour slows a loop many times over, and two workers would compete for
# each core.
os.environ["OPENBLAS_NUM_THREADS"] = "1"
os.environ["MKL_NUM_THREADS"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"

import argparse
import datetime
import json
import shlex
import shutil
import signal
import sys
import threading
import time
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import replace
from difflib import get_close_matches
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from reference import network_file
from reference.notation import InputError, NothingFiresError, SingularGramError
from reference.trace import Network
from verify import cluster, loading, page, report, seeds
from verify.cells import TEMPORARY, sole_use, write_atomically
from verify.experiment import CodeUnderTest, Experiment, Profile
from verify.run import Decision, Interrupted, Run, caption, default_jobs, plot_results, run

if TYPE_CHECKING:
    from verify.faults.fault import Fault
    from verify.faults.kill import Matrix

DESCRIPTION = """\
Decide which claims about sublinear Gauss-Newton training hold, by measurement.

Each claim is a sentence that can be true or false, for instance that the residual at least halves in every
iteration. It is measured on several independent seeds, the measurement gets an interval, and the interval is
compared with a margin that was fixed beforehand. The verdicts:

  holds      the interval lies inside the margin
  fails      the interval lies outside the margin
  undecided  partly inside, partly outside: more evidence is needed (try --thorough)
  invalid    the evidence is no evidence, for the reason given; never to be read as "holds"
"""

EPILOG = """\
examples:
  python -m verify                              all claims on synthetic data, 3 to 4 minutes on 2 cores
  python -m verify --list                       what the claims are
  python -m verify --claims sparsity            the claims of one experiment
  python -m verify --claims sparsity.level,stability.flips
  python -m verify --thorough --seed 1          larger sizes and more seeds; about ten times as long
  python -m verify --data digits --centre       the handwritten digits that come with the package
  python -m verify --data mine.csv --target price --scale
  python -m verify --data digits --centre --fine-tune --save-network tuned.npz
  python -m verify --data more.csv --fine-tune --layers 2 --network tuned.npz
  python -m verify --faults                     put the harness on trial with planted faults
  python -m verify --faults --claims sparsity   those that the claims of one experiment must catch
  python -m verify --faults --list              what the faults are
  python -m verify --against HEAD~1             is this checkout slower than the commit before? about 90 seconds

sweeps:
  The measurements are cells, one small file each. Kill a run, even with kill -9: the same command goes on from
  there and ends with the same results; only times differ (python -m verify.same DIR DIR compares). A damaged
  file is measured again and counted. Two runs cannot use one DIR at the same time.

  Cells are measured by processes of this machine, or with --dask by the workers of a cluster, which must run the
  same code and libraries: python -m pip install -e '.[dask]' on each; dask scheduler; dask worker ADDRESS
  --nworkers N --nthreads 1. Own data and claims about time are measured on this machine even then, one cell at a
  time, because its clock and processor are those that results.json describes.

output:
  DIR/results.json   every claim with verdict, estimate, interval, margin, domain; and the environment
  DIR/report.html    the same for people, with plots; open it in a browser
  DIR/faults.json    with --faults: every fault with the verdicts on it; the next report in DIR shows it
  DIR/cells/         the measurements
  DIR/against.json   with --against: ratios, intervals and verdicts, and the exact counts that differ

exit status:
  0  no claim fails or is invalid       2    bad input: one line says what to change, nothing is written
  1  some claim fails or is invalid     130  interrupted: the same command continues
  With --faults: 0 when every fault is caught by the verdicts foretold, 1 when one survives or dies by accident.
  With --against: 0 nothing is slower, 1 something is slower (or stops).
"""

ABOUT = """\
Written by "python -m verify"; safe to delete.

results.json   every claim with its verdict
report.html    the same with plots; open it in a browser
faults.json    planted faults and the verdicts on them
cells/         the measurements, one file each; a later run of the same code reuses them
against.json   what --against found
"""
"""Text of the file that marks a folder as ours, so that no other folder is ever written into."""

MARK = "ABOUT.txt"
MOST_CORRUPT = 5
"""So many corrupt files are named, the rest only counted."""
OWN_DATA = "data"
"""Experiment name of the claims about a user's own data."""
DATA_OPTIONS = ("target", "centre", "scale", "rows", "width", "alpha", "drop_duplicates", "fine_tune")
FINE_TUNE_OPTIONS = ("depth", "layers", "normalized", "network", "save_network")
AGAINST_OPTIONS = ("loops", "rounds")
NOT_AGAINST = ("claims", "data", "thorough", "jobs", "faults", "dask")
"""What has no meaning beside ``--against``."""
NETWORK_BRINGS = ("width", "depth", "alpha", "normalized")
"""What a saved network has already."""


class Parser(argparse.ArgumentParser):
    """An argument parser whose complaints are one line."""

    def error(self, message: str) -> NoReturn:
        """Raise instead of printing the usage."""
        raise InputError(f"{message}; see python -m verify --help")


def parser() -> Parser:
    """Describe the command line."""
    made = Parser(
        prog="python -m verify",
        description=DESCRIPTION,
        epilog=EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    add = made.add_argument
    add("--claims", metavar="ID,...", help="only these claims; an experiment's name means all of its claims")
    add("--thorough", action="store_true", help="larger sizes and more seeds")
    add("--seed", type=int, default=0, metavar="N", help="root of all random numbers (default 0)")
    add("--out", type=Path, default=Path("verify-results"), metavar="DIR", help="default ./verify-results")
    add("--jobs", type=int, metavar="N", help="worker processes (default: one per core, at most 8; 0: none)")
    add("--dask", metavar="ADDRESS", help="measure on a cluster: tcp://HOST:PORT of its dask scheduler; see below")
    add("--list", action="store_true", help="list the claims (with --faults: the faults) and stop")
    add(
        "--faults",
        nargs="?",
        const="",
        metavar="ID,...",
        help="plant faults, all or these, and see whether the claims that must catch them do: the kill matrix",
    )
    own = made.add_argument_group("your own data")
    own.add_argument(
        "--data",
        metavar="FILE",
        help="train on this file: CSV with the target in the last column, NPZ with X and y, or 'digits'",
    )
    own.add_argument("--target", metavar="NAME", help="column to predict: its name, or its number from 1")
    own.add_argument("--centre", action="store_true", help="subtract each column's mean")
    own.add_argument("--scale", action="store_true", help="divide each column by its standard deviation")
    own.add_argument("--rows", type=int, metavar="N", help="sample this many rows")
    own.add_argument("--width", type=int, metavar="M", help="neurons (default 4096)")
    own.add_argument("--alpha", type=float, metavar="A", help="about M^(1-A) neurons fire (default 0.24)")
    own.add_argument("--drop-duplicates", action="store_true", help="drop repeated and opposite rows")
    tune = made.add_argument_group(
        "fine-tuning on your own data",
        "A deep network is fitted to the target on half of the rows, all layers; then the same network is\n"
        "fine-tuned on the other half to new labels: +1 where the target is above its median, -1 elsewhere.",
    )
    tune.add_argument("--fine-tune", action="store_true", help="do this with the file of --data")
    tune.add_argument("--depth", type=int, metavar="L", help="layers of the network (default 2)")
    tune.add_argument("--layers", type=layer_numbers, metavar="1,2", help="which to fine-tune (default: all)")
    tune.add_argument("--normalized", action="store_true", help="scale every hidden signal to length 1")
    tune.add_argument("--network", type=Path, metavar="FILE", help="start from a saved network, not a random one")
    tune.add_argument("--save-network", type=Path, metavar="FILE", help="write the fine-tuned network (.npz)")
    beside = made.add_argument_group(
        "another revision",
        "Are the loops of this checkout slower than those of another revision of it? Both run in one process,\n"
        "interleaved, beside an identical pair; changes that are not committed count as ours.",
    )
    beside.add_argument("--against", metavar="REV", help="any git revision: a commit, branch or tag")
    beside.add_argument("--loops", metavar="ID,...", help="only these loops (a wrong name lists them)")
    beside.add_argument("--rounds", type=int, metavar="N", help="how often each runs (default 60)")
    return made


def layer_numbers(text: str) -> tuple[int, ...]:
    """Read layer numbers separated by commas."""
    try:
        return tuple(int(number) for number in text.split(","))
    except ValueError:
        raise argparse.ArgumentTypeError(f"{text!r} is no list of layers; pass numbers, for instance 1,2") from None


def main(
    arguments: Sequence[str] | None = None,
    *,
    experiments: Sequence[Experiment] | None = None,
    faults: Sequence[Fault] = (),
) -> int:
    """Run the command line.

    Parameters
    ----------
    arguments : sequence of str, optional
        In place of those of the process.
    experiments : sequence of Experiment, optional
        In place of the project's own.
    faults : sequence of Fault
        In place of the project's own, when ``experiments`` are given.

    Returns
    -------
    int
        Exit status.
    """
    try:
        status = answer(parser().parse_args(arguments), experiments, faults)
        sys.stdout.flush()
        return status
    except InputError as error:
        complain(str(error))
        return 2
    except BrokenPipeError:
        # Whoever read the output has had enough; keep Python from complaining when it flushes what is left.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 1
    except OSError as error:
        reason = error.strerror or error
        remedy = "free some space, and the same command goes on, or pass another --out"
        complain(f"{error.filename or 'output'}: {reason}; {remedy}")
        return 2
    except Interrupted as interruption:
        complain(f"{interruption.why}; {interruption} and kept, and the same command goes on from there")
        return 130
    except KeyboardInterrupt:
        complain("interrupted")
        return 130


def complain(message: str) -> None:
    """Print one line on stderr."""
    print("verify:", " ".join(message.split()), file=sys.stderr)


def answer(
    options: argparse.Namespace, experiments: Sequence[Experiment] | None, faults: Sequence[Fault]
) -> int:
    """Do what the options say; returns the exit status."""
    check_options(options)
    if problem := source.problem():
        raise InputError(problem)
    if options.against is not None:
        return compare_revisions(options)
    if experiments is None:
        # They import every experiment, which --help need not wait for.
        from verify.claims import EXPERIMENTS
        from verify.faults import FAULTS, check_registered

        check_registered(EXPERIMENTS)
        experiments, faults = EXPERIMENTS, FAULTS
    columns = min(shutil.get_terminal_size((100, 24)).columns, 120)
    if options.faults is not None:
        return put_on_trial(options, experiments, faults, columns)
    if options.list:
        print(report.list_claims(experiments, width=columns))
        return 0
    # With a file, the claims about that file are the question, and others are measured when they are named.
    chosen = [] if options.data is not None and options.claims is None else select(experiments, options.claims)
    check_out(options.out)
    end_on_termination()
    with ExitStack() as stack:
        ours = is_ours(options.out)
        if ours:
            stack.enter_context(sole_use(options.out))
        executor, about = None, None
        if options.dask is not None:
            executor, about = stack.enter_context(cluster.connect(options.dask))
        own = measure_own(options)
        if not ours:  # only now, so that bad input leaves nothing behind
            mark(options.out)
            stack.enter_context(sole_use(options.out))
        found = run(
            chosen,
            profile=Profile(thorough=options.thorough),
            seed=options.seed,
            out=options.out,
            jobs=options.jobs,
            executor=executor,
            about_executor=about,
            stream=sys.stderr,
        )
        found = replace(found, decisions=(*own, *found.decisions))
        write(found, options.out, experiments, options.jobs)
    show(found, options.out, columns)
    return 0 if report.succeeded(found) else 1


def compare_revisions(options: argparse.Namespace) -> int:
    """Run the loops of this checkout and of another revision; returns the exit status."""
    from verify import against

    check_out(options.out)
    end_on_termination()
    found, text = against.run(options)
    mark(options.out)
    print(text)
    return found.status


def check_options(options: argparse.Namespace) -> None:
    """Refuse options that make no sense, before anything is read or written.

    Parameters
    ----------
    options : argparse.Namespace
        As parsed.

    Raises
    ------
    InputError
        Negative numbers; an option that needs ``--data`` or ``--fine-tune`` without it, or does not go with
        ``--network``; ``--dask`` with no address or beside ``--jobs``.
    """
    for name in ("seed", "jobs"):
        value = getattr(options, name)
        if value is not None and value < 0:
            raise InputError(f"--{name} is {value}; pass 0 or more")
    if options.faults is not None and options.data is not None:
        raise InputError("--faults tries the project's own claims; leave --data out")
    if options.dask is not None:
        cluster.check_address(options.dask)
        if options.jobs is not None:
            raise InputError("--jobs is about processes of this machine, --dask about a cluster; leave one of them out")
    given = given_among(options, DATA_OPTIONS)
    if given and options.data is None:
        raise InputError(f"--{given[0]} says how to treat a file; name the file with --data")
    for name in ("rows", "width", "depth"):
        value = getattr(options, name)
        if value is not None and value < 1:
            raise InputError(f"--{name} is {value}; pass 1 or more")
    given = given_among(options, FINE_TUNE_OPTIONS)
    if given and not options.fine_tune:
        raise InputError(f"--{given[0]} is for fine-tuning; add --fine-tune and the --data to do it with")
    given = given_among(options, AGAINST_OPTIONS)
    if given and options.against is None:
        raise InputError(f"--{given[0]} is for comparing with a revision; name it with --against")
    given = given_among(options, NOT_AGAINST)
    if given and options.against is not None:
        raise InputError(f"--{given[0]} does not go with --against; leave one of the two out")
    given = given_among(options, NETWORK_BRINGS)
    if given and options.network is not None:
        raise InputError(f"--{given[0]} comes with the network of --network; leave one of the two out")


def given_among(options: argparse.Namespace, names: Sequence[str]) -> list[str]:
    """List those options that were given, as they are spelled; 0 is a value like any other.

    Parameters
    ----------
    options : argparse.Namespace
        As parsed.
    names : sequence of str
        Which to look at.

    Returns
    -------
    list of str
    """
    values = ((name, getattr(options, name)) for name in names)
    return [name.replace("_", "-") for name, value in values if value is not None and value is not False]


def select(experiments: Sequence[Experiment], wanted: str | None) -> list[Experiment]:
    """Reduce experiments to the claims that are wanted.

    Parameters
    ----------
    experiments : sequence of Experiment
        All there are.
    wanted : str, optional
        Claim ids and experiment names, separated by commas; all claims when not given.

    Returns
    -------
    list of Experiment
        Those with a wanted claim, in their own order.

    Raises
    ------
    InputError
        A name that is none.
    """
    if wanted is None:
        return list(experiments)
    names = {name.strip() for name in wanted.split(",")} - {""}
    ids = [claim.id for experiment in experiments for claim in experiment.claims]
    unknown = sorted(names - set(ids) - {experiment.name for experiment in experiments})
    if unknown or not names:
        cause = f"unknown claim {unknown[0]!r}" if unknown else "--claims names no claim"
        known = ", ".join(experiment.name for experiment in experiments)
        near = get_close_matches(unknown[0], ids, n=1) if unknown else []
        hint = f"did you mean {near[0]}? " if near else ""
        raise InputError(f"{cause}; {hint}choose from {known} (--list shows the claims of each)")
    chosen = []
    for experiment in experiments:
        claims = tuple(claim for claim in experiment.claims if {claim.id, experiment.name} & names)
        if claims:
            chosen.append(replace(experiment, claims=claims))
    return chosen


def put_on_trial(
    options: argparse.Namespace, experiments: Sequence[Experiment], faults: Sequence[Fault], columns: int
) -> int:
    """Measure planted faults and print the kill matrix; returns the exit status.

    Parameters
    ----------
    options : argparse.Namespace
        As parsed, with ``--faults``.
    experiments : sequence of Experiment
        All there are.
    faults : sequence of Fault
        All there are.
    columns : int
        Width of the terminal.

    Returns
    -------
    int

    Raises
    ------
    InputError
        A name that is none.
    """
    from verify.faults import kill

    claims = [claim.id for experiment in select(experiments, options.claims) for claim in experiment.claims]
    wanted = {name.strip() for name in options.faults.split(",")} - {""}
    unknown = sorted(wanted - {fault.id for fault in faults})
    if unknown:
        near = get_close_matches(unknown[0], [fault.id for fault in faults], n=1)
        hint = f"did you mean {near[0]}? " if near else ""
        raise InputError(f"unknown fault {unknown[0]!r}; {hint}--faults --list shows all")
    chosen = kill.chosen([fault for fault in faults if not wanted or fault.id in wanted], claims)
    if options.list:
        print(kill.list_faults(chosen, width=columns))
        return 0
    check_out(options.out)
    end_on_termination()
    with ExitStack() as stack:
        executor, about = None, None
        if options.dask is not None:
            executor, about = stack.enter_context(cluster.connect(options.dask))
        mark(options.out)
        stack.enter_context(sole_use(options.out))
        matrix = kill.kill(
            experiments,
            chosen,
            profile=Profile(thorough=options.thorough),
            seed=options.seed,
            out=options.out,
            jobs=options.jobs,
            executor=executor,
            about_executor=about,
            stream=sys.stderr,
        )
        path = options.out / "faults.json"
        write_atomically(path, kill.to_json(matrix, date=now()))
    tell_cells(matrix)
    print(kill.to_text(matrix, width=columns))
    print(f"Kill matrix: {path}")
    return 0 if matrix.succeeded else 1


def check_out(out: Path) -> None:
    """Refuse an output folder that holds something else, or cannot be written.

    Parameters
    ----------
    out : Path
        Need not exist.

    Raises
    ------
    InputError
        Not a folder, a folder with other content, no permission.
    """
    if out.exists() and not out.is_dir():
        raise InputError(f"--out {out} is a file; name a folder")
    if out.is_dir() and not is_ours(out) and any(not is_unfinished_mark(path) for path in out.iterdir()):
        raise InputError(f"--out {out} holds other files; name a new folder, or an earlier run's")
    existing = next(folder for folder in (out, *out.absolute().parents) if folder.exists())
    if not existing.is_dir() or not os.access(existing, os.W_OK | os.X_OK):
        raise InputError(f"--out {out} cannot be written; name a folder where you may write")


def is_ours(out: Path) -> bool:
    """Tell whether an earlier run wrote this folder."""
    first = ABOUT.splitlines()[0]
    try:
        return (out / MARK).read_text(encoding="utf-8").startswith(first)
    except (OSError, UnicodeDecodeError):
        return False


def is_unfinished_mark(path: Path) -> bool:
    """Tell whether a run that was killed at its very start left this file."""
    return bool(TEMPORARY.fullmatch(path.name)) and path.name.startswith(f".{MARK}.")


def mark(out: Path) -> None:
    """Make the folder and mark it as ours."""
    write_atomically(out / MARK, ABOUT)


def measure_own(options: argparse.Namespace) -> list[Decision]:
    """Measure what the options ask about the user's own data, if anything, and save the network that is wanted."""
    if options.fine_tune:
        decision, network = measure_fine_tuning(options)
        if options.save_network is not None:
            save(network, options.save_network)
        return [decision]
    return [] if options.data is None else [measure_own_data(options)]


def measure_own_data(options: argparse.Namespace) -> Decision:
    """Read the user's file, train on it and say what was found.

    Parameters
    ----------
    options : argparse.Namespace
        As parsed.

    Returns
    -------
    Decision

    Raises
    ------
    InputError
        The file or its content cannot be used.
    """
    from verify import own_data

    prepared = prepare(options)
    start = time.perf_counter()
    try:
        text, findings, result = own_data.run(
            prepared,
            width=options.width,
            alpha=own_data.DEFAULT_ALPHA if options.alpha is None else options.alpha,
            seed=options.seed,
            code=CodeUnderTest(),
        )
    except (NothingFiresError, SingularGramError) as error:
        cause = str(error).partition(";")[0]
        raise InputError(
            f"{prepared.name}: {cause}; try --centre, --scale, --drop-duplicates, a larger --width or a smaller --alpha"
        ) from error
    return Decision(
        name=OWN_DATA,
        title=f"Your data: {prepared.name}",
        claims=own_data.claims(result),
        findings=tuple(findings),
        seconds=time.perf_counter() - start,
        cells=1,
        draw=partial(plot_results, own_data.plot, result),
        text=text,
        caption=caption(own_data.plot),
        command=own_command(options),
    )


def measure_fine_tuning(options: argparse.Namespace) -> tuple[Decision, Network | None]:
    """Read the user's file, fit and fine-tune a network on it and say what was found.

    Parameters
    ----------
    options : argparse.Namespace
        As parsed.

    Returns
    -------
    decision : Decision
    network : Network or None
        The fine-tuned one, unless the training left none.

    Raises
    ------
    InputError
        A file or its content cannot be used; the network cannot be saved where it should.
    """
    from verify import own_fine_tuning

    if options.save_network is not None:
        own_fine_tuning.check_place(
            options.save_network, data=options.data, network=options.network, out=options.out
        )
    settings = own_fine_tuning.Settings(
        width=options.width,
        depth=options.depth,
        alpha=options.alpha,
        normalized=options.normalized,
        layers=options.layers,
        network=None if options.network is None else own_fine_tuning.load_network(options.network),
        seed=options.seed,
    )
    prepared = prepare(options)
    start = time.perf_counter()
    text, findings, result, network = own_fine_tuning.run(prepared, settings, code=CodeUnderTest())
    decision = Decision(
        name=OWN_DATA,
        title=f"Fine-tuning on your data: {prepared.name}",
        claims=own_fine_tuning.CLAIMS,
        findings=tuple(findings),
        seconds=time.perf_counter() - start,
        cells=1,
        draw=partial(plot_results, own_fine_tuning.plot, result),
        text=text,
        caption=caption(own_fine_tuning.plot),
        command=own_command(options),
    )
    return decision, network


def prepare(options: argparse.Namespace) -> loading.Prepared:
    """Read the user's file and turn it into a problem; see `verify.loading` for the errors."""
    return loading.prepare(
        loading.load(options.data, target=options.target),
        rows=options.rows,
        centre=options.centre,
        scale=options.scale,
        drop_duplicates=options.drop_duplicates,
        rng=seeds.generator(options.seed, OWN_DATA),
    )


def save(network: Network | None, path: Path) -> None:
    """Write the fine-tuned network, as a whole or not at all."""
    if network is None:
        complain(f"fine-tuning broke down and left no network; {path} is not written")
        return
    network_file.save(path, network)
    complain(f"the fine-tuned network is in {path}")


def end_on_termination() -> None:
    """Answer Ctrl-C, and likewise a request to terminate, so that workers are ended and finished cells kept."""
    if threading.current_thread() is threading.main_thread():
        signal.signal(signal.SIGTERM, signal.default_int_handler)
        early.answer_ctrl_c_properly()


def write(found: Run, out: Path, experiments: Sequence[Experiment], jobs: int | None) -> None:
    """Write ``results.json`` and the report, each as a whole or not at all."""
    if not is_ours(out):  # someone deleted it meanwhile
        mark(out)
    write_atomically(out / "results.json", report.to_json(found, date=now()))
    jobs = default_jobs() if jobs is None else jobs
    shown = page.to_html(found, known=experiments, faults=planted_faults(out), jobs=jobs)
    write_atomically(out / "report.html", shown)


def planted_faults(out: Path) -> object:
    """Read what ``--faults`` wrote into the folder; None when it wrote nothing, or nothing that can be read."""
    try:
        return json.loads((out / "faults.json").read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None
    except (OSError, ValueError) as error:
        complain(f"{out / 'faults.json'} cannot be read ({error}); the report goes without its kill matrix")
        return None


def own_command(options: argparse.Namespace) -> str:
    """Write the command that finds the same about the user's file again."""
    words = ["python", "-m", "verify", "--data", options.data, "--seed", str(options.seed)]
    for name in (*DATA_OPTIONS, *FINE_TUNE_OPTIONS):
        value = getattr(options, name)
        if name != "save_network" and value is not None and value is not False:
            shown = ",".join(map(str, value)) if isinstance(value, tuple) else str(value)
            words += [f"--{name.replace('_', '-')}", *([] if value is True else [shown])]
    return shlex.join(words)


def now() -> str:
    """Write the time, in UTC."""
    return datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")


def tell_cells(found: Run | Matrix) -> None:
    """Say on stderr how the cells came about."""
    for sentence in found.corrupt[:MOST_CORRUPT]:
        complain(f"{sentence}; measured again")
    if found.reused or found.corrupt:
        again = f" ({len(found.corrupt)} because their files were corrupt)" if found.corrupt else ""
        complain(f"{found.measured} cells measured{again}, {found.reused} reused from an earlier run")


def show(found: Run, out: Path, columns: int) -> None:
    """Print what was found on stdout, and how it came about on stderr."""
    tell_cells(found)
    for decision in found.decisions:
        if decision.text:
            print(decision.text, end="\n\n")
    colour = sys.stdout.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    print(report.to_text(found, width=columns, colour=colour))
    print(f"Report: {out / 'report.html'}")


if __name__ == "__main__":
    sys.exit(main())
