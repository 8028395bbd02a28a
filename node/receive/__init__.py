"""Receive: from the network to the disk, durable before it is acknowledged.

The stage's own interface is small so that the receiver can be replaced: a receiver turns network
bytes into `Incoming` objects, hands each to `accept`, answers with the status it gets back, and says
which studies an Association touched when it ends.
"""

from node.receive.door import Receiver, serve
from node.receive.event_report import EventReport
from node.receive.leftovers import leave_folder, own_folder, sweep_leftovers
from node.receive.spool import Answer, Incoming, accept
from node.receive.touched import TouchedStudies

__all__ = [
    "Answer",
    "EventReport",
    "Incoming",
    "Receiver",
    "TouchedStudies",
    "accept",
    "leave_folder",
    "own_folder",
    "serve",
    "sweep_leftovers",
]
