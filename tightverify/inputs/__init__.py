"""Where the questions of a run come from."""
