"""Commands run as a user types them, and settings that several share: each is given those alone that it reads."""

from __future__ import annotations

from collections.abc import Iterable

import pytest

from biopercept.cli.main import main
from biopercept.config.loading import load_config
from biopercept.config.settings import Purpose, unread_sentence

_OPTIONS = ("--pretrain", "--start-from", "--subject", "--fit", "--folds-from", "--events", "--whole")


def run_command(
    capsys: pytest.CaptureFixture[str], *words: object, settings: Iterable[str] = ()
) -> tuple[int, str, str]:
    """Return exit code, stdout and stderr of a command, which is given those of the settings that it reads."""
    with pytest.raises(SystemExit) as leaving:
        main([*map(str, words), *(set_what_is_read(*words, settings=settings) if settings else [])])
    printed = capsys.readouterr()
    assert isinstance(leaving.value.code, int)
    return leaving.value.code, printed.out, printed.err


def purpose_of(*words: object) -> Purpose:
    """Return what a command line is for, without its tasks."""
    text = [str(word) for word in words]
    default = "logistic" if text[0] == "audit" and "--fit" not in text else "perceiver-io"
    model = text[text.index("--model") + 1] if "--model" in text else default
    return Purpose(text[0], model, options=frozenset(text) & frozenset(_OPTIONS))


_NAMED = {
    "--split": "evaluation.split",
    "--normalisation": "normalisation.mode",
    "--objective": "pretraining.objective",
}


def assumed(*words: object) -> list[str]:
    """Return the settings that a command line names by other options, and the split that a command begins from."""
    text = [str(word) for word in words]
    first = ["evaluation.split=k-fold"] if text[0] in ("personalise", "tune") else []
    return first + [f"{setting}={text[text.index(word) + 1]}" for word, setting in _NAMED.items() if word in text]


def set_what_is_read(*words: object, settings: Iterable[str]) -> list[str]:
    """Return ``--set`` words of the settings that this command line reads."""
    texts = list(settings)
    config, purposes = load_config(overrides=[*assumed(*words), *texts]), [purpose_of(*words)]
    read = [text for text in texts if not unread_sentence(text.partition("=")[0], purposes, config)]
    return [word for text in read for word in ("--set", text)]
