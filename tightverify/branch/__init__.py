"""Branch and bound: a region is split at the value of a neuron or of an input's coordinate, and each half bounded anew."""
