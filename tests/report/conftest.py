"""Fixtures of made result folders."""

from made_results import (
    demo,  # noqa: F401
    finished,  # noqa: F401
    hostile_demo,  # noqa: F401
    hostile_ids,  # noqa: F401
    write_prediction_folder,  # noqa: F401
    write_store_log,  # noqa: F401
    write_validation,  # noqa: F401
)
