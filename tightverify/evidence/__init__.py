"""Evidence: all that led to one input's verdict, in a file that another program can check (docs/evidence.md has the format).

| file | what it has |
|---|---|
| `entries` | what is written down: one frozen record for each kind |
| `record` | the file as it grows while a run goes on |
| `reading` | the file read back |
"""

from tightverify.evidence.entries import (
    EDGE,
    EQUATION,
    FORMAT,
    PIECES,
    PLANE,
    PROPERTY,
    SHARE,
    BackSubstitution,
    Bounded,
    BoundingPass,
    Branch,
    CutoffTightening,
    Empty,
    Ending,
    Entry,
    Leaves,
    Margins,
    Pairs,
    Polygon,
    Program,
    Question,
    RegionEntry,
    Resumed,
)
from tightverify.evidence.reading import format_of, read_evidence

__all__ = [
    "EDGE",
    "EQUATION",
    "FORMAT",
    "PIECES",
    "PLANE",
    "PROPERTY",
    "SHARE",
    "BackSubstitution",
    "Bounded",
    "BoundingPass",
    "Branch",
    "CutoffTightening",
    "Empty",
    "Ending",
    "Entry",
    "Leaves",
    "Margins",
    "Pairs",
    "Polygon",
    "Program",
    "Question",
    "RegionEntry",
    "Resumed",
    "format_of",
    "read_evidence",
]
