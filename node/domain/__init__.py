"""The words of the node: frozen records without I/O, imported by every layer above."""
