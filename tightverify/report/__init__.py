"""Records, tables, pictures, traces."""
