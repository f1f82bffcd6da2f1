"""The agent: beside each Triton, it makes what the host holds equal to what its ModelHost says."""
