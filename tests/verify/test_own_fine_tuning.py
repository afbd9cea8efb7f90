"""Fine-tuning on a user's file: what is found, planted faults, and a command line that never loses a file."""

from __future__ import annotations

import copy
import json
import os
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from matplotlib.figure import Figure
from numpy.typing import ArrayLike

import fast.multi_layer_gauss_newton
from fast.multi_layer import ImplicitMultiLayerNetwork
from reference import network_file
from reference.multi_layer import MultiLayerNetwork, initialize
from reference.notation import DivergenceError, FloatArray, InputError, SingularGramError
from reference.trace import Trace
from reference.two_layer import initialize as two_layer
from verify import __main__ as command
from verify import loading, own_fine_tuning
from verify.experiment import CodeUnderTest, Finding, Result
from verify.own_fine_tuning import Settings
from verify.problems import make

CODE = CodeUnderTest()
PLAIN = Settings(width=512, alpha=0.1)
Outcome = tuple[str, dict[str, Finding], Result, Any]


def prepared(*, family: str = "random", n: int = 24, d: int = 8) -> loading.Prepared:
    problem = make(family, n, d, np.random.default_rng(1))
    steps, target = ("made by hand",), np.random.default_rng(2).standard_normal(n)
    return loading.Prepared(problem.X, target, problem.unseen[:6], "made.csv", np.arange(2, n + 2), "line", steps)


def run(given: loading.Prepared | None = None, settings: Settings = PLAIN, *, code: CodeUnderTest = CODE) -> Outcome:
    text, findings, result, network = own_fine_tuning.run(given or prepared(), settings, code=code)
    assert [finding.claim for finding in findings] == [claim.id for claim in own_fine_tuning.CLAIMS]
    return text, {finding.claim.removeprefix("data.fine_tuning_"): finding for finding in findings}, result, network


def verdicts(outcome: Outcome) -> dict[str, str]:
    return {name: finding.verdict for name, finding in outcome[1].items()}


@pytest.fixture(scope="module")
def healthy() -> Outcome:
    return run(settings=Settings(width=2048, alpha=0.3, normalized=True))


def test_a_healthy_file(healthy: Outcome) -> None:
    text, findings, result, network = healthy
    assert set(verdicts(healthy).values()) == {"holds"}
    assert result["rows"] == [12, 12]
    assert result["safeguarded"] is None
    for words in ("made by hand", "fitted on 12 of the rows", "(12 and 12 rows)", "2 layers of width 2048, normalized"):
        assert words in text
    assert "depth 2, normalized, b=2.139, all layers fine-tuned, seed 0" in findings["fits"].domain
    assert max(map(len, text.splitlines())) <= 100
    assert isinstance(network, ImplicitMultiLayerNetwork)


def test_the_network_fits_the_new_labels_on_the_other_half(healthy: Outcome) -> None:
    given = prepared()
    labels, _ = own_fine_tuning.new_labels(given)
    right = np.abs(healthy[3].predict(given.X) - labels) < 1e-6
    assert right.sum() == 12


def test_result_is_plain_and_enough_to_judge_and_tell(healthy: Outcome) -> None:
    text, findings, result, _ = healthy
    again = json.loads(json.dumps(result, allow_nan=False))
    assert own_fine_tuning.decide(again) == list(findings.values())
    assert own_fine_tuning.describe(again, own_fine_tuning.decide(again)) == text
    figure = Figure()
    own_fine_tuning.plot(figure, again)
    figure.canvas.draw()


def test_the_same_seed_gives_the_same_run() -> None:
    first, again, other = run(), run(), run(settings=replace(PLAIN, seed=1))
    assert first[2]["tuned"]["fast"] == again[2]["tuned"]["fast"]
    assert first[2]["fit"] != other[2]["fit"]


@pytest.mark.parametrize("layers", [(2,), (1,), (2, 1)])
def test_chosen_layers(layers: tuple[int, ...]) -> None:
    text, findings, result, _ = run(settings=replace(PLAIN, layers=layers))
    assert findings["fits"].verdict == "holds"
    assert findings["agreement"].verdict == "holds"
    named = "all layers" if len(layers) == 2 else f"layer {layers[0]}"
    assert f"fine-tuned          {named}\n" in text
    assert result["tuned"]["frozen"]


def test_a_given_network_is_where_it_starts(healthy: Outcome) -> None:
    start = healthy[3].to_dense()
    rows = MultiLayerNetwork(tuple(map(np.ascontiguousarray, start.weights)), start.signs, start.shift, True)
    text, _, result, network = run(settings=Settings(network=rows))
    assert (result["width"], result["normalized"], result["alpha"]) == (2048, True, None)
    assert "(as given, shift" in text
    assert result["fit"]["relaid"] == 2048**2
    assert result["tuned"]["fast"]["relaid"] == 0
    assert network.initial is rows


@pytest.mark.parametrize(
    ("y", "expected", "note"),
    [
        ([1.0, 2.0, 3.0, 4.0], [-1, -1, 1, 1], "above its median, -1 elsewhere (2 and 2 rows)"),
        ([0.0, 0.0, 0.0, 1.0], [-1, -1, -1, 1], "above"),
        ([0.0, 1.0, 1.0, 1.0], [-1, 1, 1, 1], "at its median, -1 elsewhere (3 and 1 rows)"),
    ],
)
def test_new_labels(y: list[float], expected: list[int], note: str) -> None:
    labels, said = own_fine_tuning.new_labels(replace(prepared(n=4), y=np.array(y)))
    assert labels.tolist() == expected
    assert note in said


def test_data_on_which_full_steps_climb_are_fitted_by_safeguarded_ones() -> None:
    given = prepared(family="clash", n=60, d=3)
    text, findings, result, _ = run(given, Settings(width=512, alpha=0.1))
    assert result["fit"]["step"] == "safeguarded"
    assert "it was done by safeguarded ones" in text
    assert findings["fits"].verdict == "holds"


# ---- planted faults


def altered(change: Callable[[Trace[Any]], Trace[Any]]) -> CodeUnderTest:
    """Plant a fault in the fine-tuning by the fast path."""

    def train(network: object, *arguments: object, **options: object) -> Trace[Any]:
        trace = fast.multi_layer_gauss_newton.train(network, *arguments, **options)
        return change(trace) if isinstance(network, ImplicitMultiLayerNetwork) else trace

    return replace(CODE, deep_train=train)


def wrong_network(trace: Trace[Any]) -> Trace[Any]:
    dense = trace.network.to_dense()
    weights = (dense.weights[0] * (1 + 1e-4), *dense.weights[1:])
    return replace(trace, network=MultiLayerNetwork(weights, dense.signs, dense.shift))


class SilentOnUnseen(ImplicitMultiLayerNetwork):
    """Predicts NaN; written out it is right."""

    def predict(self, X: ArrayLike) -> FloatArray:
        return np.full(len(np.asarray(X)), np.nan)


def nan_on_unseen(trace: Trace[Any]) -> Trace[Any]:
    return replace(trace, network=SilentOnUnseen(trace.network.initial, trace.network.layers))


def scan(trace: Trace[Any]) -> Trace[Any]:
    return replace(trace, counts=[{**counts, "scan": 100 * 512**2} for counts in trace.counts])


@pytest.mark.parametrize(
    ("change", "claim", "verdict"),
    [
        (lambda trace: replace(trace, predictions=trace.predictions * (1 + 1e-5)), "agreement", "fails"),
        (lambda trace: replace(trace, residual_norms=trace.residual_norms * 1.001), "agreement", "fails"),
        (lambda trace: replace(trace, predictions=np.nan * trace.predictions), "agreement", "fails"),
        (nan_on_unseen, "agreement", "fails"),
        (wrong_network, "fits", "invalid"),
        (wrong_network, "agreement", "fails"),
        (wrong_network, "built_once", "fails"),
        (lambda trace: replace(trace, preparation_counts={"relaid": 512**2}), "built_once", "fails"),
        (scan, "cost", "fails"),
    ],
)
def test_planted_faults_are_caught(change: Callable[[Trace[Any]], Trace[Any]], claim: str, verdict: str) -> None:
    finding = run(code=altered(change))[1][claim]
    assert finding.verdict == verdict
    if claim == "cost":
        assert "the fast path pays where few neurons fire" in finding.reason


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (DivergenceError("training diverged: on data point 1", np.array([5.0, 700.0])), "on line"),
        (SingularGramError("the Gram matrix is singular; rows 0 and 1 are close"), "broke down in iteration 2"),
    ],
)
def test_fine_tuning_that_breaks_down_by_full_steps(error: Exception, words: str) -> None:
    def train(network: object, *arguments: object, **options: Any) -> Trace[Any]:  # noqa: ANN401
        full = options.get("step", "full") == "full"
        if isinstance(network, ImplicitMultiLayerNetwork) and full and options["iterations"] > 1:
            raise error
        return fast.multi_layer_gauss_newton.train(network, *arguments, **options)

    text, findings, result, network = run(code=replace(CODE, deep_train=train))
    assert findings["fits"].verdict == "holds"
    assert "safeguarded steps it ends at" in findings["fits"].reason
    assert words in findings["fits"].reason
    assert findings["agreement"].verdict == "fails"
    assert findings["built_once"].verdict == findings["cost"].verdict == "undecided"
    assert network is not None
    assert "safeguarded" in text
    figure = Figure()
    own_fine_tuning.plot(figure, result)
    figure.canvas.draw()


def test_fine_tuning_that_runs_out_of_steps_is_undecided(healthy: Outcome) -> None:
    result = copy.deepcopy(healthy[2])
    for name in ("fast", "dense"):
        result["tuned"][name]["residuals"] = [4.0, 2.0]
    result["tuned"]["recomputed"] = 2.0
    finding = own_fine_tuning.decide(result)[1]
    assert finding.verdict == "undecided"
    assert "ends at 5.0e-01 of the start, since only 1 full steps were allowed" in finding.reason


def test_folds_are_named(healthy: Outcome) -> None:
    result = copy.deepcopy(healthy[2])
    result["tuned"]["fast"]["phases"]["fold"] = 1000
    assert "; 1e+03 of the first folded the factors" in own_fine_tuning.decide(result)[3].reason


# ---- what cannot be done


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (Settings(width=512, alpha=0.4), r"made\.csv: fitting: the signal dies .* the first of them line \d+ .*; "
         r"try --alpha 0\.\d\d$"),
        (Settings(width=256, alpha=0.25), r"the signal dies .*; try --width \d+, or --alpha 0\.\d\d$"),
        (Settings(width=512, alpha=0.27, seed=1),
         r"the signal dies .*; try --width \d+, or --alpha 0\.\d\d, or --normalized$"),
        (Settings(width=512, alpha=0.1, layers=(3,)), "--layers is 3; pass distinct numbers from 1 to 2"),
        (Settings(width=512, alpha=-1.0), "alpha is -1"),
        (Settings(width=2**15), "2 layers of width 32768 on 24 rows would not fit in memory; lower --width"),
        (Settings(network=initialize(64, 9, 2, shift=0.5, rng=np.random.default_rng(0))),
         "the file has 8 features, but the network of --network takes 9"),
        (Settings(network=initialize(2, 8, 65, shift=0.0, rng=np.random.default_rng(0))),
         "the network of --network has 65 layers; pass one of at most 64"),
        (Settings(network=initialize(64, 8, 2, shift=3.0, rng=np.random.default_rng(0))),
         r"the signal dies .* line .*; start from a wider network"),
    ],
)  # fmt: skip
def test_settings_that_do_not_fit(settings: Settings, words: str) -> None:
    with pytest.raises(InputError, match=words):
        run(settings=settings)


@pytest.mark.parametrize(
    ("normalized", "words"), [(False, "use fewer layers or other weights$"), (True, r"try --width \d+$")]
)
def test_the_deepest_networks_end_in_words_and_not_in_warnings(normalized: bool, words: str) -> None:
    with pytest.raises(InputError, match=rf"fitting: the signal dies in layer \d+ .*; {words}"):
        run(settings=Settings(width=32, depth=own_fine_tuning.DEPTH_LIMIT, normalized=normalized))


def test_files_that_do_not_do() -> None:
    with pytest.raises(InputError, match=r"made\.csv: one row has no two halves; pass --rows 2"):
        run(replace(prepared(n=2), X=prepared().X[:1], y=np.array([1.0])))
    with pytest.raises(InputError, match="the target is the same in every row"):
        run(replace(prepared(n=4), y=np.ones(4)))


def test_a_singular_gram_matrix_names_lines_and_options() -> None:
    def train(*arguments: object, **options: object) -> Trace[Any]:
        raise SingularGramError(
            "the Gram matrix (12 by 12) is singular; drop near-duplicates. The weakest signal is that of data point 0 "
            "in layer 2, where 1 of 512 neurons fire: widen the network (here 512) to 1024, or use normalized=True"
        )

    words = (
        r"made\.csv: fitting: the Gram matrix \(12 by 12\) is singular; the weakest signal is that of line \d+ in "
        r"layer 2, where 1 of 512 neurons fire; try --width 1024, or --normalized, or --centre or --drop-duplicates$"
    )
    with pytest.raises(InputError, match=words):
        run(code=replace(CODE, deep_train=train))


def test_new_rows_on_which_the_fitted_network_is_silent() -> None:
    def train(network: object, X: np.ndarray, *arguments: object, **options: object) -> Trace[Any]:
        if isinstance(network, ImplicitMultiLayerNetwork):
            network = replace(network.to_dense(), shift=9.0)
        return fast.multi_layer_gauss_newton.train(network, X, *arguments, **options)

    with pytest.raises(InputError, match=r"made\.csv: fine-tuning: the signal dies in layer 1 on 12 of 12"):
        run(code=replace(CODE, deep_train=train))


# ---- the command line


@pytest.fixture(autouse=True)
def quiet_signals(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(command, "end_on_termination", lambda: None)


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    given = prepared()
    lines = [",".join(map(str, [*row, label])) for row, label in zip(given.X, given.y, strict=True)]
    (tmp_path / "mine.csv").write_text("a,b,c,d,e,f,g,h,price\n" + "\n".join(lines) + "\n")
    (tmp_path / "other.npz").write_text("precious")
    network_file.save(tmp_path / "start.npz", initialize(300, 8, 2, shift=0.5, rng=np.random.default_rng(0)))
    network_file.save(tmp_path / "two.npz", two_layer(300, 8, shift=0.5, rng=np.random.default_rng(0)))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def main(line: str) -> int:
    return command.main(["--out", "out", *line.split()], experiments=())


def contents(folder: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


TUNE = "--data mine.csv --fine-tune"


def test_fit_save_and_go_on_from_there(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(f"{TUNE} --width 1024 --alpha 0.3 --normalized --save-network tuned.npz") == 0
    printed = capsys.readouterr()
    assert "Of 4 claims, 4 hold." in printed.out
    assert "the fine-tuned network is in tuned.npz" in printed.err
    claims = json.loads((folder / "out" / "results.json").read_text())["claims"]
    assert [claim["id"] for claim in claims] == [claim.id for claim in own_fine_tuning.CLAIMS]
    page = (folder / "out" / "report.html").read_text()
    assert "Fine-tuning on your data: mine.csv" in page
    assert "<svg" in page
    saved = network_file.load(folder / "tuned.npz")
    assert (saved.width, saved.dim, saved.normalized) == (1024, 8, True)
    main(f"{TUNE} --network tuned.npz --layers 2 --save-network tuned2.npz --seed 1")
    again = network_file.load(folder / "tuned2.npz")
    assert again.shift == saved.shift
    assert not np.array_equal(again.weights[1], saved.weights[1])
    main(f"{TUNE} --network tuned.npz --save-network tuned2.npz --seed 2")  # an old result may be replaced
    assert not np.array_equal(again.weights[1], network_file.load(folder / "tuned2.npz").weights[1])


@pytest.mark.parametrize(
    ("line", "words"),
    [
        ("--fine-tune", "name the file with --data"),
        ("--depth 3", "--depth is for fine-tuning; add --fine-tune"),
        ("--data mine.csv --layers 1", "--layers is for fine-tuning"),
        ("--data mine.csv --normalized", "--normalized is for fine-tuning"),
        ("--data mine.csv --network start.npz", "--network is for fine-tuning"),
        ("--data mine.csv --save-network new.npz", "--save-network is for fine-tuning"),
        (f"{TUNE} --depth 0", "--depth is 0; pass 1 or more"),
        (f"{TUNE} --depth 1000 --width 16", "--depth is 1000; pass at most 64"),
        (f"{TUNE} --depth 1{'0' * 30} --width 1", "; pass at most 64"),
        (f"{TUNE} --depth 65", "--depth is 65; pass at most 64"),
        (f"{TUNE} --layers one", "'one' is no list of layers; pass numbers, for instance 1,2"),
        (f"{TUNE} --width 512 --layers 1,1", "--layers is 1,1; pass distinct numbers from 1 to 2"),
        (f"{TUNE} --network start.npz --width 300", "--width comes with the network"),
        (f"{TUNE} --network start.npz --depth 2", "--depth comes with the network"),
        (f"{TUNE} --network start.npz --alpha 0.1", "--alpha comes with the network"),
        (f"{TUNE} --network start.npz --alpha 0", "--alpha comes with the network"),
        ("--alpha 0 --list", "--alpha says how to treat a file; name the file with --data"),
        (f"{TUNE} --network start.npz --normalized", "--normalized comes with the network"),
        (f"{TUNE} --network none.npz", "none.npz: no such file"),
        (f"{TUNE} --network other.npz", "other.npz: cannot be read as a network"),
        (f"{TUNE} --network two.npz", "two.npz: holds a two-layer network"),
        ("--data digits --fine-tune --network start.npz", "digits: the file has 64 features"),
        (f"{TUNE} --width 512 --save-network mine.csv", "would replace the file of --data"),
        (f"{TUNE} --network start.npz --save-network ./start.npz", "would replace the file of --network"),
        (f"{TUNE} --width 512 --save-network other.npz", "would replace a file that holds no network"),
        (f"{TUNE} --width 512 --save-network nowhere/new.npz", "no such folder"),
        (f"{TUNE} --width 512 --save-network .", "is a directory"),
        (f"{TUNE} --width 512 --save-network {'x' * 256}", "cannot be written (File name too long)"),
        (f"{TUNE} --width 512 --save-network out", "--save-network out is where --out out makes its folder"),
        (f"{TUNE} --width 512 --save-network new.npz --out new.npz/out", "is where --out new.npz/out makes its folder"),
        (f"{TUNE} --width 512 --alpha 0.4", "try --alpha"),
        (f"{TUNE} --width 512 --alpha 200", "shift is 49.9533; pass one from"),
        (f"{TUNE} --target rent", "rent"),
    ],
)
def test_bad_input_is_one_line_and_status_2_and_changes_nothing(
    folder: Path, capsys: pytest.CaptureFixture[str], line: str, words: str
) -> None:
    before = contents(folder)
    assert main(line) == 2
    message = capsys.readouterr().err
    assert message.startswith("verify: ")
    assert words in message
    assert message.count("\n") == 1
    assert contents(folder) == before
    assert not (folder / "out").exists()


@pytest.mark.parametrize("name", ["ABOUT.txt", "results.json", "report.html", "cells"])
def test_a_network_does_not_stand_in_the_way_of_the_report(
    folder: Path, capsys: pytest.CaptureFixture[str], name: str
) -> None:
    (folder / "out").mkdir()
    (folder / "link").symlink_to("out")
    assert main(f"{TUNE} --width 512 --save-network link/{name}") == 2
    assert f"--save-network link/{name} is what the report itself writes in --out out" in capsys.readouterr().err
    assert not any((folder / "out").iterdir())


def test_those_are_all_the_places_that_a_run_writes(folder: Path) -> None:
    main(f"{TUNE} --network start.npz --save-network new.npz")
    assert {path.name for path in (folder / "out").iterdir()} <= set(own_fine_tuning.WRITTEN)


@pytest.mark.parametrize(("error", "status"), [(KeyboardInterrupt(), 130), (OSError(28, "No space left"), 2)], ids=repr)
def test_a_save_that_ends_early_leaves_every_file(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, error: BaseException, status: int
) -> None:
    network_file.save("old.npz", initialize(4, 8, 2, shift=0.5, rng=np.random.default_rng(0)))
    before = contents(folder)

    def fsync(descriptor: int) -> None:
        raise error

    monkeypatch.setattr(os, "fsync", fsync)
    assert main(f"{TUNE} --network start.npz --save-network old.npz") == status
    assert contents(folder) == before
    assert capsys.readouterr().err.count("\n") == 1


def test_fine_tuning_that_leaves_no_network_writes_none(
    folder: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    def measure(*arguments: object) -> tuple[Result, None]:
        return healthy_result, None

    healthy_result = run()[2]
    monkeypatch.setattr(own_fine_tuning, "measure", measure)
    main(f"{TUNE} --width 512 --save-network new.npz")
    assert "left no network; new.npz is not written" in capsys.readouterr().err
    assert not (folder / "new.npz").exists()
    assert (folder / "out" / "results.json").exists()
