"""A study begun from a folder of files: whose each is, and of what condition, read from its name by a pattern.

A pattern is a file's name with the parts that differ in braces: ``S{participant}_{condition}.csv``. It may name folders
above the file, too (``{participant}/{session}/*.edf``); ``*`` stands for anything.
"""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from biopercept.errors import OutputError, StudyError, listed
from biopercept.files import write_text
from biopercept.loaders.sidecars import without_suffix
from biopercept.studies.datasets.writing import table_text
from biopercept.studies.tables import TABLES, folded, table_in
from biopercept.typed_values import did_you_mean

PARTS = ("participant", "session", "recording", "condition", "device")
"""What braces of a pattern may name; files that differ in ``device`` alone are of one recording."""
_ONLY = "recording"
"""What recordings are called whose names say nothing but whose they are."""
_DEVICE = re.compile(
    r"(acc\w*|arm|bitalino|bvp|chest|device|e4|ear|ecg|eda|eeg|ekg|emg|empatica|finger|garmin|gsr|hand|head|hr|ibi|imu|leg"
    r"|left|muse|openbci|phone|physio|polar|ppg|respiban|resp\w*|right|shimmer|temp\w*|watch|wrist)\d*"
)
"""Sensors, and places of the body where they are."""
_BRACES = re.compile(r"\{([^{}]*)\}|(\*)")
_SEPARATORS = re.compile(r"([-_ ]+)")


@dataclass(frozen=True)
class NamedFile:
    """A file and what its name says; parts that the pattern does not have are empty."""

    path: Path
    participant: str
    session: str = ""
    recording: str = _ONLY
    condition: str = ""


@dataclass(frozen=True)
class Beginning:
    """What the tables of a study will hold, and the files whose names are not as the pattern."""

    pattern: str
    files: tuple[NamedFile, ...]
    others: tuple[Path, ...] = ()

    @property
    def participants(self) -> tuple[str, ...]:
        """Return everybody, in the order of their files."""
        return tuple(dict.fromkeys(file.participant for file in self.files))

    @property
    def conditions(self) -> Counter[str]:
        """Return how many recordings there are of each condition."""
        recordings = {(one.participant, one.session, one.recording, one.condition) for one in self.files}
        return Counter(condition for *_, condition in sorted(recordings) if condition)

    @property
    def n_recordings(self) -> int:
        """Return how many recordings there are: several files may be one."""
        return len({(one.participant, one.session, one.recording) for one in self.files})


def read_names(files: Sequence[Path], pattern: str | None = None) -> Beginning:
    """Return what files are by their names; without a pattern, by one that is guessed.

    Raises StudyError where the pattern cannot be used, or no file is as it says.
    """
    chosen = pattern or guessed_pattern(files)
    expression, depth = _expression(chosen)
    named, others = [], []
    for path in files:
        parts = path.absolute().parts
        above = "/".join(parts[len(parts) - depth : -1])
        name = path.name if "." in chosen.rpartition("/")[2] else without_suffix(path.name)
        match = expression.fullmatch(f"{above}/{name}" if above else name)
        if match is None:
            others.append(path)
            continue
        words = {part: text.strip() for part, text in match.groupdict().items()}
        condition = words.get("condition", "")
        recording = words.get("recording") or condition or _ONLY
        named.append(NamedFile(path, words["participant"], words.get("session", ""), recording, condition))
    if not named:
        raise StudyError(f"no file is called as the pattern {chosen!r} says; the first is {files[0].name}")
    _refuse_two_conditions(named)
    return Beginning(chosen, tuple(named), tuple(others))


def _refuse_two_conditions(files: Sequence[NamedFile]) -> None:
    """Refuse files of one recording that say two conditions."""
    seen: dict[tuple[str, str, str], NamedFile] = {}
    for one in files:
        first = seen.setdefault((one.participant, one.session, one.recording), one)
        if first.condition != one.condition:
            raise StudyError(
                f"{first.path.name} and {one.path.name} would be one recording of two conditions, {first.condition!r} "
                f"and {one.condition!r}; write {{recording}} elsewhere into the pattern, or leave it out"
            )


def _expression(pattern: str) -> tuple[re.Pattern[str], int]:
    """Return a pattern as a regular expression, and of how many parts of a path it speaks."""
    pieces, seen, end = [], set[str](), 0
    for match in _BRACES.finditer(pattern):
        name = match[1]
        pieces.append(re.escape(pattern[end : match.start()]))
        end = match.end()
        if match[2]:
            pieces.append("[^/]*?")
        elif name not in PARTS:
            raise StudyError(
                f"the pattern {pattern!r} names {{{name}}}; allowed are {', '.join(f'{{{one}}}' for one in PARTS)}"
                f"{did_you_mean(name, PARTS)}"
            )
        else:
            pieces.append(f"(?P={name})" if name in seen else f"(?P<{name}>[^/]+?)")
            seen.add(name)
    if stray := re.search("[{}]", _BRACES.sub("", pattern)):
        raise StudyError(f"the pattern {pattern!r} has a {stray[0]} without its other half")
    if "participant" not in seen:
        raise StudyError(f"the pattern {pattern!r} has no {{participant}}: whose a file is must be in its name")
    return re.compile("".join([*pieces, re.escape(pattern[end:])])), pattern.count("/") + 1


def guessed_pattern(files: Sequence[Path]) -> str:
    """Return the pattern that names of files seem to follow; a person must look at it.

    The entities of BIDS are read as such. Else folders that each hold files of their own are people, or the first part
    with a digit that differs between files is; of the other parts that differ, words for sensors and places of the
    body are devices, the next is the condition and what is left the recording.

    >>> guessed_pattern([Path(f"S0{n}_{what}.csv") for n in (1, 2, 3) for what in ("rest", "stress")])
    '{participant}_{condition}'
    >>> guessed_pattern([Path(f"P{n}/{name}.csv") for n in (1, 2, 3) for name in ("ECG", "EDA")])
    '{participant}/{device}'
    """
    stems = [without_suffix(file.name) for file in files]
    if all(re.match(r"sub-[^_]+(_|$)", stem) for stem in stems):
        return _of_entities(stems)
    folders = [file.absolute().parent.name for file in files]
    split = [_SEPARATORS.split(stem) for stem in stems]
    first = "{participant}/" if len(set(folders)) > 1 else ""
    if len({len(parts) for parts in split}) > 1:
        return f"{first}*" if first else "{participant}_*" if all("_" in stem for stem in stems) else "{participant}"
    words, given = [], {"participant"} if first else set[str]()
    columns = list(zip(*split, strict=True))
    people = _people_in(columns, n_files=len(files)) if not first else None
    for place, values in enumerate(columns):
        if place % 2:  # what stands between parts
            words.append(values[0] if len(set(values)) == 1 else "*")
            continue
        name = "participant" if place == people else _name_of_part(values, given)
        given.add(name)
        words.append(f"{{{name}}}" if name in PARTS else name)
    return first + "".join(words)


def _people_in(columns: Sequence[Sequence[str]], n_files: int) -> int:
    """Return the part that is whose a file is: the first that differs and has digits, or that differs at all."""
    differing = [place for place in range(0, len(columns), 2) if len(set(columns[place])) > 1 or n_files == 1]
    with_digits = [place for place in differing if all(re.search(r"\d", value) for value in columns[place])]
    return next(iter([*with_digits, *differing]), 0)


def _name_of_part(values: Sequence[str], given: set[str]) -> str:
    """Return what a part of the names is, or the text itself where it is the same in all."""
    different = {value.casefold() for value in values}
    if len(different) == 1:
        return values[0].replace("{", "*").replace("}", "*")
    if all(_DEVICE.fullmatch(value) for value in different) and "device" not in given:
        return "device"
    for name in ("condition", "recording"):
        if name not in given:
            return name
    return "*"


def _of_entities(stems: Sequence[str]) -> str:
    """Return the pattern of names of BIDS: of entities that differ, sessions and tasks have a meaning."""
    keys = dict.fromkeys(part.partition("-")[0] for part in stems[0].split("_") if "-" in part)
    meanings = {"sub": "participant", "ses": "session", "task": "condition", "run": "recording"}
    return "_".join(f"{key}-{{{meanings[key]}}}" if key in meanings else f"{key}-*" for key in keys) + (
        "" if "-" in stems[0].rpartition("_")[2] else "_*"
    )


def write_beginning(beginning: Beginning, folder: Path, unknown: Mapping[str, str] | None = None) -> tuple[Path, ...]:
    """Write study.yaml, participants.tsv and recordings.tsv, and return them.

    ``unknown`` are channels whose unit or sensor is not known, with the reason: they come into study.yaml as comments.

    Raises OutputError with exit code 2 where one of them is there already: nothing is written then.
    """
    there = [path for name in TABLES if (path := table_in(folder, name)) is not None]
    there += [path for path in (folder / "study.yaml",) if path.exists()]
    if there:
        fault = OutputError(f"{folder} has a study already ({listed(path.name for path in there)}); nothing is written")
        fault.exit_code = 2
        raise fault
    _refuse_twins(beginning.participants)
    root = folder.resolve()
    has_sessions = any(file.session for file in beginning.files)
    rows = [
        {
            "participant_id": file.participant,
            **({"session": file.session or "n/a"} if has_sessions else {}),
            "recording": file.recording,
            "path": _path_text(file.path, root),
            **({"condition": file.condition} if beginning.conditions else {}),
        }
        for file in beginning.files
    ]
    texts = {
        "study.yaml": _definition(beginning, folder.resolve().name, unknown or {}),
        "participants.tsv": table_text([{"participant_id": one} for one in beginning.participants]),
        "recordings.tsv": table_text(rows),
    }
    for name, text in texts.items():
        write_text(folder / name, text)
    return tuple(folder / name for name in texts)


def _refuse_twins(people: Sequence[str]) -> None:
    seen: dict[str, str] = {}
    for one in people:
        if (first := seen.setdefault(folded(one), one)) != one:
            raise StudyError(f"the names give the participants {first!r} and {one!r}, which are the same but for case")


def _path_text(path: Path, root: Path) -> str:
    """Return a path as the table has it: from the study's folder where it lies in it, else whole; links are kept."""
    whole = path.absolute()
    place = whole.parent.resolve() / whole.name
    return (place.relative_to(root) if place.is_relative_to(root) else place).as_posix()


def _definition(beginning: Beginning, name: str, unknown: Mapping[str, str]) -> str:
    lines = [
        f"# Begun by 'biopercept init' from {len(beginning.files)} files named {beginning.pattern}.",
        "# Look through it, then: biopercept check FOLDER",
        f"name: {json.dumps(name, ensure_ascii=False)}",
        "description: ''",
        "licence: ''",
        "",
        "# Columns of participants.tsv beside participant_id are yours (age, sex, site): --by compares groups by them.",
        "# The condition in recordings.tsv is the label of a full recording. Labels of parts stand in events.tsv:",
        "# its columns are participant_id, recording, onset, duration (both in seconds from its start), trial_type.",
        "",
    ]
    classes = [*beginning.conditions]
    if len(classes) > 1:
        lines += ["# What is predicted: each class with its labels; join some, or list others under ignore.", "tasks:"]
        lines += ["  condition:", "    classes:"]
        lines += [f"      {_quoted(one)}: [{_quoted(one)}]" for one in classes]
    else:
        lines += [
            "# What is predicted: each class with its labels, once there are labels.",
            "# tasks:",
            "#   stress:",
            "#     classes:",
            "#       rest: [baseline, relax]",
            "#       stress: [stroop]",
        ]
    lines += ["", "# What the files do not say of their channels, by (a pattern of) the channel's name:"]
    lines += [f"# signals:{'' if unknown else ' {GSR: {modality: eda, unit: uS}}'}"]
    lines += [f"#   {_quoted(label)}: {{modality: , unit: }}  # {why}" for label, why in unknown.items()]
    return "\n".join(lines) + "\n"


def _quoted(text: str) -> str:
    return text if re.fullmatch(r"[A-Za-z_][A-Za-z0-9_]*", text) else json.dumps(text, ensure_ascii=False)
