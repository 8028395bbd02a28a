"""Adding a model: an ONNX file and a few words about it become an application that runs.

Only at set-up: it loads onnx, which no analysis waits for.
"""

from node.infer.adding.add import Added, add_model
from node.infer.adding.wish import Wish

__all__ = ["Added", "Wish", "add_model"]
