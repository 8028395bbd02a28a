"""Imaging that several handlers share: pure functions on arrays, Images and Volumes, each with a stated basis."""
