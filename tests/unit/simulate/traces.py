"""Traces made by hand."""

from array import array

from lull.simulate.setting import GIB
from lull.simulate.trace import Trace, TracedModel


def trace(*requests, length_seconds, gib=8, tenants=None, sizes=None):
    """`requests` are (at, model name, duration); models are numbered in the order of their first request.

    `sizes` and `tenants` are of models that have others than `gib` and "team".
    """
    names = list(dict.fromkeys(name for _, name, _ in requests))
    return Trace(
        name="by-hand",
        models=[
            TracedModel(f"{(tenants or {}).get(name, 'team')}/{name}", (sizes or {}).get(name, gib) * GIB)
            for name in names
        ],
        at_seconds=array("d", [at for at, _, _ in requests]),
        model=array("l", [names.index(name) for _, name, _ in requests]),
        duration_seconds=array("d", [duration for _, _, duration in requests]),
        length_seconds=length_seconds,
    )
