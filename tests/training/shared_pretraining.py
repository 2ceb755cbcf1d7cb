"""What torchrun starts for a test: pretraining on a made store by each objective, without dropout."""

from __future__ import annotations

import json
import os
import sys
from dataclasses import replace
from pathlib import Path

from biopercept.data.inputs import WindowInputs
from biopercept.data.normalisation import NormalisationSettings
from biopercept.model.settings import PerceiverSettings, TokenSettings
from biopercept.ranks import Ranks
from biopercept.store.reading import open_store
from biopercept.training.engine import engine_for, group_of
from biopercept.training.pretraining import PretrainingRequest, pretrain, unlabelled_inputs
from biopercept.training.settings import OBJECTIVES, PretrainingSettings

SMALL = PerceiverSettings(
    width=16,
    n_latents=4,
    n_layers=1,
    n_heads=2,
    attention_dropout=0.0,
    feedforward_dropout=0.0,
    path_dropout=0.0,
    head_dropout=0.0,
)
BRIEF = PretrainingSettings(n_epochs=3, batch_size=45, n_queries=4)  # an odd one: the shares are 23 and 22


def losses(store: Path) -> dict[str, list[float]]:
    """Return the loss of each epoch by objective."""
    ranks = Ranks.of(os.environ)
    with group_of(ranks) as group, open_store(store) as study:
        windows: WindowInputs = unlabelled_inputs(
            study.recordings,
            NormalisationSettings(),
            TokenSettings(),
            length_seconds=study.window_length_seconds,
            step_seconds=study.step_seconds,
            feature_names=study.feature_names,
        )
        engine = engine_for("cpu", ranks=ranks)
        request = PretrainingRequest((windows,), TokenSettings(), SMALL, BRIEF, engine, 0, group=group)
        return {
            objective: [
                loss for _, loss in pretrain(replace(request, settings=replace(BRIEF, objective=objective))).history
            ]
            for objective in OBJECTIVES
        }


if __name__ == "__main__":
    computed = losses(Path(sys.argv[1]))
    if Ranks.of(os.environ).is_first:
        Path(sys.argv[2]).write_text(json.dumps(computed))
