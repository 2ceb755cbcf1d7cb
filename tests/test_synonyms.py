"""Words of the field and of other tools are answered with the names of this package, each of which exists."""

from __future__ import annotations

import dataclasses
import typing
from pathlib import Path
from types import ModuleType

import pytest
import typer
from typer.testing import CliRunner

from biopercept import synonyms
from biopercept.baselines.catalogue import MODELS, REGRESSORS
from biopercept.cli.main import build_app
from biopercept.comparison.matching import METRICS
from biopercept.config.settings import READERS, Config
from biopercept.data.normalisation import MODES
from biopercept.data.splits import SPLITS, TIME
from biopercept.modalities import MODALITY_NAMES, modality_named
from biopercept.studies.beginning import PARTS
from biopercept.typed_values import closest, did_you_mean

COMMANDS = typer.main.get_command(build_app()).commands  # type: ignore[attr-defined]
OPTIONS = {option for command in COMMANDS.values() for one in command.params for option in one.opts}
TABLES = {
    "_MODELS": {*MODELS, *REGRESSORS},
    "_SPLITS": {*SPLITS, TIME},
    "_METRICS": set(METRICS),
    "_SETTINGS": {name.partition(".")[2] for name in READERS},
    "_SCALINGS": set(MODES),
    "_SENSORS": set(MODALITY_NAMES),
    "_COLUMNS": {"participant_id", "recording", "path", "trial_type", "onset", "duration", "sex", "age"},
    "_PARTS_OF_NAMES": set(PARTS),
    "_DEVICES": {"cuda"},
    "_COMMANDS": set(COMMANDS),
}


@pytest.fixture(scope="module")
def store(made: ModuleType, tmp_path_factory: pytest.TempPathFactory) -> Path:
    return made.store(tmp_path_factory.mktemp("store") / "made.h5", made.study(3))


@pytest.mark.parametrize("table", TABLES)
def test_every_name_that_is_suggested_exists(table: str) -> None:
    assert set(getattr(synonyms, table)) <= TABLES[table]


def test_no_word_of_the_tables_is_itself_such_a_name() -> None:
    for table, names in TABLES.items():
        words = {word.strip() for text in getattr(synonyms, table).values() for word in text.split(",")}
        assert words & names == set(), table


def test_every_option_that_is_suggested_exists_and_every_setting_in_one_does() -> None:
    for typed in synonyms._OPTIONS:
        option, _, rest = typed.partition(" ")
        assert option in OPTIONS
        if option == "--set":
            assert rest.partition("=")[0] in READERS
        elif option == "--split":
            assert rest in TABLES["_SPLITS"]


@pytest.mark.parametrize(
    ("words", "answer"),
    [
        (("fit", "x.h5"), "No such command 'fit'. Did you mean 'train'?"),
        (("corss-validate",), "No such command 'corss-validate'. Did you mean 'cross-validate'?"),
        (("cross-validate", "x.h5", "--loso"), "No such option: --loso. Did you mean '--split subject'?"),
        (("train", "x.h5", "--epochs", "3"), "No such option: --epochs. Did you mean '--set training.n_epochs=N'?"),
        (("train", "x.h5", "--norm", "raw"), "No such option: --norm. Did you mean '--normalisation'?"),
        (("train", "x.h5", "--taks", "raw"), "No such option: --taks (Possible options: --task)"),
        (("report", "x", "--epochs", "3"), "No such option: --epochs"),  # it has no --set
    ],
)
def test_the_command_line_answers_the_words_of_other_tools(words: tuple[str, ...], answer: str) -> None:
    result = CliRunner().invoke(build_app(), list(words))
    assert result.exit_code == 2
    assert result.stderr.rstrip().splitlines()[-1] == f"Error: {answer}"


@pytest.mark.parametrize(
    ("words", "end"),
    [
        (("--model", "random-forest"), "; did you mean bagging?"),
        (("--split", "loso"), "; did you mean subject?"),
        (("--normalisation", "z-score"), "; did you mean global?"),
        (("--device", "gpu", "--model", "lda"), "; did you mean cuda?"),
        (("--set", "training.lr=1"), "; did you mean training.learning_rate?"),
        (("--set", "lr=1"), "; did you mean training.learning_rate?"),
    ],
)
def test_values_that_the_field_uses_are_answered(words: tuple[str, ...], end: str, store: Path, tmp_path: Path) -> None:
    result = CliRunner().invoke(build_app(), ["cross-validate", str(store), "-o", str(tmp_path / "o"), *words])
    assert str(result.exception).endswith(end)


def test_a_synonym_goes_before_letters_and_after_the_name_itself() -> None:
    assert closest("forest", ["forrest", "bagging"]) == "bagging"
    assert closest("Bag_Ging", ["bagging", "boosting"]) == "bagging"
    assert did_you_mean("loso", ["lda", "ridge"]) == ""
    with pytest.raises(KeyError, match="did you mean eda"):
        modality_named("skin conductance")


def test_settings_of_every_section_can_be_named_by_a_word_alone() -> None:
    sections = typing.get_type_hints(Config)
    known = [row.name for kind in sections.values() for row in dataclasses.fields(kind)]
    assert synonyms.synonym_of("epochs", known) == "n_epochs"
