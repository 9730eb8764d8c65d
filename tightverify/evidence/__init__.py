"""Evidence: all that led to one input's verdict, in a file that another program can check (docs/evidence.md has the format).

| file | what it has |
|---|---|
| `entries` | what is written down: one frozen record for each kind |
| `fingerprint` | hashes of what is asked, by which two questions are told apart |
| `reading` | the file read back |
"""

from tightverify.evidence.entries import (
    EDGE,
    EQUATION,
    FORMAT,
    KINDS,
    NAMES,
    PIECES,
    PLANE,
    PROPERTY,
    SHARE,
    UNGROUPED,
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
    Points,
    Polygon,
    Program,
    Question,
    RegionEntry,
    Resumed,
)
from tightverify.evidence.fingerprint import digest, fingerprint
from tightverify.evidence.reading import format_of, read_evidence

__all__ = [
    "EDGE",
    "EQUATION",
    "FORMAT",
    "KINDS",
    "NAMES",
    "PIECES",
    "PLANE",
    "PROPERTY",
    "SHARE",
    "UNGROUPED",
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
    "Points",
    "Polygon",
    "Program",
    "Question",
    "RegionEntry",
    "Resumed",
    "digest",
    "fingerprint",
    "format_of",
    "read_evidence",
]
