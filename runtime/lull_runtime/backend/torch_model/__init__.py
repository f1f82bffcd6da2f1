"""Serves a network of torch.export (`.pt2`), which no backend of Triton's images takes."""
