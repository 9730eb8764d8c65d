"""What is measured: one script for each table; run them from the project's folder as `python -m experiments.NAME`."""
