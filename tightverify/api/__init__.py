"""One file for each verb of the Python interface."""
