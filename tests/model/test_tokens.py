"""Inputs, vocabulary, settings and training-time hiding."""

from __future__ import annotations

import json
from dataclasses import replace

import pytest
import torch

from biopercept.errors import CheckpointError, SettingsError
from biopercept.modalities import MODALITIES
from biopercept.model.dropout import FEATURE_SOURCES, TokenLayout, drop_tokens, sensors_of
from biopercept.model.encodings import ChannelEncoding, TimeEncoding
from biopercept.model.settings import TokenDropout, TokenSettings
from biopercept.model.token_inputs import FeatureGroup, SensorPatches, TokenInputs, TokenVocabulary
from biopercept.model.tokens import EarlyFusion


def _sensor(modality: str = "eda", b: int = 2, c: int = 1, p: int = 3, length: int = 4) -> SensorPatches:
    return SensorPatches(
        modality,
        torch.arange(b * c * p * length, dtype=torch.float32).view(b, c, p, length),
        torch.ones(b, c, p, dtype=torch.bool),
        torch.arange(p).float().expand(b, p) + 0.5,
        torch.full((b, c, 3), torch.nan),
        torch.zeros(b, c, dtype=torch.int64),
        torch.full((b,), 4.0),
        torch.ones(b, c, p),
    )


def _layout(n_each: int, n_sensors: int, n_samples: int) -> TokenLayout:
    """Return ``n_each`` tokens of each sensor, one a second, one channel each."""
    sensor = torch.arange(n_sensors).repeat_interleave(n_each)
    seconds = (torch.arange(n_each).repeat(n_sensors) + 0.5).expand(n_samples, -1)
    return TokenLayout(n_sensors, n_sensors, sensor, sensor, seconds)


def test_the_vocabulary_survives_json() -> None:
    vocabulary = TokenVocabulary({"eda": 20, "ecg": 128}, {"heart": 12}, 8)
    assert TokenVocabulary.from_json(json.loads(json.dumps(vocabulary.to_json()))) == vocabulary


@pytest.mark.parametrize(
    ("key", "value", "words"),
    [
        ("patch_samples", {"sonar": 4}, "names the modality 'sonar', which this version of biopercept does not know"),
        ("patch_samples", {"eda": 0}, "patch_samples = {'eda': 0}; it must hold whole numbers above 0"),
        ("patch_samples", {"eda": True}, "it must hold whole numbers above 0"),
        ("feature_groups", [3], "feature_groups = .3.; it must hold whole numbers above 0"),
        ("n_channel_codes", 2.5, "n_channel_codes = .*2.5"),
        ("extra", 1, "has the keys .*extra.*; it must have"),
    ],
)
def test_a_damaged_vocabulary_is_refused(key: str, value: object, words: str) -> None:
    held = {**TokenVocabulary({"eda": 20}, {"heart": 12}, 8).to_json(), key: value}
    with pytest.raises(CheckpointError, match=words):
        TokenVocabulary.from_json(held)


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"raw": False, "derived": False, "features": False}, "are all false; one must be true"),
        ({"time_dropout": 1.0}, r"time_dropout is 1\.0; it must be at least 0 and below 1"),
        ({"shape_floor": 0.0}, r"tokens\.shape_floor is 0\.0; it must be a number above 0"),
    ],
)
def test_impossible_settings_are_refused(changes: dict[str, float], words: str) -> None:
    with pytest.raises(SettingsError, match=words):
        TokenSettings(**changes)  # type: ignore[arg-type]


def test_settings_that_leave_nothing_to_read_are_refused() -> None:
    with pytest.raises(SettingsError, match=r"leave nothing to read of the signals \(eda\)"):
        EarlyFusion(8, TokenSettings(raw=False), TokenVocabulary({"eda": 20}, {}, 1))


def test_raw_derived_and_feature_tokens_can_be_switched_off() -> None:
    inputs = TokenInputs(
        (_sensor("eda"), _sensor("tonic", p=5)), (FeatureGroup("eda", torch.ones(2, 3), torch.ones(2, 3) > 0),)
    )
    vocabulary = TokenVocabulary({"eda": 4, "tonic": 4}, {"eda": 3}, 1)
    for changes, n_tokens in (({}, 9), ({"raw": False}, 6), ({"derived": False}, 4), ({"features": False}, 8)):
        tokens, mask = EarlyFusion(8, TokenSettings(**changes), vocabulary).eval()(inputs)
        assert tokens.shape == (2, n_tokens, 8)
        assert mask.shape == (2, n_tokens)


def test_rows_and_shapes_of_inputs() -> None:
    inputs = TokenInputs((_sensor(b=3, c=2),), (FeatureGroup("eda", torch.randn(3, 2), torch.ones(3, 2) > 0),))
    picked = inputs.rows(torch.tensor([2, 0]))
    assert picked.n_samples == 2
    assert torch.equal(picked.sensors[0].patches, inputs.sensors[0].patches[[2, 0]])
    assert torch.equal(picked.features[0].values, inputs.features[0].values[[2, 0]])
    assert inputs.to("cpu").n_samples == 3
    assert TokenInputs().n_samples == 0
    with pytest.raises(
        ValueError, match=r"times of the eda patches have shape \(3, 1\); they must have shape \(3, 3\)"
    ):
        replace(inputs.sensors[0], times=torch.zeros(3, 1))
    with pytest.raises(ValueError, match=r"hold \[2, 3\] samples; they must hold the same number"):
        TokenInputs((_sensor(b=2), _sensor(b=3)))


def test_every_series_and_group_goes_with_its_own_sensor() -> None:
    for modality in (row for row in MODALITIES.values() if len(row.sources) == 1):
        assert sensors_of([(modality.name, "")], [])[0] == modality.sources
    signals = [("bvp", ""), ("heart_rate", ""), ("pulse_amplitude", ""), ("ibi", ""), ("eda", ""), ("phasic", "")]
    assert sensors_of(signals, ["heart", "eda", "motion"]) == (
        ("bvp", "bvp", "bvp", "bvp", "eda", "eda"),
        ("bvp", "eda", "acc"),
    )
    assert sensors_of([("ecg", ""), ("bvp", ""), ("heart_rate", "bvp")], ["heart"]) == (("ecg", "bvp", "bvp"), ("ecg",))
    # With no raw signal among the inputs, the pulse amplitude still tells that there was a pulse sensor.
    assert sensors_of([("heart_rate", ""), ("pulse_amplitude", "")], [])[0] == ("bvp", "bvp")
    assert sensors_of([("spo2", ""), ("hr", "")], [])[0] == ("spo2", "spo2")
    for source in ("hr", ""):  # computed from the oximeter's heart rate: it goes with the oximeter
        signals = [("spo2", ""), ("hr", ""), ("heart_rate", source)]
        assert sensors_of(signals, ["heart"]) == (("spo2", "spo2", "spo2"), ("spo2",))
    assert all(source in MODALITIES for sources in FEATURE_SOURCES.values() for source in sources)


def test_dropped_sensors_are_one_to_all_but_one_each_number_equally_often() -> None:
    layout = _layout(2, 4, 20_000)
    mask = torch.ones(20_000, 8, dtype=torch.bool)
    mask[:5000, 6:] = False  # these have three sensors only
    kept = drop_tokens(mask, layout, TokenDropout(modality=0.6), generator=torch.Generator().manual_seed(0))
    by_sensor = kept.view(-1, 4, 2)
    assert torch.equal(by_sensor[..., 0], by_sensor[..., 1])  # a sensor goes whole
    n_kept = by_sensor[..., 0].sum(1)
    assert not (kept & ~mask).any()
    shares = [(n_kept[5000:] == n).float().mean().item() for n in range(5)]
    assert shares == pytest.approx([0.0, 0.2, 0.2, 0.2, 0.4], abs=0.02)
    shares = [(n_kept[:5000] == n).float().mean().item() for n in range(4)]
    assert shares == pytest.approx([0.0, 0.3, 0.3, 0.4], abs=0.03)


def test_channel_time_and_token_dropout_hide_the_share_they_are_set_to() -> None:
    layout = _layout(20, 3, 4000)
    mask = torch.ones(4000, 60, dtype=torch.bool)
    for name in ("channel", "time", "token"):
        kept = drop_tokens(mask, layout, TokenDropout(**{name: 0.2}), generator=torch.Generator().manual_seed(0))
        assert kept.float().mean().item() == pytest.approx(0.8, abs=0.02), name
    by_time = drop_tokens(mask, layout, TokenDropout(time=0.3), generator=torch.Generator().manual_seed(0)).view(
        -1, 3, 20
    )
    borders = (by_time != by_time.roll(1, -1)).sum(-1)
    assert (borders <= 2).all()  # one stretch, counted round the window's end
    assert not torch.equal(by_time[:, 0], by_time[:, 1])


def test_tokens_without_a_time_are_in_no_stretch() -> None:
    layout = replace(_layout(5, 2, 500), seconds=torch.full((500, 10), torch.nan))
    mask = torch.ones(500, 10, dtype=torch.bool)
    assert drop_tokens(mask, layout, TokenDropout(time=0.9)).all()


def test_dropout_never_empties_a_sample() -> None:
    generator = torch.Generator().manual_seed(0)
    mask = torch.rand(5000, 8, generator=generator) > 0.8
    chances = TokenDropout(0.9, 0.9, 0.9, 0.9)
    kept = drop_tokens(mask, _layout(2, 4, 5000), chances, generator=generator)
    assert torch.equal(kept.any(1), mask.any(1))
    assert not (kept & ~mask).any()
    assert kept.sum() < 0.9 * mask.sum()


def test_a_whole_sensor_takes_its_series_and_features_along() -> None:
    b = 400
    features = FeatureGroup("eda", torch.randn(b, 2), torch.ones(b, 2) > 0)
    inputs = TokenInputs((_sensor("eda", b), _sensor("tonic", b), _sensor("acc", b)), (features,))
    vocabulary = TokenVocabulary({"eda": 4, "tonic": 4, "acc": 4}, {"eda": 2}, 1)
    settings = TokenSettings(modality_dropout=0.9, channel_dropout=0.0, time_dropout=0.0, token_dropout=0.0)
    fusion = EarlyFusion(8, settings, vocabulary).train()
    mask = fusion(inputs, torch.Generator().manual_seed(0))[1]
    eda, tonic, acc, group = mask[:, 0], mask[:, 3], mask[:, 6], mask[:, 9]
    assert torch.equal(eda, tonic)
    assert torch.equal(eda, group)
    assert (eda | acc).all()
    assert 0.3 < eda.float().mean() < 0.8
    fusion.eval()
    assert fusion(inputs)[1].all()


def test_time_codes_depend_on_seconds_and_are_silent_above_the_nyquist_of_the_patches() -> None:
    torch.manual_seed(0)
    code = TimeEncoding(12, 8, 120.0, 0.5)
    seconds = torch.tensor([[1.0, 2.0, 3.0], [1.0, 2.0, 31.0]])
    fast = code(seconds, torch.tensor([1.0, 1.0]))
    torch.testing.assert_close(fast[0, :2], fast[1, :2])
    assert (fast[0, 2] - fast[1, 2]).abs().max() > 0.01
    slow = code(seconds, torch.tensor([1.0, 0.1]))
    torch.testing.assert_close(slow[0], fast[0])
    assert (slow[1] - fast[1]).abs().max() > 0.01
    audible = code.frequencies <= 0.05
    code.project.weight.data[:, 1:9][:, ~audible] = 99.0
    torch.testing.assert_close(code(seconds, torch.tensor([0.1, 0.1]))[1], slow[1])


def test_an_electrode_has_the_same_code_in_every_montage() -> None:
    torch.manual_seed(0)
    code = ChannelEncoding(12, 4, 5)
    montage = torch.randn(1, 6, 3) * 0.08
    numbers = torch.arange(6)[None] % 5
    full = code(montage, numbers)
    part = code(montage[:, [4, 1]], torch.zeros(1, 2, dtype=torch.int64))
    torch.testing.assert_close(part, full[:, [4, 1]])
    for alone in range(6):
        torch.testing.assert_close(code(montage[:, alone : alone + 1], numbers[:, :1])[:, 0], full[:, alone])
    unknown = code(torch.full((1, 6, 3), torch.nan), numbers)
    torch.testing.assert_close(unknown, code.codes(numbers))


def test_a_modality_has_one_vector_of_a_fixed_vocabulary_whatever_else_is_present() -> None:
    torch.manual_seed(0)
    one, other = TokenVocabulary({"eda": 4, "acc": 4}, {}, 1), TokenVocabulary({"acc": 4, "temp": 4, "eda": 4}, {}, 1)
    fusion, wider = (EarlyFusion(8, TokenSettings(), v).eval() for v in (one, other))  # hides nothing in evaluation
    assert fusion.modality.codes.weight.shape == wider.modality.codes.weight.shape == (len(MODALITIES), 8)
    together = TokenInputs((_sensor("eda"), _sensor("acc")))
    before = fusion(together)[0]
    torch.testing.assert_close(fusion(TokenInputs((_sensor("acc"),)))[0], before[:, 3:])
    fusion.modality.codes.weight.data[list(MODALITIES).index("acc")] += 1.0
    moved = fusion(together)[0] - before
    assert (moved[:, :3] == 0).all()
    torch.testing.assert_close(moved[:, 3:], torch.ones(2, 3, 8))
