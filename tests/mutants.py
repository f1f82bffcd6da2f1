"""What holds the policy: it is broken in one place at a time, and a test has to fail.

`PYTHONPATH=tests python -m mutants [--count N] [--seed N] [--minutes N] [--tests PATH]... [MODULE]...`

A mutant lives in the memory of the process that is forked for it and nowhere else, so no file is ever
written. Of the tests, those run that reach the broken statement, until one fails. A mutant that needs more
processor time than all the tests took with coverage, about thrice theirs, is endless: it counts as killed.
"""

import argparse
import ast
import gc
import importlib.abc
import importlib.machinery
import importlib.util
import json
import os
import random
import resource
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import coverage
import hypothesis.stateful
import pytest
from hypothesis import Phase, is_hypothesis_test
from ortools.sat.python import cp_model  # noqa: F401  # dear to import: once, and not in each child

import lull.kube  # noqa: F401  # likewise

ROOT = Path(__file__).parents[1]
POLICY = ROOT / "operator" / "lull" / "policy"
NOT_PLANNING = {"__init__", "energy", "power"}
MEMORY_BYTES = 8 << 30

OPPOSITES: dict[type, list[type]] = {
    ast.Lt: [ast.LtE, ast.GtE],
    ast.LtE: [ast.Lt, ast.Gt],
    ast.Gt: [ast.GtE, ast.LtE],
    ast.GtE: [ast.Gt, ast.Lt],
    ast.Eq: [ast.NotEq],
    ast.NotEq: [ast.Eq],
    ast.Is: [ast.IsNot],
    ast.IsNot: [ast.Is],
    ast.In: [ast.NotIn],
    ast.NotIn: [ast.In],
    ast.And: [ast.Or],
    ast.Or: [ast.And],
    ast.Add: [ast.Sub],
    ast.Sub: [ast.Add],
    ast.Mult: [ast.Div],
    ast.Div: [ast.Mult],
    ast.USub: [ast.UAdd],
}
SWAPPED = {"min": "max", "max": "min", "any": "all", "all": "any"}

Edit = tuple[str, Callable[[], object]]


@dataclass(frozen=True)
class Mutant:
    """One edit of one module's tree, to be made in a process of its own."""

    module: str
    lines: range  # of the statement, without its body
    what: str
    edit: Callable[[], object]
    tree: ast.Module

    def __str__(self) -> str:
        text = (POLICY / f"{self.module}.py").read_text().splitlines()[self.lines[0] - 1]
        return f"{self.module}.py:{self.lines[0]}: {self.what} | {text.strip()}"


def mutants(module: str) -> Iterator[Mutant]:
    tree = ast.parse((POLICY / f"{module}.py").read_text())
    for statement in ast.walk(tree):
        if isinstance(statement, ast.stmt):
            ends = [part.lineno for part in getattr(statement, "body", [])] or [statement.end_lineno + 1]
            lines = range(statement.lineno, max(statement.lineno + 1, min(ends)))
            for node in _own(statement, but=getattr(statement, "decorator_list", [])):
                for what, edit in edits(node):
                    yield Mutant(module, lines, what, edit, tree)


def _own(node: ast.AST, but: Sequence[ast.AST] = ()) -> Iterator[ast.AST]:
    """Yields a statement and its expressions, and not the statements in it, nor what is said of a class."""
    yield node
    for child in ast.iter_child_nodes(node):
        if not isinstance(child, ast.stmt) and child not in but:
            yield from _own(child)


def edits(node: ast.AST) -> Iterator[Edit]:
    """Yields the ways to break one node: guards, limits, signs, and what is said or done."""
    yield from _operators(node)
    yield from _values(node)
    yield from _branches(node)


def _operators(node: ast.AST) -> Iterator[Edit]:
    match node:
        case ast.Compare(ops=ops):
            for index, op in enumerate(ops):
                yield from (_renamed(op, other, _put, ops, index) for other in OPPOSITES[type(op)])
        case ast.BoolOp(op=op, values=values):
            yield _renamed(op, OPPOSITES[type(op)][0], setattr, node, "op")
            for index in range(len(values)):
                neutral = ast.Constant(isinstance(op, ast.And))
                yield f"drop operand {index}", partial(_put, values, index, neutral)
        case ast.BinOp(op=op) | ast.UnaryOp(op=op) if type(op) in OPPOSITES:
            yield _renamed(op, OPPOSITES[type(op)][0], setattr, node, "op")
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield "drop not", partial(setattr, node, "operand", ast.UnaryOp(ast.Not(), operand))


def _values(node: ast.AST) -> Iterator[Edit]:
    match node:
        case ast.Constant(value=bool() as value):
            yield f"{value} becomes {not value}", partial(setattr, node, "value", not value)
        case ast.Constant(value=int() | float() as value):
            other = value + 1 if value < 10 else value * 2
            yield f"{value} becomes {other}", partial(setattr, node, "value", other)
        case ast.Call(func=ast.Name(id=name) as called) if name in SWAPPED:
            yield f"{name} becomes {SWAPPED[name]}", partial(setattr, called, "id", SWAPPED[name])


def _branches(node: ast.AST) -> Iterator[Edit]:
    match node:
        case ast.If() | ast.IfExp() | ast.While():
            for value in (True, False):
                yield f"always {value}", partial(setattr, node, "test", ast.Constant(value))
        case ast.comprehension(ifs=ifs):
            for index in range(len(ifs)):
                yield f"drop filter {index}", partial(_put, ifs, index, ast.Constant(True))
        case ast.Expr(value=ast.Call()):
            yield "drop call", partial(setattr, node, "value", ast.Constant(None))
        case ast.Continue() | ast.Break():
            yield f"drop {type(node).__name__.lower()}", partial(setattr, node, "__class__", ast.Pass)


def _renamed(op: ast.AST, other: type, put: Callable[..., None], *where: object) -> Edit:
    return f"{type(op).__name__} becomes {other.__name__}", partial(put, *where, other())


def _put(values: list[ast.AST], index: int, value: ast.AST) -> None:
    values[index] = value


class Finder(importlib.abc.MetaPathFinder):
    """Imports the mutant in its module's stead."""

    def __init__(self, mutant: Mutant) -> None:
        self.mutant = mutant

    def find_spec(self, name, path=None, target=None):
        if name != f"lull.policy.{self.mutant.module}":
            return None
        file = str(POLICY / f"{self.mutant.module}.py")
        loader = importlib.machinery.SourceFileLoader(name, file)
        code = compile(ast.fix_missing_locations(self.mutant.tree), file, "exec")
        loader.get_code = lambda _: code
        return importlib.util.spec_from_file_location(name, file, loader=loader)


class Reaching:
    """A pytest plugin: notes which test reaches which line."""

    def __init__(self) -> None:
        self.coverage = coverage.Coverage(data_file=None, config_file=False, include=[f"{POLICY}/*"])

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_protocol(self, item):
        self.coverage.switch_context(item.nodeid)
        return (yield)

    def map(self) -> dict[str, dict[int, list[str]]]:
        data = self.coverage.get_data()
        return {Path(file).stem: data.contexts_by_lineno(file) for file in data.measured_files()}


class Only:
    """A pytest plugin: runs the tests that are named, and all for what is reached by an import."""

    def __init__(self, tests: set[str]) -> None:
        self.tests = tests

    def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
        if "" not in self.tests:
            items[:] = [item for item in items if item.nodeid in self.tests]
        items.sort(key=lambda item: is_hypothesis_test(item.obj))  # the slow ones last


def run(tests: list[str], plugin: object) -> int:
    quick = ["--assert=plain", "-pno:unraisableexception"]  # the latter collects garbage, twice
    quiet = ["-qx", "--no-header", "-Wignore", "-pno:cacheprovider", "-otimeout=0"]
    return pytest.main([*quick, *quiet, *tests], plugins=[plugin])


def forked(work: Callable[[], int]) -> tuple[bool, float]:
    """Runs work in a quiet child.

    Returns:
        Whether it ended with 0, and the processor time that it took, in seconds.
    """
    child = os.fork()
    if child == 0:
        null = os.open(os.devnull, os.O_WRONLY)
        os.dup2(null, 1)
        os.dup2(null, 2)
        code = 1
        try:
            code = int(work())
        finally:
            os._exit(code)
    _, status, usage = os.wait4(child, 0)
    return status == 0, usage.ru_utime + usage.ru_stime


def reached(tests: list[str]) -> tuple[dict[str, dict[str, list[str]]], float]:
    """Runs all tests on the policy as it is: which line is reached by which tests, and the seconds it took.

    Raises:
        SystemExit: a test fails already.
    """
    with tempfile.NamedTemporaryFile("w+") as answer:

        def work() -> int:
            noting = Reaching()
            with noting.coverage.collect():
                code = run(tests, noting)
            json.dump(noting.map(), answer)
            answer.flush()
            return code

        passed, seconds = forked(work)
        if not passed:
            raise SystemExit("The tests fail on the policy as it is: make them pass first.")
        answer.seek(0)
        return json.load(answer), seconds


def survives(mutant: Mutant, tests: list[str], reaching: set[str], seconds: float) -> bool:
    """Says whether no test that reaches the mutant fails."""

    def work() -> int:
        limit = int(5 + seconds)
        resource.setrlimit(resource.RLIMIT_CPU, (limit, limit))
        resource.setrlimit(resource.RLIMIT_AS, (MEMORY_BYTES, MEMORY_BYTES))
        mutant.edit()
        sys.meta_path.insert(0, Finder(mutant))
        return run(tests, Only(reaching))

    return not reaching or forked(work)[0]


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        prog="mutants", description="Break the policy, and see whether a test fails."
    )
    parser.add_argument("modules", nargs="*", help="of lull.policy; all that plan, if none is named")
    parser.add_argument("--count", type=int, default=400, help="of mutants, at most")
    parser.add_argument("--seed", type=int, default=1, help="of the sample")
    parser.add_argument("--minutes", type=float, default=120, help="at most")
    parser.add_argument(
        "--tests", action="append", help="a folder or file; tests/unit/policy, if none is named"
    )
    return parser.parse_args()


def main() -> None:
    asked = arguments()
    until = time.monotonic() + 60 * asked.minutes
    tests = asked.tests or ["tests/unit/policy"]
    os.chdir(ROOT)
    hypothesis.settings.register_profile(
        "mutants", derandomize=True, database=None, deadline=None, phases=[Phase.explicit, Phase.generate]
    )
    hypothesis.settings.load_profile("mutants")
    modules = asked.modules or sorted({path.stem for path in POLICY.glob("*.py")} - NOT_PLANNING)
    possible = [mutant for module in modules for mutant in mutants(module)]
    random.Random(asked.seed).shuffle(possible)
    lines, seconds = reached(tests)
    gc.collect()
    gc.freeze()  # what is loaded by now no child has to go through
    print(f"{len(possible)} mutants are possible; the tests take {seconds:.0f} s", flush=True)
    judged: Counter[str] = Counter()
    survived: Counter[str] = Counter()
    for mutant in possible[: asked.count]:
        if time.monotonic() > until:
            break
        reaching = {test for line in mutant.lines for test in lines[mutant.module].get(str(line), ())}
        judged[mutant.module] += 1
        if survives(mutant, tests, reaching, seconds):
            survived[mutant.module] += 1
            print(f"{judged.total():4} survived: {mutant}", flush=True)
    for module, count in sorted(judged.items()):
        print(f"{module:12} {count - survived[module]:4} of {count:4} killed")
    total, killed = judged.total(), judged.total() - survived.total()
    print(f"{'all':12} {killed:4} of {total:4} killed: {killed / max(1, total):.1%}")


if __name__ == "__main__":
    main()
