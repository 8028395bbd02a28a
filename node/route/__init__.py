"""Route: which handler gets which Series of a study, how urgently, and where its results go."""

from node.route.match import gather, route

__all__ = ["gather", "route"]
