"""Lull: many models from few powered GPUs."""
