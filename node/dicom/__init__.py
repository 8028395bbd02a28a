"""DICOM at the edge: bytes, headers, text and pixels, put into the words of `node.domain`."""
