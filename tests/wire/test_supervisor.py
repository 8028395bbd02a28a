"""The processes of a node: started whole or not at all, restarted when they die, gone when asked."""

import fcntl
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from node.demo.run import demo_site
from node.errors import AlreadyRunningError, ConfigError
from node.process import is_alive, read_ready, roles
from node.settings import Settings, load_settings
from node.supervisor import is_ready, running_pid, start_detached, stop_running
from tests.faults.running import wait_until
from tests.peers.modality import free_port

ROLES = roles(1)


@dataclass
class Place:
    site: Path
    settings: Settings

    @property
    def run(self) -> Path:
        return self.settings.store.path / "run"

    def pids(self) -> dict[str, int]:
        return {role: read_ready(self.run, role).get("pid", 0) for role in ROLES}

    def wait_until_ready(self) -> None:
        wait_until(lambda: is_ready(self.settings), timeout_s=60, what="every role is ready")


def _site(folder: Path) -> Place:
    site = demo_site(folder, pacs_port=1, pacs_ae="NOBODY", ris_port=1)
    return Place(site, load_settings(site / "config.toml", {}))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Place]:
    found = _site(tmp_path_factory.mktemp("node") / "site")
    start_detached(found.site, found.settings)
    yield found
    stop_running(found.settings)


@pytest.mark.parametrize("role", ROLES)
def test_a_role_that_dies_is_started_again(place: Place, role: str) -> None:
    place.wait_until_ready()
    before = place.pids()
    os.kill(before[role], signal.SIGKILL)
    wait_until(lambda: place.pids()[role] not in (0, before[role]), timeout_s=60, what=f"{role} is back")
    after = place.pids()
    assert {name for name in ROLES if after[name] != before[name]} == {role}


def test_a_second_start_on_the_same_store_is_refused_and_disturbs_nothing(place: Place) -> None:
    place.wait_until_ready()
    before = place.pids()
    with pytest.raises(AlreadyRunningError, match="already runs"):
        start_detached(place.site, place.settings)
    command = [sys.executable, "-m", "node.supervisor", "--site", str(place.site)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "already runs" in done.stderr) == (1, True)
    assert place.pids() == before


def test_a_role_started_by_hand_beside_the_node_is_refused(place: Place) -> None:
    place.wait_until_ready()
    command = [sys.executable, "-m", "node.roles", "receiver", "--site", str(place.site), "--parent", str(os.getpid())]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, "already running" in done.stderr) == (1, True)


def test_sigterm_ends_everything_within_its_limit_and_leaves_nothing(place: Place) -> None:
    place.wait_until_ready()
    supervisor, roles = running_pid(place.settings), place.pids()
    assert supervisor is not None
    port = read_ready(place.run, "receiver")["port"]
    assert stop_running(place.settings)
    assert running_pid(place.settings) is None
    assert not [pid for pid in (supervisor, *roles.values()) if is_alive(pid)]
    assert (place.run / "supervisor.lock").read_text() == ""
    with pytest.raises(OSError, match="refused"):
        socket.create_connection(("127.0.0.1", port), timeout=5)
    assert not list((place.settings.store.path / "incoming").iterdir())
    assert not stop_running(place.settings)


def test_a_site_whose_handler_is_broken_does_not_become_ready_and_says_why(tmp_path: Path) -> None:
    broken = _site(tmp_path / "site")
    (broken.site / "handlers" / "chest_xray.py").write_text("this is no python\n", encoding="utf-8")
    with pytest.raises(ConfigError, match=r"(?s)did not become ready.*chest_xray"):
        start_detached(broken.site, broken.settings, timeout_s=20)
    assert running_pid(broken.settings) is None
    assert not any(broken.pids().values())


def test_the_environment_that_was_given_is_the_one_the_node_gets(tmp_path: Path) -> None:
    wrong = _site(tmp_path / "site")
    with pytest.raises(ConfigError, match="WETREAD_NO_SUCH"):
        start_detached(wrong.site, wrong.settings, environment={**os.environ, "WETREAD_NO_SUCH": "1"})


def test_a_store_nobody_holds_is_not_running_whatever_its_lock_file_says(tmp_path: Path) -> None:
    idle = _site(tmp_path / "site")
    assert running_pid(idle.settings) is None
    idle.run.mkdir(parents=True)
    lock = idle.run / "supervisor.lock"
    lock.write_text(str(os.getpid()))  # as a node that was killed leaves it
    assert running_pid(idle.settings) is None
    with lock.open("r+") as another_look:
        fcntl.flock(another_look, fcntl.LOCK_SH)
        assert running_pid(idle.settings) is None  # two looks at once are not a node: nobody is sent a signal
        assert not stop_running(idle.settings)


@pytest.mark.parametrize("role", ROLES)
def test_a_role_whose_supervisor_was_killed_while_it_started_never_begins(tmp_path: Path, role: str) -> None:
    site = demo_site(tmp_path / "site", pacs_port=1, pacs_ae="PACS", ris_port=1)
    settings = load_settings(site / "config.toml", {})
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait(60)
    command = [sys.executable, "-m", "node.roles", role, "--site", str(site), "--parent", str(gone.pid)]
    assert subprocess.run(command, timeout=60, check=False).returncode == -signal.SIGTERM
    assert not (settings.store.path / "run").exists()


def test_a_node_with_two_receivers_is_ready_when_both_are_and_restarts_the_one_that_died(tmp_path: Path) -> None:
    site = demo_site(tmp_path / "site", pacs_port=1, pacs_ae="NOBODY", ris_port=1)
    environment = {"WETREAD_DICOM__PROCESSES": "2", "WETREAD_DICOM__PORT": str(free_port())}
    settings = load_settings(site / "config.toml", environment)
    run = settings.store.path / "run"
    start_detached(site, settings, environment={**os.environ, **environment})
    try:
        before = {role: read_ready(run, role) for role in roles(2)}
        assert all(before.values())
        assert before["receiver"]["port"] == before["receiver-2"]["port"] == settings.dicom.port
        os.kill(before["receiver-2"]["pid"], signal.SIGKILL)
        wait_until(
            lambda: read_ready(run, "receiver-2").get("pid", 0) not in (0, before["receiver-2"]["pid"]),
            timeout_s=60,
            what="receiver-2 is back",
        )
        assert read_ready(run, "receiver") == before["receiver"]
    finally:
        stop_running(settings)
    assert not any(read_ready(run, role) for role in roles(2))
    assert not list((settings.store.path / "incoming").iterdir())
