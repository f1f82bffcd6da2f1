"""Tells an artifact from a TritonRepository, and either from what is no model."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path, PurePosixPath
from typing import Any, Final

from google.protobuf import text_format
from google.protobuf.message import Message
from pydantic import ValidationError
from tritonclient.grpc import model_config_pb2

from lull.api.reasons import Reason
from lull_runtime.artifact.card import V1, Card, GoldenTensor, Member, TensorSpec
from lull_runtime.artifact.errors import ModelError
from lull_runtime.artifact.onnx_file import check_onnx
from lull_runtime.artifact.pt2 import check_pt2
from lull_runtime.artifact.tar import digest_of

CARD, SIGNATURE, CONFIG = "lull.json", "model.sig", "config.pbtxt"
NETWORK: Final = "model.onnx"
DATA: Final = "model.onnx.data"
GOLDEN: Final = "golden.bin"
README: Final = "README.md"
NETWORKS: Final[dict[str, Member]] = {"onnx": NETWORK, "pt2": "model.pt2"}

_CARD_BYTES = 1 << 20
_CONFIG_BYTES = 1 << 20
_GOLDEN_BYTES = 64 << 20
"""The agent holds it in memory, and Triton a copy of each of its tensors."""
_DATA_BACKENDS = frozenset({"onnxruntime", "tensorrt"})
"""Backends whose models are data. All others run what the model brings, or (TorchScript) nearly so."""
_PLATFORMS = {"onnxruntime_onnx": "onnxruntime", "tensorrt_plan": "tensorrt"}
_DATA_PARAMETERS = frozenset(
    (
        "intra_op_thread_count",
        "inter_op_thread_count",
        "execution_mode",
        "enable_mem_arena",
        "enable_mem_pattern",
        "memory.enable_memory_arena_shrinkage",
        "gpu_mem_limit",
        "arena_extend_strategy",
        "cudnn_conv_algo_search",
        "cudnn_conv_use_max_workspace",
        "do_copy_in_default_stream",
        "precision_mode",
        "max_workspace_size_bytes",
        "max_cached_engines",
        "minimum_segment_size",
    )
)
"""Parameters that name no file. Others may: Triton's batch strategies and several backends load libraries."""
_LIBRARY = re.compile(r"\.(so(\.[0-9.]+)?|dll|dylib|py|pyc|pt2?)$", re.IGNORECASE)
_ELF = b"\x7fELF"
_NAMES = frozenset({"name", "input_name", "output_name", "target_name", "source_input"})
"""Fields that name tensors, which may well begin with a `/`."""


class Format(StrEnum):
    """What a model is shipped as."""

    ARTIFACT = "Artifact"
    TRITON_REPOSITORY = "TritonRepository"


@dataclass(frozen=True)
class Artifact:
    """An unpacked artifact that was found whole and harmless.

    Attributes:
        card: what it says of itself.
        network: what is loaded.
        data: weights of an ONNX network that lie beside it, which the network finds by this name.
        golden: tensors of the golden cases.
    """

    card: Card
    network: Path
    data: Path | None
    golden: Path


def detect(folder: Path, declared: str = "Auto") -> tuple[Format, Path]:
    """Return the format of an unpacked model and the folder that holds it (beneath one top folder, or none).

    Raises:
        ModelError: it is neither, or not what was declared.
    """
    root = _root(folder)
    if (root / CARD).is_file():
        found = Format.ARTIFACT
    elif (root / CONFIG).is_file():
        found = Format.TRITON_REPOSITORY
    else:
        raise ModelError(
            Reason.NOT_A_MODEL,
            f"there is neither {CARD} (an artifact: make one with `lull publish`) nor {CONFIG} "
            "(a Triton model directory) at its root",
        )
    if declared not in ("Auto", found):
        raise ModelError(Reason.NOT_A_MODEL, f"spec.model.format says {declared}, but this is a {found}")
    return found, root


def read_artifact(folder: Path) -> Artifact:
    """Return an unpacked artifact, whose files are all there and no others. Nothing of it is run.

    Raises:
        ModelError: NotAModel, NoGoldenCases, WrongShapes (its golden cases and its card disagree),
            CodeNotAllowed (a `.pt2` with a pickle that is not data) or ExternalData (an ONNX network that
            names other files).
    """
    card = _card(folder)
    _check_members(folder, card)
    network = folder / NETWORKS[card.format]
    _check_golden(card, (folder / GOLDEN).stat().st_size)
    data = folder / DATA if DATA in card.files else None
    if card.format == "pt2":
        check_pt2(network)
    else:
        check_onnx(network, DATA if data else None)
    return Artifact(card, network, data, folder / GOLDEN)


def check_digests(folder: Path, card: Card) -> None:
    """Check that the files of an artifact are those that its card was written for.

    For who signs it: who fetches it has the digest of the whole.

    Raises:
        ModelError: DigestMismatch.
    """
    for name, digest in card.files.items():
        if digest_of(folder / name) != digest:
            raise ModelError(
                Reason.DIGEST_MISMATCH, f"{name} is not the one that {CARD} was written for; publish it again"
            )


def _card(folder: Path) -> Card:
    if not (folder / CARD).is_file():
        raise ModelError(Reason.NOT_A_MODEL, f"there is no {CARD}; make an artifact with `lull publish`")
    try:
        return Card.model_validate_json(_read(folder / CARD, _CARD_BYTES))
    except ValidationError as error:
        first = error.errors(include_url=False, include_context=False, include_input=False)[0]
        where = ".".join(map(str, first["loc"])) or "the file"
        none = where in ("golden", "golden.cases") and first["type"] in ("missing", "too_short")
        raise ModelError(
            Reason.NO_GOLDEN_CASES if none else Reason.NOT_A_MODEL,
            f"{CARD}: {where}: {first['msg']}; publish it again",
        ) from error


def _check_members(folder: Path, card: Card) -> None:
    """Whether an artifact holds what its format asks for and its card lists, as plain files, and no more."""
    network = NETWORKS[card.format]
    listed = {network, GOLDEN} if card.version == V1 else set(card.files)
    known = {network, GOLDEN, README} | ({DATA} if network == NETWORK else set())
    if strange := listed - known | {network} - listed:
        raise ModelError(
            Reason.NOT_A_MODEL, f"what {CARD} lists is not what format {card.format} holds: {min(strange)}"
        )
    have = {path.name for path in folder.iterdir()}
    plain = {path.name for path in folder.iterdir() if path.is_file() and not path.is_symlink()}
    if GOLDEN not in listed & plain:
        raise ModelError(
            Reason.NO_GOLDEN_CASES, f"there is no {GOLDEN}; make an artifact with `lull publish`"
        )
    want = {CARD, *listed}
    wrong = [f"{name} is missing" for name in sorted(want - plain)]
    wrong += [f"{name[:80]} is too much" for name in sorted(have - want - ({SIGNATURE} & plain))]
    if wrong:
        raise ModelError(
            Reason.NOT_A_MODEL, f"an artifact is {', '.join(sorted(want))}; here {'; '.join(wrong[:5])}"
        )


def _check_golden(card: Card, size_bytes: int) -> None:
    """Whether the golden file holds what the card says, and the golden cases are of the card's tensors."""
    entries = [entry for case in card.golden.cases for entry in (*case.inputs, *case.outputs)]
    if max(size_bytes, sum(entry.size_bytes for entry in entries)) > _GOLDEN_BYTES:  # they may overlap
        raise ModelError(
            Reason.NOT_A_MODEL,
            f"{GOLDEN} holds more than {_GOLDEN_BYTES >> 20} MiB; publish it again with fewer examples",
        )
    for entry in entries:
        if entry.offset + entry.size_bytes > size_bytes:
            raise ModelError(Reason.NOT_A_MODEL, f"{GOLDEN} ends before {entry.name}; publish it again")
    for case in card.golden.cases:
        _check_tensors(case.inputs, card.inputs)
        _check_tensors(case.outputs, card.outputs)


def _check_tensors(entries: Sequence[GoldenTensor], specs: Sequence[TensorSpec]) -> None:
    have = {entry.name: entry for entry in entries}
    want = {spec.name: spec for spec in specs}
    if have.keys() != want.keys() or len(have) != len(entries) or len(want) != len(specs):
        raise ModelError(
            Reason.WRONG_SHAPES,
            f"a golden case has the tensors {sorted(have)}, the card {sorted(want)}; publish it again",
        )
    for name, spec in want.items():
        entry = have[name]
        if entry.datatype != spec.datatype or not spec.fits(tuple(entry.shape)):
            raise ModelError(
                Reason.WRONG_SHAPES,
                f"{name}: the card promises {spec.datatype} {spec.dims}, a golden case holds "
                f"{entry.datatype} {entry.shape}; publish it again",
            )


def inspect_repository(folder: Path, name: str, *, allow_code: bool) -> bool:
    """Check a Triton model directory that shall be served as `name`; return whether it is code.

    Raises:
        ModelError: the configuration cannot be read, names another model, or points outside its directory;
            there is no version; or it is code and the pool does not allow that.
    """
    config = _parse(_read(folder / CONFIG, _CONFIG_BYTES))
    if config.name and config.name != name:
        raise ModelError(
            Reason.NOT_A_MODEL,
            f"{CONFIG} names the model {config.name!r}, but it is to be served as {name!r}: set "
            f"spec.model.name to {config.name!r}, or take the name out of {CONFIG}",
        )
    if not any(path.is_dir() and path.name.isdecimal() and path.name != "0" for path in folder.iterdir()):
        raise ModelError(Reason.NOT_A_MODEL, "there is no version folder (1/) beside config.pbtxt")
    if outside := next(_paths_outside(config), ""):
        raise ModelError(
            Reason.NOT_A_MODEL, f"{CONFIG} holds the path {outside!r}; a model stays in its directory"
        )
    if config.HasField("ensemble_scheduling") or config.HasField("model_repository_agents"):
        raise ModelError(Reason.NOT_A_MODEL, "ensembles and repository agents are not served")
    why = _why_code(folder, config)
    if why and not allow_code:
        raise ModelError(
            Reason.CODE_NOT_ALLOWED,
            f"{why}, and this pool runs no code of models: use one with allow.code, or ship it as ONNX",
        )
    return bool(why)


def name_in(folder: Path) -> str:
    """Return the model's name as its config.pbtxt has it; empty where that leaves it to the directory."""
    return str(_parse(_read(folder / CONFIG, _CONFIG_BYTES)).name)


def is_partial(folder: Path) -> bool:
    """Whether a directory's configuration leaves inputs or outputs for Triton to find out."""
    config = _parse(_read(folder / CONFIG, _CONFIG_BYTES))
    return not config.input or not config.output


def _why_code(folder: Path, config: model_config_pb2.ModelConfig) -> str:
    backends = {config.backend, _PLATFORMS.get(config.platform, config.platform)} - {""} or {"unnamed"}
    if strange := backends - _DATA_BACKENDS:
        return f"its backend ({', '.join(sorted(strange))}) runs code that the model brings"
    if config.runtime or config.HasField("model_operations"):
        return f"{CONFIG} names a library to load"
    for name, value in _fields(config):
        if name == "parameters" and (strange := set(value) - _DATA_PARAMETERS):
            return f"{CONFIG} has parameters that may load code ({', '.join(sorted(strange))})"
    for path in folder.rglob("*"):
        if _LIBRARY.search(path.name) or (path.is_file() and _is_elf(path)):
            return f"{path.relative_to(folder)} is code"
    return ""


def _is_elf(path: Path) -> bool:
    with path.open("rb") as file:
        return file.read(len(_ELF)) == _ELF


def _paths_outside(config: model_config_pb2.ModelConfig) -> Iterator[str]:
    """Values that, taken as paths, leave the model's directory: values, as the text may be escaped."""
    for name, value in _fields(config):
        for text in filter(lambda one: isinstance(one, str), _values(value)):
            path = PurePosixPath(text)
            if ".." in path.parts or (path.is_absolute() and name not in _NAMES):
                yield text


def _fields(message: Message) -> Iterator[tuple[str, Any]]:
    """The name and value of each field that is set, at every depth."""
    for field, value in message.ListFields():
        yield field.name, value
        for one in _values(value):
            if isinstance(one, Message):
                yield from _fields(one)


def _values(value: Any) -> Sequence[Any]:  # noqa: ANN401  what a field holds
    """What a field holds: one value, those of a list, or those of a map."""
    if isinstance(value, Mapping):
        return list(value.values())
    return list(value) if isinstance(value, Sequence) and not isinstance(value, str) else [value]


def _parse(text: str) -> model_config_pb2.ModelConfig:
    """The configuration, all of it known: a field that is skipped here is one that Triton may heed."""
    try:
        return text_format.Parse(text, model_config_pb2.ModelConfig())
    except (text_format.ParseError, RecursionError) as error:
        raise ModelError(Reason.NOT_A_MODEL, f"{CONFIG} cannot be read: {error}") from error


def _root(folder: Path) -> Path:
    """The folder itself, or the only one in it: what `tar cf m.tar mymodel` makes is taken too."""
    inside = list(folder.iterdir())
    return inside[0] if len(inside) == 1 and inside[0].is_dir() else folder


def _read(path: Path, most_bytes: int) -> str:
    if path.stat().st_size > most_bytes:
        raise ModelError(Reason.NOT_A_MODEL, f"{path.name} is larger than {most_bytes} bytes")
    try:
        return path.read_text(encoding="utf-8")
    except UnicodeDecodeError as error:
        raise ModelError(Reason.NOT_A_MODEL, f"{path.name} is no text") from error
