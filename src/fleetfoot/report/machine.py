"""The rates of a machine, as a card for people."""

from __future__ import annotations

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from fleetfoot.machine.machine import Machine, Rate
from fleetfoot.machine.measured import MAP
from fleetfoot.report.summary import digits


def print_card(console: Console, machine: Machine) -> None:
    """Prints rates of operations, memory levels with their ridge points, and the cost of a start;
    each rate with its spread, the largest sample minus the smallest."""
    title = machine.cpu if machine.device == "cpu" else f"{machine.device} with {machine.cpu}"
    threads = f"{machine.threads} thread{'s' if machine.threads > 1 else ''}"
    if machine.instruction_set:
        threads += f", {machine.instruction_set}"
    console.print(Text(f"{title}: {threads}", "bold"), soft_wrap=True)
    console.print(_compute(machine))
    console.print(_levels(machine))
    for line in _words(machine):
        console.print(Text(line), soft_wrap=True)
    console.print()


def _table(*heads: str) -> Table:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for i, head in enumerate(heads):
        table.add_column(head, justify="right" if i else "left", no_wrap=True)
    return table


def _compute(machine: Machine) -> Table:
    table = _table("GFLOP/s", "matrix product", "±", "in registers", "±")
    for precision, found in machine.compute.items():
        registers = found.registers_flops_per_s
        table.add_row(
            precision,
            *_giga(found.matmul_flops_per_s),
            *(_giga(registers) if registers else ("-", "-")),
        )
    return table


def _levels(machine: Machine) -> Table:
    table = _table("GB/s", "size", "read", "±", "copy", "±", "ridge FLOP/byte")
    for level in machine.levels:
        table.add_row(
            level.name,
            _binary(level.capacity_bytes),
            *_giga(level.read_bytes_per_s),
            *_giga(level.copy_bytes_per_s),
            digits(machine.ridge_flops_per_byte(level.name), 2),
        )
    return table


def _binary(size: int | None) -> str:
    if size is None:
        return "-"
    return f"{size / (1 << 20):g} MiB" if size >= 1 << 20 else f"{size / (1 << 10):g} KiB"


def _giga(rate: Rate) -> tuple[str, str]:
    return digits(rate.value / 1e9), f"{100 * rate.spread:.0f} %"


def _start(machine: Machine) -> str:
    region = machine.region_s
    value, low, high = (digits(s * 1e6) for s in (region.value, region.low, region.high))
    took = f"{value} µs ({low} to {high})"
    if machine.device != "cpu":
        return f"launching a kernel takes {took}"
    if machine.threads == 1:
        return "one thread gives no work to others: starting a layer costs one call"
    return f"giving all threads work and waiting for them takes {took}"


def _words(machine: Machine) -> list[str]:
    moved = 3 * 4
    for side in MAP:
        moved *= side
    lines = [
        _start(machine),
        f"an element-wise pass moves {digits(machine.elementwise_bytes_per_s.value / 1e9)} GB/s: "
        f"x + y on a map of {' × '.join(map(str, MAP[1:]))} takes "
        f"{digits(moved / machine.elementwise_bytes_per_s.value * 1e6)} µs",
        f"below {digits(machine.ridge_flops_per_byte(), 2)} FLOP/byte, work on memory is bound by "
        "its bandwidth and not by arithmetic",
        f"measured {machine.measured_at}; a value is what the faster quartile of its samples "
        "reached",
    ]
    exceeded = [
        precision
        for precision, found in machine.compute.items()
        if found.fma_flops_per_s and not found.registers_flops_per_s
    ]
    if exceeded:
        lines.append(
            f"the rate in registers is no ceiling in {', '.join(exceeded)}: a matrix product ran "
            "faster"
        )
    if machine.unsteady:
        lines.insert(
            0,
            f"the machine did other work: the fastest sample of {len(machine.unsteady)} of "
            f"{len(machine.rates())} rates is far above the value; measure again with --fresh when "
            "it is quiet",
        )
    return lines
