"""What runs beside Triton in a host pod, and what makes an artifact."""
