"""Where in time a network is fragile: the certified radius of each stretch of a clip, and the picture of them."""

from tightverify.fragility.radii import FILES, Stretches, rounds_of, stretches

__all__ = ["FILES", "Stretches", "rounds_of", "stretches"]
