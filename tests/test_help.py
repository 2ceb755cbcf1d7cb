"""Help: every command explains itself, and asking for help loads nothing heavy."""

from __future__ import annotations

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command

from biopercept.cli.main import COMMANDS, build_app, command_name, main

HEAVY = {"torch", "mne", "neurokit2", "scipy", "pandas", "sklearn", "matplotlib"}
OF_ANOTHER_KIND = {("tune", "--folds"), ("train", "--subject"), ("live", "--every"), ("features", "--also")} | {
    (name, "--output")
    for name in ("prepare", "export", "report", "deidentify")  # a file and no folder
}
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
    assert "list[" not in text  # a kind of value as Python spells it


def test_the_overview_names_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = capsys.readouterr().out
    assert [command for command in NAMES if f"\n  {command} " not in text] == []
    assert [heading for heading in COMMANDS if f"\n{heading}:\n" not in text] == []


def test_every_command_has_an_example_that_it_understands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "pretrained").mkdir()  # a model of one's own, where no shipped one would do
    monkeypatch.chdir(tmp_path)
    for words, command in commands():
        text = " ".join((command.help or "").split())
        assert ". Example: biopercept " in text, words
        example = shlex.split(text.rpartition("Example: biopercept ")[2])
        assert example[: len(words)] == words
        command.make_context(" ".join(words), example[len(words) :])  # raises where an option or argument is none


def commands() -> list[tuple[list[str], Any]]:
    """Return every command, with the words that call it."""
    listed: list[tuple[list[str], Any]] = []
    for name, command in get_command(build_app()).commands.items():  # type: ignore[attr-defined]
        inside = getattr(command, "commands", None)
        listed += [([name], command)] if inside is None else [([name, one], inside[one]) for one in inside]
    return listed


def test_the_usage_calls_arguments_alike(capsys: pytest.CaptureFixture[str]) -> None:
    seen = {}
    for words in (["prepare"], ["cross-validate"], ["predict"], ["models"], ["config", "show"]):
        with pytest.raises(SystemExit):
            main([*words, "--help"])
        seen[words[-1]] = capsys.readouterr().out.splitlines()[0].partition("[OPTIONS] ")[2]
    assert seen == {
        "prepare": "STUDY",
        "cross-validate": "STORE...",
        "predict": "MODEL PATH...",
        "models": "[NAME]",
        "show": "[NAME|FILE]",
    }


def test_export_says_onnx_first_and_completion_is_there(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["--help"])
    text = " ".join(capsys.readouterr().out.split())
    assert "export ONNX: write a trained model" in text
    assert "--install-completion" in text


def test_a_shell_completes_commands_and_options() -> None:
    """The words that a shell asks with are those of typer's own scripts."""
    for typed, expected in (("biopercept cross-", {"cross-validate"}), ("biopercept predict --un", {"--unit"})):
        script = "from biopercept.cli.main import main; main([])"
        asking = {"_BIOPERCEPT_COMPLETE": "complete_bash", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
        run = subprocess.run(
            [sys.executable, "-c", script], capture_output=True, text=True, check=True, env={**os.environ, **asking}
        )
        assert set(run.stdout.split()) == expected


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
