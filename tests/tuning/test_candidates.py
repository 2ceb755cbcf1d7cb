"""Candidates as they are written and drawn: what a file may say, every refusal, and draws that stay where they are."""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

from biopercept.cli.main import main
from biopercept.config.loading import load_config
from biopercept.errors import SettingsError
from biopercept.tuning.candidates import SPACE, Choice, Draft, Span, random_trials, read_candidates


def written(tmp_path: Path, text: str) -> Path:
    path = tmp_path / "candidates.yaml"
    path.write_text(text)
    return path


def test_a_file_is_read_in_its_order_with_what_each_line_changes(tmp_path: Path) -> None:
    (tmp_path / "own.yaml").write_text("preset: general\n")
    path = written(
        tmp_path,
        "plain:\n"
        "slow: {training.learning_rate: 3e-4, training: {n_epochs: 32}, pretrain: true, config: own.yaml}\n"
        "trees: {model: boosting, normalisation.mode: global, config: workload-eeg}\n"
        "long: {store: other.h5, training.task_weights: [a=1, b=2]}\n"
        "joined: {ensemble: [plain, trees]}\n",
    )
    assert read_candidates(path) == (
        Draft("plain"),
        Draft(
            "slow",
            (("training.learning_rate", "3e-4"), ("training.n_epochs", "32")),
            config=str(tmp_path / "own.yaml"),
            is_pretrained=True,
        ),
        Draft("trees", (("normalisation.mode", "global"),), model="boosting", config="workload-eeg"),
        Draft("long", (("training.task_weights", "[a=1, b=2]"),), store=tmp_path / "other.h5"),
        Draft("joined", members=("plain", "trees")),
    )
    changes = [draft.changes() for draft in read_candidates(path)]
    assert changes[1] == {
        "config": "own.yaml", "pretrain": "true", "training.learning_rate": "3e-4", "training.n_epochs": "32",
    }  # fmt: skip
    assert changes[3]["store"] == "other.h5"
    assert changes[4] == {"ensemble": "plain + trees"}


@pytest.mark.parametrize(
    ("text", "sentence"),
    [
        ("", "candidates.yaml names no candidate; write one a line, such as slow: {training.learning_rate: 3e-4}"),
        ("a: fast\n", "candidates.yaml line 1: candidate 'a' is 'fast'; settings such as {training.learning_rate: "
         "3e-4} are needed"),
        ("a b: {}\n", "candidates.yaml line 1: candidate 'a b': a name is up to 60 letters, digits and . _ + -"),
        ("a: {modle: lda}\n", "candidates.yaml line 1: candidate 'a': the key 'modle' is unknown; did you mean model?"),
        ("a: {windows.length_seconds: 30}\n", "candidates.yaml line 1: candidate 'a': windows.length_seconds is "
         "settled when a store is prepared; prepare another one and name it with store: PATH"),
        ("a: {evaluation.n_folds: 3}\n", "candidates.yaml line 1: candidate 'a': evaluation.n_folds is the same for "
         "all candidates; of evaluation only n_seeds, calibration, calibration_folds, folds_at_once, stack_size "
         "may differ"),
        ("a: {audit.n_folds: 3}\n", "candidates.yaml line 1: candidate 'a': the section 'audit' is none that a "
         "candidate may change; allowed are normalisation, tokens, model, training, pretraining"),
        ("a: {pretrain: maybe}\n", "candidates.yaml line 1: candidate 'a': pretrain is 'maybe'; true or false "
         "is needed"),
        ("a: {}\nb: {ensemble: [a]}\n", "candidates.yaml line 2: candidate 'b': ensemble is ['a']; a list of at least "
         "two different candidates is needed"),
        ("a: {}\nb: {}\nc: {ensemble: [a, b], model: lda}\n", "candidates.yaml line 3: candidate 'c': an ensemble is "
         "the mean of its members and has no other settings"),
        ("first: {}\nb: {ensemble: [first, frist]}\n", "candidates.yaml: the ensemble 'b' has the member 'frist', "
         "which is none; did you mean first?"),
        ("a: {}\na: {}\n", "candidates.yaml line 2: 'a' is given twice (first in line 1)"),
    ],
)  # fmt: skip
def test_what_a_file_may_not_say_is_refused_in_one_sentence(tmp_path: Path, text: str, sentence: str) -> None:
    with pytest.raises(SettingsError) as refused:
        read_candidates(written(tmp_path, text))
    assert str(refused.value) == sentence


def test_every_draw_is_a_valid_setting_and_more_trials_move_none() -> None:
    drafts = random_trials(12, 3)
    assert drafts[0] == Draft("base")
    assert drafts[:6] == random_trials(5, 3)
    assert len({draft.settings for draft in drafts}) == 13
    assert random_trials(1, 4)[1].settings != drafts[1].settings
    for draft in drafts:
        load_config(None, [f"{key}={value}" for key, value in draft.settings])
        for key, value in draft.settings:
            kind = SPACE.get(key)
            if isinstance(kind, Span):
                assert kind.low <= float(value) <= kind.high
            elif isinstance(kind, Choice):
                assert value in kind.values


def test_the_documented_space_is_the_one_drawn_from() -> None:
    page = (Path(__file__).resolve().parents[2] / "docs" / "tuning.md").read_text(encoding="utf-8")
    rows = [f"| {name} | {kind.words()} |" for name, kind in SPACE.items()]
    assert "\n".join(rows) in page


def test_rates_are_drawn_evenly_in_their_logarithm() -> None:
    drawn = [float(Span(1e-4, 1e-2, is_log=True).draw(np.random.default_rng(i))) for i in range(400)]
    assert 0.4 < np.mean(np.array(drawn) < 1e-3) < 0.6
    plain = [float(Span(0.0, 0.5).draw(np.random.default_rng(i))) for i in range(400)]
    assert 0.4 < np.mean(np.array(plain) < 0.25) < 0.6


@pytest.fixture(scope="module")
def store(made: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.store(tmp_path_factory.mktemp("store") / "made.h5", made.study(6, effect=0.5))


def ran(*words: object) -> int:
    with pytest.raises(SystemExit) as leaving:
        main(["tune", *map(str, words)])
    return int(leaving.value.code or 0)


def test_the_command_tries_the_files_candidates_and_says_what_to_report(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = written(tmp_path, "line: {model: logistic}\nglobal: {model: logistic, normalisation.mode: global}\n")
    assert ran(store, "-o", tmp_path / "out", "--candidates", path, "--folds", 3) == 0
    told = capsys.readouterr()
    assert "2 candidates were tried inside the training side of each of 3 outer folds" in told.out
    assert "this is the score to report." in told.out
    assert "1/6 line without 01+02-of-03 done" in told.err
    assert ran(store, "-o", tmp_path / "out", "--candidates", path, "--folds", 3) == 0
    assert "1/6 line without 01+02-of-03 was done before" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "text", "sentence"),
    [
        ((), "", "tune needs something to choose from: --candidates FILE, --trials N, or both"),
        (("--candidates", "FILE"), "a: {training.n_epochs: many}\n", "candidate a: --set training.n_epochs=many: "
         "training.n_epochs is 'many'; a whole number is needed"),
        (("--candidates", "FILE", "--task", "load"), "a: {}\n", "candidate a: task 'load' is not in study 'made'; it "
         "has: stress"),
        (("--candidates", "FILE", "--set", "evaluation.label_share=0.5"), "a: {}\n", "tune uses all labels of the "
         "training side; evaluation.label_share is 0.5, which must be 1"),
        (("--candidates", "FILE", "--folds", "9"), "a: {}\n", "candidate a: 9 folds for 6 subjects; allowed are "
         "2 to 6 (--folds, evaluation.n_folds)"),
        (("--candidates", "FILE", "--folds", "3"), "a: {}\nb: {normalisation.mode: reference}\nc: {ensemble: [a, b]}\n",
         "ensemble c joins a and b, which answer about different windows; members need one store and one way of "
         "leaving windows out"),
    ],
)  # fmt: skip
def test_what_cannot_be_compared_is_refused_before_anything_is_fitted(
    store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], text: str, sentence: str
) -> None:
    path = written(tmp_path, text)
    given = [str(path) if word == "FILE" else word for word in words]
    assert ran(store, "-o", tmp_path / "out", "-q", *given) == 2
    assert capsys.readouterr().err == f"biopercept: {sentence}\n"
    assert not (tmp_path / "out").exists()


def test_stores_of_other_subjects_and_other_folds_are_refused(
    made: ModuleType, store: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = made.store(tmp_path / "other.h5", made.study(7))
    path = written(tmp_path, f"a: {{model: logistic}}\nb: {{model: logistic, store: {other.name}}}\n")
    assert ran(store, "-o", tmp_path / "out", "--candidates", path, "--folds", 3, "-q") == 2
    assert capsys.readouterr().err == (
        "biopercept: candidate b has other subjects than a (P07); stores of the same subjects are needed, or leave "
        "some out with --subjects or --exclude-subjects\n"
    )
    words = (store, "-o", tmp_path / "out", "-q", "--candidates", path, "--folds", 3, "--exclude-subjects")
    assert ran(store, "-o", tmp_path / "out", "--candidates", written(tmp_path, "a: {model: lda}\n"), "--folds", 3) == 0
    capsys.readouterr()
    assert ran(*words, "P06") == 2
    assert capsys.readouterr().err == (
        f"biopercept: {tmp_path / 'out'} holds a run with another subjects; choose another output, or add --overwrite "
        "to start again\n"
    )
