"""The command `lull simulate`."""

import json
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import typer
from rich.console import Console

from lull.cli import progress
from lull.cli.simulate import inputs, options, runs
from lull.cli.simulate.told import Told, document, show
from lull.simulate.setting import GIB, Setting
from lull.simulate.trace import Trace, TraceError, read_csv

PIPE_WIDTH = 100
"""Columns of the table where no terminal says how wide it is."""
EXTRA = ("matplotlib", "numpy")
NEEDS_EXTRA = "this needs an extra: pip install 'lull[view]'"


@options.grouped
def simulate(
    of: options.TraceOptions,
    machine: options.MachineOptions,
    compared: options.PolicyOptions,
    out: options.OutputOptions,
) -> None:
    """Show what Lull and other systems would keep, draw and delay on your own trace of requests.

    Lull is the very planner that the controller runs; other policies are models of their documented defaults,
    and `clairvoyant` is what perfect foresight could not go below. All figures are simulated, and energy is
    modelled: what is assumed stands below the table. What may be given several times may be given with
    commas too. JSON keys carry their units (host_hours, energy_wh); `policies` has one entry a run, named by
    its objective or hosts where these are given.

    Exit codes: 0 fine, 1 a trace or a file is not right (the message names the line), 2 wrong usage.
    """
    if bool(of.trace) == of.synthetic:
        raise typer.BadParameter("give either --trace FILE.csv or --synthetic")
    if of.seed is not None and not of.synthetic:
        raise typer.BadParameter("--seed is of the synthetic trace: give it with --synthetic")
    options.assert_once(of.trace or [])
    setting = _setting(machine, of.seed or 0)
    wanted = _wanted(compared, setting)
    with _told_errors():
        _assert_writable(out.json_file, out.html_file)
        told = _told(_trace(of, setting), setting, machine.gpu, wanted, curve=out.html_file is not None)
        _tell(told, out)


def _setting(machine: options.MachineOptions, seed: int) -> Setting:
    try:
        return Setting(
            power=inputs.draw(machine.gpu, machine.context_watts, machine.node_watts),
            gpu_memory_bytes=inputs.gpu_memory_bytes(machine.gpu, machine.gpu_memory_gib),
            load_seconds=machine.load_seconds,
            host_start_seconds=machine.host_start_seconds,
            gpus_per_node=machine.gpus_per_node,
            nodes=machine.nodes.value,
            seed=seed,
        )
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error


def _wanted(compared: options.PolicyOptions, setting: Setting) -> list[runs.Run]:
    policies = options.policies(compared.policy)
    percents = options.numbers(compared.delayed_percent, "--delayed-percent", 0, 100)
    hosts = options.numbers(compared.fixed_hosts, "--fixed-hosts", 1, 1000)
    options.assert_apply(policies, percents, hosts)
    return runs.wanted(policies, setting, percents, hosts)


@contextmanager
def _told_errors() -> Iterator[None]:
    """Turn what is wrong with files into a message and exit code 1."""
    try:
        yield
    except BrokenPipeError:
        raise  # whoever read has enough: no error to tell
    except (TraceError, OSError) as error:
        typer.echo(f"Error: {error}", err=True)
        raise typer.Exit(1) from error
    except ModuleNotFoundError as error:
        if error.name not in EXTRA:
            raise
        typer.echo(f"Error: {NEEDS_EXTRA} ({error})", err=True)
        raise typer.Exit(1) from error


def _assert_writable(*files: Path | None) -> None:
    """Refuse a file in no folder, before the time of a simulation is spent for it."""
    for file in files:
        if file and not file.parent.is_dir():
            raise FileNotFoundError(f"{file} cannot be written: {file.parent} is no folder")


def _trace(of: options.TraceOptions, setting: Setting) -> Trace:
    memory_bytes = round(of.memory_gib * GIB)
    if of.trace:
        found = read_csv(of.trace, memory_bytes=memory_bytes)
    else:
        found = inputs.synthetic_trace(setting.seed, of.tenants or 1, memory_bytes)
    found = inputs.sized(found, inputs.sizes(of.models)) if of.models else found
    found = inputs.dealt(found, of.tenants) if of.trace and of.tenants else found
    inputs.assert_fits(found, setting.gpu_memory_bytes)
    return found


def _told(trace: Trace, setting: Setting, gpu: str, wanted: list[runs.Run], *, curve: bool) -> Told:
    outcomes = []
    with progress.shown() as tell:
        for at, run in enumerate(wanted, start=1):
            tell(f"simulating {run.name}, {at} of {len(wanted)}")
            outcomes.append(runs.outcome(trace, run))
        tell("the bound at other shares")
        bound = runs.bound_curve(trace, setting) if curve else []
    return Told(trace, setting, gpu, wanted, outcomes, bound)


def _tell(told: Told, out: options.OutputOptions) -> None:
    text = json.dumps(document(told), indent=2, allow_nan=False)
    if out.json_file:
        out.json_file.write_text(text + "\n")
    if out.html_file:
        from lull.cli.simulate.page import html  # matplotlib is of an extra

        out.html_file.write_text(html(told))
    if out.output:
        print(text)
        return
    console = Console()
    show(console if console.is_terminal else Console(width=PIPE_WIDTH), told)
    for written in (out.json_file, out.html_file):
        if written:
            typer.echo(str(written))
