"""Tells whether a `.pt2` (torch.export) is data alone, without PyTorch: loading one may run what it holds.

What PyTorch does on loading (2.15 was read), and what is therefore refused or held to a closed alphabet here:
it unpickles sample inputs (without restrictions once the restricted way has failed) and weights that say so;
it evaluates symbolic sizes as Python (`sympify`); it looks operators up by attribute from `torch`, from which
`os` can be reached; and it writes Python source that holds the names of the graph.
"""

import io
import json
import pickletools
import re
from collections.abc import Iterator
from itertools import repeat
from pathlib import Path
from typing import Any

from lull.api.reasons import Reason
from lull_runtime.artifact.errors import ModelError
from lull_runtime.artifact.stored_zip import StoredZip, refused

_PROGRAM, _SAMPLE = "models/model.json", "data/sample_inputs/model.pt"
_CONFIGS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_MEMBERS = re.compile(
    "|".join(
        (
            *map(re.escape, (_PROGRAM, _SAMPLE, *_CONFIGS)),
            r"data/weights/weight_\d+",
            r"data/constants/tensor_\d+",
            "archive_format|archive_version|byteorder|version",
            r"\.data/(version|serialization_id)",
            r"\.format_version|\.storage_alignment",
        )
    ),
    re.ASCII,
)
_SAMPLE_MEMBERS = re.compile(
    r"data\.pkl|data/\d+|byteorder|version|\.data/serialization_id|\.format_version|\.storage_alignment",
    re.ASCII,
)
_PAYLOAD = re.compile(r"(weight|tensor)_\d+", re.ASCII)
"""Of weights and constants: those of other names are objects, which PyTorch unpickles."""
_JSON_BYTES, _SAMPLE_BYTES, _PICKLE_BYTES = 16 << 20, 64 << 20, 1 << 20
"""Parsed, JSON takes up to ten times its size of the agent's memory."""
_CONTAINERS = 500_000
"""Lists and objects of JSON: each takes some 70 bytes of memory, and but two in the file."""
_TREE_LENGTH = 1 << 20

_OPCODE = re.compile(
    "PROTO|STOP|MARK|GLOBAL|REDUCE|BINPERSID|(LONG_)?BINPUT|(LONG_)?BINGET|NONE|NEWTRUE|NEWFALSE|BININT[12]?"
    "|LONG1|BINFLOAT|BINUNICODE|(EMPTY_)?TUPLE|TUPLE[123]|EMPTY_LIST|APPENDS?|EMPTY_DICT|SETITEMS?"
)
"""Of pickle: what tensors in tuples, lists and dictionaries take."""
_GLOBALS = re.compile(
    r"torch\._utils _rebuild_tensor_v2|collections OrderedDict"
    r"|torch (Float|Double|Half|BFloat16|Long|Int|Short|Char|Byte|Bool)Storage"
)

_TARGET = re.compile(
    r"torch\.ops\.aten\.(?!(from_file|save|load|set_|set_data|_print|warn|manual_seed)\.)\w+\.\w+"
    r"|_operator\.(add|sub|mul|truediv|floordiv|mod|neg|pow|eq|ne|lt|le|gt|ge|and_|or_|getitem)"
    r"|torch\.sym_(max|min|float|int|not|ite|sqrt)|math\.(ceil|floor|trunc)",
    re.ASCII,
)
"""Operators: all of PyTorch's own but those that touch files or what others compute."""
_EXPRESSION = re.compile(
    r"Symbol\('[a-z]+\d+'(, \w+=(True|False))*\)|Float\('[\d.e+-]+', precision=\d+\)|(s|u|zf|zuf)\d+\b"
    r"|(Integer|Rational|Mul|Add|Pow|Max|Min|Mod|PythonMod|FloorDiv|CeilDiv|CleanDiv|ModularIndexing|Where"
    r"|IntTrueDiv|FloatTrueDiv|ToFloat|TruncToInt|TruncToFloat|CeilToInt|FloorToInt|RoundToInt|RoundDecimal"
    r"|PowByNatural|FloatPow|LShift|RShift|Identity|Eq|Ne|Lt|Le|Gt|Ge|And|Or|Not|Equality|Unequality"
    r"|StrictLessThan|LessThan|StrictGreaterThan|GreaterThan)\(|true|false|\d+(\.\d+)?|[-+*/(), ]",
    re.ASCII,
)
"""What symbolic sizes are made of."""
_EXPRESSION_LENGTH = 2000
_METADATA = frozenset(("stack_trace", "nn_module_stack", "torch_fn", "from_node"))
"""Notes of the exporter that nothing looks up: they may be any text."""
_CODE = frozenset(("as_operator", "as_graph", "as_custom_obj", "guards_code"))
_IDENTIFIER, _DOTTED = re.compile(r"\w*", re.ASCII), re.compile(r"[\w.-]*", re.ASCII)
_TEXTS = {
    "fqn": _DOTTED,
    "parameter_name": _DOTTED,
    "buffer_name": _DOTTED,
    "tensor_constant_name": _DOTTED,
    "torch_version": re.compile(r"[\w.+-]*", re.ASCII),
    "as_string": re.compile(r"[\w ,.>-]*", re.ASCII),
    "as_float": re.compile(r"-?(Infinity|NaN)"),
    "target": _TARGET,
    "source_fn_stack": re.compile(r"[\w.,;-]*", re.ASCII),
}
"""Alphabets of what is not a name: none has quotes, brackets or line breaks."""
_LENGTH = 512
_DUNDER = re.compile(r"(^|\.)__\w+__(\.|$)")
_TREE_TYPES = frozenset((None, "builtins.tuple", "builtins.list", "builtins.dict"))


_TREE_KEYS = frozenset(("type", "context", "children_spec"))


def check_pt2(path: Path) -> None:
    """Check that loading and running an exported program runs no code but PyTorch's own operators.

    Raises:
        ModelError: CodeNotAllowed, or NotAModel: it is not what torch.export.save writes.
    """
    archive = StoredZip(path)
    try:
        top = _check_members(archive, _MEMBERS)
        if missing := {_PROGRAM, _SAMPLE, *_CONFIGS} - {
            name.removeprefix(top) for name in archive.sizes_bytes
        }:
            raise refused(f"{min(missing)} is missing")
        _check_sample(archive.read(top + _SAMPLE, _SAMPLE_BYTES))
        for name in _CONFIGS:
            _check_config(_json(archive, top + name))
        _check_program(_json(archive, top + _PROGRAM))
    finally:
        archive.close()


def _check_members(archive: StoredZip, known: re.Pattern[str]) -> str:
    """The folder that all members lie in, which is theirs to name."""
    tops = {name.partition("/")[0] for name in archive.sizes_bytes}
    if len(tops) != 1:
        raise refused("its members do not lie in one folder")
    top = tops.pop() + "/"
    for name in archive.sizes_bytes:
        if not known.fullmatch(name.removeprefix(top)):
            raise _code(f"it holds {name[:80]!r}, which may be code")
    return top


def _check_sample(content: bytes) -> None:
    """Whether a file of torch.save holds tensors, and tuples, lists and dictionaries of them."""
    archive = StoredZip(io.BytesIO(content))
    top = _check_members(archive, _SAMPLE_MEMBERS)
    if top + "data.pkl" not in archive.sizes_bytes:
        raise refused("its sample inputs are missing")
    try:
        for opcode, argument, _ in pickletools.genops(archive.read(top + "data.pkl", _PICKLE_BYTES)):
            if not _OPCODE.fullmatch(opcode.name):
                raise _code(f"its sample inputs are a pickle with {opcode.name}")
            if opcode.name == "GLOBAL" and not _GLOBALS.fullmatch(str(argument)):
                raise _code(f"its sample inputs are a pickle with {str(argument)[:80]!r}")
    except (ValueError, UnicodeDecodeError, OverflowError) as error:
        raise refused(f"its sample inputs are damaged ({error})") from error


def _json(archive: StoredZip, name: str) -> Any:  # noqa: ANN401  whatever JSON holds
    try:
        return _parsed(archive.read(name, _JSON_BYTES).decode())
    except (ValueError, RecursionError) as error:
        raise refused(f"{name} is no JSON ({str(error)[:80]})") from error


def _parsed(text: str) -> Any:  # noqa: ANN401
    """What JSON says. Raises ValueError, RecursionError."""
    if text.count("[") + text.count("{") > _CONTAINERS:
        raise ValueError(f"it holds more than {_CONTAINERS} lists and objects")
    return json.loads(text)


def _check_config(config: Any) -> None:  # noqa: ANN401
    """Whether weights are raw numbers."""
    for key, value in _leaves(config):
        if key == "use_pickle" and value is not False:
            raise _code("its weights are pickles")
        if key == "path_name" and not (isinstance(value, str) and _PAYLOAD.fullmatch(value)):
            raise _code(f"its weights lie in {str(value)[:80]!r}")


def _check_program(program: Any) -> None:  # noqa: ANN401
    """Whether a graph is PyTorch's own operators, and names that stay names in a source."""
    for key, value in _leaves(program):
        if key in _CODE:
            raise _code(f"it has an argument that is code ({key})")
        if not isinstance(value, str):
            continue
        if key == "expr_str":
            fits = len(value) <= _EXPRESSION_LENGTH and _EXPRESSION.sub("", value) == ""
        elif key in ("in_spec", "out_spec"):
            fits = _is_plain_tree(value)
        else:
            known = _TEXTS.get(key, _IDENTIFIER).fullmatch(value) is not None
            fits = known and len(value) <= _LENGTH and not _DUNDER.search(value)
        if not fits:
            raise _code(f"its {key} is {value[:120]!r}, which may be code")


def _is_plain_tree(text: str) -> bool:
    """Whether inputs or outputs are tuples, lists and dictionaries: others name functions to be made of."""
    if len(text) > _TREE_LENGTH:
        return False
    try:
        leaves = list(_leaves(_parsed(text)))
        contexts = [_parsed(value) for key, value in leaves if key == "context" and value is not None]
    except (ValueError, TypeError, AttributeError, RecursionError):  # a context is JSON in a string, or none
        return False
    keys = [key for context in contexts if isinstance(context, list) for key in context]
    return (
        all(key in ("type", "context", "") for key, _ in leaves)
        and all(name in _TREE_KEYS for key, name in leaves if key == "" and isinstance(name, str))
        and all(value in _TREE_TYPES for key, value in leaves if key == "type")
        and all(isinstance(context, list | None) for context in contexts)
        and all(isinstance(key, str) and _IDENTIFIER.fullmatch(key) for key in keys)
    )


def _leaves(tree: Any) -> Iterator[tuple[str, Any]]:  # noqa: ANN401
    """The values of JSON that hold no others, with the key that each lies under.

    Keys are values too, under the empty key. Notes of the exporter are left out.
    """
    walks: list[Iterator[tuple[str, Any]]] = [iter([("", tree)])]
    while walks:
        step = next(walks[-1], None)
        if step is None:
            walks.pop()
            continue
        key, value = step
        if isinstance(value, dict):
            yield from (("", one) for one in value)
            notes = _METADATA if key == "metadata" else frozenset()
            walks.append(_entries(value, notes))
        elif isinstance(value, list):
            walks.append(zip(repeat(key), value))
        else:
            yield key, value


def _entries(value: dict[str, Any], notes: frozenset[str]) -> Iterator[tuple[str, Any]]:
    return ((name, one) for name, one in value.items() if name not in notes or not isinstance(one, str))


def _code(why: str) -> ModelError:
    return ModelError(
        Reason.CODE_NOT_ALLOWED,
        f"the network is not data alone: {why}; save it anew with torch.export.save, or ship it as ONNX",
    )
