"""Words that the field and other tools use, and what this package calls the same: for "did you mean", nowhere else."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

_MODELS = {
    "bagging": "random forest, rf, forest, extra trees, trees, decision tree",
    "boosting": "gradient boosting, hist gradient boosting, xgboost, xgb, lightgbm, lgbm, catboost, gbm, gbdt",
    "logistic": "logistic regression, logreg, logit, linear, svm, svc, linear svc",
    "lda": "linear discriminant analysis, discriminant, shrinkage lda",
    "ridge": "linear regression, regression, lasso, elastic net, svr",
    "dummy": "chance, constant, baseline, most frequent, majority class",
    "cnn-late-fusion": "cnn, conv, convnet, eegnet, resnet, deep4, shallow",
    "lstm": "rnn, gru, bilstm, recurrent",
    "transformer": "attention, bert, vit",
    "perceiver-io": "network, neural network, nn, deep, mlp",
}
_SPLITS = {
    "subject": "loso, leave one subject out, leave one out, loo, subject wise, subject independent, inter subject, "
    "cross subject, loocv, leave one group out, logo",
    "k-fold": "cv, cross validation, group kfold, grouped, stratified, stratified kfold, stratified group kfold",
    "time": "temporal, chronological, time series, time series split, within subject, subject dependent, intra subject",
    "study": "leave one study out, dataset, leave one dataset out, cross dataset, cross study",
}
_METRICS = {
    "balanced_accuracy": "accuracy, acc, bacc, uar",
    "macro_f1": "f1, f1 score, f score, fscore, f1 macro",
    "auroc": "auc, roc auc, roc, area under curve",
    "mcc": "matthews, phi",
    "brier": "brier score, brier score loss",
    "ece": "calibration error, expected calibration error",
}
_SETTINGS = {
    "n_epochs": "epochs, max epochs, num epochs, iterations",
    "learning_rate": "lr, step size, eta, alpha",
    "batch_size": "batch, bs, minibatch",
    "weight_decay": "l2, wd",
    "patience": "early stopping",
    "validation_fraction": "validation, val split, val size, validation split",
    "n_heads": "heads, num heads, attention heads",
    "n_layers": "layers, depth, num layers",
    "n_latents": "latents, num latents",
    "width": "hidden, hidden size, dim, d model, embedding, embed dim, channels",
    "feedforward_dropout": "dropout",
    "length_seconds": "window, window length, window size, epoch, epoch length, segment length, duration, size",
    "step_seconds": "stride, hop, overlap, shift, window step",
    "powerline_hz": "notch, line noise, mains, line freq, line frequency, mains frequency",
    "n_folds": "folds, splits, n splits, num folds",
    "n_seeds": "seeds, repeats, repetitions, runs",
}
_SCALINGS = {
    "global": "z score, zscore, standard, standardise, standardize, standard scaler, population",
    "recording": "subject, per subject, within subject, per recording, session, participant",
    "raw": "none, off, no",
    "reference": "rest, resting, baseline",
}
_SENSORS = {
    "ecg": "electrocardiogram, ekg, heart",
    "bvp": "photoplethysmogram, plethysmogram, blood volume pulse, pulse wave",
    "eda": "skin conductance, electrodermal, electrodermal activity, scl, scr, sc, galvanic skin response",
    "resp": "breathing, breath, respiratory",
    "emg": "muscle, electromyogram",
    "eeg": "brain, electroencephalogram",
    "eog": "eye, eyes, electrooculogram",
    "temp": "skin temperature, skt, thermometer",
    "acc": "motion, movement, acceleration, accelerometry, imu",
    "hr": "heart rate, pulse rate, bpm",
    "spo2": "oxygen, saturation, oximetry, sao2",
    "ibi": "rr, rri, rr interval, rr intervals, nn, interbeat interval",
}
_COLUMNS = {
    "participant_id": "subject, subject id, participant, id, sub, person",
    "recording": "file, run, record",
    "path": "file, filename, file name",
    "trial_type": "label, event, stimulus, marker, stage",
    "onset": "start, start time, begin, time",
    "duration": "length, seconds",
    "sex": "gender",
    "age": "years",
}
_PARTS_OF_NAMES = {
    "participant": "subject, subject id, participant id, id, sub, person",
    "condition": "label, class, task, stimulus, state",
    "recording": "run, record",
}
_DEVICES = {"cuda": "gpu, nvidia"}
_COMMANDS = {
    "train": "fit, learn, training",
    "predict": "classify, infer, inference, apply, run, detect, score recording",
    "cross-validate": "cv, crossval, cross val score, loso, validation, benchmark models, kfold",
    "evaluate": "test, external, score, generalise, generalize",
    "prepare": "preprocess, preprocessing, process, clean, filter, segment, window, epoch",
    "features": "extract, feature extraction, extract features, hrv, measure, compute",
    "tune": "optimise, optimize, grid search, gridsearch, hyperparameters, search, optuna, sweep",
    "view": "visualise, visualize, plot, show, browse, display, open",
    "check": "validate, verify, lint",
    "import": "load, ingest, convert dataset, bids, download",
    "init": "new, create, start, setup, scaffold",
    "inspect": "info, summary, summarise, summarize, describe, read",
    "personalise": "fine tune, finetune, adapt, calibrate, personalize, transfer",
    "explain": "shap, attribution, interpret, importance, saliency",
    "reconstruct": "impute, interpolate, synthesise, synthesize",
    "deidentify": "anonymise, anonymize, pseudonymise, pseudonymize",
    "correct": "edit, annotate, mark, fix",
    "pretrain": "self supervised, ssl, masked",
    "export": "onnx, convert, deploy",
    "report": "html, summary page, results",
    "models": "zoo, model zoo, pretrained, weights",
    "doctor": "versions, env, environment, system info, about",
    "datasets": "data, data sets, list datasets",
    "config": "settings, presets, preset, configuration",
    "benchmark": "speed, profile, timing",
    "compare": "stats, statistics, significance",
    "audit": "leak, leakage, confounds, bias",
}
_OPTIONS = {
    "--split subject": "loso, leave one subject out, leave one out, loo",
    "--split k-fold": "cv, k fold, kfold, group kfold, k",
    "--split time": "within subject, temporal",
    "--folds": "n splits, n folds, num folds",
    "--set training.n_epochs=N": "epochs, n epochs, max epochs",
    "--set training.learning_rate=X": "lr, learning rate",
    "--set training.batch_size=N": "batch size, batch, bs",
    "--set windows.length_seconds=S": "window, window length, window size, epoch length, length",
    "--set windows.step_seconds=S": "step, stride, overlap, hop",
    "--device cuda": "gpu, cuda",
    "--device cpu": "cpu, no gpu, no cuda",
    "--output": "out, outdir, out dir, output dir, output folder, save, destination, to",
    "--jobs": "workers, n jobs, num workers, threads, processes, parallel, cores",
    "--overwrite": "force, replace, clobber, yes",
    "--seed": "random state, random seed",
    "--seeds": "repeats, n seeds, repetitions",
    "--subjects": "participants, participant, subject, sub, people, participant label",
    "--exclude-subjects": "exclude, exclude participants, skip, without",
    "--model": "classifier, estimator, algorithm, clf, method",
    "--task": "target, label, labels, outcome",
    "--config": "preset, settings, configuration, params",
    "--normalisation": "norm, normalise, normalize, scaling, scaler, standardise, standardize",
    "--start-from": "fine tune, finetune, weights, checkpoint, pretrained, init from, warm start, resume from",
    "--abstain-below": "threshold, min confidence, confidence",
    "--by": "group by, groups, strata, subgroups",
    "--unit": "units",
    "--quiet": "silent, no progress",
    "--reference": "baseline, against",
}


def plain_word(word: str) -> str:
    """Return a word without case and without what stands between its parts.

    >>> plain_word("Random-Forest"), plain_word("n_jobs")
    ('randomforest', 'njobs')
    """
    return "".join(letter for letter in word.casefold() if letter not in "-_ ")


def _by_word(*tables: Mapping[str, str]) -> dict[str, tuple[str, ...]]:
    names: dict[str, list[str]] = {}
    for table in tables:
        for name, words in table.items():
            for word in words.split(","):
                names.setdefault(plain_word(word), []).append(name)
    return {word: tuple(dict.fromkeys(meant)) for word, meant in names.items()}


_NAMES = _by_word(
    _MODELS, _SPLITS, _METRICS, _SETTINGS, _PARTS_OF_NAMES, _COLUMNS, _SCALINGS, _SENSORS, _DEVICES, _COMMANDS
)
_NAMES_OF_OPTIONS = _by_word(_OPTIONS)


def synonym_of(word: str, known: Iterable[str]) -> str:
    """Return which of the known names the field's word means; empty where it means none of them.

    >>> synonym_of("Random-Forest", ["lda", "bagging"]), synonym_of("loso", ["subject"]), synonym_of("loso", ["lda"])
    ('bagging', 'subject', '')
    """
    names = set(known)
    return next((name for name in _NAMES.get(plain_word(word), ()) if name in names), "")


def option_of(word: str, options: Iterable[str]) -> str:
    """Return what is to be typed for an option that other tools have; empty where none of the ``options`` is it.

    >>> option_of("loso", ["--split"]), option_of("epochs", ["--set", "--model"]), option_of("gpu", ["--split"])
    ('--split subject', '--set training.n_epochs=N', '')
    """
    names = set(options)
    return next((typed for typed in _NAMES_OF_OPTIONS.get(plain_word(word), ()) if typed.split()[0] in names), "")
