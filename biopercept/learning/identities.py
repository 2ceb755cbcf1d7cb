"""What a subject draws by its identity alone: a place that nobody else's coming or going can change."""

from __future__ import annotations

import hashlib
import re

_NUMBERED = re.compile(r"^(?P<before>.*?)(?P<number>[0-9]{1,9})(?P<after>[^0-9]*)$", re.DOTALL)


def identity_rank(subject: str, salt: str) -> str:
    """Return a hash that orders subjects at random but depends on nothing except the subject and the salt."""
    return hashlib.sha256(f"{salt}\0{subject}".encode()).hexdigest()


def identity_place(subject: str, salt: str, n_places: int) -> float:
    """Return where the subject is dealt, from 0 up to but without ``n_places``; its whole part is the place.

    The place of one subject is uniform over the salts. It is a pure function of the arguments. Most studies number
    their subjects (S01, sub-014, Subject7), and there it is dealt by blocks: of ``n_places`` numbers that follow each
    other, from 1 on, each gets another place, in an order that the salt shuffles anew for every block. So the places
    of a study without gaps in its numbers are filled evenly although nobody's place depends on who else is there;
    where numbers are missing, or names have none, places fill as by dice.

    Parameters
    ----------
    subject : str
    salt : str
    n_places : int
        At least 1.

    Examples
    --------
    >>> sorted(int(identity_place(f"S{i:02d}", "salt", 5)) for i in range(1, 11))
    [0, 0, 1, 1, 2, 2, 3, 3, 4, 4]
    """
    within = int(identity_rank(subject, f"within-{salt}")[:13], 16) / 16**13
    numbered = _NUMBERED.match(subject)
    if numbered is None:
        return n_places * within
    block, position = divmod(int(numbered["number"]) - 1, n_places)
    family = f"{numbered['before']}\0{numbered['after']}\0{block}"
    shuffled = sorted(range(n_places), key=lambda place: identity_rank(f"{family}\0{place}", f"place-{salt}"))
    return shuffled[position] + within
