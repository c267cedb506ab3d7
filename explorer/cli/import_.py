"""Make a run of other people's weights, or of an archive: one file for each snapshot."""

import argparse
from pathlib import Path

from tqdm import tqdm

from explorer.cli.main import say
from explorer.runs import Run, Runs
from explorer.runs.archive import unpack
from explorer.runs.importing import bring_in, default_name, given, look
from explorer.tasks import KINDS


def add_arguments(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "files",
        nargs="+",
        type=Path,
        metavar="FILE",
        help=".safetensors, .safetensors.index.json, .pth or .pt; a folder of these; or the .zip of a whole run",
    )
    parser.add_argument("--task", help=f"{', '.join(sorted(KINDS))}; default: the one that its shapes fit")
    parser.add_argument("--name", help="of the run; default: that of the first file")
    parser.add_argument("--steps", metavar="N,N,...", help="of the files; default: from their metadata or names")
    parser.add_argument("--set", action="append", default=[], metavar="KEY=VALUE", help="what the files do not say")
    parser.add_argument("--config", type=Path, metavar="FILE", help="a JSON or YAML file that describes the model")
    parser.add_argument("--tokenizer", type=Path, metavar="FILE", help="a tokenizer.json, for a model of text")
    parser.add_argument("--dry-run", action="store_true", help="say what would be imported, and import nothing")


def run(options: argparse.Namespace) -> None:
    runs, files = Runs(options.checkpoints), options.files
    if len(files) == 1 and files[0].suffix == ".zip":
        _report(unpack(runs, files[0], options.name or ""))
        return
    told = given(options.task or "", options.set, options.steps or "", options.config, options.tokenizer)
    offer = look(files, told)
    say(offer.described)
    if options.dry_run:
        return
    name = options.name or default_name(files[0])
    with tqdm(total=len(offer.snapshots), unit="file", desc=name, delay=0.5) as bar:
        made = bring_in(runs, name, offer, bar.update)
    _report(made)


def _report(made: Run) -> None:
    n = len(made.info().snapshots)
    say(f"Imported: {n:,} snapshot{'s' * (n > 1)} in {made.folder}")
