"""Who has which trial: claims, deaths, adoption, many launchers on one ledger."""

import multiprocessing
import os
import time

import pytest
from pretending import QUIET, RANGES, Pretender, pretended, share_twenty, summary

from jaxcv.errors import UserError
from jaxcv.sweep import owner
from jaxcv.sweep.engine import work_off


class Killed(BaseException):
    """Nothing is cleaned up after it."""


def killed_at(call, step):
    """What a pretended training does when it is killed in its nth call, before the evaluation of a step."""

    def at(calls, reached):
        if len(calls) == call and reached == step:
            raise Killed

    return at


@pytest.mark.parametrize("kind", ["random", "tpe", "cmaes"])
def test_a_killed_search_ends_like_one_that_was_not(tmp_path, kind, monkeypatch):
    if kind == "cmaes":
        pytest.importorskip("cmaes")
    whole = pretended(tmp_path / "whole", RANGES, Pretender(), kind=kind, count=16)
    work_off(whole, QUIET)
    assert len({str(t.params) for t in whole.ledger.trials()}) == 16
    calls = 0
    for call, step in ((1, 2), (3, 4), (1, 18), (9, 6)):
        train = Pretender(killed_at(call, step))
        work = pretended(tmp_path / "killed", RANGES, train, kind=kind, count=16)
        with pytest.raises(Killed):
            work_off(work, QUIET)
        monkeypatch.setattr(owner, "is_alive", lambda holder, heartbeat: False)  # as after its death
        calls += len(train.calls) - 1
    train = Pretender()
    work = pretended(tmp_path / "killed", RANGES, train, kind=kind, count=16)
    work_off(work, QUIET)
    assert summary(work) == summary(whole)
    assert calls + len(train.calls) == 16, "every trial came to its end once"
    taken_up = [t.user_attrs["starts"] for t in work.ledger.trials() if "starts" in t.user_attrs]
    assert sum(map(len, taken_up)) == 4


@pytest.mark.parametrize("place", ["owner", "folder", "params"])
def test_a_kill_between_claim_and_start_loses_nothing(tmp_path, place, monkeypatch):
    """The process dies after it has marked the trial as running, but before it has signed, named or drawn it."""
    whole = pretended(tmp_path / "whole", RANGES, Pretender(), kind="tpe", count=3)
    work_off(whole, QUIET)
    work = pretended(tmp_path / "killed", RANGES, Pretender(), kind="tpe", count=3)
    storage = work.ledger.storage

    def die(*arguments):
        if place == "params" or arguments[1] == place:
            raise Killed
        return original(*arguments)

    method = "set_trial_param" if place == "params" else "set_trial_user_attr"
    original = getattr(storage, method)
    with monkeypatch.context() as patch:
        patch.setattr(storage, method, die)
        with pytest.raises(Killed):
            work.ledger.claim()
    monkeypatch.setattr(owner, "is_alive", lambda holder, heartbeat: False)
    work_off(work, QUIET)
    assert summary(work) == summary(whole)


def test_a_trial_given_back_is_the_next_to_run_and_one_that_is_alive_is_left_alone(tmp_path):
    work = pretended(tmp_path, ["lr=1e-3,1e-2,1e-1"], Pretender())
    first, second = work.ledger.claim(), work.ledger.claim()
    assert (first.number, second.number) == (0, 1) and first.before is None
    work.ledger.give_back(first)
    again = work.ledger.claim()
    assert again.number == 0 and again.overrides == first.overrides
    assert work.ledger.claim().number == 2
    assert work.ledger.claim() is None, "the others live"


def test_a_trial_in_hand_is_not_taken_twice_when_its_owner_dies(tmp_path, monkeypatch):
    work = pretended(tmp_path, ["lr=1e-3,1e-2"], Pretender())
    first = work.ledger.claim()
    monkeypatch.setattr(owner, "is_alive", lambda holder, heartbeat: False)
    assert work.ledger.claim(held={first.id}).number == 1
    assert work.ledger.claim().number == 0


def test_owners(monkeypatch):
    mine = owner.this_process()
    assert owner.is_alive(mine, None)
    process = multiprocessing.get_context("spawn").Process(target=time.sleep, args=(60,))
    process.start()
    try:
        assert process.pid is not None
        theirs = {**mine, "pid": process.pid, "started": owner._started(process.pid)}
        assert owner.is_alive(theirs, None)
        assert not owner.is_alive({**theirs, "started": 0}, None), "another process got its number"
        process.kill()
        while owner._started(process.pid) is not None:
            time.sleep(0.01)
        assert not owner.is_alive(theirs, None), "dead, though not buried"
    finally:
        process.kill()
        process.join()
    elsewhere = {**mine, "namespace": "another machine", "since": time.time() - 1000}
    assert not owner.is_alive(elsewhere, None)
    assert owner.is_alive(elsewhere, time.time() - 10)
    assert not owner.is_alive(elsewhere, time.time() - 100)


def test_two_launchers_share_twenty_trials_on_sqlite(tmp_path):
    share_twenty(tmp_path, {"kind": "random", "count": 20})


def test_two_launchers_share_twenty_trials_on_a_journal(tmp_path):
    share_twenty(tmp_path, {"kind": "tpe", "count": 20, "storage": f"journal:{tmp_path / 'journal.log'}"})


def test_what_is_no_storage_is_refused_by_name(tmp_path):
    for url, part in (("nonsense", "--storage nonsense"), ("sqlite:////no/such/folder/x.db", "/no/such/folder")):
        with pytest.raises(UserError, match=part):
            pretended(tmp_path, ["lr=1e-3,1e-2"], Pretender(), storage=url)


def test_failed_trials_are_run_once_more_when_asked(tmp_path):
    def fails(calls, step):
        if len(calls) == 2:
            raise ValueError("a bad day")

    work = pretended(tmp_path, ["lr=1e-3,1e-2,1e-1"], Pretender(fails))
    work_off(work, QUIET)
    assert [t.state.name for t in work.ledger.trials()] == ["COMPLETE", "FAIL", "COMPLETE"]
    train = Pretender()
    work = pretended(tmp_path, ["lr=1e-3,1e-2,1e-1"], train)
    work_off(work, QUIET)
    assert train.calls == [], "not of itself"
    assert work.ledger.retry_failed() == 1
    work_off(work, QUIET)
    assert [call["lr"] for call in train.calls] == [1e-2]
    assert work.ledger.retry_failed() == 0
    assert os.path.basename(work.ledger.trials()[3].user_attrs["folder"]) == "lr=0.01+steps=18+evaluate_every=2"
