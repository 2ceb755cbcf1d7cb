"""Help: every command explains itself, and asking for help loads nothing heavy."""

from __future__ import annotations

import subprocess
import sys

import pytest
from typer.main import get_command

from biopercept.cli.main import COMMANDS, build_app, command_name, main

HEAVY = {"torch", "mne", "neurokit2", "scipy", "pandas", "sklearn", "matplotlib"}
OF_ANOTHER_KIND = {("tune", "--folds"), ("train", "--subject")}
NAMES = [command_name(name) for names in COMMANDS.values() for name in names]
WORDS = [*([command] for command in NAMES), ["config", "list"], ["config", "show"]]


@pytest.mark.parametrize("words", WORDS, ids=" ".join)
def test_every_command_explains_itself(words: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as leaving:
        main([*words, "--help"])
    assert leaving.value.code == 0
    text = capsys.readouterr().out
    assert text.lstrip().startswith(f"Usage: biopercept {' '.join(words)}")
    assert "--help" in text


def test_the_overview_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert [command for command in NAMES if f"\n  {command} " not in text] == []
    assert [heading for heading in COMMANDS if f"\n{heading}:\n" not in text] == []


def test_every_option_and_argument_is_explained() -> None:
    group = get_command(build_app())
    unexplained = [
        f"{name} {parameter.name}"
        for name, command in group.commands.items()  # type: ignore[attr-defined]
        for parameter in command.params
        if not getattr(parameter, "help", None)
    ]
    assert unexplained == []


@pytest.mark.parametrize("words", [["--help"], ["--version"], ["prepare", "--help"], ["no-such-command"]], ids=" ".join)
def test_asking_for_help_loads_nothing_heavy(words: list[str]) -> None:
    code = (
        "import sys\nfrom biopercept.cli.main import main\n"
        f"try: main({words!r})\nexcept SystemExit: pass\nprint('LOADED', *sys.modules)"
    )
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    loaded = set(run.stdout.rpartition("LOADED")[2].split())
    assert "biopercept.cli.prepare" in loaded
    assert loaded & HEAVY == set()


def test_the_help_of_a_command_sorts_its_options_under_headings(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["cross-validate", "--help"])
    headings = [
        line for line in capsys.readouterr().out.splitlines() if line.endswith(":") and not line.startswith(" ")
    ]
    assert headings == ["Arguments:", "Data:", "Folds:", "Model:", "Settings:", "Output and run:"]


def test_an_option_of_several_commands_is_declared_once() -> None:
    options: dict[str, set[tuple[object, ...]]] = {}
    for name, command in get_command(build_app()).commands.items():  # type: ignore[attr-defined]
        for parameter in command.params:
            long = max(parameter.opts, key=len)
            if long.startswith("--") and (name, long) not in OF_ANOTHER_KIND:
                described = (*sorted(parameter.opts), parameter.help, parameter.metavar, parameter.rich_help_panel)
                options.setdefault(long, set()).add(described)
    assert {name: described for name, described in options.items() if len(described) > 1} == {}
