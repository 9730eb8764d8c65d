"""Decides, with proof, whether a recurrent network keeps its answer on a whole region of inputs."""
