"""Route: which handler gets which Series of a study, how urgently, and where its results go."""

from node.route.hold import held_by
from node.route.match import Routing, gather, route

__all__ = ["Routing", "gather", "held_by", "route"]
