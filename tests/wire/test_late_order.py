"""A late order over real sockets: python-hl7 orders, python-hl7's RIS gets the message, and later the corrected one."""

from collections.abc import Iterator
from dataclasses import replace
from functools import partial
from pathlib import Path

import hl7
import pytest
from hl7.client import MLLPClient

from node.deliver import MllpConnection
from node.deliver.outbox import visit
from node.demo.ris import DemoRis
from node.late_orders import resend_results
from node.receive.hl7_listener import serve_hl7
from node.receive.orders import take_message
from node.settings import DeliverSettings, Hl7Destination, Hl7Settings, ReportSettings
from node.steps import Site
from node.store.dead_letters import dead_letters
from tests.peers.ris import Answer, BadRis, destination
from tests.unit.ordered import bundled, reported, routed
from tests.wire.hl7_messages import orm

LISTENER = Hl7Settings()


@pytest.fixture
def site(tmp_path: Path) -> Iterator[Site]:
    found = bundled(tmp_path / "store")
    yield replace(found, settings=replace(found.settings, report=ReportSettings(resend_after_late_order=True)))
    found.store.close()


def order(site: Site, control_id: str, **said: str) -> None:
    """Send an order to the node's ear, as a hospital does."""
    listener = serve_hl7(LISTENER, partial(take_message, site.store, LISTENER, lambda: True))
    try:
        with MLLPClient("127.0.0.1", listener.port) as client:
            answer = client.send_message(orm(control_id, accession="ACC1", **said).decode())
        assert b"MSA|AA|" in answer
    finally:
        listener.stop(drain_s=5)


def visited(site: Site, item: str, ris: Hl7Destination) -> None:
    connection = MllpConnection(ris)
    how = {"destinations": {"ris": ris}, "connections": {"ris": connection}}
    assert visit(site.store, item, "ris", settings=DeliverSettings(), **how) is None  # type: ignore[arg-type]
    connection.close()


def test_a_ris_gets_the_result_and_after_the_late_order_the_corrected_one_once(site: Site, tmp_path: Path) -> None:
    item = routed(site)
    reported(site, item)
    with DemoRis(tmp_path / "ris") as ris:
        to = Hl7Destination("ris", "127.0.0.1", ris.port)
        visited(site, item, to)
        order(site, "1", placer="PL-1", indication="跌倒")
        for _ in range(2):
            resend_results(site)
            visited(site, item, to)
        order(site, "2", placer="PL-1", control="SC", indication="跌倒")  # a status that says nothing new
        resend_results(site)
        visited(site, item, to)
        first, second = (hl7.parse(one.decode()) for one in ris.receipts())
    fields = [[str(one.segment("OBR")[number]) for number in (2, 13, 25)] for one in (first, second)]
    assert fields == [["", "", "X"], ["PL-1", "跌倒", "C"]]
    assert str(first.segment("PID")) == str(second.segment("PID"))
    assert dead_letters(site.store) == []


def test_a_ris_that_refused_the_result_without_placer_number_takes_the_one_with_it(site: Site) -> None:
    item = routed(site)
    reported(site, item)
    with BadRis(Answer.ERROR, Answer.ACCEPT) as ris:
        to = destination(ris.port)
        visited(site, item, to)
        (letter,) = dead_letters(site.store)
        order(site, "1", placer="PL-1")
        assert resend_results(site) == 1
        visited(site, item, to)
        placers = [str(hl7.parse(one.decode()).segment("OBR")[2]) for one in ris.messages]
    assert placers == ["", "PL-1"]
    assert [one.delivery_id for one in dead_letters(site.store)] == [letter.delivery_id]
