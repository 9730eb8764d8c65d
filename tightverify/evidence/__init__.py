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
    Bounded,
    Branch,
    Empty,
    Ending,
    Entry,
    Leaves,
    Margins,
    Narrowing,
    Pairs,
    Polygon,
    Program,
    Question,
    Resumed,
    Sweep,
    Walk,
)
from tightverify.evidence.reading import format_of, read_evidence
from tightverify.evidence.record import Earlier, Record, evidence_file, question

__all__ = [
    "EDGE",
    "EQUATION",
    "FORMAT",
    "PIECES",
    "PLANE",
    "PROPERTY",
    "SHARE",
    "Bounded",
    "Branch",
    "Earlier",
    "Empty",
    "Ending",
    "Entry",
    "Leaves",
    "Margins",
    "Narrowing",
    "Pairs",
    "Polygon",
    "Program",
    "Question",
    "Record",
    "Resumed",
    "Sweep",
    "Walk",
    "evidence_file",
    "format_of",
    "question",
    "read_evidence",
]
