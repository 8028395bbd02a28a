"""The rules of the front door, with a clock that is passed in."""

from dataclasses import replace

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st

from node.network.negotiation import CALLING_AE_NOT_RECOGNISED, LIMIT_EXCEEDED
from node.network.pdu import AssociateReject, AssociateRequest
from node.receive.guard import MOST_REPORTS_PER_S, REOPENS_AFTER_S, Guard, Patience, Watermark
from node.settings import DicomSettings, Peer


class Clock:
    """A time that only tests move."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


def guard(settings: DicomSettings | None = None, *, clock: Clock | None = None) -> Guard:
    found = clock or Clock()
    return Guard(settings or DicomSettings(), Watermark(lambda: True, clock=found), clock=found)


def request(calling_ae: str = "CT1") -> AssociateRequest:
    return AssociateRequest("WETREAD", calling_ae, ())


def test_a_deadline_is_not_moved_by_bytes() -> None:
    patience = Patience(10, now=0)
    patience.earn(1_000_000, now=9)
    assert patience.left(9) == 1
    assert patience.left(10.5) < 0


def test_a_peer_that_stops_is_waited_for_no_longer_than_at_first() -> None:
    patience = Patience(10, now=0, bytes_per_s=1000)
    patience.earn(1_000_000_000, now=5)
    assert patience.left(5) == 10
    assert patience.left(15.5) < 0
    patience.restart(20)
    assert patience.left(20) == 10


@given(st.floats(0.01, 5), st.floats(0.1, 0.9))
def test_a_peer_slower_than_the_least_rate_is_cut_off_in_the_end(pause_s: float, share: float) -> None:
    patience, now = Patience(10, now=0, bytes_per_s=1000), 0.0
    while patience.left(now) > 0:
        now += pause_s
        patience.earn(int(share * 1000 * pause_s), now)
        assert now <= 10 / (1 - share) + 2 * pause_s


@given(st.floats(0.01, 5))
def test_a_peer_faster_than_the_least_rate_is_never_cut_off(pause_s: float) -> None:
    patience, now = Patience(10, now=0, bytes_per_s=1000), 0.0
    for _ in range(200):
        now += pause_s
        assert patience.left(now) > 0
        patience.earn(int(1001 * pause_s) + 1, now)


def test_a_full_disk_is_taken_to_be_full_until_there_was_room_for_a_while() -> None:
    clock, room = Clock(), [True]
    watermark = Watermark(lambda: room[0], clock=clock)
    assert watermark.has_room()
    room[0] = False
    assert not watermark.has_room()
    room[0] = True
    assert not watermark.has_room()
    clock.now += REOPENS_AFTER_S - 1
    assert not watermark.has_room()
    room[0] = False
    assert not watermark.has_room()
    room[0] = True
    clock.now += 2
    assert not watermark.has_room()
    clock.now += REOPENS_AFTER_S
    assert watermark.has_room()


def test_places_are_counted_for_all_and_for_each_address() -> None:
    door = guard(DicomSettings(max_associations=3, max_associations_per_address=2))
    assert [door.enter("127.0.0.1") for _ in range(3)] == [None, None, LIMIT_EXCEEDED]
    assert [door.enter("127.0.0.2") for _ in range(2)] == [None, LIMIT_EXCEEDED]
    door.leave("127.0.0.1")
    assert door.enter("127.0.0.2") is None
    for address in ("127.0.0.1", "127.0.0.2", "127.0.0.2"):
        door.leave(address)
    assert [door.enter("127.0.0.1") for _ in range(3)] == [None, None, LIMIT_EXCEEDED]


def test_a_door_that_is_closing_lets_nobody_in() -> None:
    door = guard()
    door.is_closing = True
    assert door.enter("127.0.0.1") is LIMIT_EXCEEDED
    assert door.judge(request(), "127.0.0.1") is LIMIT_EXCEEDED


@pytest.mark.parametrize(
    ("allowed", "address", "calling_ae", "at_the_door", "inside"),
    [
        (Peer("CT1", "192.0.2.7"), "192.0.2.7", "CT1", None, None),
        (Peer("CT1", "192.0.2.7"), "192.0.2.7", "CT2", None, CALLING_AE_NOT_RECOGNISED),
        (Peer("CT1", "192.0.2.7"), "192.0.2.8", "CT1", CALLING_AE_NOT_RECOGNISED, CALLING_AE_NOT_RECOGNISED),
        (Peer("*", "192.0.2.0/24"), "192.0.2.8", "ANY", None, None),
        (Peer("*", "192.0.2.1/24"), "::ffff:192.0.2.8", "ANY", None, None),
        (Peer("*", "192.0.2.0/24"), "2001:db8::1", "ANY", CALLING_AE_NOT_RECOGNISED, CALLING_AE_NOT_RECOGNISED),
        (Peer("*", "2001:db8::/32"), "2001:db8::1%eth0", "ANY", None, None),
        (Peer("CT1", "*"), "203.0.113.9", "CT1", None, None),
    ],
)
def test_peers_are_known_by_ae_title_and_address(
    allowed: Peer,
    address: str,
    calling_ae: str,
    at_the_door: AssociateReject | None,
    inside: AssociateReject | None,
) -> None:
    door = guard(replace(DicomSettings(), allowed_peers=(Peer("OTHER", "198.51.100.1"), allowed)))
    assert door.enter(address) == at_the_door
    assert door.judge(request(calling_ae), address) == inside


def test_a_full_disk_refuses_as_transient() -> None:
    clock = Clock()
    door = Guard(DicomSettings(), Watermark(lambda: False, clock=clock), clock=clock)
    assert door.judge(request(), "127.0.0.1") is LIMIT_EXCEEDED


def test_a_flood_of_refusals_becomes_some_lines_and_a_number() -> None:
    clock = Clock()
    door = guard(DicomSettings(allowed_peers=()), clock=clock)
    with structlog.testing.capture_logs() as lines:
        for _ in range(1000):
            door.enter("127.0.0.1")
        assert len(lines) == MOST_REPORTS_PER_S
        clock.now += 1
        door.enter("127.0.0.1")
    assert lines[MOST_REPORTS_PER_S]["count"] == 1000 - MOST_REPORTS_PER_S
    assert lines[-1]["event"] == "association rejected"


def test_a_disk_that_was_full_is_taken_to_have_room_when_there_is_ample_room_for_a_while() -> None:
    clock, free_mb = Clock(), [200]
    watermark = Watermark(lambda: free_mb[0] >= 100, has_ample_room=lambda: free_mb[0] >= 110, clock=clock)

    def look(now_mb: int, *, after_s: float = 0.0) -> bool:
        free_mb[0], clock.now = now_mb, clock.now + after_s
        return watermark.has_room()

    assert look(100)  # it was never full
    assert not look(99)
    assert not look(105)
    assert not look(105, after_s=10 * REOPENS_AFTER_S)  # time alone does not open it
    assert not look(110)  # nor does the level
    assert not look(105, after_s=REOPENS_AFTER_S - 1)  # which must not fall in between
    assert not look(110, after_s=2)
    assert look(110, after_s=REOPENS_AFTER_S)
    assert look(101)  # open again, it closes at the lower level only
    assert not look(99)


def test_several_processes_share_the_limits() -> None:
    door = guard(DicomSettings(processes=3, max_associations=10, max_associations_per_address=4))
    assert [door.enter("127.0.0.1") for _ in range(3)] == [None, None, LIMIT_EXCEEDED]
    assert [door.enter("127.0.0.2") for _ in range(3)] == [None, None, LIMIT_EXCEEDED]


@pytest.mark.parametrize(
    ("names", "refusal"),
    [
        (frozenset({"CT1", "sha256:00"}), None),
        (frozenset({"sha256:ff"}), None),
        (frozenset({"ct1", "sha256:00"}), CALLING_AE_NOT_RECOGNISED),
        (frozenset[str](), CALLING_AE_NOT_RECOGNISED),
    ],
)
def test_a_peer_with_a_certificate_is_known_by_that_too(names: frozenset[str], refusal: AssociateReject | None) -> None:
    allowed = (Peer("CT1", "192.0.2.7", "CT1"), Peer("CT1", "192.0.2.7", "sha256:ff"))
    door = guard(replace(DicomSettings(), allowed_peers=allowed))
    assert door.judge(request(), "192.0.2.7", names) == refusal
    assert door.judge(request(), "192.0.2.8", names) is CALLING_AE_NOT_RECOGNISED
