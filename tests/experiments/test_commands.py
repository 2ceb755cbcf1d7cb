"""``python -m experiments`` as people call it from a checkout: pages, resuming, and one sentence for each mistake."""

from __future__ import annotations

import json
from importlib import import_module
from pathlib import Path
from types import ModuleType

import pytest


def _run(words: list[str], monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr("sys.argv", ["experiments", *words])
    with pytest.raises(SystemExit) as ended:
        import_module("experiments.__main__").main()
    return int(ended.value.code or 0)


def test_fusion_of_two_stores_writes_a_page_for_each_and_goes_on(
    made: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    stores = [made.store(tmp_path / f"{name}.h5", made.study(4, seed=seed)) for seed, name in enumerate("ab")]
    output = tmp_path / "out"
    words = ["fusion", *map(str, stores), "-o", str(output), "--folds", "2", "--seed", "3"]
    words += ["-c", "general", "--set", "training.n_epochs=1"]
    assert _run(words, monkeypatch) == 0
    shown = capsys.readouterr()
    assert shown.out.split() == [str(output / f"fusion-{name}.md") for name in "ab"]
    assert shown.err.count(" done\n") == 4
    page = (output / "fusion-b.md").read_text(encoding="utf-8")
    assert "experiments fusion b.h5 -o OUT -c general --set training.n_epochs=1 --folds 2 --seed 3" in page
    assert str(tmp_path) not in page
    assert _run([*words, "--json"], monkeypatch) == 0
    again = capsys.readouterr()
    assert again.err.count(" was done before\n") == 4
    assert json.loads(again.out) == [json.loads((output / f"fusion-{name}.json").read_text()) for name in "ab"]
    assert _run([*words, "--overwrite", "--quiet"], monkeypatch) == 0
    assert capsys.readouterr().err == ""


def test_forecasting_writes_its_page_and_goes_on(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    words = ["forecast", "--quick", "-o", str(tmp_path / "out"), "--json"]
    assert _run(words, monkeypatch) == 0
    found = json.loads(capsys.readouterr().out)
    [row] = found["signals"]
    assert (row["modality"], row["n_subjects"], row["network"] > 0) == ("temp", 4, True)
    page = (tmp_path / "out" / "forecasting.md").read_text(encoding="utf-8")
    assert f"| temp | 10 | {row['network']:.3f} |" in page
    assert _run(words, monkeypatch) == 0
    again = capsys.readouterr()
    assert json.loads(again.out) == found
    assert again.err.count(" was done before\n") == 2


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (["fusion", "x/a.h5", "y/a.h5", "-o", "new"], "the same file name"),
        (["fusion", "a.h5", "-o", "full"], "exists and is not empty"),
        (["claims", "-o", "full"], "exists and is not empty"),
        (["forecast", "-o", "full"], "exists and is not empty"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_two(
    words: list[str],
    sentence: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine", encoding="utf-8")
    assert _run(words, monkeypatch) == 2
    shown = capsys.readouterr()
    assert sentence in shown.err
    assert len(shown.err.strip().splitlines()) == 1
    assert (tmp_path / "full" / "thesis.txt").read_text(encoding="utf-8") == "mine"


@pytest.mark.parametrize("setting", ["evaluation.calibration=temperature", "evaluation.n_folds=3"])
def test_fusion_refuses_a_setting_that_it_does_not_read(
    setting: str,
    made: ModuleType,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = made.store(tmp_path / "a.h5", made.study(4, seed=0))
    assert _run(["fusion", str(store), "-o", str(tmp_path / "out"), "--set", setting], monkeypatch) == 2
    assert setting.partition("=")[0] in capsys.readouterr().err
    assert not (tmp_path / "out").exists()
