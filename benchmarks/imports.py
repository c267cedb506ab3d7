"""How long somebody else's series of snapshots takes, from files to the first film, and how much memory.

    python -m benchmarks.imports [--snapshots N] [--vocabulary V]

The files are made first: a two-layer attention-only model of 5,000 tokens with layer norms and shortformer positions,
as TransformerLens names its weights.
"""

import argparse
import json
import resource
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path

import torch
from safetensors.torch import save_file

from explorer.model.transformer import ModelConfig, Transformer
from explorer.runs import Runs
from explorer.runs.importing import bring_in, look
from explorer.views.opening import open_scene
from explorer.views.subject import Subject


@contextmanager
def timed(what: str) -> Iterator[None]:
    began = time.perf_counter()
    yield
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 2**20
    print(f"{what:<28}{time.perf_counter() - began:7.2f} s   peak so far {peak:.2f} GiB", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--snapshots", type=int, default=100)
    parser.add_argument("--vocabulary", type=int, default=5000)
    options = parser.parse_args()
    settings = {"attn_bias": True, "unembed_bias": True, "layer_norm": True, "norm_scale": "variance"}
    cfg = ModelConfig(
        options.vocabulary, options.vocabulary, 1024, 2, 256, 8, 32, attn_only=True, positions="shortformer", **settings
    )
    model = Transformer(cfg, seed=0)
    with tempfile.TemporaryDirectory() as folder:
        files = Path(folder) / "files"
        files.mkdir()
        with timed(f"write {options.snapshots} files"):
            for i in range(options.snapshots):
                weights = {name: w.detach() * (1 + i / 100) for name, w in model.state_dict().items()}
                save_file(weights, files / f"checkpoint_{750 * i}.safetensors")
        told = {"n_ctx": 1024, "shortformer_pos": True, "normalization": "LN", "eps": 1e-5, "attn_only": True}
        (files / "config.json").write_text(json.dumps(told))
        size = (files / "checkpoint_0.safetensors").stat().st_size
        print(f"{asdict(cfg)}\n{size / 2**20:.1f} MiB a snapshot, {size * options.snapshots / 2**30:.2f} GiB in all")
        runs = Runs(Path(folder) / "runs")
        with timed("look at the files"):
            offer = look([files])
        with timed("import, with losses"):
            run = bring_in(runs, "series", offer)
        with timed("open the run"):
            subject = Subject.load(run)
        print(f"{len(subject.frames)} snapshots shown; {' '.join(subject.problems)}")
        with timed("open again, first film"):
            film = open_scene("overview?run=series", runs).film()
        with timed("pack the film"):
            packed = film.packed
        print(f"{len(packed) / 2**20:.1f} MiB, {len(film.steps)} frames, {torch.get_num_threads()} threads")


if __name__ == "__main__":
    main()
