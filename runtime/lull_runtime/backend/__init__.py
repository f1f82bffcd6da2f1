"""What runs inside Triton, and where a Triton comes from on a machine without NVIDIA's images."""
