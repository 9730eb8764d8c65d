"""Files of problems: MPS and LP; and what builds problems row by row."""
