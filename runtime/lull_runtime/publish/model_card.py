"""The model card for people, `README.md`: what `lull.json` says, in words."""

from collections.abc import Iterator

from lull_runtime.artifact.card import Card, TensorSpec


def model_card(card: Card, accuracy: float | None) -> str:
    """Return the model card of an artifact as Markdown; `accuracy` is a share between 0 and 1."""
    return "\n".join(_lines(card, accuracy)) + "\n"


def _lines(card: Card, accuracy: float | None) -> Iterator[str]:
    yield f"# {card.name}"
    yield ""
    if card.source is not None:
        yield f"From {card.source.framework} ({card.source.form}), served as {card.format}."
    yield f"Made with {', '.join(f'{name} {version}' for name, version in card.made_with.items())}."
    if accuracy is not None:
        yield f"Of labelled rows {accuracy:.1%} are told right, as it is shipped."
    yield ""
    yield from (f"- {fact}" for fact in facts(card))


def facts(card: Card) -> Iterator[str]:
    """Yield what goes in and out of a network, and what it takes, a line each."""
    yield from (f"takes {_tensor(tensor)}" for tensor in card.inputs)
    yield from (f"gives {_tensor(tensor)}" for tensor in card.outputs)
    if card.labels:
        yield f"classes: {', '.join(card.labels)}"
    rows = ", ".join(str(case.inputs[0].shape[0]) for case in card.golden.cases)
    held = f"{card.golden.absolute:g} + {card.golden.relative:g} × |value|"
    yield f"golden cases of {rows} rows, held to {held}"
    if card.measured is not None:
        took = card.measured
        yield (
            f"measured: loads in {took.load_seconds:.2f} s, answers one row in "
            f"{took.latency_milliseconds:.2f} ms, takes {took.memory_bytes / 2**20:.0f} MiB ({took.on})"
        )
    for entry in card.optimisation:
        before, after = entry.latency_milliseconds_before, entry.latency_milliseconds_after
        yield (
            f"{entry.kind}: {entry.size_bytes_before:,} → {entry.size_bytes_after:,} bytes, "
            f"{before:.3f} → {after:.3f} ms, answers differ by {entry.max_difference:.2g} at most"
            f"{_change(entry.accuracy_before, entry.accuracy_after)}"
        )
    if card.training is not None:
        cost = card.training
        carbon = f", {cost.grams_co2e:g} g CO2e" if cost.grams_co2e is not None else ""
        yield f"training took {cost.watt_hours:g} Wh{carbon} ({cost.source})"


def _tensor(tensor: TensorSpec) -> str:
    shape = " × ".join("any" if size == -1 else str(size) for size in tensor.dims)
    return f"`{tensor.name}`: {tensor.datatype} {shape}"


def _change(before: float | None, after: float | None) -> str:
    return f", right {before:.1%} → {after:.1%}" if before is not None and after is not None else ""
