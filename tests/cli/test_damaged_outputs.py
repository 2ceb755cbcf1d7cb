"""Files of ours that were damaged on disk, from outside: each is a sentence or changes nothing; never a bug or unsaid.

Files that a command reads again are damaged by a seed: bytes are flipped, they are cut, emptied, replaced by a folder
or by another file. The suite tries some files and ways; ``DAMAGES=20`` in the environment tries each, so many times.
"""

from __future__ import annotations

import itertools
import os
import random
import shutil
import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pytest

sys.path.append(str(Path(__file__).parents[1]))
from forked_commands import Ended, ForkedCommands
from soak import digest_of

N_DAMAGES = int(os.environ.get("DAMAGES", "0"))
N_CASES = 3
CODES = {0, 1, 2, 4, 74, 75}
SECONDS = 60.0
STAGES = ("baseline", "stroop")
SHORT = (
    "--set training.n_epochs=1 --set training.batch_size=8 --set model.width=8 --set model.n_latents=2 "
    "--set model.n_heads=1 --set model.n_layers=1 --device cpu -q"
)
WINDOWS = "--set windows.length_seconds=20 --set windows.step_seconds=10"
MADE = (
    f"prepare study -o made.h5 {WINDOWS} -q",
    f"train made.h5 -o model {SHORT}",
    "cross-validate made.h5 -o scores --split k-fold --folds 2 --model logistic -q",
    "cross-validate made.h5 -o others --split k-fold --folds 2 --model dummy -q",
    "predict model study -o predictions --device cpu -q",
)
"""Commands whose outputs are damaged, one after the other in one folder."""


@dataclass(frozen=True)
class Target:
    """Files of ours by a pattern, and the commands that read them again; all work in a copy of the folder."""

    pattern: str
    commands: tuple[str, ...]
    is_verified: bool = True


TARGETS = (
    Target(
        "made.h5",
        (
            "cross-validate made.h5 -o out --split k-fold --folds 2 --model logistic -q",
            f"train made.h5 -o out {SHORT}",
            "audit made.h5 -o out -q",
            "report scores --with made.h5 -o out.html -q",
            "evaluate model made.h5 -o out --allow-seen -q",
            MADE[0],
        ),
    ),
    Target("made.log.csv", (MADE[0], "report . -o out.html -q"), is_verified=False),
    Target("made.plan.json", (MADE[0], "report . -o out.html -q")),
    Target("model/*", ("predict model study -o out --device cpu -q", "evaluate model made.h5 -o out --allow-seen -q")),
    Target(
        "scores/**/*",
        (
            "report scores -o out.html -q",
            "compare scores others -o out --resamples 2000 -q",
            "audit made.h5 --model-scores scores -o out -q",
            MADE[2],
        ),
    ),
    Target("predictions/*", ("report predictions -o out.html -q", MADE[4])),
    Target("study/*.*", ("check study", "inspect study", f"prepare study -o out.h5 {WINDOWS} -q"), is_verified=False),
)


def flipped(content: bytes, draw: random.Random, n: int) -> bytes:
    changed = bytearray(content)
    for _ in range(n if content else 0):
        changed[draw.randrange(len(changed))] ^= 1 << draw.randrange(8)
    return bytes(changed)


def digit_changed(content: bytes, draw: random.Random) -> bytes:
    changed, digits = bytearray(content), [i for i, byte in enumerate(content) if chr(byte) in "0123456789"]
    if digits:
        at = draw.choice(digits)
        changed[at] = ord(str((changed[at] - ord("0") + draw.randrange(1, 10)) % 10))
    return bytes(changed)


DAMAGES: dict[str, Callable[[bytes, random.Random], bytes]] = {
    "one bit": lambda content, draw: flipped(content, draw, 1),
    "eight bits": lambda content, draw: flipped(content, draw, 8),
    "a digit": digit_changed,
    "cut": lambda content, draw: content[: draw.randrange(max(1, len(content)))],
    "empty": lambda content, draw: b"",
    "longer": lambda content, draw: content + draw.randbytes(20),
    "noise": lambda content, draw: draw.randbytes(max(1, len(content))),
    "zeros": lambda content, draw: bytes(len(content)),
}


def damage(path: Path, kind: str, draw: random.Random) -> bool:
    """Damage a file; return whether it is another now."""
    content = path.read_bytes()
    if kind == "folder":
        path.unlink()
        path.mkdir()
    elif kind == "gone":
        path.unlink()
    elif kind == "swapped":
        others = [p for p in sorted(path.parent.iterdir()) if p.is_file() and p != path]
        if not others:
            return False
        path.write_bytes(draw.choice(others).read_bytes())
    else:
        path.write_bytes(DAMAGES[kind](content, draw))
    return not path.is_file() or path.read_bytes() != content


KINDS = (*DAMAGES, "folder", "gone", "swapped")


class Damaged:
    """A folder of our outputs, damaged one file at a time."""

    def __init__(self, folder: Path) -> None:
        self.whole, self.place = folder / "whole", folder / "place"
        self.commands = ForkedCommands(folder)
        self._wanted: dict[str, tuple[Ended, dict[str, str]]] = {}
        make_study(self.whole / "study")
        for words in MADE:
            ended = self._run(words, self.whole)
            assert ended == Ended(0, ""), (words, ended)

    def _run(self, words: str, folder: Path) -> Ended:
        """Run a command whose paths lie in a folder."""
        line = [str(folder / word) if (folder / word.partition("/")[0]).exists() else word for word in words.split()]
        for at, word in enumerate(line):
            if line[at - 1] == "-o":
                line[at] = str(folder / word)
        return self.commands.run(line, kill_after=SECONDS)

    def outcome(self, words: str) -> tuple[Ended, dict[str, str]]:
        """Run a command in the folder; return how it ended and what it wrote."""
        ended = self._run(words, self.place)
        output = self.place / words.split()[words.split().index("-o") + 1] if " -o " in words else None
        if output is None or not output.exists() or ended.code not in (0, 1):
            return ended, {}
        written = output.parent / "written"
        written.mkdir()
        output.rename(written / output.name)
        try:
            return ended, digest_of(written)
        except ValueError as fault:  # what was damaged is left as it was
            return ended, {"unreadable": str(fault)}
        finally:
            (written / output.name).rename(output)
            written.rmdir()

    def fresh(self) -> None:
        """Copy the whole folder anew."""
        shutil.rmtree(self.place, ignore_errors=True)
        shutil.copytree(self.whole, self.place)

    def wanted(self, words: str) -> tuple[Ended, dict[str, str]]:
        """Return the outcome of a command where nothing is damaged."""
        if words not in self._wanted:
            self.fresh()
            self._wanted[words] = self.outcome(words)
        return self._wanted[words]

    def fault(self, target: Target, words: str, name: str, kind: str, seed: str) -> str:
        """Return what a command does wrong with a damaged file, in words; nothing where all is well."""
        was, wanted = self.wanted(words)
        self.fresh()
        if not damage(self.place / name, kind, random.Random(f"{name} {kind} {seed}")):
            return ""
        ended, left = self.outcome(words)
        case = f"{words.split()[0]}, {name}, {kind} {seed}: {ended.code}, {ended.words[-400:].strip()!r}"
        if ended.code not in CODES | {was.code} or "Traceback" in ended.words or "of ours" in ended.words:
            return f"BAD {case}"
        if ended.code != was.code and not ended.words.strip() and words.split()[0] != "check":
            return f"MUTE {case}"
        is_seen = kind != "gone" and (kind, name) != ("longer", "made.h5")  # HDF5 reads nothing beyond its end
        if target.is_verified and is_seen and ended == was and ended.code == 0 and left != wanted:
            return f"SILENT {case}, {sorted({name for name, _ in {*left.items()} ^ {*wanted.items()}})}"
        return ""


def make_study(folder: Path) -> None:
    """Write a study of four people with one sensor and two minutes each."""
    folder.mkdir(parents=True)
    events, files = ["participant_id\trecording\tonset\tduration\ttrial_type"], ["participant_id\trecording\tpath"]
    people = [f"S{place}" for place in range(4)]
    for place, person in enumerate(people):
        times = np.arange(4 * 120) / 4
        eda = 3 + place + (times > 60) + 0.05 * np.random.default_rng(place).normal(size=len(times)).cumsum() / 9
        rows = "".join(f"{a},{b:.4f}\n" for a, b in zip(times, eda, strict=True))
        (folder / f"{person}.csv").write_text("time,EDA (uS)\n" + rows)
        files.append(f"{person}\tlab\t{person}.csv")
        events += [f"{person}\tlab\t{60 * k}\t60\t{stage}" for k, stage in enumerate(STAGES)]
    for name, lines in (("participants", ["participant_id", *people]), ("recordings", files), ("events", events)):
        (folder / f"{name}.tsv").write_text("\n".join(lines) + "\n")
    (folder / "study.yaml").write_text(
        "name: made\ntasks:\n  stress: {classes: {rest: [baseline], stress: [stroop]}}\n"
    )


@pytest.fixture(scope="module")
def damaged(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Damaged]:
    made = Damaged(tmp_path_factory.mktemp("damaged"))
    yield made
    made.commands.close()


def cases(whole: Path, target: Target, n: int) -> Iterator[tuple[str, str, str, str]]:
    """Give command, file, kind and seed: of each file and kind so many, or a few of all where ``n`` is 0."""
    paths = sorted(path for path in whole.glob(target.pattern) if path.is_file() and path.suffix != ".svg")
    if not n:
        draw = random.Random(target.pattern)
        for seed, words in enumerate(draw.sample(target.commands, min(N_CASES, len(target.commands)))):
            yield words, str(draw.choice(paths).relative_to(whole)), draw.choice(KINDS), str(seed)
    for path, kind, seed in itertools.product(paths, KINDS, range(n)):
        for words in target.commands:
            yield words, str(path.relative_to(whole)), kind, str(seed)


@pytest.mark.parametrize("target", TARGETS, ids=lambda target: target.pattern)
def test_no_damaged_file_is_a_bug_or_another_result_unsaid(damaged: Damaged, target: Target) -> None:
    faults = [damaged.fault(target, *case) for case in cases(damaged.whole, target, N_DAMAGES)]
    assert not [fault for fault in faults if fault], "\n".join(filter(None, faults))


@pytest.mark.parametrize(
    ("words", "name"),
    [
        ("report scores -o out.html -q", "scores/scores.json"),
        ("compare scores others -o out --resamples 2000 -q", "others/predictions.csv"),
        ("audit made.h5 --model-scores scores -o out -q", "scores/scores.csv"),
        ("report predictions -o out.html -q", "predictions/S2__lab_predictions.tsv"),
    ],
)
def test_a_changed_digit_of_a_result_is_named_and_the_same_command_mends_it(
    damaged: Damaged, words: str, name: str
) -> None:
    damaged.fresh()
    assert damage(damaged.place / name, "a digit", random.Random(0))
    ended, written = damaged.outcome(words)
    assert (ended.code, written) == (2, {}) and f"{name} is not what was written" in ended.words
    of_folder = {words.split()[words.split().index("-o") + 1]: words for words in MADE}
    again, _ = damaged.outcome(f"{of_folder[name.partition('/')[0]]} --overwrite")
    assert again.code == 0 and damaged.outcome(words)[0].code == 0


def test_what_somebody_lays_beside_results_may_change(damaged: Damaged) -> None:
    damaged.fresh()
    (damaged.place / "scores" / "notes.csv").write_text("mine")
    assert damaged.outcome("report scores -o out.html -q")[0].code == 0
    sums = (damaged.place / "scores" / "SHA256SUMS").read_text()
    assert "scores.json" in sums and "notes" not in sums and "folds/" not in sums
