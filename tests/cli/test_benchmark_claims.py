"""``benchmark --fusion`` and ``--claims`` as users call them: pages, resuming, and one sentence for each mistake."""

from __future__ import annotations

import json
from pathlib import Path
from types import ModuleType

import pytest

from biopercept.cli.main import main


def _run(words: list[str]) -> int:
    with pytest.raises(SystemExit) as ended:
        main(words)
    return int(ended.value.code or 0)


def test_fusion_of_two_stores_writes_a_page_for_each_and_goes_on(
    made: ModuleType, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    stores = [made.store(tmp_path / f"{name}.h5", made.study(4, seed=seed)) for seed, name in enumerate("ab")]
    output = tmp_path / "out"
    words = ["benchmark", "--fusion", *map(str, stores), "-o", str(output), "--folds", "2", "--seed", "3"]
    words += ["-c", "general", "--set", "training.n_epochs=1"]
    assert _run(words) == 0
    shown = capsys.readouterr()
    assert shown.out.split() == [str(output / f"fusion-{name}.md") for name in "ab"]
    assert shown.err.count(" done\n") == 4
    page = (output / "fusion-b.md").read_text(encoding="utf-8")
    assert "benchmark --fusion b.h5 -o OUT -c general --set training.n_epochs=1 --folds 2 --seed 3" in page
    assert str(tmp_path) not in page
    assert _run([*words, "--json"]) == 0
    again = capsys.readouterr()
    assert again.err.count(" was done before\n") == 4
    assert json.loads(again.out) == [json.loads((output / f"fusion-{name}.json").read_text()) for name in "ab"]
    assert _run([*words, "--overwrite", "--quiet"]) == 0
    assert capsys.readouterr().err == ""


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (["--fusion", "-o", "new"], "--fusion needs a prepared study"),
        (["--fusion", "a.h5"], "give a folder with --output"),
        (["--claims"], "give a folder with --output"),
        (["a.h5", "-o", "new"], "only --fusion reads a store"),
        (["--fusion", "x/a.h5", "y/a.h5", "-o", "new"], "the same file name"),
        (["--fusion", "a.h5", "-o", "full"], "exists and is not empty"),
        (["--claims", "-o", "full"], "exists and is not empty"),
    ],
)
def test_a_mistake_is_one_sentence_and_exit_code_two(
    words: list[str],
    said: str,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("mine", encoding="utf-8")
    assert _run(["benchmark", *words]) == 2
    shown = capsys.readouterr()
    assert said in shown.err
    assert len(shown.err.strip().splitlines()) == 1
    assert (tmp_path / "full" / "thesis.txt").read_text(encoding="utf-8") == "mine"
