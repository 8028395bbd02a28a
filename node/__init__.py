"""Wetread: a DICOM node that gives the wet read before the radiologist opens the study."""

__all__ = ["__version__"]

__version__ = "0.1.0"
