"""Write one snapshot for TransformerLens, or a whole run as one archive."""

import argparse
import json
from pathlib import Path

from explorer.cli.main import say
from explorer.errors import UserError, printable, quoted
from explorer.film.export import size_text
from explorer.interchange.transformerlens import exported
from explorer.runs import Runs
from explorer.runs.archive import pack
from explorer.runs.files import WriteError, write_tensors, write_text

FORMS = {"transformerlens": ".safetensors", "archive": ".zip"}  # and how their files end


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("name", metavar="RUN")
    parser.add_argument("--step", type=int, help="of the snapshot; default: the last")
    parser.add_argument("--to", default="transformerlens", help=f"{' or '.join(FORMS)}; default: transformerlens")
    parser.add_argument("file", type=Path, metavar="FILE", help="FILE.safetensors, or FILE.zip for an archive")


def run(options: argparse.Namespace) -> None:
    run, file = Runs(options.checkpoints).open(options.name), options.file
    if options.to not in FORMS:
        raise UserError(f"--to {quoted(options.to)} is no format; choose {' or '.join(FORMS)}.")
    if file.suffix != FORMS[options.to]:
        raise UserError(f"{printable(file)} should end in {FORMS[options.to]} for {options.to}; rename it.")
    if options.to == "archive":
        if options.step is not None:
            raise UserError("An archive holds all snapshots; leave --step out.")
        say(f"{printable(file)}: {size_text(pack(run, file))}")
        return
    steps = run.steps()
    if not steps:
        raise UserError(f"{run.name} has no snapshot; train it first.")
    step = steps[-1] if options.step is None else options.step
    weights, arguments = exported(run.info().model, run.snapshot(step))
    config = file.with_suffix(".json")
    try:
        write_tensors(file, weights, {"run": run.name, "step": str(step)})
        write_text(config, json.dumps(arguments, indent=2) + "\n")
    except WriteError as error:
        raise UserError(error.sentence("export it again")) from error
    say(f"{printable(file)}: {run.name} at step {step:,}, {size_text(file.stat().st_size)}")
    say(f"{printable(config)}: the keyword arguments of TransformerBridgeConfig")
