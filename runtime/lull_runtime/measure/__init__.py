"""Measures what models take: memory of processes, memory and power of the accelerator."""
