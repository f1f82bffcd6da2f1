"""The gateway: Envoy carries every request; the pilot beside it steers Envoy, and wakes what sleeps."""
