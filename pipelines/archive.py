"""What is inside a `torch.export` archive (`.pt2`), and whether loading it could run code.

`torch.export.load` runs code by three ways: pickles (sample inputs, pickled weights and constants, custom
objects), compiled libraries (AOTInductor), and *text* in the program itself: symbolic expressions are given to
`sympify`, which evaluates them; guards and argument names become Python source; an operator is any attribute
that can be reached from `torch`. `check` refuses all three; the guards are never built (see `pipelines.model`).
"""

from __future__ import annotations

import ast
import io
import json
import re
import zipfile
from typing import TYPE_CHECKING, Any

import torch

from pipelines.errors import ModelError

if TYPE_CHECKING:
    from torch.export.pt2_archive import PT2ArchiveReader

_ZIP = b"PK\x03\x04"
_MEMBER = re.compile(
    r"models/model\.json|data/(weights|constants|sample_inputs)/[\w.]+|extra/.+|archive_(format|version)|version|byteorder"
    r"|\.data/\w+|\.format_version|\.storage_alignment"
)
_PAYLOADS = ("data/weights/model_weights_config.json", "data/constants/model_constants_config.json")
_CODE_PAYLOADS = ("custom_obj_", "opaque_obj_")

_NAME = re.compile(r"[\w.]*")
_VERSION = re.compile(r"[\w.+\-]*")
_TARGET = re.compile(
    r"torch\.ops\.(aten|prims|higher_order)(\.\w+){1,2}"
    r"|_operator\.(add|sub|mul|mod|pow|neg|pos|floordiv|truediv|getitem|eq|ne|lt|le|gt|ge|and_|or_|not_)"
    r"|math\.(ceil|floor|trunc|sqrt)|torch\.sym_(float|int|ite|max|min|not|sqrt|sum)"
)
_FILE_OPERATORS = re.compile(r"torch\.ops\.aten\.(from_file|save|load)\b.*")
_EXPRESSION = re.compile(r"[\w ,.()='+\-*/%<>&|~!]*")
# fmt: off
_FUNCTIONS = frozenset({
    "Symbol", "Integer", "Float", "Rational", "Add", "Mul", "Pow", "Max", "Min", "Mod", "Abs", "Eq", "Ne", "Equality",
    "Unequality", "StrictLessThan", "StrictGreaterThan", "LessThan", "GreaterThan", "Lt", "Le", "Gt", "Ge", "And", "Or",
    "Not", "FloorDiv", "ModularIndexing", "Where", "PythonMod", "CleanDiv", "CeilToInt", "FloorToInt", "CeilDiv",
    "LShift", "RShift", "PowByNatural", "FloatPow", "FloatTrueDiv", "IntTrueDiv", "TruncToFloat", "TruncToInt",
    "RoundToInt", "RoundDecimal", "ToFloat", "Identity",
})
# fmt: on
_ARITHMETIC = (ast.BinOp, ast.UnaryOp, ast.Compare, ast.operator, ast.unaryop, ast.cmpop, ast.Load)
_CONTAINERS = (None, "builtins.tuple", "builtins.list", "builtins.dict")
_FREE_TEXT = ("as_string", "as_strings", "metadata")


def check(content: bytes) -> None:
    """Read everything in the archive that loading would run; return if none of it can.

    Raises:
        ModelError: it isn't such an archive, or loading it could run code. The message names the member.

    """
    try:
        _check_members(_open(content))
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ModelError("its program is malformed") from error


def read_pickle(content: bytes) -> Any:
    """What a torch file holds, read with `weights_only`. Raises ModelError if that can't be done."""
    try:
        return torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    except Exception as error:  # whatever comes out of an unpickler that reads a hostile file
        cause = re.split(r"\n|\. ", str(error).strip())[0] or type(error).__name__
        raise ModelError(f"can't be read as plain weights ({cause})") from error


def is_torchscript(content: bytes) -> bool:
    """Whether it is a zip archive with TorchScript in it."""
    try:
        with zipfile.ZipFile(io.BytesIO(content)) as file:
            return any(name.partition("/")[2] == "constants.pkl" for name in file.namelist())
    except zipfile.BadZipFile:
        return False


def _check_members(reader: PT2ArchiveReader) -> None:
    names = reader.get_file_names()
    for name in names:
        if not _MEMBER.fullmatch(name):
            raise ModelError(f"its member {name!r} may be code")
    for name in _pickles(reader, names):
        try:
            read_pickle(reader.read_bytes(name))
        except ModelError as error:
            raise ModelError(f"its member {name!r} {error}") from error.__cause__
    _check_program(json.loads(reader.read_bytes("models/model.json")), "")


def _open(content: bytes) -> PT2ArchiveReader:
    """The archive, by the same reader as torch's. Python's zip reader must agree on what is in it."""
    from torch.export.pt2_archive import PT2ArchiveReader  # noqa: PLC0415  it takes seconds, and other models don't need it

    try:
        reader = PT2ArchiveReader(io.BytesIO(content))
        members = reader.get_file_names()
        with zipfile.ZipFile(io.BytesIO(content)) as archive:
            found = [name.partition("/") for name in archive.namelist()]
    except (RuntimeError, AssertionError, zipfile.BadZipFile) as error:
        raise ModelError("it isn't a torch.export archive, or it is damaged") from error
    if len({root for root, _, _ in found}) != 1 or sorted(rest for _, _, rest in found) != sorted(set(members)):
        raise ModelError("its list of members is ambiguous")
    if missing := {"models/model.json", *_PAYLOADS}.difference(members):
        raise ModelError(f"it has no {min(missing)!r}: save it again with this version's torch.export.save")
    return reader


def _pickles(reader: PT2ArchiveReader, names: list[str]) -> list[str]:
    """Members that the loader would unpickle: torch files by name, by declaration, or by what they begin with."""
    declared = set()
    for config in _PAYLOADS:
        folder = config.rpartition("/")[0]
        for payload in json.loads(reader.read_bytes(config))["config"].values():
            if payload["path_name"].startswith(_CODE_PAYLOADS):
                raise ModelError(f"its constant {payload['path_name']!r} is a pickled object")
            if payload["use_pickle"]:
                declared.add(f"{folder}/{payload['path_name']}")
    return [name for name in names if name in declared or name.endswith(".pt") or reader.read_bytes(name)[:4] == _ZIP]


def _check_program(value: Any, key: str) -> None:
    """Every string of the program by what it may become: a name, an operator, an expression, a tree, or text."""
    if key in _FREE_TEXT or key == "guards_code":
        return
    if isinstance(value, dict):
        for name, item in value.items():
            if not _NAME.fullmatch(name):
                raise ModelError(f"its program has {name!r} where a name belongs")
            _check_program(item, name)
    elif isinstance(value, list):
        for item in value:
            _check_program(item, key)
    elif isinstance(value, str):
        _check_string(value, key)


def _check_string(text: str, key: str) -> None:
    if key == "expr_str":
        allowed = _is_arithmetic(text)
    elif key in ("in_spec", "out_spec"):
        allowed = _is_plain_tree(json.loads(text) if text else [])
    elif key == "target":
        allowed = bool(_TARGET.fullmatch(text)) and not _FILE_OPERATORS.fullmatch(text)
    else:
        allowed = bool((_VERSION if key == "torch_version" else _NAME).fullmatch(text))
    if not allowed:
        raise ModelError(f"its program has {text[:80]!r} as {key}, which may be code")


def _is_arithmetic(text: str) -> bool:
    """Whether a symbolic expression has nothing but symbols, numbers, arithmetic and sympy's arithmetic functions."""
    try:
        nodes = list(ast.walk(ast.parse(text, mode="eval").body))
    except (SyntaxError, ValueError, RecursionError):
        return False
    return bool(_EXPRESSION.fullmatch(text)) and all(_is_arithmetic_node(node) for node in nodes)


def _is_arithmetic_node(node: ast.AST) -> bool:
    if isinstance(node, ast.Call):
        return isinstance(node.func, ast.Name) and node.func.id in _FUNCTIONS
    if isinstance(node, ast.Constant):
        return not isinstance(node.value, str) or bool(_VERSION.fullmatch(node.value))
    if isinstance(node, ast.keyword):
        return node.arg in ("positive", "integer", "nonnegative", "real", "precision", "evaluate")
    if isinstance(node, ast.Name):
        return not node.id.startswith("_")
    return isinstance(node, _ARITHMETIC)


def _is_plain_tree(value: Any) -> bool:
    """Whether a tree of arguments is made of tuples, lists and dicts with plain keys: others import what they name."""
    if isinstance(value, list):
        return all(_is_plain_tree(item) for item in value)
    if isinstance(value, dict):
        context = json.loads(value.get("context") or "null")
        keys = context if isinstance(context, list) else [context]
        plain = all(key is None or (isinstance(key, str) and key.isidentifier()) or type(key) is int for key in keys)
        return plain and value.get("type") in _CONTAINERS and _is_plain_tree(value.get("children_spec", []))
    return isinstance(value, int)
