"""What the network is like: what becomes a token, and its size; without torch, which ``prepare`` never needs."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING

from biopercept.errors import SettingsError
from biopercept.modalities import MODALITIES
from biopercept.typed_values import ABOVE_0, BELOW_1, at_least, between, refuse_other_than, refuse_outside

if TYPE_CHECKING:
    from biopercept.model.token_inputs import TokenInputs, TokenVocabulary

PATCH_EMBEDDINGS = ("linear", "convolutional")
"""Names that :func:`~biopercept.model.tokens.patch_embedding` knows."""
TIME_CODES = ("fourier", "sinusoidal", "learned")
"""Names that :func:`~biopercept.model.encodings.time_code` knows."""
MOST_LAYERS, MOST_OF_ANYTHING = 1_000, 100_000
"""Beyond these a number of layers, of latents or of units is a slip, and no machine has the memory."""

_GRACE_SECONDS = 1e-3  # lengths of windows are numbers of samples


@dataclass(frozen=True)
class TokenDropout:
    """How much is hidden in training: chances of sensors, channels and tokens, and the mean fraction of time."""

    modality: float = 0.0
    channel: float = 0.0
    time: float = 0.0
    token: float = 0.0


@dataclass(frozen=True)
class TokenSettings:
    """What becomes a token, how it is encoded, and what is hidden in training.

    * ``raw``: patches of measured signals.
    * ``derived``: patches of derived series (heart rate, tonic EDA, ...).
    * ``features``: one token per feature group.
    * ``patch_embedding``: how the samples of a patch become a vector: ``linear`` or ``convolutional`` (see
      ``patch_embedding``).
    * ``time_code``: how time becomes one, of tokens and of queries: ``fourier``, ``sinusoidal`` or ``learned`` (see
      ``encodings``).
    * ``time_bands``: frequencies of the time code (not of the learned one).
    * ``longest_seconds``: period of the slowest wave of the time code, reach of the learned one, and time over which
      latents are spread (``rotary_latents``), seconds: at least the window length.
    * ``highest_hz``: fastest wave of the time code, Hz; half the rate of the shortest patches. A bin of the learned
      code is half its period long.
    * ``position_bands``: frequencies per axis of the electrode code.
    * ``shape_floor``: spread (in normalised units) below which a patch is no longer blown up to unit spread, so that
      noise on a flat segment does not look like signal.
    * ``modality_dropout``: chance that a training sample loses sensors; then 1 to all but one of those it has, each
      number equally likely. A sensor goes with all derived from it: raw, derived series, features.
    * ``channel_dropout``: chance that a channel, a series or a feature token of a training sample is hidden.
    * ``time_dropout``: mean fraction of each sensor's time that is hidden, as one segment, in training.
    * ``token_dropout``: chance that a single token is hidden in training.
    """

    raw: bool = True
    derived: bool = True
    features: bool = True
    patch_embedding: str = "linear"
    time_code: str = "fourier"
    time_bands: int = 16
    longest_seconds: float = 120.0
    highest_hz: float = 0.5
    position_bands: int = 4
    shape_floor: float = 0.1
    modality_dropout: float = 0.3
    channel_dropout: float = 0.15
    time_dropout: float = 0.1
    token_dropout: float = 0.1

    @property
    def dropout(self) -> TokenDropout:
        """Return what is hidden in training."""
        return TokenDropout(self.modality_dropout, self.channel_dropout, self.time_dropout, self.token_dropout)

    def __post_init__(self) -> None:
        if not (self.raw or self.derived or self.features):
            raise SettingsError("tokens.raw, tokens.derived and tokens.features are all false; one must be true")
        refuse_other_than("tokens", self, {"patch_embedding": PATCH_EMBEDDINGS, "time_code": TIME_CODES})
        ranges = {
            BELOW_1: [row.name for row in fields(self) if row.name.endswith("dropout")],
            at_least(1): ("time_bands", "position_bands"),
            ABOVE_0: ("longest_seconds", "highest_hz", "shape_floor"),
        }
        refuse_outside("tokens", self, ranges)

    def reads(self, modality: str) -> bool:
        """Return whether signals of this modality become tokens."""
        return self.derived if MODALITIES[modality].is_derived else self.raw

    def part_read(self, inputs: TokenInputs) -> TokenInputs:
        """Return the signals and feature groups that become tokens."""
        sensors = tuple(sensor for sensor in inputs.sensors if self.reads(sensor.modality))
        return type(inputs)(sensors, inputs.features if self.features else ())

    def lengths_read(self, vocabulary: TokenVocabulary) -> dict[str, int]:
        """Return the samples of a patch of each modality that becomes tokens."""
        return {m: length for m, length in vocabulary.patch_samples.items() if self.reads(m)}

    def require_reach(self, seconds: float) -> None:
        """Refuse times up to ``seconds`` that a learned time code's table does not reach; waves code any time.

        Raises SettingsError naming the two times.
        """
        if self.time_code == "learned" and seconds > self.longest_seconds + _GRACE_SECONDS:
            raise SettingsError(
                f"The learned time code (time_code) has codes up to {self.longest_seconds:g} s, and times up to "
                f"{seconds:g} s are to be coded; set longest_seconds to at least that or choose another time_code."
            )


@dataclass(frozen=True)
class CoreSettings:
    """Shape of a Perceiver IO.

    * ``input_width``, ``query_width``: widths of the input tokens and of the output queries.
    * ``output_width``: width of the decoder's output.
    * ``n_latents``, ``latent_width``: size of the latent array.
    * ``n_blocks``, ``n_layers``: latent blocks, and layers in each.
    * ``share_blocks``: all blocks use one set of weights.
    * ``n_cross_attentions``: blocks, counted from the first, that begin with a cross-attention to the input; Perceiver
      IO has 1.
    * ``share_cross_attentions``: all encoder cross-attentions use one set of weights.
    * ``n_cross_heads``, ``n_self_heads``, ``n_decoder_heads``: heads of the three kinds of attention.
    * ``cross_qk_width``, ``cross_v_width``, ``self_qk_width``, ``self_v_width``, ``decoder_qk_width``,
      ``decoder_v_width``: None: the latent width.
    * ``widening``, ``decoder_widening``: hidden width of the two-layer networks, in multiples of their width.
    * ``decoder_residual``: add the query to what the decoder's attention read.
    * ``rotary_seconds``: time over which the latents are spread for rotary time in their self-attention; None: none
      (see ``encodings``).
    * ``attention_dropout``, ``feedforward_dropout``, ``path_dropout``: chance in training that a token is hidden from a
      query; that an element of a two-layer network's output, or a residual branch of a latent layer (per sample) is
      dropped.
    """

    input_width: int
    query_width: int
    output_width: int
    n_latents: int
    latent_width: int
    n_blocks: int = 1
    n_layers: int = 1
    share_blocks: bool = True
    n_cross_attentions: int = 1
    share_cross_attentions: bool = True
    n_cross_heads: int = 1
    n_self_heads: int = 8
    n_decoder_heads: int = 1
    cross_qk_width: int | None = None
    cross_v_width: int | None = None
    self_qk_width: int | None = None
    self_v_width: int | None = None
    decoder_qk_width: int | None = None
    decoder_v_width: int | None = None
    widening: int = 1
    decoder_widening: int = 1
    decoder_residual: bool = False
    rotary_seconds: float | None = None
    attention_dropout: float = 0.0
    feedforward_dropout: float = 0.0
    path_dropout: float = 0.0


@dataclass(frozen=True)
class PerceiverSettings:
    """Size and regularisation of the network; the defaults suit tens of subjects (about 200 000 parameters).

    * ``width``: width of tokens, queries and latents, of which there are ``n_latents``.
    * ``n_blocks``, ``n_layers``: latent blocks (which share their weights) and transformer layers in each.
    * ``n_cross_attentions``: times the latents read the tokens, one before each of the first blocks, with shared
      weights.
    * ``n_heads``: attention heads everywhere; must divide ``width``.
    * ``widening``: hidden width of the two-layer networks, in multiples of ``width``.
    * ``rotary_latents``: latents are spread over the time that the time code knows (``tokens.longest_seconds``), and
      their self-attention turns with the time between them (see ``encodings``).
    * ``linear_branch``, ``conv_branch``: a linear model of the features, and a late fusion of signals and features by
      convolutions, beside the Perceiver: each is learnt for itself, the output is the mean of all.
    * ``attention_dropout``, ``feedforward_dropout``, ``head_dropout``, ``path_dropout``: chance in training that a
      token is hidden from a latent; that an element of a two-layer network's output, an element of what the output
      layer reads, or a residual branch of a latent layer (per sample) is dropped.
    """

    width: int = 64
    n_latents: int = 24
    n_blocks: int = 1
    n_layers: int = 3
    n_cross_attentions: int = 1
    n_heads: int = 4
    widening: int = 2
    rotary_latents: bool = False
    linear_branch: bool = False
    conv_branch: bool = False
    attention_dropout: float = 0.1
    feedforward_dropout: float = 0.2
    head_dropout: float = 0.2
    path_dropout: float = 0.0

    def __post_init__(self) -> None:
        refuse_out_of_range(self)
        if self.width % self.n_heads:
            raise SettingsError(f"model.n_heads is {self.n_heads}; it must divide model.width ({self.width})")
        if self.rotary_latents:
            refuse_odd_heads(self.width // self.n_heads)

    def core(self, tokens: TokenSettings) -> CoreSettings:
        """Return the shape of the core that these settings stand for."""
        return CoreSettings(
            input_width=self.width,
            query_width=self.width,
            output_width=self.width,
            n_latents=self.n_latents,
            latent_width=self.width,
            n_blocks=self.n_blocks,
            n_layers=self.n_layers,
            n_cross_attentions=self.n_cross_attentions,
            n_cross_heads=self.n_heads,
            n_self_heads=self.n_heads,
            n_decoder_heads=self.n_heads,
            widening=self.widening,
            decoder_widening=self.widening,
            decoder_residual=True,
            rotary_seconds=tokens.longest_seconds if self.rotary_latents else None,
            attention_dropout=self.attention_dropout,
            feedforward_dropout=self.feedforward_dropout,
            path_dropout=self.path_dropout,
        )


def refuse_out_of_range(settings: object) -> None:
    """Check the sizes and dropouts of any settings of a network, a dataclass instance.

    Whole numbers in it count something and must be from 1 to :data:`MOST_OF_ANYTHING`, layers and blocks to
    :data:`MOST_LAYERS`; names that end in ``dropout`` are chances.

    Raises SettingsError naming the setting and its value.
    """
    chances = [name for name in vars(settings) if name.endswith("dropout")]
    counts = [name for name, value in vars(settings).items() if type(value) is int and name not in chances]
    deep = [name for name in counts if name.endswith(("layers", "blocks"))]
    wide = [name for name in counts if name not in deep]
    ranges = {BELOW_1: chances, between(1, MOST_LAYERS): deep, between(1, MOST_OF_ANYTHING): wide}
    refuse_outside("model", settings, ranges)


def refuse_odd_heads(head_width: int) -> None:
    """Refuse to turn heads whose numbers do not come in pairs. Raises SettingsError naming the width."""
    if head_width % 2:
        raise SettingsError(
            f"model.rotary_latents turns the numbers of a head in pairs, and a head is {head_width} wide; "
            "choose a width that is an even multiple of n_heads or switch rotary_latents off."
        )
