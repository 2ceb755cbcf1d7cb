"""Every setting says what reads it; what a command does not read is refused by name, before any work."""

from __future__ import annotations

import ast
import dataclasses
import typing
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest
from typer.testing import CliRunner

from biopercept.baselines.catalogue import MODELS, NETWORKS
from biopercept.cli.main import build_app
from biopercept.config.loading import load_config
from biopercept.config.settings import PREPARED, READERS, Config, Purpose, unread_sentence
from biopercept.data.inputs import WindowInputs
from biopercept.data.joined import tables_of
from biopercept.data.normalisation import MODES, NormalisationSettings
from biopercept.errors import SettingsError
from biopercept.store.reading import open_store

SETTINGS = [
    f"{section}.{row.name}"
    for section, kind in typing.get_type_hints(Config).items()
    for row in dataclasses.fields(kind)
]
KINDS = {"class": "stress", "ordinal": "level", "regression": "load", "two tasks": "stress,load", "dense": "stress"}
COMMANDS = {
    "cross-validate": (),
    "cross-validate --split time": ("--split", "time"),
    "cross-validate --pretrain": ("--pretrain",),
    "cross-validate logistic": ("--model", "logistic"),
    "learning-curve": (),
    "personalise": (),
    "train": (),
    "train --subject": ("--subject", "P01"),
    "tune": ("--trials", 1),
    "audit": (),
    "audit --fit": ("--fit",),
}
ROOT = Path(__file__).resolve().parents[1]
MODULES = sorted(path for folder in ("biopercept", "cli") for path in (ROOT / folder).rglob("*.py"))
WITHOUT_TASK = {"prepare": (), "features": (), "quality": (), "pretrain": (), "score-generation": ()}
WITHOUT_SETTINGS = ("predict", "compare", "report", "export", "benchmark", "inspect", "datasets", "doctor")


@pytest.fixture(scope="module")
def store(made: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("store")
    tasks = (made.TASK, made.LEVEL, made.LOAD)
    return made.store(folder / "made.h5", made.numbered(made.study(3)), task=tasks)


@pytest.fixture(scope="module")
def tasks(made: ModuleType) -> dict[str, tuple[object, ...]]:
    by_name = {task.name: task for task in (made.TASK, made.LEVEL, made.LOAD)}
    return {kind: tuple(by_name[name] for name in names.split(",")) for kind, names in KINDS.items()}


def _purpose(command: str, tasks: tuple[object, ...] = ()) -> Purpose:
    """Return what a command line of COMMANDS is for, said without the code that the commands share."""
    name, *rest = command.split()
    model = "logistic" if command in ("cross-validate logistic", "audit") else "perceiver-io"
    options = frozenset(word for word in rest if word in ("--pretrain", "--subject", "--fit"))
    return Purpose(name, model, typing.cast("tuple[typing.Any, ...]", tasks), options)


def _value(setting: str) -> str:
    """Return a setting's own default as a user writes it: it is refused because nothing reads it, not for its value."""
    section, _, name = setting.partition(".")
    value = getattr(getattr(Config(), section), name)
    if isinstance(value, tuple):
        return f"[{', '.join(map(str, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def _assumed(command: str) -> list[str]:
    if "--split time" in command:
        return ["evaluation.split=time"]
    return ["evaluation.split=k-fold"] if command.startswith(("personalise", "tune")) else []


def _cases() -> Iterator[tuple[str, str]]:
    for command in COMMANDS:
        for kind in KINDS:
            yield command, kind
    for command in WITHOUT_TASK:
        yield command, ""


def test_each_setting_that_there_is_says_what_reads_it_and_no_other() -> None:
    assert set(READERS) == set(SETTINGS)


def test_each_setting_is_read_by_a_command() -> None:
    commands = {name.split()[0] for name in (*COMMANDS, *WITHOUT_TASK)}
    for setting, readers in READERS.items():
        names = {name for line, _ in readers for name in line.split()}
        assert names and names <= commands, setting


@pytest.mark.parametrize(("command", "kind"), list(_cases()))
def test_what_a_command_does_not_read_is_refused_by_name_before_any_work(
    command: str, kind: str, store: Path, tasks: dict[str, tuple[object, ...]], tmp_path: Path
) -> None:
    purpose = _purpose(command, tasks.get(kind, ()))
    dense = ["training.dense_weight=1"] if kind == "dense" else []
    config = load_config(overrides=[*_assumed(command), *dense])
    unread = [name for name in SETTINGS if unread_sentence(name, [purpose], config)]
    if command != "prepare":
        unread = [name for name in unread if name.partition(".")[0] not in PREPARED]  # the store's own: held to it
    if kind == "dense" and "training.dense_weight" in unread:
        dense = []
    assert unread
    words = [
        command.split()[0],
        str(store),
        "-o",
        str(tmp_path / "out"),
        *map(str, ({**COMMANDS, **WITHOUT_TASK})[command]),
    ]
    words += ["--task", KINDS[kind]] if kind else []
    words += [word for name in unread for word in ("--set", f"{name}={_value(name)}")]
    words += [word for text in dense for word in ("--set", text)]
    fault = CliRunner().invoke(build_app(), words).exception
    assert isinstance(fault, SettingsError), fault
    for name in unread:
        sentence = unread_sentence(name, [purpose], config)
        assert f"--set {name}={_value(name)}: {sentence}" in str(fault)
    assert not (tmp_path / "out").exists()


def test_one_file_serves_all_commands_of_a_study_and_is_held_to_what_each_may_read(tmp_path: Path) -> None:
    mine = tmp_path / "mine.yaml"
    mine.write_text("windows: {length_seconds: 30}\ntraining: {n_epochs: 3}\npersonalisation: {n_steps: 5}\n")
    assert load_config(str(mine), purposes=[Purpose("prepare")]).windows.length_seconds == 30
    assert load_config(str(mine), purposes=[Purpose("pretrain")]).training.n_epochs == 3
    with pytest.raises(
        SettingsError, match=r"^mine.yaml line 3: train reads personalisation.n_steps only where a saved"
    ):
        load_config(str(mine), purposes=[Purpose("train")])
    with pytest.raises(SettingsError, match=r"^--set training.n_epochs=3: prepare does not read training.n_epochs"):
        load_config(str(mine), ["training.n_epochs=3"], purposes=[Purpose("prepare")])


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("key", ["clip", "prior_seconds", "reference_seconds"])
def test_a_setting_of_the_scaling_is_refused_exactly_where_it_changes_no_input(
    key: str, mode: str, made: ModuleType, tmp_path: Path
) -> None:
    first = made.study(3)
    second = [dataclasses.replace(one, recording="second") for one in made.study(3, seed=1)]
    with open_store(made.store(tmp_path / "made.h5", [*first, *second])) as store:
        table = tables_of(store, store.recordings, tuple(store.tasks.values()), [0.0] * 6)[0]

        def features(**changes: object) -> np.ndarray:
            settings = NormalisationSettings(mode, **changes)  # type: ignore[arg-type]
            inputs = WindowInputs(table, settings, store.step_seconds, raw=False, derived=False)
            return inputs.features(inputs.fit(("P01", "P02")))

        value = {"clip": 0.1, "prior_seconds": 1.0, "reference_seconds": 40.0}[key]
        changes = not np.array_equal(features(), features(**{key: value}), equal_nan=True)
    config = load_config(overrides=[f"normalisation.mode={mode}"])
    assert changes == (not unread_sentence(f"normalisation.{key}", [Purpose("train")], config))


def test_no_word_is_looked_for_inside_a_text_of_several_words() -> None:
    """``"train" in "pretrain score-generation"`` is true: a table of words is split first, or is a tuple."""
    tables, looked_into = [], []
    for path, module in ((path, ast.parse(path.read_text("utf-8"))) for path in MODULES):
        for node in module.body:
            if isinstance(node, ast.Assign) and isinstance(node.value, ast.Constant) and " " in str(node.value.value):
                tables += [(path, target.id) for target in node.targets if isinstance(target, ast.Name)]
        looked_into += [
            (path, other.id)
            for node in ast.walk(module)
            if isinstance(node, ast.Compare) and any(isinstance(o, ast.In | ast.NotIn) for o in node.ops)
            for other in node.comparators
            if isinstance(other, ast.Name)
        ]
    assert len(tables) > 5
    assert sorted(set(tables) & set(looked_into)) == []


def test_a_pretraining_setting_is_read_where_pretraining_is_meant_by_its_whole_name() -> None:
    assert not Purpose("train").reads_no_labels
    condition = READERS["pretraining.n_epochs"][0][1][0]
    assert [name for name in ("train", "pretrain", "tune") if condition.holds(Purpose(name), Config())] == ["pretrain"]


@pytest.mark.parametrize("model", [*MODELS, "ridge"])
def test_a_wrong_value_of_what_a_model_does_not_read_is_refused_because_it_is_not_read(model: str) -> None:
    purpose = Purpose("cross-validate", model)
    unread = [name for name in SETTINGS if unread_sentence(name, [purpose], Config())]
    unread = [name for name in unread if name.startswith(("model.", "training."))]
    assert (model in NETWORKS) != ("model.width" in unread)
    for name in unread if model in ("logistic", "ridge", "lstm") else unread[:2]:
        value = {"model.width": "2", "training.task_weights": "1", "training.precision": "words"}.get(name, "-1")
        with pytest.raises(SettingsError) as caught:
            load_config(overrides=[f"{name}={value}"], purposes=[purpose])
        assert str(caught.value) == f"--set {name}={value}: {unread_sentence(name, [purpose], Config())}"


def test_a_network_without_attention_takes_a_width_that_no_heads_divide() -> None:
    for model in NETWORKS:
        purpose = Purpose("cross-validate", model)
        if unread_sentence("model.n_heads", [purpose], Config()):
            assert load_config(overrides=["model.width=6"], purposes=[purpose]).model.width == 6
        else:
            with pytest.raises(SettingsError, match=r"model\.n_heads is 4; it must divide model\.width \(6\)"):
                load_config(overrides=["model.width=6"], purposes=[purpose])
    with pytest.raises(SettingsError, match=r"model\.width is 0; it must be at least 1"):
        load_config(overrides=["model.width=0"], purposes=[Purpose("cross-validate", "lstm")])
