"""Config: presets, files and overrides come out as the settings they say, and every fault is named at once."""

from __future__ import annotations

import ast
import math
import re
from dataclasses import fields, replace
from pathlib import Path

import pytest
import yaml

from biopercept import __version__
from biopercept.config.loading import SettingsFaults, load_config
from biopercept.config.settings import Config, config_dict
from biopercept.errors import SettingsError
from biopercept.resources import preset_names, preset_text

ROOT = Path(__file__).resolve().parents[1]
ALL = {row.name: {field.name for field in fields(getattr(Config(), row.name))} for row in fields(Config)}


def _file(folder: Path, text: str) -> str:
    path = folder / "mine.yaml"
    path.write_text(text, encoding="utf-8")
    return str(path)


def test_the_default_preset_lists_every_setting_and_no_other() -> None:
    listed = yaml.safe_load(preset_text("general"))
    assert {section: set(settings) for section, settings in listed.items()} == ALL


def test_the_default_preset_is_the_dataclasses_defaults() -> None:
    assert load_config() == load_config("general") == Config()


@pytest.mark.parametrize("name", preset_names())
def test_every_preset_loads_and_opens_with_a_line_on_what_it_is_for(name: str) -> None:
    assert isinstance(load_config(name), Config)
    assert re.match(r"# [A-Z].*[.]\n", preset_text(name))


def test_the_presets_are_these() -> None:
    assert preset_names() == ("general", "stress-chest", "stress-wrist", "workload-eeg")


def test_the_eeg_preset_cuts_short_windows_and_never_scales_by_a_file_alone() -> None:
    config = load_config("workload-eeg")
    assert (config.windows.length_seconds, config.windows.step_seconds) == (10.0, 5.0)
    assert (config.normalisation.mode, config.normalisation.scope) == ("causal", "session")


def test_every_setting_is_read_somewhere() -> None:
    """A setting counts as read where its name is an attribute of something other than self in __post_init__."""
    read: set[str] = set()
    for path in (ROOT / "biopercept").rglob("*.py"):
        tree = ast.parse(path.read_text(encoding="utf-8"))
        skipped = {
            id(inner)
            for node in ast.walk(tree)
            if isinstance(node, ast.FunctionDef) and node.name == "__post_init__"
            for inner in ast.walk(node)
        }
        read |= {n.attr for n in ast.walk(tree) if isinstance(n, ast.Attribute) and id(n) not in skipped}
    unread = {f"{section}.{name}" for section, names in ALL.items() for name in names - read}
    assert unread == set()


def test_a_file_is_laid_over_the_preset_it_names(tmp_path: Path) -> None:
    config = load_config(_file(tmp_path, "preset: workload-eeg\nwindows:\n  step_seconds: 2.5\n"))
    assert (config.windows.length_seconds, config.windows.step_seconds) == (10.0, 2.5)
    assert config.normalisation.scope == "session"


def test_an_override_wins_over_the_file_and_the_last_over_the_first(tmp_path: Path) -> None:
    file = _file(tmp_path, "windows: {step_seconds: 2.5}\n")
    config = load_config(file, ["windows.step_seconds=10", "windows.step_seconds=15"])
    assert config.windows.step_seconds == 15.0


@pytest.mark.parametrize(
    ("override", "section", "name", "value"),
    [
        ("training.learning_rate=1e-4", "training", "learning_rate", 1e-4),
        ("training.n_epochs=010", "training", "n_epochs", 10),
        ("tokens.raw=False", "tokens", "raw", False),
        ("normalisation.mode=raw", "normalisation", "mode", "raw"),
        (" windows.step_seconds = 20 ", "windows", "step_seconds", 20.0),
    ],
)
def test_overrides_are_read_by_the_type_of_the_setting(override: str, section: str, name: str, value: object) -> None:
    found = getattr(getattr(load_config("general", [override]), section), name)
    assert found == value
    assert type(found) is type(value)


def test_the_effective_config_reads_back_equal(tmp_path: Path) -> None:
    config = load_config("workload-eeg", ["training.learning_rate=1e-5", "tokens.raw=false"])
    assert load_config(_file(tmp_path, config.text)) == config


@pytest.mark.parametrize(
    ("text", "line", "message"),
    [
        (
            "windows:\n  lenght_seconds: 3\n",
            2,
            "the setting windows.lenght_seconds is unknown; did you mean windows.length_seconds?",
        ),
        ("window: {}\n", 1, "the section 'window' is unknown; did you mean windows?"),
        (
            "windows:\n  learning_rate: 1\n",
            2,
            "the setting windows.learning_rate is unknown; did you mean training.learning_rate?",
        ),
        ("windows:\n  step_seconds: 3\n  step_seconds: 4\n", 3, "'step_seconds' is given twice (first in line 2)"),
        ("windows:\n  step_seconds: soon\n", 2, "windows.step_seconds is 'soon'; a number is needed"),
        ("training:\n  n_epochs: 1.5\n", 2, "training.n_epochs is '1.5'; a whole number is needed"),
        ("tokens:\n  raw: yes\n", 2, "tokens.raw is 'yes'; true or false is needed"),
        ("windows: 60\n", 1, "the section 'windows' needs 'setting: value' lines below it, not '60'"),
        (
            "preset: generel\n",
            1,
            f"no preset is called 'generel'; presets are {', '.join(preset_names())}; did you mean general?",
        ),
        ("biopercept: 99.1.0\n", 1, f"written by biopercept 99.1.0, this is {__version__}; install 99.1.0 or newer"),
        ("biopercept: newest\n", 1, f"biopercept is 'newest'; a version such as {__version__} is needed"),
        (
            "windows: !!python/name:os.system\n",
            1,
            "the tag tag:yaml.org,2002:python/name:os.system is not allowed; write plain text",
        ),
    ],
)
def test_each_fault_is_one_sentence_with_its_line(tmp_path: Path, text: str, line: int, message: str) -> None:
    with pytest.raises(SettingsError) as raised:
        load_config(_file(tmp_path, text))
    assert str(raised.value) == f"mine.yaml line {line}: {message}"


@pytest.mark.parametrize(
    "text", ["windows:\n\tstep_seconds: 3\n", "windows: [\n", "- a\n- b\n", "a: &x {}\nb: *x\n", "[" * 5000]
)
def test_what_is_not_plain_yaml_is_refused_with_the_file_named(tmp_path: Path, text: str) -> None:
    with pytest.raises(SettingsError, match=r"mine\.yaml"):
        load_config(_file(tmp_path, text))


def test_latin_1_is_refused_with_its_line(tmp_path: Path) -> None:
    (tmp_path / "mine.yaml").write_bytes(b"windows: {}\n# caf\xe9\n")
    with pytest.raises(SettingsError, match=r"mine\.yaml line 2: not UTF-8"):
        load_config(str(tmp_path / "mine.yaml"))


def test_all_faults_come_at_once(tmp_path: Path) -> None:
    file = _file(tmp_path, "windows:\n  step: 1\ntraining:\n  n_epochs: 0\nevaluation:\n  split: random\nextra: 1\n")
    with pytest.raises(SettingsFaults) as raised:
        load_config(file, ["model.width=wide", "nonsense"])
    text = str(raised.value)
    for words in ("windows.step", "training.n_epochs", "evaluation.split", "'extra'", "model.width", "nonsense"):
        assert words in text
    assert len(raised.value.faults) == 6


NUMBERS = [
    f"{section}.{name}"
    for section, settings in config_dict(Config()).items()
    for name, value in settings.items()
    if isinstance(value, int | float) and not isinstance(value, bool)
]


@pytest.mark.parametrize("setting", NUMBERS)
def test_a_number_outside_its_range_is_refused_by_its_name(setting: str) -> None:
    section, _, name = setting.partition(".")
    is_whole = isinstance(getattr(getattr(Config(), section), name), int)
    for value in ["-1"] if is_whole else ["-1", ".nan", "nan"]:
        with pytest.raises(SettingsError, match=name):
            load_config("general", [f"{setting}={value}"])


@pytest.mark.parametrize("setting", ["windows.length_seconds", "windows.step_seconds", "training.learning_rate"])
@pytest.mark.parametrize("value", ["0", "inf"])
def test_a_length_or_rate_of_nothing_or_without_end_is_refused(setting: str, value: str) -> None:
    with pytest.raises(SettingsError, match=setting.partition(".")[2]):
        load_config("general", [f"{setting}={value}"])


@pytest.mark.parametrize(
    ("override", "words"),
    [
        ("windows.lenght_seconds=1", "did you mean windows.length_seconds?"),
        ("widnows.length_seconds=1", "did you mean windows?"),
        ("length_seconds=1", "section.key=value is needed"),
        ("windows.length_seconds", "section.key=value is needed"),
        ("windows.length_seconds={a: 1}", "a number is needed"),
        ("windows.length_seconds=", "a number is needed"),
    ],
)
def test_a_wrong_override_says_what_is_wrong(override: str, words: str) -> None:
    with pytest.raises(SettingsError, match=re.escape(words)):
        load_config("general", [override])


def test_a_name_that_is_neither_preset_nor_file_lists_the_presets() -> None:
    with pytest.raises(SettingsError) as raised:
        load_config("stress-writs")
    assert str(raised.value) == (
        "there is neither a preset nor a file called 'stress-writs'; "
        "presets are general, stress-chest, stress-wrist, workload-eeg; did you mean stress-wrist?"
    )


@pytest.mark.parametrize(
    ("section", "name", "value"),
    [
        (section.name, setting.name, value)
        for section in fields(Config)
        for setting in fields(section.default_factory())
        if setting.type in ("int", "float")
        for value in (-1, math.nan, math.inf)
        if setting.type == "float" or value == -1
    ],
)
def test_no_number_below_its_range_or_none_at_all_is_taken(section: str, name: str, value: float) -> None:
    with pytest.raises(SettingsError) as caught:
        replace(getattr(Config(), section), **{name: value})
    assert str(caught.value).startswith(f"{section}.{name} is {value}; ")
