"""Cross-validation from pretrained weights: what it says, whom it warns of, and what resumes."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from types import ModuleType

import pytest
import torch

from biopercept.data.normalisation import NormalisationSettings
from biopercept.errors import SettingsError
from biopercept.evaluation.cross_validation import cross_validate, train_on_store
from biopercept.evaluation.plan import EvaluationRequest
from biopercept.evaluation.settings import EvaluationSettings
from biopercept.model.biosignals import BiosignalPerceiver, perceiver_for
from biopercept.model.settings import PerceiverSettings, TokenSettings
from biopercept.model.token_inputs import FeatureGroup, TokenInputs, TokenVocabulary
from biopercept.store.prepared import PreparedRecording
from biopercept.tasks import Task
from biopercept.training.checkpoint import TRAINED, StartingPoint, load_model, start_words, take_weights
from biopercept.training.engine import Engine
from biopercept.training.pretraining import Origin, PretrainingRequest, pretrain, save_pretrained, unlabelled_inputs
from biopercept.training.settings import FitSettings, PretrainingSettings, TrainingSettings

LEVEL = Task("level", classes={"low": ("baseline",), "high": ("stroop",)})
SMALL = PerceiverSettings(width=16, n_latents=4, n_layers=1, n_heads=2)
BRIEF = PretrainingSettings(n_epochs=1, batch_size=32, n_queries=4)
FIT = FitSettings(model=SMALL, training=TrainingSettings(n_epochs=1, batch_size=32))


@pytest.fixture(scope="module")
def store(made: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.store(tmp_path_factory.mktemp("store") / "made.h5", made.study(6))


def request(store: Path, model: str = "perceiver-io", **fit: object) -> EvaluationRequest:
    evaluation = EvaluationSettings(split="k-fold", n_folds=2, n_bootstrap=200)
    return EvaluationRequest(store, model, fit=replace(FIT, **fit), evaluation=evaluation)


def pretrained(made: ModuleType, folder: Path, study: str, subjects: list[str], seed: int = 0) -> str:
    recordings = [made.recording(name, seed=9) for name in subjects]
    inputs = unlabelled_inputs(
        recordings, NormalisationSettings(), TokenSettings(), length_seconds=made.LENGTH, step_seconds=made.STEP,
        feature_names=made.FEATURES,
    )  # fmt: skip
    pretraining = PretrainingRequest((inputs,), TokenSettings(), SMALL, BRIEF, Engine(torch.device("cpu")), seed)
    row = {"study": study, "store": "0" * 64, "subjects": subjects, "n_windows": 1, "prepare": {}}
    save_pretrained(pretrain(pretraining), pretraining, Origin([row], seed), folder)
    return str(folder)


def test_weights_that_have_seen_test_subjects_are_a_leak_and_every_output_says_so(
    made: ModuleType, store: Path, tmp_path: Path
) -> None:
    start = pretrained(made, tmp_path / "pre", "made", ["P01", "P05", "X9"])
    scores = cross_validate(request(store, start_from=start), tmp_path / "cv")
    [leak] = [w for w in scores["warnings"] if w.startswith("LEAK")]
    assert "had seen 2 of the 6 test subjects (P01, P05); pretrain inside each fold with --pretrain" in leak
    assert scores["start_from"]["new"] == ["queries.values", "heads.0.weight", "heads.0.bias"]
    assert json.loads((tmp_path / "cv" / "folds.json").read_text())["run"]["start_from"] == scores["start_from"]


def test_weights_of_another_study_are_no_leak_and_change_the_answers(
    made: ModuleType, store: Path, tmp_path: Path
) -> None:
    start = pretrained(made, tmp_path / "pre", "elsewhere", ["P01", "P05"])
    scores = cross_validate(request(store, start_from=start), tmp_path / "cv")
    assert [w for w in scores["warnings"] if w.startswith("LEAK")] == []
    plain = cross_validate(request(store), tmp_path / "plain")
    assert "start_from" not in plain
    assert plain["brier"] != scores["brier"]
    other = pretrained(made, tmp_path / "other", "elsewhere", ["P01", "P05"], seed=1)
    with pytest.raises(SettingsError, match="holds a run with another start_from"):
        cross_validate(request(store, start_from=other), tmp_path / "cv")
    moved = (tmp_path / "pre").rename(tmp_path / "moved")
    assert cross_validate(request(store, start_from=str(moved)), tmp_path / "cv")["brier"] == scores["brier"]


def test_pretraining_inside_folds_is_stamped_and_is_no_leak(store: Path, tmp_path: Path) -> None:
    scores = cross_validate(request(store, pretraining=BRIEF), tmp_path / "cv")
    assert scores["start_from"] == {"pretrained_in_each_fold": "masked"}
    assert [w for w in scores["warnings"] if w.startswith("LEAK")] == []


def test_only_the_perceiver_can_start_from_weights(store: Path, tmp_path: Path) -> None:
    with pytest.raises(SettingsError, match="--start-from and --pretrain are for perceiver-io; the model is logistic"):
        cross_validate(request(store, "logistic", pretraining=BRIEF), tmp_path / "cv")


FIRST = Task("stress", classes={"rest": ("baseline",), "stress": ("stroop",)}, ignore=("break",))
SECOND = Task("state", classes={"a": ("baseline",), "b": ("stroop",), "c": ("break",)})
OTHER_ORDER = Task("stress", classes={"stress": ("stroop",), "rest": ("baseline",)}, ignore=("break",))


def network_of(tasks: tuple[Task, ...], seed: int) -> BiosignalPerceiver:
    settings = replace(SMALL, linear_branch=True, conv_branch=True)
    torch.manual_seed(seed)
    network = perceiver_for(tasks, settings, TokenSettings(), TokenVocabulary({"eda": 20, "ecg": 128}, {"heart": 3}, 2))
    with torch.no_grad():
        for value in network.parameters():  # the linear branch begins at zero, which tells nothing
            value.normal_(std=0.3)
    return network.eval()


@pytest.mark.parametrize(
    ("wanted", "is_taken"),
    [((FIRST,), True), ((SECOND,), True), ((SECOND, FIRST), True), ((OTHER_ORDER,), False), ((FIRST, LEVEL), False)],
    ids=lambda value: ",".join(task.name for task in value) if isinstance(value, tuple) else str(value),
)
def test_a_network_of_other_tasks_takes_what_belongs_to_its_own_or_nothing_of_tasks(
    wanted: tuple[Task, ...], is_taken: bool
) -> None:
    theirs, ours = network_of((FIRST, SECOND), 0), network_of(wanted, 1)
    before = {name: value.clone() for name, value in ours.state_dict().items()}
    start = StartingPoint(TRAINED, "", theirs.state_dict(), (), tasks=(FIRST, SECOND))
    take_weights(ours, start.weights_for((), wanted, Path("m")))
    random = torch.Generator().manual_seed(0)
    group = FeatureGroup("heart", torch.randn(4, 3, generator=random), torch.ones(4, 3, dtype=torch.bool))
    read = TokenInputs(features=(group,))
    given = start.described(ours, wanted, TokenSettings())
    assert given["n_taken"] + len(given["new"]) == len(before)
    if is_taken:
        for name, values in ours(read).tasks.items():
            torch.testing.assert_close(values, theirs(read).tasks[name])
        assert given["new"] == []
        assert {name.split(".")[0] for name in given["unused"]} <= {"heads"}
        return
    kept = {name for name, value in ours.state_dict().items() if torch.equal(value, before[name])}
    assert (
        kept
        == set(given["new"])
        == {n for n in before if n.startswith(("queries.", "heads.", "branches.linear.", "branches.conv.fusion.head."))}
    )
    assert start_words(given).endswith(
        "arrays of weights were taken; new are queries, heads, branches.linear, branches.conv; of the model's, "
        f"{len(given['unused'])} have no place here (queries, heads, branches.linear, branches.conv)"
    )


def trained(made: ModuleType, folder: Path, name: str, people: Sequence[PreparedRecording]) -> str:
    folder.mkdir()
    store = made.store(folder / "of.h5", people, name=name)
    train_on_store(request(store), folder / "model")
    return str(folder / "model")


def test_a_model_of_other_sensors_says_what_it_never_had(made: ModuleType, store: Path, tmp_path: Path) -> None:
    others = [made.recording(f"X{i}", seed=3, missing=("tonic",)) for i in range(4)]
    blind = [
        replace(one, signals=tuple(replace(s, modality="temp") if s.name == "EDA" else s for s in one.signals))
        for one in others
    ]
    start = trained(made, tmp_path / "x", "elsewhere", blind)
    model = load_model(Path(start))
    longer = TokenSettings(longest_seconds=240.0, time_dropout=0.5)
    scores = cross_validate(request(store, start_from=start, tokens=longer), tmp_path / "cv")
    n = len(model.network.state_dict())
    [said] = [w for w in scores["warnings"] if w.startswith("weights started from: ")]
    assert said == (
        f"weights started from: {n} of {n} arrays of weights were taken; "
        "it never had eda, so what reads these is as new; its tokens.longest_seconds is 120.0 and 240.0 here"
    )
    assert scores["start_from"]["sensors_not_seen"] == ["eda"]
    assert [w for w in scores["warnings"] if w.startswith("LEAK")] == []


def test_whom_a_trained_start_was_fitted_to_is_a_leak_under_any_name(
    made: ModuleType, store: Path, tmp_path: Path
) -> None:
    people = made.study(6)
    renamed = [replace(person, subject=f"Q{k}") for k, person in enumerate(people[:3])]
    for name, chosen in (("made", people[:3]), ("elsewhere", renamed)):
        start = trained(made, tmp_path / name, name, chosen)
        [leak] = [
            w
            for w in cross_validate(request(store, start_from=start), tmp_path / f"{name}-cv")["warnings"]
            if w.startswith("LEAK")
        ]
        assert leak == (
            "LEAK: the weights started from had seen 3 of the 6 test subjects (P01, P02, P03); their labels, too: "
            "start from a model that was trained without them (train --exclude-subjects)"
        )
