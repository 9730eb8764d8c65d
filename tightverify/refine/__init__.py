"""The relaxed network as a program for a solver: a bound whose planes and neurons are all weighed at once."""
