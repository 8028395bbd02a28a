"""The story of a study in words: what came, what ran, what did not and why, and where the results are."""

from node.explain.story import Event, find_studies, story
from node.explain.words import WORDS

__all__ = ["LANGUAGES", "WORDS", "Event", "find_studies", "story"]

LANGUAGES = tuple(WORDS)
