"""The gateway: Envoy carries every request, the pilot beside it tells Envoy where to and wakes what sleeps."""
