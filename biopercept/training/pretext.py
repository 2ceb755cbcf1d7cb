"""Three tasks that need no labels: rebuild what was hidden, tell hidden patches apart, match one sensor to another.

* ``masked``: patches, stretches and whole sensors are hidden (a sensor with everything computed from it), and
  queries ask for them: within a sensor, and from the other sensors. As BERT and masked autoencoders do.
* ``contrastive``: at hidden places the answer must be nearer to a code of the true patch than to codes of other
  hidden patches of that modality. As wav2vec 2.0, without its codebook; distractors come from the whole batch.
* ``alignment``: the window as one sensor alone tells it must be found among the windows as another sensor alone tells
  them. As CLIP.

References
----------
J. Devlin et al., "BERT", NAACL 2019, doi:10.18653/v1/N19-1423. K. He et al., "Masked autoencoders are scalable vision
learners", CVPR 2022, doi:10.1109/CVPR52688.2022.01553 (hidden tokens are absent, not replaced). A. Baevski et al.,
"wav2vec 2.0", NeurIPS 2020, doi:10.48550/arXiv.2006.11477. A. Radford et al., "Learning Transferable Visual Models From
Natural Language Supervision", ICML 2021, doi:10.48550/arXiv.2103.00020.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from itertools import combinations

import torch
from torch import Tensor, nn

from biopercept.data.batches import in_order
from biopercept.data.windows import IntArray
from biopercept.model.biosignals import BiosignalPerceiver, PerceiverSettings
from biopercept.model.dropout import TokenDropout
from biopercept.model.layers import initialise
from biopercept.model.queries import PatchQueries, queries_of
from biopercept.model.token_inputs import SensorPatches, TokenInputs, TokenVocabulary
from biopercept.model.tokens import TokenSettings, hide_tokens, token_layout
from biopercept.training.objective import contrastive_loss, patch_loss
from biopercept.training.settings import ALIGNMENT, CONTRASTIVE, MASKED, PretrainingSettings

SUMMARY = "summary"
"""Name of the query whose answer stands for a whole window in ``alignment``."""


def pretext_perceiver(
    model: PerceiverSettings, tokens: TokenSettings, vocabulary: TokenVocabulary, objective: str
) -> BiosignalPerceiver:
    """Return a new network that reconstructs patches; for ``alignment`` it summarises windows, too."""
    summary = {SUMMARY: model.width} if objective == ALIGNMENT else {}
    return BiosignalPerceiver(model, tokens, vocabulary, summary, reconstructs=True)


class PretextNetwork(nn.Module):
    """A network with all queries, and the small maps that only pretraining needs.

    Dropouts of tokens in the token settings are not used: the objective hides tokens itself.
    """

    def __init__(
        self,
        model: PerceiverSettings,
        tokens: TokenSettings,
        vocabulary: TokenVocabulary,
        settings: PretrainingSettings,
    ) -> None:
        super().__init__()
        open_tokens = replace(tokens, modality_dropout=0.0, channel_dropout=0.0, time_dropout=0.0, token_dropout=0.0)
        self.settings = settings
        self.network = pretext_perceiver(model, open_tokens, vocabulary, settings.objective)
        read = tokens.lengths_read(vocabulary)
        width = model.width
        if settings.objective == CONTRASTIVE:
            self.projections = nn.ModuleDict({m: nn.Linear(width, width) for m in read})
            self.truths = nn.ModuleDict(
                {m: nn.Sequential(nn.Linear(n, width), nn.GELU(), nn.Linear(width, width)) for m, n in read.items()}
            )
            initialise(self.projections)
            initialise(self.truths)

    def forward(
        self, inputs: TokenInputs, generator: torch.Generator | None = None, parts: Sequence[IntArray] = ()
    ) -> Tensor:
        """Return the objective's loss on a batch of windows, a number; 0 where the batch offers nothing to learn.

        ``parts`` are positions of windows with like sensors, which are encoded together (see ``batches``); none: all.
        What is hidden, asked for and compared is of the whole batch all the same.
        """
        inputs = self.network.fusion.settings.part_read(inputs)
        if self.settings.objective == ALIGNMENT:
            return self._alignment(inputs, generator, parts)
        visible, hidden = self.hide(inputs, generator)
        patches = [self._ask(s, h, generator) for s, h in zip(inputs.sensors, hidden, strict=True) if bool(h.any())]
        if not patches:
            return self._nothing()
        queries, truths = zip(*patches, strict=True)
        latents = self._encode(visible, generator, parts)
        if self.settings.objective == MASKED:
            predicted = self.network.read_out(latents, generator, patches=queries).patches
            losses = [patch_loss(t, v, q.is_asked) for t, v, q in zip(predicted, truths, queries, strict=True)]
        else:
            vectors = [self.network.query_codes.of_patches(q) for q in queries]
            predicted = tuple(self.network.decode(latents, vectors, generator))
            losses = [self._contrast(q, t, v) for q, t, v in zip(queries, predicted, truths, strict=True)]
        return torch.stack(losses).mean()  # every signal weighs the same

    def hide(
        self, inputs: TokenInputs, generator: torch.Generator | None = None
    ) -> tuple[TokenInputs, tuple[Tensor, ...]]:
        """Return the inputs with tokens hidden at random, and which patches (B, C, P) of each signal were."""
        s = self.settings
        chances = TokenDropout(modality=s.sensor_masking, time=s.stretch_masking, token=s.patch_masking)
        visible = hide_tokens(inputs, chances, True, generator)
        return visible, tuple(b.is_real & ~a.is_real for a, b in zip(visible.sensors, inputs.sensors, strict=True))

    def _ask(
        self, sensor: SensorPatches, hidden: Tensor, generator: torch.Generator | None
    ) -> tuple[PatchQueries, Tensor]:
        """Return queries for some hidden patches of each window, and the truth (B, Q, L)."""
        flat = hidden.flatten(1)
        order = torch.rand(flat.shape, device=flat.device, generator=generator).masked_fill(~flat, -1.0)
        places = order.topk(min(self.settings.n_queries, flat.shape[1]), dim=1).indices
        queries = queries_of(sensor, places, flat.gather(1, places))
        patches = sensor.patches.flatten(1, 2)
        return queries, patches.gather(1, places[..., None].expand(-1, -1, patches.shape[-1]))

    def _contrast(self, queries: PatchQueries, predicted: Tensor, truth: Tensor) -> Tensor:
        rows, modality = queries.is_asked, queries.modality
        codes, true_codes = self.projections[modality](predicted[rows]), self.truths[modality](truth[rows])
        return contrastive_loss(codes, true_codes, self.settings.temperature)

    def _encode(self, inputs: TokenInputs, generator: torch.Generator | None, parts: Sequence[IntArray]) -> Tensor:
        if len(parts) < 2:
            return self.network.encode(inputs, generator)
        device = inputs.masks()[0].device

        def encode(part: IntArray) -> Tensor:
            return self.network.encode(inputs.rows(torch.from_numpy(part).to(device)).without_absent(), generator)

        return in_order(parts, encode)

    def _alignment(self, inputs: TokenInputs, generator: torch.Generator | None, parts: Sequence[IntArray]) -> Tensor:
        mask = torch.cat(inputs.masks(), 1)
        layout = token_layout(inputs, mask)
        has = torch.stack([(mask & (layout.sensor == s)).any(1) for s in range(layout.n_sensors)], 1)  # (B, S)
        pairs = [(a, b) for a, b in combinations(range(layout.n_sensors), 2) if int((has[:, a] & has[:, b]).sum()) > 1]
        if not pairs:
            return self._nothing()
        chosen = int(torch.randint(len(pairs), (1,), device=mask.device, generator=generator))
        rows = has[:, pairs[chosen][0]] & has[:, pairs[chosen][1]]
        one, other = (
            self.network.read_out(
                self._encode(inputs.with_mask(mask & (layout.sensor == sensor)), generator, parts), generator
            ).tasks[SUMMARY][rows]
            for sensor in pairs[chosen]
        )
        return contrastive_loss(one, other, self.settings.temperature, both_ways=True)

    def _nothing(self) -> Tensor:
        nothing: Tensor = 0.0 * self.network.core.latents().sum()
        return nothing
