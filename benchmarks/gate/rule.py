"""The rule of ``--fail-if``: comparisons of a few names with numbers, joined by and / or."""

from __future__ import annotations

import ast
import math
import operator
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from benchmarks.stats.bootstrap import Interval
from runtime.errors import HedgeError

NAMES = {
    "latency": "times as long at the median, the machine's own change taken out",
    "p95": "the same at the 95th percentile",
    "miou": "points of mIoU gained; lost ones are negative",
    "boundary_f": "points of boundary F gained",
    "memory": "times the peak memory",
}
EXAMPLE = "latency > 1.10 or miou < -0.5"
LONGEST = 1000  # characters: beyond, Python's parser may run out of stack

Compare = Callable[[float, float], bool]
_SIGNS: dict[type[ast.cmpop], tuple[str, Compare]] = {
    ast.Gt: (">", operator.gt),
    ast.GtE: (">=", operator.ge),
    ast.Lt: ("<", operator.lt),
    ast.LtE: ("<=", operator.le),
}
_TURNED: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Gt: ast.Lt, ast.GtE: ast.LtE, ast.Lt: ast.Gt, ast.LtE: ast.GtE,
}  # fmt: skip


@dataclass(frozen=True)
class Comparison:
    """``latency > 1.10``."""

    name: str
    sign: str
    bound: float
    compare: Compare

    def met(self, changes: Mapping[str, Interval]) -> tuple[Comparison, ...]:
        """Itself where every value of the interval meets it; what is not known meets nothing."""
        change = changes.get(self.name)
        if change is None:
            return ()
        sure = all(self.compare(value, self.bound) for value in (change.low, change.high))
        return (self,) if sure else ()

    def names(self) -> set[str]:
        """What it asks about."""
        return {self.name}

    def __str__(self) -> str:
        return f"{self.name} {self.sign} {self.bound:g}"


@dataclass(frozen=True)
class Junction:
    """Rules joined by ``and`` (every) or ``or``."""

    every: bool
    parts: tuple[Rule, ...]

    def met(self, changes: Mapping[str, Interval]) -> tuple[Comparison, ...]:
        """The comparisons that make it true, none where it is not."""
        found = [part.met(changes) for part in self.parts]
        if self.every and not all(found):
            return ()
        return tuple(comparison for part in found for comparison in part)

    def names(self) -> set[str]:
        """What its parts ask about."""
        return set().union(*(part.names() for part in self.parts))

    def __str__(self) -> str:
        inner = (f"({part})" if isinstance(part, Junction) else str(part) for part in self.parts)
        return (" and " if self.every else " or ").join(inner)


Rule = Comparison | Junction


def parse(rule: str) -> Rule:
    """Read a rule; HedgeError says what a rule looks like. Nothing of it is ever evaluated."""
    try:
        if len(rule) > LONGEST:
            raise ValueError(f"longer than {LONGEST} characters")
        return _read(ast.parse(rule.strip(), mode="eval").body)
    except SyntaxError:
        raise _refused(rule, "not a comparison") from None
    except (ValueError, OverflowError, RecursionError, MemoryError) as error:
        raise _refused(rule, str(error) or "too deep") from None


def _refused(rule: str, why: str) -> HedgeError:
    shown = rule if len(rule) <= 60 else rule[:60] + "…"
    return HedgeError(
        f"--fail-if {shown!r}: {why}; compare {', '.join(NAMES)} with numbers by <, <=, >, >= and "
        f"join them by and, or, as in {EXAMPLE!r}"
    )


def _read(node: ast.expr) -> Rule:
    if isinstance(node, ast.BoolOp):
        return Junction(isinstance(node.op, ast.And), tuple(map(_read, node.values)))
    if isinstance(node, ast.Compare) and len(node.ops) == 1:
        return _comparison(node.left, type(node.ops[0]), node.comparators[0])
    raise ValueError(f"{ast.unparse(node)} is no comparison of one name with one number")


def _comparison(left: ast.expr, op: type[ast.cmpop], right: ast.expr) -> Comparison:
    if op not in _SIGNS:
        raise ValueError(f"{ast.unparse(left)} is compared by a sign that is none of <, <=, >, >=")
    if isinstance(right, ast.Name) and not isinstance(left, ast.Name):
        left, op, right = right, _TURNED[op], left
    if not isinstance(left, ast.Name) or left.id not in NAMES:
        raise ValueError(f"{ast.unparse(left)} is not a name that it knows")
    return Comparison(left.id, _SIGNS[op][0], _number(right), _SIGNS[op][1])


def _number(node: ast.expr) -> float:
    negative = isinstance(node, ast.UnaryOp) and isinstance(node.op, ast.USub)
    constant = node.operand if isinstance(node, ast.UnaryOp) and negative else node
    value = constant.value if isinstance(constant, ast.Constant) else None
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{ast.unparse(node)} is not a number")
    return -float(value) if negative else float(value)
