"""A ledger in PostgreSQL: a server of the test's own, on loopback."""

import getpass
import os
import shutil
import socket
import subprocess
from pathlib import Path

import pytest
from pretending import QUIET, Pretender, pretended, share_twenty

from jaxcv.errors import UserError
from jaxcv.sweep.engine import work_off


def program(name):
    found = shutil.which(name) or next(iter(sorted(Path("/usr/lib/postgresql").glob(f"*/bin/{name}"))), None)
    if found is None:
        pytest.skip(f"needs a PostgreSQL server: no {name} in PATH or /usr/lib/postgresql")
    return str(found)


@pytest.fixture(scope="module")
def server(tmp_path_factory):
    """URL of a server with an empty data base."""
    pytest.importorskip("psycopg", reason="needs the driver: pip install 'psycopg[binary]'")
    initdb, postgres = program("initdb"), program("postgres")
    folder = tmp_path_factory.mktemp("postgres")
    user = []
    if os.geteuid() == 0:  # the server refuses to be root
        if getpass.getuser() == "root" and (shutil.which("runuser") is None or not has_user("postgres")):
            pytest.skip("needs a PostgreSQL server, which root may not start, and there is no user postgres")
        user = ["runuser", "-u", "postgres", "--"]
        shutil.chown(folder, "postgres")
        for parent in list(folder.parents)[:3]:
            parent.chmod(parent.stat().st_mode | 0o011)
    subprocess.run(
        [*user, initdb, "-D", str(folder / "data"), "-A", "trust", "-U", "sweep"],
        check=True,
        cwd="/",
        stdout=subprocess.DEVNULL,
    )
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = ["-D", str(folder / "data"), "-p", str(port), "-c", "listen_addresses=127.0.0.1"]
    options += ["-k", str(folder / "data"), "-c", "fsync=off"]
    log = open(folder.parent / "postgres.log", "w")  # noqa: SIM115
    process = subprocess.Popen([*user, postgres, *options], cwd="/", stdout=log, stderr=log)
    try:
        for _ in range(200):
            with socket.socket() as probe:
                if probe.connect_ex(("127.0.0.1", port)) == 0:
                    break
            assert process.poll() is None, (folder.parent / "postgres.log").read_text()
            import time

            time.sleep(0.05)
        yield f"postgresql+psycopg://sweep:secret@127.0.0.1:{port}/postgres"
    finally:
        process.terminate()
        process.wait()
        log.close()


def has_user(name):
    import pwd

    try:
        pwd.getpwnam(name)
    except KeyError:
        return False
    return True


def test_two_launchers_share_twenty_trials_on_postgresql(server, tmp_path):
    share_twenty(tmp_path, {"kind": "random", "count": 20, "storage": server})


def test_a_sweep_begun_anew_keeps_the_old_study_under_another_name(server, tmp_path):
    from jaxcv.sweep.storages import move_study_aside

    for expected in (2, 2):
        train = Pretender()
        work = pretended(tmp_path, ["lr=1e-3,1e-2"], train, storage=server)
        work_off(work, QUIET)
        assert len(train.calls) == expected
        move_study_aside(tmp_path, work.ledger.name, server)
        work.ledger.close()


def test_a_server_that_is_not_there_is_said_without_the_password(tmp_path):
    pytest.importorskip("psycopg", reason="needs the driver: pip install 'psycopg[binary]'")
    url = "postgresql+psycopg://sweep:secret@127.0.0.1:9/postgres"
    with pytest.raises(UserError, match="127.0.0.1:9") as error:
        pretended(tmp_path, ["lr=1e-3,1e-2"], Pretender(), storage=url)
    assert "secret" not in str(error.value)
