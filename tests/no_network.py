"""The command line where no process may open a connection: every attempt is noted in a file, and refused."""

from __future__ import annotations

import os
import sys
from pathlib import Path

FORBIDDEN = ("socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto", "socket.sendmsg")


def refuse(event: str, arguments: tuple[object, ...]) -> None:
    """Refuse what leaves the machine; sockets of the file system, between our own processes, stay."""
    if event in FORBIDDEN and not (
        len(arguments) > 1 and isinstance(arguments[1], (str, bytes)) and "connect" in event
    ):
        with Path(os.environ["ATTEMPTS"]).open("a") as attempts:
            attempts.write(f"{event} {arguments[1:]}\n")
        raise PermissionError(f"{event} is forbidden here")


if "ATTEMPTS" in os.environ:  # in child processes, too: they import this module; and tests alone look at it without
    sys.addaudithook(refuse)

if __name__ == "__main__":
    from biopercept.cli.main import main

    main(sys.argv[1:])
