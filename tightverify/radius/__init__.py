"""How far a network's answer holds: certified radii, of inputs and of segments of time.

| file | what it has |
|---|---|
| `inputs` | `tightverify.radius`: radii of inputs |
| `family` | families of regions that grow with one number |
| `parts` | parts of an input, of each of which a radius is found: frames, features, values, segments, groups |
| `datasets` | radii of inputs of several lengths |
| `questions` | several radii that are asked for, as one batch |
| `bracket` | what is known of one radius, and which size comes next |
| `breaking` | counterexamples as near as they get |
| `search` | the search, from cheap methods to dear ones |
| `records` | what was found |
| `steps` | what is told while a search goes on |
| `segments` | `tightverify.segments`: radii of segments of a clip |
"""

from tightverify.radius.records import Radii, Radius
from tightverify.radius.segments import FILES, Segments, rounds_of, segments
from tightverify.radius.steps import RadiusStep

__all__ = ["FILES", "Radii", "Radius", "RadiusStep", "Segments", "rounds_of", "segments"]
