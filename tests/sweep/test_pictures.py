"""What the picture of a sweep is drawn from."""

from PIL import Image
from pretending import QUIET, Pretender, pretended

from jaxcv.sweep import outcomes, pictures
from jaxcv.sweep.engine import work_off


def test_every_trial_has_its_curve(tmp_path):
    """Also a trial that was stopped early."""
    import matplotlib.pyplot as plt

    work = pretended(tmp_path, ["lr=1e-3,1e-2,1e-1"], Pretender(), prune="asha")
    work_off(work, QUIET)
    found = outcomes.rows(work.ledger)
    figure = pictures._curves(work.ledger, found, ["lr"], "accuracy")
    lines = {line.get_label(): len(line.get_xdata()) for line in figure.axes[0].lines}
    plt.close(figure)
    assert len(lines) == 3
    assert {f"lr={row.overrides['lr']}" for row in found if row.state == "finished"} <= set(lines)
    assert all(lines[f"lr={row.overrides['lr']}"] == 5 for row in found if row.state == "finished")


def test_a_hyperparameter_that_is_never_used_is_no_input_of_the_importance_plot(tmp_path, monkeypatch):
    asked = []
    monkeypatch.setattr(pictures, "_render", lambda panel: panel() or Image.new("RGB", (8, 8)))
    monkeypatch.setattr(pictures, "_curves", lambda *_: None)
    for plot in ("plot_optimization_history", "plot_parallel_coordinate", "plot_param_importances"):
        monkeypatch.setattr(f"optuna.visualization.matplotlib.{plot}", lambda *_, params=(), **__: asked.append(params))
    work = pretended(tmp_path, ["lr=1e-3,1e-2", "decay=0,1e-3", "seed=0,1"], Pretender())
    work_off(work, QUIET)
    pictures.draw(work.ledger, outcomes.rows(work.ledger), "accuracy", tmp_path / "all.png")
    assert asked == [(), ["lr", "decay", "seed"], ["lr", "decay", "seed"]]
    pictures.draw(work.ledger, outcomes.rows(work.ledger), "accuracy", tmp_path / "used.png", unused=["decay"])
    assert asked[4:] == [["lr", "seed"]] * 2
