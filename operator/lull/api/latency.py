"""The bins in which gateways count how long requests took, and in which the controller compares revisions."""

EDGES_SECONDS = tuple(round(0.001 * 1.25**power, 6) for power in range(48))
"""Upper edges, from 1 ms to 36 s, each a quarter above the last; one more bin holds what took longer."""
BINS = len(EDGES_SECONDS) + 1
