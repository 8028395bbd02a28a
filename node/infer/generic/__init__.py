"""Applications without code: a model whose card says how images become its input and what its outputs stand for."""

from node.infer.generic.application import handler_of

__all__ = ["handler_of"]
