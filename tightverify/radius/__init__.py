"""Where in time a network is fragile: the certified radius of each stretch of a clip, and the picture of them."""

from tightverify.radius.segments import FILES, Segments, rounds_of, segments

__all__ = ["FILES", "Segments", "rounds_of", "segments"]
