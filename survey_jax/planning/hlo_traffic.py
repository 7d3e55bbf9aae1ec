"""Bytes that devices send one another in a step, read from the text of its compiled program (HLO).

Counted is what one device sends by a ring, the best algorithm known. Among n devices, to gather S bytes or to scatter
their sum takes S (n-1)/n from each; a sum that all of them keep takes twice that. What leaves a host (or a TPU slice)
is counted apart: each piece goes once to every other host, and the devices of a host share that work.
"""

import dataclasses
import math
import re
from collections.abc import Iterator

import numpy as np

# The kinds of collective; "send" goes to another slice by way of the host.
KINDS = ("all-gather", "reduce-scatter", "all-reduce", "all-to-all", "collective-permute", "send")
_BITS = {"pred": 8, "s4": 4, "u4": 4, "bf16": 16}
_COMPUTATION = re.compile(r"^(ENTRY )?%?([\w.-]+) \(.*\{\s*$")
_INSTRUCTION = re.compile(r"^\s*(?:ROOT )?%?([\w.-]+) = (\(.*?\)|\S+) ([\w-]+)\((.*?)\)(?:, (.*))?$")


@dataclasses.dataclass(frozen=True)
class Traffic:
    """Bytes that one device sends in a step: the `total` of each kind, and the part of it `leaving` its domain."""

    total: dict[str, float]
    leaving: dict[str, float]


@dataclasses.dataclass(frozen=True)
class _Instruction:
    """One line of a computation: `name = type op(operands), attributes`."""

    name: str
    type: str
    op: str
    operands: str
    attributes: str

    @property
    def kind(self) -> str:
        return self.op.removesuffix("-start")

    @property
    def operand_names(self) -> list[str]:
        return re.findall(r"%([\w.-]+)", self.operands)

    def called(self, attribute: str) -> str:
        """The computation that an attribute names. Raises ValueError if there is none."""
        if match := re.search(rf"{attribute}=\{{?%?([\w.-]+)", self.attributes):
            return match[1]
        raise ValueError(f"{self.op} {self.name}: no {attribute}")


def traffic(text: str, domain: int) -> Traffic:
    """What a compiled step sends.

    Args:
      text: the program, as `jax.stages.Compiled.as_text()` gives it.
      domain: how many devices fast links connect (a host of GPUs, a TPU slice); those with adjacent numbers.

    Raises:
      ValueError: the program has a construct that is not known here.
    """
    program, entry = _parse(text)
    total = dict.fromkeys(KINDS, 0.0)
    leaving = dict.fromkeys(KINDS, 0.0)
    seen = set()
    for i, computation, loop, times in _runs(program, entry):
        if i.kind not in KINDS:
            continue
        if channel := re.search(r"channel_id=(\d+)", i.attributes):
            # A TPU's compiler lists a collective that overlaps other work several times, on the same channel.
            if (loop, channel[1]) in seen:
                continue
            seen.add((loop, channel[1]))
        for kind, size in _arrays(program, computation, i):
            sent, left = _sent(kind, size, i.attributes, domain)
            total[kind] += times * sent
            leaving[kind] += times * left
    return Traffic(*({kind: sums[kind] for kind in KINDS if total[kind]} for sums in (total, leaving)))


def _parse(text: str) -> tuple[dict[str, list[_Instruction]], str]:
    """The instructions of each computation, and the name of the computation that the program starts with."""
    program: dict[str, list[_Instruction]] = {}
    current, entry = "", ""
    for line in text.splitlines():
        if match := _COMPUTATION.match(line):
            current = match[2]
            program[current] = []
            entry = current if match[1] else entry
        elif match := _INSTRUCTION.match(line):
            program[current].append(_Instruction(*match.groups("")))
    return program, entry


def _runs(program: dict[str, list[_Instruction]], entry: str) -> Iterator[tuple[_Instruction, str, str, int]]:
    """Every instruction, its computation, the loop body (or the entry) that calls it, and how often it runs."""
    todo = [(entry, entry, 1)]
    while todo:
        computation, loop, times = todo.pop()
        for i in program[computation]:
            yield i, computation, loop, times
            if i.op == "while":
                body = i.called("body")
                todo.append((body, body, times * _trips(program, i)))
            elif i.op in ("call", "async-start", "fusion"):
                todo.append((i.called("to_apply" if i.op == "call" else "calls"), loop, times))
            elif i.op == "conditional":
                branches = i.attributes.partition("branch_computations={")[2].partition("}")[0]
                todo += [(branch.strip(" %"), loop, times) for branch in branches.split(",")]


def _trips(program: dict[str, list[_Instruction]], loop: _Instruction) -> int:
    """How often a loop runs: as XLA notes it, or the one number to which the loop's condition counts (from 0, by 1)."""
    if noted := re.search(r"known_trip_count\D*(\d+)", loop.attributes):
        return int(noted[1])
    limits = [i.operands for i in program[loop.called("condition")] if i.op == "constant"]
    if len(limits) != 1 or not limits[0].isdigit():
        raise ValueError(f"loop {loop.name}: its program does not say how often it runs")
    return int(limits[0])


def _arrays(program: dict[str, list[_Instruction]], computation: str, i: _Instruction) -> Iterator[tuple[str, int]]:
    """The kind and the bytes of each array of a collective: the size of the whole that a group gathers or sums.

    XLA for CPUs sums whole arrays even where each device then keeps only a slice; such a sum is counted as the
    reduce-scatter that compilers for accelerators make of it.
    """
    sizes = [count * bits // 8 for count, bits in _shapes(i.type)]
    if i.op in ("all-gather-start", "collective-permute-start", "send"):
        sizes = [max(sizes)]  # the type lists the operand and counters, too
    if i.kind == "all-to-all":
        sizes = [sum(sizes)]
    if i.kind == "reduce-scatter":
        sizes = [size * replica_groups(i.attributes).shape[1] for size in sizes]
    users = [user for user in program[computation] if i.name in user.operand_names]
    for n, (size, (count, _)) in enumerate(zip(sizes, _shapes(i.type), strict=False)):
        kind = i.kind
        if kind == "all-reduce":
            element = users
            if i.type.startswith("("):
                names = [u.name for u in users if re.match(rf"index={n}\b", u.attributes)]
                element = [u for u in program[computation] if set(names) & set(u.operand_names)]
            kind = "reduce-scatter" if element and all(_slices(program, u, count) for u in element) else kind
        yield kind, size


def _slices(program: dict[str, list[_Instruction]], user: _Instruction, count: int) -> bool:
    """Whether an instruction takes a slice, or is a fusion that takes one of an array with so many elements."""
    inner = {i.name: i for i in program[user.called("calls")]} if user.op == "fusion" else {}
    sliced = [inner[i.operand_names[0]] for i in inner.values() if i.op == "dynamic-slice"]
    return user.op == "dynamic-slice" or any(_shapes(array.type)[0][0] == count for array in sliced)


def _sent(kind: str, size: float, attributes: str, domain: int) -> tuple[float, float]:
    """Bytes that one device sends, and those of them that leave its domain."""
    if kind == "send":
        return size, size
    groups = _pairs(attributes) if kind == "collective-permute" else replica_groups(attributes)
    n = groups.shape[1]
    hosts = max(len(set(group // domain)) for group in groups)
    if kind == "collective-permute":
        return size, size if hosts > 1 else 0.0
    rounds = 2 if kind == "all-reduce" else 1
    sent = rounds * size * (n - 1) / n
    here = n / hosts
    return sent, size * (n - here) / n if kind == "all-to-all" else rounds * size * (hosts - 1) / hosts / here


def replica_groups(attributes: str) -> np.ndarray:
    """The numbers of the devices that take part together, int [groups, n]. ValueError for an unknown notation."""
    if match := re.search(r"replica_groups=\{(\{[\d,{} ]*\})\}", attributes):
        return np.array([[int(d) for d in group.split(",")] for group in re.findall(r"\{([\d, ]+)\}", match[1])])
    if match := re.search(r"replica_groups=\[(\d+),(\d+)\]<=(\S*)", attributes):
        return _iota(match[3]).reshape(int(match[1]), int(match[2]))
    if match := re.search(r"replica_groups=mesh\[(.*?)\](?:, device_ids=\((.*?)\))? \{(.*?)\}", attributes):
        return _mesh_groups(*match.groups())
    raise ValueError(f"replica groups in a form that is not known: {attributes[:200]}")


def _iota(text: str) -> np.ndarray:
    """`[4,2]T(1,0)` stands for the numbers 0 to 7, arranged as 4 x 2 and transposed; returns them in one row."""
    sizes = [int(size) for size in re.findall(r"\d+", text[: text.index("]")])]
    numbers = np.arange(math.prod(sizes)).reshape(sizes)
    order = re.search(r"T\(([\d,]+)\)", text)
    return (numbers.transpose([int(axis) for axis in order[1].split(",")]) if order else numbers).ravel()


def _mesh_groups(mesh: str, device_ids: str | None, axes: str) -> np.ndarray:
    """Groups along some axes of a mesh; `'a':(2)4` is a part of axis a: of 2 x 4 x rest, the one in the middle."""
    shape: list[int] = []
    chosen: list[int] = []
    for name, size in re.findall(r"'([^']+)'=(\d+)", mesh):
        part = re.search(rf"'{re.escape(name)}'(?::\((\d+)\)(\d+))?", axes)
        before, middle = (int(part[1] or 1), int(part[2] or size)) if part else (1, 1)
        chosen += [len(shape) + 1] if part else []
        shape += [before, middle, int(size) // (before * middle)]
    others = [axis for axis in range(len(shape)) if axis not in chosen]
    devices = _iota(device_ids) if device_ids else np.arange(math.prod(shape))
    n = math.prod(shape[axis] for axis in chosen)
    return devices.reshape(shape).transpose(others + chosen).reshape(-1, n)


def _pairs(attributes: str) -> np.ndarray:
    """(from, to) of each device in a permutation, int [pairs, 2]."""
    pairs = re.search(r"source_target_pairs=\{(.*?)\}\}", attributes)
    if pairs is None:
        raise ValueError(f"a permutation without pairs: {attributes[:200]}")
    return np.array([[int(d) for d in pair.split(",")] for pair in re.findall(r"\d+,\d+", pairs[1])])


def _shapes(type_: str) -> list[tuple[int, int]]:
    """How many elements, and of how many bits, each array of an instruction's type has."""
    return [
        (math.prod(map(int, filter(None, shape.split(",")))), _BITS.get(dtype) or int(re.sub(r"\D", "", dtype) or 8))
        for dtype, shape in re.findall(r"(\w+)\[([\d,]*)\]", type_)
    ]
