"""Network: the DICOM upper layer and message exchange of our own, bytes in and bytes out, without a socket.

`Machine` keeps one Association to the rules of PS3.8 and PS3.7, whichever side opened it; `Link` is the one
place that touches a socket.
"""

from node.network.dimse import Command, Kind
from node.network.link import Link
from node.network.machine import Machine
from node.network.negotiation import answer_request, check_request

__all__ = ["Command", "Kind", "Link", "Machine", "answer_request", "check_request"]
