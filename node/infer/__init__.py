"""Inference: an Assignment goes into a child process with limits, a saved Analysis comes out.

`node.infer.fetch`, which brings models at set-up, is imported by name where it is needed: it loads
the conversion to ONNX, which no analysis should wait for.
"""

from node.infer.handlers import load_handler, load_handlers
from node.infer.models import ModelState, State, load_cards, model_states, verify_model
from node.infer.pool import Pool
from node.infer.reading import failed_analysis
from node.infer.runner import infer
from node.infer.session import check_onnxruntime

__all__ = [
    "ModelState",
    "Pool",
    "State",
    "check_onnxruntime",
    "failed_analysis",
    "infer",
    "load_cards",
    "load_handler",
    "load_handlers",
    "model_states",
    "verify_model",
]
