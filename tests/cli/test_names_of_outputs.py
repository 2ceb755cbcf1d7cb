"""An output whose name promises another kind of file than what is written is refused before any work is done."""

from __future__ import annotations

from pathlib import Path

import pytest
from typer.main import get_command
from typer.testing import CliRunner, Result

from biopercept.cli.main import build_app
from biopercept.errors import OutputError
from biopercept.files import refuse_ending
from biopercept.inference import onnx_export

OTHER_ENDINGS = {"prepare": ".csv", "export": ".pt", "report": ".pdf", "deidentify": ".pdf"}
RIGHT = {"prepare": ".h5", "export": ".onnx", "report": ".html", "deidentify": ".edf"}


def run(*words: object) -> Result:
    return CliRunner().invoke(build_app(), [str(word) for word in words])


def commands_with_an_output() -> list[str]:
    commands = get_command(build_app()).commands  # type: ignore[attr-defined]
    return [name for name, one in commands.items() if any(option.name == "output" for option in one.params)]


@pytest.mark.parametrize("name", commands_with_an_output())
def test_every_command_refuses_a_name_of_another_kind(name: str, tmp_path: Path) -> None:
    source = tmp_path / "S01.edf"
    source.write_bytes(b"")
    output = tmp_path / f"out{OTHER_ENDINGS.get(name, '.csv')}"
    words = {
        "report": [tmp_path],
        "import": ["eegmat", tmp_path],
        "export": ["stress-wrist"],
        "demo": [],
        "benchmark": [],
    }
    first = words.get(
        name, ["stress-wrist", source] if name in ("predict", "live", "explain", "reconstruct") else [source]
    )
    result = run(name, *first, "-o", output)
    assert isinstance(result.exception, OutputError), result.output
    assert str(result.exception).startswith(f"{output} ends in {output.suffix}, and ")
    assert str(result.exception).endswith(f"give another output, such as {output.with_suffix(RIGHT.get(name, ''))}")
    assert result.exception.exit_code == 2
    assert not output.exists()


def test_a_page_of_several_recordings_is_no_folder_of_another_ending(tmp_path: Path) -> None:
    result = run("view", tmp_path, "--html", tmp_path / "out.pdf")
    assert str(result.exception) == (
        f"{tmp_path / 'out.pdf'} ends in .pdf, and a page ends in .html or .htm; give another output, such as "
        f"{tmp_path / 'out.html'}"
    )
    assert not (tmp_path / "out.pdf").exists()


def test_a_dot_in_a_name_is_no_ending_and_a_folder_that_is_there_is_taken(tmp_path: Path) -> None:
    refuse_ending(tmp_path / "scores-0.85", "what is written")
    refuse_ending(tmp_path / "v1.2", "a store", (".h5",))
    (tmp_path / "old.csv").mkdir()
    refuse_ending(tmp_path / "old.csv", "what is written")


def test_export_writes_a_file_and_no_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def write(checkpoint: object, path: Path, modalities: object) -> tuple[str, ...]:
        assert not path.is_dir()
        path.write_bytes(b"network")
        return ("eda.patches",)

    monkeypatch.setattr(onnx_export, "export_onnx", write)
    monkeypatch.setattr(onnx_export, "check_export", lambda *_: 0.0)
    monkeypatch.setattr(onnx_export, "refuse_without_exporter", lambda: None)
    path = tmp_path / "model.onnx"
    result = run("export", "stress-wrist", "-o", path)
    assert result.exit_code == 0, result.output
    assert path.read_bytes() == b"network"
    assert "exists and is not empty" in str(run("export", "stress-wrist", "-o", path).exception)
    assert run("export", "stress-wrist", "-o", path, "--overwrite").exit_code == 0
    assert "is a folder; name the file" in str(run("export", "stress-wrist", "-o", tmp_path).exception)
