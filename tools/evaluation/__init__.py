"""Labelled studies with known truth for `wetread evaluate`: ``python -m tools.evaluation DATASET FOLDER``."""
