"""Cross-validations as tables and sentences: scores, subjects, classes, sensors, studies, numbers, and how made."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from biopercept.errors import count, the_model
from biopercept.report.text import (
    NOT_DEFINED,
    SPLITS,
    Table,
    duration,
    heading,
    interval_text,
    listed,
    p_value,
    score,
    shown,
    span,
    with_interval,
)
from biopercept.results.cross_validation import (
    CrossValidation,
    ExternalModel,
    NumberScore,
    NumberValidation,
    StudyScore,
)
from biopercept.results.groups import GROUP_WORDS, Groups
from biopercept.results.plan import SettingsPlan, shown_value
from biopercept.results.reading import Estimate
from biopercept.version import INTENDED_USE, NOT_FOR

CHANCE = {"majority": "Chance: majority (accuracy)", "dummy": "Chance: class fractions"}
"""Headings of the chance levels that a cross-validation measures."""
_SCORES = {
    "balanced_accuracy": "Balanced accuracy",
    "macro_f1": "Macro-F1",
    "auroc": "AUROC per subject",
    "mae": "Mean absolute error",
    "ccc": "CCC per subject",
}
N_BINS = 15
"""Bins of the reliability curve, of equal mass."""
_SPLIT_SENTENCES = {
    "subject": "Every subject was held out once and predicted by a model that was fitted on the others only",
    "k-fold": "Subjects were divided into folds, whole, and each fold was predicted by a model that was fitted "
    "on the others only",
    "study": "Every study was held out once and predicted by a model that was fitted on the other studies only",
    "time": "Within each subject, later windows were predicted by a model that was fitted on earlier ones",
    "external": "A saved model predicted everybody here and was not changed",
}
_NORMALISATIONS = {
    "raw": "Inputs were not scaled.",
    "global": "Inputs were scaled with the mean and scale of the training subjects of each fold.",
    "causal": "Inputs were scaled with the mean and scale of the subject's own past up to the end of each "
    "window, never later.",
    "reference": "Inputs were scaled with the first part of each recording as reference; windows in it were not "
    "scored.",
    "recording": "Inputs were scaled with the mean and scale of each whole recording, including the tested subject's: "
    "the scores are transductive.",
}


def score_table(validations: Sequence[CrossValidation]) -> Table:
    """Return a row per cross-validation: scores with 95 % intervals, chance, split and scaling."""
    levels = tuple(dict.fromkeys(name for run in validations for name in run.chance))
    has_mcc = any(run.mcc.mean is not None for run in validations)
    has_few_labels = any(run.labels is not None and run.labels.share < 1 for run in validations)
    rows = [
        {
            "Model": _label(run, validations),
            "Balanced accuracy": estimate(run.balanced_accuracy),
            "Macro-F1": estimate(run.macro_f1),
            "AUROC per subject": estimate(run.auroc),
            "AUROC pooled": score(run.auroc.pooled),
            **({"MCC": estimate(run.mcc)} if has_mcc else {}),
            "Median over subjects": score(run.balanced_accuracy.median),
            "Worst subject": score(run.balanced_accuracy.worst),
            "Subjects below chance": _below_chance(run),
            "Chance: guessing": score(run.chance_level),
            **{CHANCE.get(name, f"Chance: {name}"): score(run.chance.get(name)) for name in levels},
            "Brier score": score(run.brier),
            "Calibration error": score(run.ece),
            "Normalisation": normalisation(run),
            "Split": SPLITS.get(run.split, run.split),
            **({"Labels of training subjects": labels_used(run)} if has_few_labels else {}),
            "Subjects": f"{run.n_subjects:,}",
            "Windows": f"{run.n_windows:,}",
        }
        for run in validations
    ]
    title = "Scores: mean over subjects [95 % bootstrap interval over subjects]"
    return Table.of(title, rows, ("Model", "Normalisation", "Split", "Labels of training subjects"))


def split_words(split: str, n_folds: int) -> str:
    """Return how people were divided, such as "k-fold over subjects, 5 folds"."""
    return f"{SPLITS.get(split, shown(split))}, {count(n_folds, 'fold')}"


def other_split(split: str, n_folds: int, beside: Sequence[CrossValidation | NumberValidation]) -> str:
    """Return how a score was divided and how those beside it were; empty where all were divided alike.

    >>> other_split("k-fold", 5, [])
    ''
    """
    ours, theirs = split_words(split, n_folds), tuple(dict.fromkeys(split_words(r.split, r.n_folds) for r in beside))
    return "" if set(theirs) <= {ours} else f"{ours}; the scores beside it are of {' and '.join(theirs)}"


def _below_chance(run: CrossValidation) -> str:
    n = run.balanced_accuracy.subjects_below_chance
    return NOT_DEFINED if n is None else f"{n} of {run.n_subjects}"


def _label(run: CrossValidation, among: Sequence[CrossValidation]) -> str:
    """Return the model's name, with its folder where two share it, and marked where it is a probe."""
    name = f"{run.model} ({run.name})" if sum(other.model == run.model for other in among) > 1 else run.model
    return f"{name} (probe)" if run.is_probe else name


def labels_used(run: CrossValidation) -> str:
    """Return of how many training subjects per fold the labels were used, such as "3 of 33"."""
    if run.labels is None:
        return NOT_DEFINED
    return f"{span(run.labels.subjects_labelled)} of {span(run.labels.subjects_of_training_side)}"


def labels_of(validations: Sequence[CrossValidation]) -> tuple[str, ...]:
    """Return a name for each cross-validation that no other one has."""
    return tuple(_label(run, validations) for run in validations)


def estimate(score: Estimate) -> str:
    """Return "mean [low, high]" of a score over subjects."""
    return with_interval(score.mean, score.ci95)


def normalisation(run: CrossValidation | NumberValidation) -> str:
    """Return the normalisation, flagged where it is transductive."""
    return f"{run.normalisation} (TRANSDUCTIVE)" if run.is_transductive else run.normalisation


def subject_table(run: CrossValidation) -> Table:
    """Return a row per subject of a cross-validation, the lowest balanced accuracy first."""
    order = sorted(
        run.subjects, key=lambda row: (row.balanced_accuracy is None, row.balanced_accuracy or 0.0, row.participant)
    )
    rows = [
        {
            "Subject": row.participant,
            "Balanced accuracy": score(row.balanced_accuracy),
            "Macro-F1": score(row.macro_f1),
            "AUROC": score(row.auroc),
            "Brier score": score(row.brier),
            "Windows": f"{row.n_windows:,}",
            "Fold": row.fold,
        }
        for row in order
    ]
    return Table.of(f"Scores of {count(len(rows), 'held-out subject')}, lowest first", rows, ("Subject",))


def class_table(run: CrossValidation) -> Table | None:
    """Return a row per class with the scores that the file gives by class; None where it gives none."""
    by_class = run.scores_by_class
    if not by_class:
        return None
    names = tuple(dict.fromkeys(name for row in by_class.values() for name in row))
    rows = tuple((label, *(_plain_number(row.get(name)) for name in names)) for label, row in by_class.items())
    headings = tuple(heading(name) for name in names)
    return Table("Scores by class", ("Class", *headings), rows, (False,) + (True,) * len(names))


def _plain_number(value: float | None) -> str:
    """Return a count as a whole number and a score with three decimals."""
    if value is not None and value > 1 and float(value).is_integer():
        return f"{value:,.0f}"
    return score(value)


def run_table(run: CrossValidation) -> Table:
    """Return what was run: settings that fix the scores, versions and fingerprints."""
    n_operations = run.operations_per_window
    rows = [
        ("Folder", run.name),
        ("Model", run.model),
        ("Task", run.task),
        ("Classes", ", ".join(run.classes)),
        ("Split", split_words(run.split, run.n_folds)),
        ("Normalisation", normalisation(run)),
        *(
            ()
            if run.external is None
            else (
                ("Saved model", run.external.model),
                ("Its weights (SHA-256)", run.external.weights_sha256),
                ("Fitted to", fitted_on_words(run.external)),
            )
        ),
        ("Seeds", str(run.seeds)),
        ("Trained parameters", NOT_DEFINED if run.parameters is None else f"{run.parameters:,}"),
        ("Multiply-adds per window", NOT_DEFINED if n_operations is None else f"{n_operations:,}"),
        ("Wall-clock time", duration(run.seconds)),
        *((f"{name} (fingerprint)" if name == "store" else name, value) for name, value in run.fingerprint.items()),
    ]
    return Table(f"What was run: {run.model}", ("Item", "Value"), tuple(rows), (False, False), is_sortable=False)


_ORIGINS = {"plan": "the plan", "store": "the store", "user": "the user"}


def plan_table(plan: SettingsPlan, models: str) -> Table:
    """Return the settings that follow from the data, with their reasons and whose they are."""
    rows = tuple((line.setting, shown_value(line.value), line.because, _ORIGINS[line.origin]) for line in plan.lines)
    title = f"Settings that follow from the data: {models}"
    return Table(title, ("Setting", "Value", "Because", "Given by"), rows, (False,) * 4)


def sensor_table(run: CrossValidation) -> Table | None:
    """Return the scores with every set of sensors; None where it was not wanted."""
    if not run.sensor_subsets:
        return None
    rows = [
        {
            "Sensors": row.sensors,
            "Subjects": f"{row.balanced_accuracy.n_subjects or 0:,}",
            "Windows": f"{row.n_windows:,}",
            "Balanced accuracy": estimate(row.balanced_accuracy),
            "AUROC": estimate(row.auroc),
            "Against all, paired": "" if row.sensors == "all" else estimate(row.difference),
        }
        for row in run.sensor_subsets
    ]
    sets = count(len(rows), "set")
    title = f"{run.model} with fewer sensors when tested, trained once with all: {sets} of sensors"
    return Table.of(title, rows, ("Sensors",), fold_above=20)


def group_tables(groups: Groups | None) -> tuple[Table, ...]:
    """Return the scores of groups of people, a row per group, and their differences; none where none were asked for."""
    if groups is None:
        return ()
    rows = [
        {
            "Column": column,
            "Group": shown(group),
            "Subjects": f"{scores[0].n_subjects:,}{' (too few to compare)' if is_small else ''}",
            "Windows": f"{scores[0].n_windows:,}",
            **{_upper(GROUP_WORDS.get(s.score, s.score)): with_interval(s.value, s.ci95) for s in scores},
        }
        for (column, group) in dict.fromkeys((s.column, s.group) for s in groups.scores)
        for scores in [[s for s in groups.scores if (s.column, s.group) == (column, group)]]
        for is_small in [scores[0].n_subjects < groups.least_people]
    ]
    meant = "the mean over classes" if groups.positive is None else f"windows wrongly predicted as {groups.positive}"
    title = f"Groups of people in task {groups.task} [95 % bootstrap interval over subjects]; false positives: {meant}"
    if any(s.score == "ece" and below_its_interval(s.value, s.ci95) for s in groups.scores):
        title += "; a calibration error lies below its interval where drawing people again raises it"
    tables = [Table.of(title, rows, ("Column", "Group"))]
    if groups.differences:
        differences = [
            {
                "Column": d.column,
                "Score": GROUP_WORDS.get(d.score, d.score),
                "First minus second": f"{shown(d.first)} ({d.n_first}) - {shown(d.second)} ({d.n_second})",
                "Difference": with_interval(d.difference, d.ci95),
                "p": score(d.p),
                "p, Holm": score(d.p_holm),
            }
            for d in groups.differences
        ]
        what = f"Differences between groups of {groups.least_people} people and more (permutation of people)"
        tables.append(Table.of(what, differences, ("Column", "Score", "First minus second")))
    return tuple(tables)


def _upper(words: str) -> str:
    return words[:1].upper() + words[1:]


def study_table(model: str, split: str, studies: Mapping[str, StudyScore]) -> Table | None:
    """Return a row per study with its 95 % intervals; None where one store was evaluated."""
    if not studies:
        return None
    names = [name for name in _SCORES if any(getattr(study, name) is not None for study in studies.values())]
    rows = tuple(
        (name, f"{study.n_subjects:,}", *(estimate(getattr(study, score) or Estimate()) for score in names))
        for name, study in studies.items()
    )
    columns = ("Study", "Subjects", *(_SCORES[name] for name in names))
    title = f"{model} by study ({SPLITS.get(split, split)}): {count(len(rows), 'study', 'studies')}"
    return Table(title, columns, rows, (False, *(True,) * (1 + len(names))))


def trust_sentences(run: CrossValidation) -> tuple[str, ...]:
    """Return what the calibration and the prediction sets did, in words; nothing where there were none."""
    sentences = []
    if run.brier_ci95 is not None and run.ece_ci95 is not None:
        sentences.append(
            f"Over all windows the Brier score is {with_interval(run.brier, run.brier_ci95)} and the calibration error "
            f"{with_interval(run.ece, run.ece_ci95)} (95 % bootstrap over subjects)."
        )
        sentences += below_its_interval(run.ece, run.ece_ci95)
    if (calibration := run.calibration) is not None:
        before = calibration.uncalibrated
        sentences.append(
            f"Probabilities were calibrated ({calibration.method}), learnt from {calibration.learnt_from}, never from "
            f"those tested: before it, the Brier score was {score(before.brier)} and the calibration error "
            f"{score(before.ece)}."
        )
    if (sets := run.conformal) is not None:
        sentences.append(
            f"Prediction sets were asked to hold the true class in {sets.target:.0%} of a new person's windows. They "
            f"did in {estimate(sets.coverage)} (mean over {count(run.n_subjects, 'subject')}), with "
            f"{sets.mean_size:.2f} classes each; {sets.answered:.0%} of windows were predicted as one class, "
            f"{score(sets.accuracy_of_answered)} of these rightly, the others abstained. Learnt from "
            f"{sets.learnt_from}."
        )
    return tuple(sentences)


def below_its_interval(error: float | None, ci95: tuple[float, float] | None) -> tuple[str, ...]:
    """Return why a calibration error lies below its own bootstrap interval; nothing where it does not."""
    if error is None or ci95 is None or error >= ci95[0]:
        return ()
    return (
        "The calibration error lies below its interval because drawing people again raises it: what is uneven by "
        "chance in a draw counts as error too. Read the interval as an upper bound, not as one around the value.",
    )


def model_card_table(run: CrossValidation) -> Table:
    """Return a line for each question on a model, answered from its scores; what was not measured says so.

    References
    ----------
    M. Mitchell et al., "Model Cards for Model Reporting", FAT* 2019, doi:10.1145/3287560.3287596.
    """
    made = {name: value for name, value in run.fingerprint.items() if name != "store"}
    rows = {
        "Model": _what(run),
        "Predicts": f"one of {', '.join(map(shown, run.classes))}"
        + (f" for each window of {run.window_seconds:g} s" if run.window_seconds else ""),
        "Inputs scaled": _NORMALISATIONS.get(run.normalisation, shown(run.normalisation)),
        "Fitted to": _fitted(run),
        "Balanced accuracy": _mean_words(run),
        "Guessing": f"{run.chance['dummy']:.3f} by the shares of the classes" if "dummy" in run.chance else "not kept",
        "AUROC": estimate(run.auroc),
        "Without a sensor": _fewer_sensors(run),
        "Groups of people": _groups(run),
        "Probabilities": _probabilities(run),
        "Made with": ", ".join(f"{name} {value}" for name, value in made.items()) or "not stated",
        "Weights": "none kept: a cross-validation scores the networks of its folds (train keeps one, with its own card)"
        if run.external is None
        else f"SHA-256 {run.external.weights_sha256}",
        "Use": INTENDED_USE,
        "Not for": " ".join(NOT_FOR),
        "Not known": "other people, devices, protocols and stressors than those of the study",
        "Warnings": f"{count(len(run.warnings), 'warning')} of this run, among those on top of this page"
        if run.warnings
        else "none",
    }
    return card_table(f"Model card: {run.model}", rows)


def _mean_words(run: CrossValidation) -> str:
    accuracy = run.balanced_accuracy
    how = "95 % bootstrap over subjects" if accuracy.ci95 else "no interval"
    worst = f", worst subject {score(accuracy.worst)}" if run.n_subjects > 1 else ""
    return f"{estimate(accuracy)} (mean over {count(run.n_subjects, 'subject')}, {how}){worst}"


def card_table(title: str, rows: Mapping[str, str]) -> Table:
    """Return questions and their answers as a table, in their order."""
    return Table(title, ("What", "Known"), tuple(rows.items()), (False, False), is_sortable=False)


def _what(run: CrossValidation) -> str:
    size = "" if run.parameters is None else f", {run.parameters:,} trained numbers"
    seeds = "" if run.seeds == 1 else f", probabilities averaged over {run.seeds} seeds"
    return f"{run.model}{size}{seeds}"


def _fitted(run: CrossValidation) -> str:
    if run.external is not None:
        return fitted_on_words(run.external)
    tested = "later windows of the same people" if run.split == "time" else "people it has not seen"
    how = split_words(run.split, run.n_folds)
    return f"{how}: the scores are of one fitted model per fold and seed, tested on {tested}"


def _fewer_sensors(run: CrossValidation) -> str:
    rows = [row for row in run.sensor_subsets if row.sensors.startswith("without ")]
    if not rows:
        return "not measured (cross-validate --missing-sensors)"
    return "; ".join(f"{row.sensors} {_signed(row.difference.mean, row.difference.ci95)}" for row in rows)


def _groups(run: CrossValidation) -> str:
    if run.groups is None:
        return "not compared (cross-validate --by COLUMN)"
    parts = [
        f"{GROUP_WORDS.get(d.score, d.score)} {shown(d.first)} minus {shown(d.second)} "
        f"{_signed(d.difference, d.ci95)} (p, Holm: {p_value(d.p_holm)})"
        for d in run.groups.differences
    ]
    return "; ".join(parts) or "too few people in each group to compare"


def _signed(difference: float | None, ci95: tuple[float, float] | None) -> str:
    return interval_text(difference, ci95, "{:+.3f}")


def _probabilities(run: CrossValidation) -> str:
    how = "not calibrated" if run.calibration is None else f"calibrated ({run.calibration.method})"
    brier, error = with_interval(run.brier, run.brier_ci95), with_interval(run.ece, run.ece_ci95)
    return f"{how}; Brier score {brier}, calibration error {error} over all windows"


def number_table(validations: Sequence[NumberValidation]) -> Table:
    """Return a row per cross-validation of a regression: error and agreement with their 95 % intervals."""
    rows = [
        {
            "Model": f"{run.model} (probe)" if run.is_probe else run.model,
            "Task": f"{run.task}, in units of {run.column}",
            "Mean absolute error": estimate(run.mae),
            "Error, pooled": pooled(run.mae),
            "CCC per subject": estimate(run.ccc),
            "CCC pooled": pooled(run.ccc),
            "R2 per subject": estimate(run.r2),
            "R2 pooled": pooled(run.r2),
            "Worst subject (error)": score(run.mae.worst),
            "Answering the mean (error)": score(run.chance.training_mean_mae),
            "Normalisation": normalisation(run),
            "Split": SPLITS.get(run.split, run.split),
            "Subjects": f"{run.n_subjects:,}",
            "Windows": f"{run.n_windows:,}",
        }
        for run in validations
    ]
    title = "Predicted numbers: mean over subjects [95 % bootstrap interval over subjects]; pooled over all windows"
    return Table.of(title, rows, ("Model", "Task", "Normalisation", "Split"))


def pooled(score: NumberScore) -> str:
    """Return "score [low, high]" over all windows at once."""
    return with_interval(score.pooled, score.pooled_ci95)


def subject_numbers(run: NumberValidation) -> Table:
    """Return a row per held-out subject."""
    rows = tuple(
        (row.participant, str(row.n_windows), score(row.mae), score(row.ccc), score(row.r2), row.fold)
        for row in run.subjects
    )
    subjects = count(len(rows), "held-out subject")
    title = f"{run.model}, {run.task}: {subjects} (error in units of {run.column})"
    return Table(title, ("Subject", "Windows", "MAE", "CCC", "R2", "Fold"), rows, (False, *(True,) * 4, False))


def methods_text(run: CrossValidation) -> tuple[str, ...]:
    """Return sentences that say how the scores were made: windows, split, scaling, early stopping, intervals."""
    n_seeds = run.seeds
    seeds = "" if n_seeds == 1 else f", probabilities averaged over {n_seeds} seeds before scoring"
    return (
        _windows(run),
        f"{_SPLIT_SENTENCES.get(run.split, f'The split was {shown(run.split)}')} "
        f"({count(run.n_folds, 'fold')}{seeds}).",
        _NORMALISATIONS.get(run.normalisation, f"Normalisation: {shown(run.normalisation)}."),
        *_labels(run),
        _stopping(run),
        _intervals(run),
        "Balanced accuracy is the mean of the recalls of the classes that a subject has; AUROC is given per subject "
        "(mean) and pooled over all windows; the Brier score runs from 0 (best) to 1. The confusion matrix and the "
        f"reliability curve are over windows, the curve in up to {N_BINS} bins of equal size; the calibration error is "
        "that of the predicted class.",
        *below_its_interval(run.ece, run.ece_ci95),
    )


def _windows(run: CrossValidation) -> str:
    length, step = run.window_seconds, run.step_seconds
    if length is None:
        durations = sorted(set(run.predictions.duration.tolist()))
        length = durations[0] if len(durations) == 1 else None
    size = "" if length is None else f" of {length:g} s"
    every = "" if step is None else f", one every {step:g} s"
    left = sum(run.n_windows_left_out.values())
    reasons = ", ".join(f"{shown(reason)}: {number:,}" for reason, number in run.n_windows_left_out.items() if number)
    out = f" {count(left, 'window')} were left out ({reasons})." if left else ""
    return (
        f"{count(run.n_windows, 'window')}{size}{every} of {count(run.n_subjects, 'subject')} were scored, each wholly "
        f"inside one labelled segment.{out}"
    )


def _labels(run: CrossValidation) -> tuple[str, ...]:
    """Say whose labels were used, where it is not everybody's."""
    if run.labels is None or run.labels.share == 1:
        return ()
    aside = (
        f"{span(run.labels.subjects_for_early_stopping)} of them for early stopping"
        if run.labels.subjects_for_early_stopping[1]
        else "too few to set any aside, so that training ran to its last epoch"
    )
    return (
        f"In each fold the labels of {span(run.labels.subjects_labelled)} of "
        f"{span(run.labels.subjects_of_training_side)} training subjects were used, drawn at random by identity (label "
        f"share {run.labels.share:g}; {aside}); nothing else was fitted on the others, except pretraining where it was "
        "asked for, which reads signals and no label.",
    )


def _stopping(run: CrossValidation) -> str:
    """Say what early stopping looked at."""
    if run.external is not None:
        return (
            f"Nothing was fitted here: scaling, weights and calibration are those of {the_model(run.external.model)} "
            f"(weights {run.external.weights_sha256[:12]}), fitted to {fitted_on_words(run.external)}."
        )
    looked = (
        "the last of the subject's own earlier windows, never at the later ones, which are scored"
        if run.split == "time"
        else "validation subjects taken from the training subjects, never at the held-out ones"
    )
    return (
        "Everything that is learnt (scaling, weights, when to stop) was learnt inside the training side of a fold: "
        f"early stopping, where a model uses it, looked at {looked}."
    )


def fitted_on_words(external: ExternalModel) -> str:
    """Return "8 subjects of study A and 3 subjects of study B"."""
    return listed([f"{count(part.n_subjects, 'subject')} of study {shown(part.study)}" for part in external.fitted_on])


def _intervals(run: CrossValidation) -> str:
    draws = _setting(run.config, "evaluation", "n_bootstrap")
    times = "" if draws is None else f" ({draws:,.0f} resamples)"
    return (
        "A score is computed within each subject and averaged over subjects; its 95 % interval is a bootstrap over "
        f"subjects{times}, because windows of one person are not independent."
    )


def _setting(config: Mapping[str, object], section: str, name: str) -> float | None:
    """Return a number of the effective settings, or None where it is absent or no number."""
    part = config.get(section)
    value = part.get(name) if isinstance(part, Mapping) else None
    return float(value) if isinstance(value, int | float) and not isinstance(value, bool) else None
