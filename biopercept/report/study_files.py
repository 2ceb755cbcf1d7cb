"""What lies beside results and says more of them: stores that were scored, tables of participants, given or found."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from biopercept.errors import BioperceptError, StudyError
from biopercept.results.folder import folders_below
from biopercept.results.reading import ResultTable, read_settings, read_table

if TYPE_CHECKING:
    from biopercept.results.cross_validation import CrossValidation
    from biopercept.store.reading import StudyStore

STORE_SUFFIX = ".h5"
PARTICIPANTS = "participants.tsv"
_STUDY = "study.yaml"


@dataclass(frozen=True)
class StudyFiles:
    """Paths of stores, and of tables of participants."""

    stores: tuple[Path, ...] = ()
    participants: tuple[Path, ...] = ()

    def store_of(self, run: CrossValidation) -> StudyStore | None:
        """Return the opened store whose people a cross-validation scored; None where it is not among them."""
        from biopercept.store.reading import open_store

        wanted = run.fingerprint.get("store")
        for path in self.stores if wanted else ():
            try:
                store = open_store(path)
            except BioperceptError:  # of another version, or no store: what was scored is not in it
                continue
            if store.fingerprint() == wanted:
                return store
            store.close()
        return None

    def participants_of(self, run: CrossValidation) -> ResultTable | None:
        """Return the table that has every scored person, of the study of that name where it says its name."""
        people = {subject.participant for subject in run.subjects}
        for path in self.participants:
            name = str(_name_of(path.with_name(_STUDY)))
            if run.study and name and name != run.study:
                continue
            table = read_table(path)
            if table.has("participant_id") and people <= set(table.texts("participant_id")):
                return table
        return None


def study_files(folder: Path, given: Sequence[Path] = ()) -> StudyFiles:
    """Return what lies in a folder of results and up to three levels below, and what is given from elsewhere.

    Each of ``given`` is a store or a folder with a table of participants. Raises StudyError where one is neither.
    """
    stores, participants = [], []
    for path in given:
        if path.is_file() and path.suffix == STORE_SUFFIX:
            stores.append(path)
        elif (path / PARTICIPANTS).is_file():
            participants.append(path / PARTICIPANTS)
        else:
            raise StudyError(
                f"{path} is no store ({STORE_SUFFIX}), no study with {PARTICIPANTS} and no folder of 'explain'; "
                "--with takes one of these"
            )
    for place in folders_below(folder):
        stores += sorted(place.glob(f"*{STORE_SUFFIX}"))
        participants += sorted(_existing([place / PARTICIPANTS]))
    return StudyFiles(tuple(stores), tuple(participants))


def _existing(paths: Iterable[Path]) -> Iterator[Path]:
    return (path for path in paths if path.is_file())


def _name_of(path: Path) -> str:
    """Return the name that a study's settings give it; empty where there are none."""
    try:
        return str(read_settings(path).get("name", "")) if path.is_file() else ""
    except StudyError:
        return ""
