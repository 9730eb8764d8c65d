"""Torch modules as models."""
