"""What the picture of a sweep is drawn from."""

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
