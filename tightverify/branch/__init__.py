"""Branch and bound: a region is split at a neuron's value, and each half bounded anew."""
