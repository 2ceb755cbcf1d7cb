"""Run the command line with ``python -m biopercept.cli``."""

from .main import main

if __name__ == "__main__":
    main()
