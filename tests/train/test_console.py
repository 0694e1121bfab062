"""What a terminal shows while a run trains, captured as it is drawn."""

import io

import pytest
from rich.console import Console

from jaxcv.train.clock import Clock
from jaxcv.train.console import Reporter

LONG = "lr=0.0123,weight_decay=0.0005,batch_size=64,seed=3,augmentation=strong[x]"


@pytest.mark.parametrize("name", [LONG, LONG[::-1], "defaults"])
@pytest.mark.parametrize("width", [60, 80, 140])
def test_bar_percent_and_eta_fit(name, width):
    drawn = io.StringIO()
    console = Console(file=drawn, force_terminal=True, width=width, color_system=None, legacy_windows=False)
    reporter = Reporter(console)
    with reporter.training(name, 1_000, 0):
        reporter.step(523, 1_000, {"loss": 12.3456}, 123_456.7, 3_725.0)
        assert reporter._bar is not None
        reporter._bar.refresh()
        (line,) = console.render_lines(reporter._bar.get_renderable(), pad=False)
    text = "".join(segment.text for segment in line)
    assert len(text) <= width and "52%" in text and "ETA 1:02:05" in text and "━━━━━" in text
    assert text.startswith(name[:8])
    assert ("loss 12.3456" in text) == (width > 110)


def test_time_to_go_counts_evaluations(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    clock = Clock(rows=8, steps=100, start=0)
    for seconds, step in ((30.0, 10), (10.0, 20), (30.0, 30)):  # compiling; steps; steps and an evaluation
        now[0] += seconds
        speed, eta = clock.speed_and_eta(step)
    assert speed == pytest.approx(8 * 10 / 30, abs=0.1)
    assert eta == pytest.approx(70 * 40 / 20)


def test_steps_looked_at_together_after_an_evaluation_are_as_fast_as_the_rest(monkeypatch):
    now = [0.0]
    monkeypatch.setattr("time.monotonic", lambda: now[0])
    clock = Clock(rows=8, steps=1000, start=0)
    for time, step in ((30.0, 10), (32.0, 20), (52.0, 120), (52.001, 130), (52.002, 140)):
        now[0] = time
        speed, _ = clock.speed_and_eta(step)
    assert speed == pytest.approx(8 * 120 / 20, abs=0.1)
