"""Bounds of every node of a graph over a region: by intervals, and by linear functions of the input."""
