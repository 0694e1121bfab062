"""A sweep in one picture: optimization history, learning curves, parallel coordinates, parameter importances."""

import io
import warnings
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import optuna
from optuna.trial import FrozenTrial, TrialState
from PIL import Image

from jaxcv.sweep.ledger import Ledger
from jaxcv.sweep.outcomes import Row, varied

_NAMED = 10
_INCHES = (8.0, 5.0)


def draw(ledger: Ledger, rows: Sequence[Row], metric: str, path: Path, *, unused: Sequence[str] = ()) -> Path:
    """Draw all panels that the trials allow and write them as one PNG; returns its path.

    Args:
        ledger: of the trials.
        rows: rows of the trials, best first.
        metric: name of the compared value.
        path: of the picture.
        unused: hyperparameters that the experiment never uses: they have no importance.

    Returns:
        `path`.
    """
    import matplotlib

    matplotlib.use("agg")  # no display is needed
    from optuna.visualization import matplotlib as plots

    names = [n for n in varied(rows) if sum(n in row.overrides for row in rows) == len(rows)]
    done = [row for row in rows if row.state == "finished"]
    names = [name for name in names if name not in unused]
    shown = _without_fixed(ledger, names)
    panels: list[Callable[[], Any]] = []
    if done:
        panels.append(lambda: plots.plot_optimization_history(shown, target_name=metric))
    panels.append(lambda: _curves(ledger, rows, names, metric))
    if len(done) > 1 and names:
        panels.append(lambda: plots.plot_parallel_coordinate(shown, params=names, target_name=metric))
    if len(done) > 3 and len(names) > 1 and len({row.value for row in done}) > 1:
        evaluator = optuna.importance.FanovaImportanceEvaluator(seed=0)
        panels.append(
            lambda: plots.plot_param_importances(shown, evaluator=evaluator, params=names, target_name=metric)
        )
    pictures = [picture for panel in panels if (picture := _render(panel)) is not None]
    width, height = max(p.width for p in pictures), max(p.height for p in pictures)
    page = Image.new("RGB", (width * min(2, len(pictures)), height * -(-len(pictures) // 2)), "white")
    for i, picture in enumerate(pictures):
        page.paste(picture, (width * (i % 2), height * (i // 2)))
    page.save(path)
    return path


def _render(panel: Callable[[], Any]) -> Image.Image | None:
    """A panel as an image; None if it cannot be drawn for these trials."""
    import matplotlib.pyplot as plt

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # experimental features, layouts
        try:
            axes = panel()
            figure = axes.figure if hasattr(axes, "figure") else axes
            figure.set_size_inches(*_INCHES)
            figure.tight_layout()
            file = io.BytesIO()
            figure.savefig(file, format="png", dpi=100)
        except (ValueError, RuntimeError, ZeroDivisionError):
            return None
        finally:
            plt.close("all")
    return Image.open(file).convert("RGB")


def _without_fixed(ledger: Ledger, names: Sequence[str]) -> optuna.Study:
    """A study of the finished and stopped trials with only the given parameters, those that vary."""
    study = optuna.create_study(direction="maximize" if ledger.maximize else "minimize")
    for trial in ledger.trials():
        if trial.state in (TrialState.COMPLETE, TrialState.PRUNED) and set(names) <= set(trial.params):
            study.add_trial(_only(trial, names))
    return study


def _only(trial: FrozenTrial, names: Sequence[str]) -> FrozenTrial:
    return optuna.create_trial(
        state=trial.state,
        values=trial.values,
        params={name: trial.params[name] for name in names},
        distributions={name: trial.distributions[name] for name in names},
        intermediate_values=trial.intermediate_values,
    )


def _curves(ledger: Ledger, rows: Sequence[Row], names: Sequence[str], metric: str) -> Any:
    """The metric of every trial over its steps, the best trials named."""
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots()
    axes.set(xlabel="step", ylabel=f"test {metric}", title="Every trial")
    trials = {trial.number: trial for trial in ledger.trials()}
    for i, row in reversed(list(enumerate(rows))):
        points = sorted(trials[row.number].intermediate_values.items())
        if points:
            named = i < _NAMED and row.state == "finished"
            label = ", ".join(f"{n}={row.overrides[n]}" for n in names) if named else None
            axes.plot(*zip(*points, strict=True), marker=".", label=label, alpha=1.0 if named else 0.3)
    handles, labels = axes.get_legend_handles_labels()
    if labels:
        axes.legend(handles[::-1], labels[::-1], fontsize="x-small")
    axes.grid(alpha=0.3)
    return figure
