"""Commands are killed at random moments and at each file operation, or their disk fails there, and given again.

``make soak`` runs it; hours at the full count, so it is no part of the suite. Each case is written down as it is done,
and the same command goes on with those that are left. A case is right where

* the command, disturbed, ends with 0 or, where a file could not be written, with 74 and sentences, and
* given again until it ends well, it leaves the same as a run that nobody disturbed (times apart), and no other file;
* with ``--overwrite`` over an earlier result, that one or the new one is there whole at any moment.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import re
import shutil
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
from forked_commands import Ended, ForkedCommands, build_library

from biopercept.files import write_text
from biopercept.resources import sample_study

N_PEOPLE = 4
_WRITE_FAILED, _KILLED = 74, -9
_TIMES = re.compile(r"(seconds|_ms|description_sha256)$")
_TIME_WORDS = re.compile(r"\d[\d.,]* (?:s|min)\b(?: of training)?")
_FAULTS = {
    "write": ("KILL", "ENOSPC", "EIO", "EROFS", "SHORT"),
    "open": ("KILL", "ENOSPC", "EIO", "EROFS"),
    "rename": ("KILL", "ENOSPC", "EIO", "EROFS"),
    "fsync": ("KILL", "EIO"),  # whatever is asked for, the library says EIO
}
"""What fails, and how; a disk that is full stays full."""
_FIRST = 4
_ENDED = ("unbroken", "wrong", "lost")


@dataclass(frozen=True)
class Command:
    """A command that writes ``output``; its words name the folder of what it reads by ``{base}``.

    ``other`` are words with which it writes another result, which is there before and replaced with ``--overwrite``:
    None where it may be half replaced, for it goes on piece by piece.
    """

    name: str
    output: str
    words: str
    other: str | None = None

    def line(self, base: Path, place: Path, *more: str) -> list[str]:
        """Return the words that write below ``place``."""
        return [*self.words.format(base=base).split(), "-o", str(place / self.output), *more]


_SHORT = "--set training.n_epochs=2 --set model.width=16 --set model.n_latents=4 --set model.n_layers=1 --device cpu -q"
COMMANDS = (
    Command("prepare", "made.h5", "prepare {base}/study -q"),
    Command("train", "model", f"train {{base}}/made.h5 {_SHORT}", "--seed 1"),
    Command("predict", "predictions", "predict {base}/model {base}/study --device cpu -q", "--subjects S01"),
    Command("cross-validate", "scores", f"cross-validate {{base}}/made.h5 --split k-fold --folds 2 --seeds 1 {_SHORT}"),
    Command(
        "pretrain",
        "pretrained",
        f"pretrain {{base}}/made.h5 {_SHORT.replace('training', 'pretraining')}",
        "--seed 1",
    ),
    Command("tune", "tuned", "tune {base}/made.h5 --candidates {base}/candidates.yaml --folds 3 -q"),
    Command("features", "features", "features {base}/study -q", "--subjects S01"),
    Command("audit", "audit", "audit {base}/made.h5 -q"),
    Command("report", "report.html", "report {base}/predictions -q", "--title Other"),
    Command("quality", "quality", "quality {base}/study -q"),
    Command("evaluate", "external", "evaluate {base}/model {base}/study --allow-seen --device cpu -q"),
    Command("explain", "explained", "explain {base}/model {base}/study --subjects S01 --device cpu -q"),
    Command("personalise", "personal", f"personalise {{base}}/made.h5 --seeds 1 --folds 2 {_SHORT}"),
)


def prepare_base(base: Path) -> None:
    """Write a small study of one device, its store, a model, predictions, and candidates to choose from."""
    if base.is_dir():
        return
    fresh = base.with_name("base.part")
    shutil.rmtree(fresh, ignore_errors=True)
    fresh.mkdir(parents=True)
    with sample_study() as study:
        shutil.copytree(study, fresh / "study")
    for name in ("participants.tsv", "recordings.tsv", "events.tsv"):
        path = fresh / "study" / name
        head, *rows = path.read_text(encoding="utf-8").splitlines(keepends=True)
        people = sorted({row.split("\t")[0] for row in rows})[:N_PEOPLE]
        kept = [row for row in rows if row.split("\t")[0] in people and "chest" not in row]
        path.write_text("".join([head, *kept]), encoding="utf-8")
    (fresh / "candidates.yaml").write_text("one: {model: logistic}\ntwo: {model: lda}\n", encoding="utf-8")
    commands = ForkedCommands(fresh.parent)
    for command in COMMANDS[:3]:
        ended = commands.run(command.line(fresh, fresh))
        assert ended.code == 0, (command.name, ended)
    commands.close()
    fresh.rename(base)


def digest_of(place: Path) -> dict[str, str]:
    """Return a hash of every file below a folder but the hashes, by name, times within text and JSON apart."""
    found = {}
    for path in sorted(path for path in place.rglob("*") if path.is_file() and path.name != "SHA256SUMS"):
        content = path.read_bytes()
        if path.suffix in (".json", ".jsonl"):
            rows = (
                [json.loads(line) for line in content.splitlines()] if path.suffix == ".jsonl" else json.loads(content)
            )
            content = json.dumps(_untimed(rows), sort_keys=True).encode()
        elif path.suffix in (".md", ".csv"):
            content = _untimed_table(_TIME_WORDS.sub("", content.decode("utf-8")), path.suffix).encode()
        found[str(path.relative_to(place))] = hashlib.sha256(content).hexdigest()
    return found


def _untimed(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _untimed(one) for key, one in value.items() if not _TIMES.search(key) and key != "sha256"}
    return [_untimed(one) for one in value] if isinstance(value, list) else value


def _untimed_table(text: str, suffix: str) -> str:
    """Return a text without the columns of its tables that tell of the run: times, and what was done before."""
    lines, timed = [], set[int]()
    mark = "," if suffix == ".csv" else "|"
    for number, line in enumerate(text.splitlines()):
        cells = line.split(mark)
        if number == 0 or (cells and not lines[-1].startswith(mark) and suffix == ".md"):
            timed = {
                k for k, cell in enumerate(cells) if re.search(r"seconds|\bs\b|^status$", cell, flags=re.IGNORECASE)
            }
        lines.append(mark.join(cell for k, cell in enumerate(cells) if len(cells) == 1 or k not in timed))
    return "\n".join(lines)


@dataclass(frozen=True)
class Case:
    """One disturbance: a kill after ``moment`` seconds, or the ``number``-th operation of a kind fails."""

    command: str
    operation: str
    fault: str
    number: int
    moment: float = 0.0
    is_over: bool = False

    @property
    def name(self) -> str:
        """Return what tells it apart, in words."""
        over = ", over another result" if self.is_over else ""
        return f"{self.command}: {self.operation} {self.number} {self.fault}{over}"


@dataclass(frozen=True)
class Outcome:
    """What became of a case: ``ended`` is one of unbroken, wrong, lost, or not reached (nothing was disturbed)."""

    case: str
    ended: str
    code: int
    words: str = ""


class Soak:
    """The disturbed commands of one folder."""

    def __init__(self, folder: Path, source: Path | None) -> None:
        self.folder, self.base, self._place = folder, folder / "base", folder / "place"
        folder.mkdir(parents=True, exist_ok=True)
        prepare_base(self.base)
        library = None if source is None else build_library(source, folder)
        self.commands = ForkedCommands(folder, library)
        self._log = folder / "faults.log"
        self._wanted: dict[tuple[str, bool], dict[str, str]] = {}
        self.seconds: dict[str, float] = {}

    def straight(self, command: Command, *, is_other: bool = False) -> dict[str, str]:
        """Return what a run that nobody disturbs leaves; how long it took is kept."""
        key = (command.name, is_other)
        if key not in self._wanted:
            place = self.folder / ("other" if is_other else "wanted") / command.name
            whole = place.with_name(f"{command.name}.seconds")
            if not whole.is_file():
                _clear(place)
                more = (command.other or "").split() if is_other else []
                started = time.monotonic()
                ended = self.commands.run(command.line(self.base, place, *more))
                assert ended.code == 0, (command.name, ended)
                whole.write_text(str(time.monotonic() - started), encoding="utf-8")
            self.seconds[command.name] = float(whole.read_text(encoding="utf-8"))
            self._wanted[key] = digest_of(place)
        return self._wanted[key]

    def n_operations(self, command: Command, operation: str, *, is_over: bool) -> int:
        """Return how often a run does an operation that can fail."""
        kept = self.folder / "operations.json"
        counts = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
        key = f"{command.name} {operation} {is_over}"
        if key not in counts:
            self._begin(command, is_over=is_over)
            self._run(command, is_over, {"OP": operation, "N": "0"})
            counts[key] = len(self._logged().splitlines())
            kept.write_text(json.dumps(counts), encoding="utf-8")
        return int(counts[key])

    def outcome(self, command: Command, case: Case) -> Outcome:
        """Disturb a command, look at what is there, give it again, and compare."""
        wanted = self.straight(command)
        self._begin(command, is_over=case.is_over)
        if case.operation == "moment":
            ended = self.commands.run(command.line(self.base, self._place), kill_after=case.moment)
            was_disturbed = ended.code == _KILLED
        else:
            settings = {"OP": case.operation, "N": str(case.number), "ERR": case.fault}
            if case.fault == "ENOSPC":
                settings["STICKY"] = "1"
            ended = self._run(command, case.is_over, settings)
            was_disturbed = " fired" in self._logged()
        if not was_disturbed:
            return Outcome(case.name, "not reached", ended.code, ended.words[-300:])
        if fault := self._fault_of(command, case, ended):
            return Outcome(case.name, "wrong", ended.code, f"{fault}: {ended.words[-300:]}")
        again = ended
        if ended.code != 0:
            again = self.commands.run(command.line(self.base, self._place, *(["--overwrite"] if case.is_over else [])))
        left = digest_of(self._place)
        if left == wanted:  # where all was written before the kill, the command may be refused
            return Outcome(case.name, "unbroken", ended.code, ended.words[-300:])
        differing = sorted({name for name, _ in {*left.items()} ^ {*wanted.items()}})
        how = "lost" if again.code else "wrong"
        words = f"then {again.code} ({again.words[-200:].strip()}); differ: {differing}"
        return Outcome(case.name, how, ended.code, words.replace(f"{self._place}/", ""))  # no path of this machine

    def _begin(self, command: Command, *, is_over: bool) -> None:
        _clear(self._place)
        self._log.unlink(missing_ok=True)
        if is_over:
            self.straight(command, is_other=True)
            shutil.copytree(self.folder / "other" / command.name, self._place, dirs_exist_ok=True)

    def _run(self, command: Command, is_over: bool, settings: dict[str, str]) -> Ended:
        line = command.line(self.base, self._place, *(["--overwrite"] if is_over else []))
        settings = {"PATH": str(self._place), "LOG": str(self._log), **settings}
        return self.commands.run(line, {f"FAULT_{name}": value for name, value in settings.items()})

    def _logged(self) -> str:
        return self._log.read_text(encoding="utf-8", errors="replace") if self._log.is_file() else ""

    def _fault_of(self, command: Command, case: Case, ended: Ended) -> str:
        """Return what is wrong right after the disturbance; nothing where all is well."""
        if "Traceback" in ended.words or "a bug of ours" in ended.words:
            return "no sentence"
        if case.fault not in ("KILL", "-9") and ended.code not in (0, _WRITE_FAILED):
            return f"it ended with {ended.code}"
        if ended.code == _WRITE_FAILED and not ended.words.strip():
            return "it said nothing"
        if case.is_over:
            visible = {name: sha for name, sha in digest_of(self._place).items() if not name.startswith(".")}
            if visible not in (self.straight(command), self.straight(command, is_other=True)):
                return f"neither the old nor the new result is there, but {sorted(visible)}"
        return ""


def cases_of(soak: Soak, command: Command, n_kills: int, most: int, *, has_library: bool) -> Iterator[Case]:
    """Give the cases of a command: kills at random moments, and each operation of each kind, at most so many."""
    soak.straight(command)
    generator = np.random.default_rng(len(command.name))
    moments = [
        Case(command.name, "moment", "-9", number + 1, float(generator.uniform(0, soak.seconds[command.name])))
        for number in range(n_kills)
    ]
    yield from moments
    for is_over in (False, True) if command.other else (False,):
        for operation, faults in _FAULTS.items() if has_library else ():
            count = soak.n_operations(command, operation, is_over=is_over)
            for number, fault in itertools.product(spread(count, most), faults):
                yield Case(command.name, operation, fault, number, is_over=is_over)


def spread(count: int, most: int) -> list[int]:
    """Return 1 to ``count``, or where these are more than ``most`` the first, the last and some evenly between."""
    if count <= most:
        return [*range(1, count + 1)]
    between = np.linspace(_FIRST, count, most - _FIRST + 1).round().astype(int)
    return sorted({*range(1, _FIRST + 1), *between.tolist()})


def run_cases(soak: Soak, chosen: Sequence[Command], given: argparse.Namespace) -> bool:
    """Do the cases that are not done, one of each command in turn; return whether all are, or the time was over."""
    done = {row.case for row in outcomes(soak.folder)}
    ends = time.monotonic() + given.minutes * 60
    kills = {command: given.kills // len(chosen) + (k < given.kills % len(chosen)) for k, command in enumerate(chosen)}
    waiting = [
        (command, cases_of(soak, command, kills[command], given.most, has_library=given.faults is not None))
        for command in chosen
    ]
    while waiting and time.monotonic() < ends:
        for command, cases in [*waiting]:
            case = next((case for case in cases if case.name not in done), None)
            if case is None:
                waiting.remove((command, cases))
                continue
            outcome = soak.outcome(command, case)
            with (soak.folder / "outcomes.jsonl").open("a", encoding="utf-8") as stream:
                stream.write(json.dumps(asdict(outcome)) + "\n")
            if outcome.ended != "unbroken":
                sys.stdout.write(f"{outcome.case}: {outcome.ended} ({outcome.code}) {outcome.words}\n")
                sys.stdout.flush()
            if time.monotonic() >= ends:
                break
    return not waiting


def outcomes(folder: Path) -> list[Outcome]:
    """Return what is written down of the cases that are done."""
    path = folder / "outcomes.jsonl"
    lines = path.read_text(encoding="utf-8").splitlines() if path.is_file() else []
    return [Outcome(**json.loads(line)) for line in lines if line.endswith("}")]


def page_of(rows: Sequence[Outcome], totals: dict[str, int], *, is_all: bool) -> str:
    """Return the page: a row for each command and way to disturb it; ``is_all`` is whether no case is left."""
    counts: dict[tuple[str, str], Counter[str]] = {}
    for row in rows:
        command, _, rest = row.case.partition(": ")
        operation, _, fault = rest.split(",")[0].split(" ")
        how = "kill -9 at a random moment" if operation == "moment" else f"{operation}: {fault}"
        counts.setdefault((command, how + (", over another" if "," in rest else "")), Counter())[row.ended] += 1
    lines = ["| command | disturbed by | cases | equal | wrong | lost |", "|---|---|---:|---:|---:|---:|"]
    for (command, how), count in sorted(counts.items()):
        cells = (sum(count[one] for one in _ENDED), *(count[one] for one in _ENDED))
        lines.append(f"| {command} | {how} | {' | '.join(map(str, cells))} |")
    every = Counter(row.ended for row in rows)
    cells = (sum(every[one] for one in _ENDED), *(every[one] for one in _ENDED))
    lines.append(f"| **all** | | {' | '.join(map(str, cells))} |")
    notes = [f"{every['not reached']} more were over before they could be disturbed."] if every["not reached"] else []
    if not is_all:
        notes.append("These are not all cases: the run was ended, and goes on when it is given again.")
    if totals:
        notes.append(f"File operations of a run: {', '.join(f'{name} {n}' for name, n in totals.items())}.")
    broken = [f"- {row.case}: {row.words}" for row in rows if row.ended in ("wrong", "lost")]
    return "\n".join([_PREFACE, *lines, "", *notes, "", *broken]).rstrip() + "\n"


def _clear(place: Path) -> None:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)


def main() -> None:
    """Disturb the commands, and write a page of what became of them."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folder", type=Path, help="where everything is written; what is there is gone on with")
    parser.add_argument("--kills", type=int, default=200, help="kills at random moments in all (200)")
    parser.add_argument("--faults", type=Path, help="the source (.c) of a library that fails the n-th file operation")
    parser.add_argument("--most", type=int, default=60, help="operations of a kind that are tried at most (60)")
    parser.add_argument("--minutes", type=float, default=float("inf"), help="stop after so long; give it again later")
    parser.add_argument("--command", action="append", choices=[command.name for command in COMMANDS], default=[])
    parser.add_argument("-o", "--output", type=Path, help="a page of the table")
    given = parser.parse_args()
    soak = Soak(given.folder.resolve(), given.faults)
    is_all = run_cases(soak, [one for one in COMMANDS if not given.command or one.name in given.command], given)
    soak.commands.close()
    rows = outcomes(soak.folder)
    if given.output:
        counted = soak.folder / "operations.json"
        counts = json.loads(counted.read_text(encoding="utf-8")) if counted.is_file() else {}
        totals = {key.removesuffix(" False"): count for key, count in counts.items() if key.endswith(" False")}
        write_text(given.output, page_of(rows, totals, is_all=is_all))
    sys.exit(any(row.ended in ("wrong", "lost") for row in rows))


_PREFACE = f"""# Commands that are disturbed

Written by `make soak`; the code is `tests/soak.py`. {N_PEOPLE} people of the sample study, with one device each.
*Equal*: given again, the command leaves the same bytes as a run that nobody disturbed, times apart, and no other file;
where a file could not be written it had ended with 74 and a sentence, and where another result was there, that one or
the new one was there whole. Each command is a fork of a process that has imported everything, so that all moments lie
within its work.
"""

if __name__ == "__main__":
    main()
