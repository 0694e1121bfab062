"""Rates of verification from scored pairs."""

import numpy as np

from jaxcv.metrics.pair_scores import ScoredPairs

RATES = (1e-1, 1e-2, 1e-3, 1e-4)
TARS = {f"TAR@FAR={rate:g}": rate for rate in RATES}
NAMES = ("EER", "AUC", "accuracy", *TARS)
_FOLDS = 10


def roc(pairs: ScoredPairs) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """False and true accept rates, and thresholds, from the strictest on; scikit-learn's."""
    from sklearn.metrics import roc_curve

    return roc_curve(pairs.same, pairs.score, drop_intermediate=False)


def equal_error_rate(false_accepts: np.ndarray, true_accepts: np.ndarray) -> float:
    """Where the curve crosses that of as many false refusals."""
    gap = false_accepts + true_accepts - 1  # false accepts less false refusals: from -1 to 1
    after = int(np.argmax(gap >= 0))
    before = max(after - 1, 0)
    step = gap[after] - gap[before]
    part = -gap[before] / step if step > 0 else 0.0
    return float(false_accepts[before] + part * (false_accepts[after] - false_accepts[before]))


def fold_accuracy(pairs: ScoredPairs, *, listed: bool) -> float:
    """LFW's accuracy; see `verification`."""
    n = len(pairs.same)
    fold = np.arange(n) * _FOLDS // max(n, 1)
    if not listed:
        fold = fold[np.argsort(np.random.default_rng(0).random(n), kind="stable")]
    accuracies = []
    for number in range(_FOLDS):
        there, rest = fold == number, fold != number
        found = [_rates(pairs.score[part], pairs.same[part]) for part in (rest, there)]
        if any(each is None for each in found):
            continue
        (thresholds, right), _ = found[0], found[1]  # pyright: ignore[reportGeneralTypeIssues]
        accepted = pairs.score[there] >= thresholds[int(np.argmax(right))]
        same = pairs.same[there]
        accuracies.append((accepted[same].mean() + (~accepted[~same]).mean()) / 2)
    return float(np.mean(accuracies)) if accuracies else float("nan")


def _rates(score: np.ndarray, same: np.ndarray) -> tuple[np.ndarray, np.ndarray] | None:
    """Thresholds halfway between scores, and the accuracy at each; None without pairs of both kinds."""
    if not same.any() or same.all():
        return None
    order = np.argsort(-score, kind="stable")
    score, same = score[order], same[order]
    right = np.cumsum(same) / same.sum() + 1 - np.cumsum(~same) / (~same).sum()
    right[:-1][score[1:] == score[:-1]] = -1.0  # of equal scores all are accepted or none
    return (score + np.append(score[1:], score[-1])) / 2, right / 2


def verification_values(pairs: ScoredPairs, *, listed: bool) -> dict[str, float]:
    """All that `verification` picks from, and `same` and `different`, the mean scores of both kinds of pairs."""
    same, different = int(pairs.same.sum()), int((~pairs.same).sum())
    if not same or not different or not np.isfinite(pairs.score).all():
        return dict.fromkeys([*NAMES, "same", "different"], float("nan"))
    false_accepts, true_accepts, _ = roc(pairs)
    values = {
        "EER": equal_error_rate(false_accepts, true_accepts),
        "AUC": float(np.trapezoid(true_accepts, false_accepts)),
        "accuracy": fold_accuracy(pairs, listed=listed),
        "same": float(pairs.score[pairs.same].mean()),
        "different": float(pairs.score[~pairs.same].mean()),
    }
    for name, rate in TARS.items():
        allowed = true_accepts[false_accepts <= rate * (1 + 1e-9)]
        values[name] = float(allowed.max()) if rate * different >= 1 else float("nan")
    return values
