"""What devices send one another in a step, read from the text of its compiled program (HLO).

Counted is what one device sends, by the best algorithms known for each kind (a ring): of n devices, those that gather S
bytes send S (n-1)/n each, those that reduce S bytes twice that, once to add up and once to tell. What leaves a host (or
a TPU slice) is counted apart: there, each piece crosses once to every other host, and devices of a host share the work.
"""

import dataclasses
import functools
import math
import re
from collections.abc import Iterator

import numpy as np

KINDS = (
    "all-gather",
    "reduce-scatter",
    "all-reduce",
    "all-to-all",
    "collective-permute",
    "send",
)  # the last: to a host
_BITS = {"pred": 8, "s4": 4, "u4": 4, "bf16": 16}
_INSTRUCTION = re.compile(r"^\s*(ROOT )?%?([\w.-]+) = (\(.*?\)|\S+) ([\w-]+)\((.*)$")
_ARRAY = re.compile(r"(\w+)\[([\d,]*)\]")
_SAME = ("bitcast", "convert", "copy", "transpose", "reshape", "get-tuple-element")  # of what its operand holds


@dataclasses.dataclass(frozen=True)
class Instruction:
    """One line of a computation: `type` of its result, names of its operands, and the rest of the line."""

    name: str
    type: str
    op: str
    operands: tuple[str, ...]
    rest: str
    root: bool


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Bytes that a device sends in a step: `total` of each kind, and how many of them leave its domain."""

    total: dict[str, float]
    leaving: dict[str, float]


class Program:
    """The computations of an HLO module."""

    def __init__(self, text: str):
        self.computations: dict[str, list[Instruction]] = {}
        self.entry = ""
        current: list[Instruction] = []
        for line in text.splitlines():
            if match := re.match(r"^(ENTRY )?%?([\w.-]+) \(.*\{\s*$", line):
                current = self.computations[match[2]] = []
                self.entry = match[2] if match[1] else self.entry
            elif match := _INSTRUCTION.match(line):
                inside, rest = _split(match[5])
                operands = tuple(re.findall(r"%([\w.-]+)", inside)) or (inside,)
                current.append(Instruction(match[2], match[3], match[4], operands, rest, bool(match[1])))

    def runs(self) -> Iterator[tuple[Instruction, str, str, int]]:
        """Every instruction, its computation, the loop body (or entry) around it, and how often it runs."""
        todo = [(self.entry, self.entry, 1)]
        while todo:
            computation, around, times = todo.pop()
            for i in self.computations[computation]:
                yield i, computation, around, times
                if i.op == "while":
                    body = _called(i, "body")
                    todo.append((body, body, times * self._trips(i)))
                elif i.op in ("call", "async-start", "fusion"):
                    todo.append((_called(i, "to_apply" if i.op == "call" else "calls"), around, times))
                elif i.op == "conditional":
                    branches = re.findall(r"%([\w.-]+)", re.search(r"branch_computations=\{(.*?)\}", i.rest)[1])  # type: ignore[index]
                    todo += [(branch, around, times) for branch in branches]

    def _trips(self, loop: Instruction) -> int:
        """How often a loop runs: as the compiler notes it, or what its condition counts to."""
        if noted := re.search(r"known_trip_count\D*(\d+)", loop.rest):
            return int(noted[1])
        condition = {i.name: i for i in self.computations[_called(loop, "condition")]}
        last = next(i for i in condition.values() if i.root)
        if last.op == "compare" and "direction=LT" in last.rest:
            counter, limit = (condition[operand] for operand in last.operands)
            body = {i.name: i for i in self.computations[_called(loop, "body")]}
            place = re.search(r"index=(\d+)", counter.rest)
            result = next(i for i in body.values() if i.root)
            if limit.op == "constant" and place and result.op == "tuple":
                step = body[result.operands[int(place[1])]]
                steps = [body[x].operands[0] for x in step.operands if x in body and body[x].op == "constant"]
                if step.op == "add" and len(steps) == 1:
                    return -(-int(limit.operands[0]) // int(steps[0]))
        raise ValueError(f"loop {loop.name}: its program does not say how often it runs")

    @functools.cached_property
    def _users(self) -> dict[tuple[str, str], list[Instruction]]:
        users: dict[tuple[str, str], list[Instruction]] = {}
        for computation, instructions in self.computations.items():
            for i in instructions:
                for operand in set(i.operands):
                    users.setdefault((computation, operand), []).append(i)
        return users

    def is_cut(self, computation: str, name: str) -> bool:
        """Whether all that use a value take a slice of it only."""
        users = self._users.get((computation, name), [])
        return bool(users) and all(self._cuts(computation, name, user) for user in users)

    def _cuts(self, computation: str, name: str, user: Instruction) -> bool:
        if user.op == "dynamic-slice":
            return user.operands[0] == name
        if user.op in _SAME:
            return not user.root and self.is_cut(computation, user.name)
        if user.op != "fusion":
            return False
        inner = _called(user, "calls")
        parameters = {i.operands[0]: i.name for i in self.computations[inner] if i.op == "parameter"}
        places = [str(n) for n, operand in enumerate(user.operands) if operand == name]
        return all(self.is_cut(inner, parameters[place]) for place in places)


def traffic(text: str, domain: int) -> Traffic:
    """What a compiled step sends.

    Args:
      text: of `jax.stages.Compiled.as_text()`.
      domain: devices that fast links connect (a host of GPUs, a TPU slice), neighbours by number.

    Raises:
      ValueError: a construct of HLO that is not known here.
    """
    program = Program(text)
    total = dict.fromkeys(KINDS, 0.0)
    leaving = dict.fromkeys(KINDS, 0.0)
    seen: set[tuple[str, str]] = set()
    for i, computation, around, times in program.runs():
        if i.op.removesuffix("-start") not in KINDS:
            continue
        if channel := re.search(r"channel_id=(\d+)", i.rest):
            # A TPU's compiler writes one that goes on behind other work several times, on the same channel.
            if (around, channel[1]) in seen:
                continue
            seen.add((around, channel[1]))
        for kind, size in _parts(program, computation, i, i.op.removesuffix("-start")):
            inside, outside = _sent(kind, size, i.rest, domain)
            total[kind] += times * inside
            leaving[kind] += times * outside
    return Traffic(*({kind: sums[kind] for kind in KINDS if total[kind]} for sums in (total, leaving)))


def _parts(program: Program, computation: str, i: Instruction, kind: str) -> Iterator[tuple[str, int]]:
    """Kind and bytes of each array of a collective; bytes are those of the whole that a group gathers or adds up.

    A sum that devices then keep a part of is a reduce-scatter, which compilers for accelerators make of it.
    """
    sizes = [_bytes(array) for array in _ARRAY.findall(i.type)]
    if i.op in ("all-gather-start", "collective-permute-start", "send"):
        sizes = [max(sizes)]  # operand, result, and perhaps some counters
    if kind == "all-to-all":
        sizes = [sum(sizes)]
    for n, size in enumerate(sizes):
        if kind == "all-reduce":
            element = i.name
            if i.type.startswith("("):
                users = program.computations[computation]
                found = [
                    u.name for u in users
                    if u.op == "get-tuple-element" and u.operands == (i.name,) and re.match(rf", index={n}\b", u.rest)
                ]  # fmt: skip
                element = found[0] if found else ""
            yield ("reduce-scatter" if program.is_cut(computation, element) else kind), size
        elif kind == "reduce-scatter":
            yield kind, size * replica_groups(i.rest).shape[1]
        else:
            yield kind, size


def _sent(kind: str, size: float, rest: str, domain: int) -> tuple[float, float]:
    """Bytes that one device sends, and the part that leaves its domain."""
    if kind == "send":
        return size, size
    groups = _pairs(rest) if kind == "collective-permute" else replica_groups(rest)
    n = groups.shape[1]
    hosts = max(len(set(group // domain)) for group in groups)
    if kind == "collective-permute":
        return size, size if hosts > 1 else 0.0
    rounds = 2 if kind == "all-reduce" else 1
    inside = rounds * size * (n - 1) / n
    here = n / hosts
    if kind == "all-to-all":
        return inside, size * (n - here) / n
    return inside, rounds * size * (hosts - 1) / hosts / here


def replica_groups(rest: str) -> np.ndarray:
    """Which devices take part together, int [groups, n], of any of the ways in which XLA writes them."""
    if match := re.search(r"replica_groups=\{(\{[\d,{} ]*\})\}", rest):
        return np.array([[int(d) for d in group.split(",")] for group in re.findall(r"\{([\d, ]+)\}", match[1])])
    if match := re.search(r"replica_groups=\[(\d+),(\d+)\](<=\S*)", rest):
        return _iota(match[3].removeprefix("<=")).reshape(int(match[1]), int(match[2]))
    if match := re.search(r"replica_groups=mesh\[(.*?)\](?:, device_ids=\((.*?)\))? \{(.*?)\}", rest):
        names = re.findall(r"'([^']+)'=(\d+)", match[1])
        sizes = [int(size) for _, size in names]
        devices = _iota(match[2]) if match[2] else np.arange(math.prod(sizes))
        return _mesh_groups(devices, [name for name, _ in names], sizes, match[3])
    raise ValueError(f"replica groups in a form that is not known: {rest[:200]}")


def _iota(text: str) -> np.ndarray:
    """`[4,2]T(1,0)`: 0 to 7 as 4 x 2, transposed, in a row."""
    sizes = [int(size) for size in re.findall(r"\d+", text[: text.index("]")])]
    numbers = np.arange(math.prod(sizes)).reshape(sizes)
    order = re.search(r"T\(([\d,]+)\)", text)
    return (numbers.transpose([int(axis) for axis in order[1].split(",")]) if order else numbers).ravel()


def _mesh_groups(devices: np.ndarray, names: list[str], sizes: list[int], axes: str) -> np.ndarray:
    """Groups along some axes of a mesh; `'a':(2)4` is the part of axis a that has 4 places, each 2 apart from above."""
    shape: list[int] = []
    chosen: list[int] = []
    parts = {
        name: (int(before or 0), int(size or 0))
        for name, before, size in re.findall(r"'([^']+)'(?::\((\d+)\)(\d+))?", axes)
    }
    for name, size in zip(names, sizes, strict=True):
        before, part = parts.get(name, (0, 0))
        split = [before, part, size // (before * part)] if part else [size]
        if name in parts:
            chosen.append(len(shape) + (1 if part else 0))
        shape += split
    others = [axis for axis in range(len(shape)) if axis not in chosen]
    n = math.prod(shape[axis] for axis in chosen)
    return devices.reshape(shape).transpose(others + chosen).reshape(-1, n)


def _pairs(rest: str) -> np.ndarray:
    match = re.search(r"source_target_pairs=\{(.*?)\}\}", rest)
    if match is None:
        raise ValueError(f"a permutation without pairs: {rest[:200]}")
    return np.array([[int(d) for d in pair.split(",")] for pair in re.findall(r"\{?(\d+,\d+)", match[1])])


def _called(i: Instruction, attribute: str) -> str:
    match = re.search(rf"{attribute}=\{{?%?([\w.-]+)", i.rest)
    if match is None:
        raise ValueError(f"{i.op} {i.name}: calls nothing")
    return match[1]


def _split(text: str) -> tuple[str, str]:
    """What stands before the parenthesis that closes the open one, and what follows it."""
    depth = 1
    for at, character in enumerate(text):
        depth += {"(": 1, ")": -1}.get(character, 0)
        if not depth:
            return text[:at], text[at + 1 :]
    return text, ""


def _bytes(array: tuple[str, str]) -> int:
    kind, sizes = array
    bits = _BITS.get(kind) or int((re.findall(r"\d+", kind) or ["8"])[0])
    return math.prod(int(size) for size in sizes.split(",") if size) * bits // 8
