"""Turns a trained network into an artifact, and proves that nothing was lost on the way."""
