"""Run folders with something wrong in them, drawn at random, for the tests of what is made of them."""

import contextlib
import json
import os
import random
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from explorer.runs import Run, Runs, recorder
from explorer.runs.files import CHECKSUM
from explorer.settings import TrainingConfig
from explorer.tasks import TASKS

# One run of each task, stopped before its last step: (settings of the task, of the model, of the training).
TINY = {"d_model": 8, "n_heads": 2, "d_head": 4, "d_mlp": 8}
KINDS: dict[str, tuple[dict[str, Any], dict[str, Any], dict[str, Any]]] = {
    "addition": ({"n_digits": 1}, TINY, {"finite": 20, "test_batch_size": 8, "test_every": 2}),
    "skip-trigram": ({"n_triggers": 3, "n_letters": 16}, {**TINY, "n_layers": 1, "attn_only": True}, {}),
    "induction": ({"stretch": 3, "interval": 5}, {**TINY, "n_layers": 2, "attn_only": True}, {}),
    "modular-addition": ({"p": 5, "train_share": 0.5}, {**TINY, "n_layers": 1}, {"test_every": 3}),
}
STEPS, DONE, EVERY = 9, 6, 2
TEXTS = ["", "x", "..", "../../outside", "a\0b", "<img src=x onerror=alert(1)>", "\u202eabc\u2066", ":material/home:"]
TEXTS += ["[x](javascript:alert(1))", "x" * 10_000, "Å" * 70, "\ud800", "NaN", "1e999", "-0"]
VALUES: list[Any] = [None, True, False, -1, 0, 1, 2, 7, 2**31, 2**63, 10**30, 1e-320, 1e308, -1e308, 0.5, [], {}, [[]]]
VALUES += [[1, 1], [-1], [0, 2, 4, 10**9], {"name": "addition"}, float("nan"), float("inf"), *TEXTS]


def make_runs(root: Path) -> None:
    """Train the run of each task, with its name."""
    for name, (task, model, training) in KINDS.items():
        kind = TASKS[name](**task)
        settings = TrainingConfig(steps=STEPS, batch_size=4, snapshot_every=EVERY, **training)
        run = recorder.create(Runs(root), name, kind, kind.model_config(**model), settings, threads=1)
        updates: list[object] = []
        recorder.train(run, on_update=updates.append, should_stop=lambda seen=updates: len(seen) == DONE)


# --- Mutations. Each is a function of a generator and the folder of a run ---


def _file(rng: random.Random, run: Path) -> Path:
    """One of the files, a snapshot as often as all others together."""
    others = [path for path in sorted(run.glob("*.*")) if path.is_file() and path.stat().st_size]
    return rng.choice(rng.choice([sorted(run.glob("snapshots/*")), others]))


def _tensors(rng: random.Random, run: Path) -> Path:
    return rng.choice([*sorted(run.glob("snapshots/*")), run / "metrics.safetensors", run / "resume.safetensors"])


def flipped_bytes(rng: random.Random, run: Path) -> None:
    path = _file(rng, run)
    data = bytearray(path.read_bytes())
    for _ in range(rng.choice([1, 1, 3, 40])):
        data[rng.randrange(len(data))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def flipped_header(rng: random.Random, run: Path) -> None:
    path = _tensors(rng, run)
    data = bytearray(path.read_bytes())
    data[rng.randrange(8 + int.from_bytes(data[:8], "little"))] ^= 1 << rng.randrange(8)
    path.write_bytes(data)


def other_length(rng: random.Random, run: Path) -> None:
    path = _file(rng, run)
    data = path.read_bytes()
    path.write_bytes(
        data[: rng.randrange(len(data))] if rng.random() < 0.6 else data + rng.randbytes(rng.choice([1, 8]))
    )


def other_kind_of_file(rng: random.Random, run: Path) -> None:
    path, outside = _file(rng, run), run.parent.parent / "outside"
    path.unlink()
    match rng.randrange(8):
        case 0:
            path.mkdir()
        case 1:
            path.symlink_to(outside / rng.choice(["secret.txt", "nowhere", "snapshot.safetensors"]))
        case 2:
            path.symlink_to(path.name)  # to itself
        case 3:
            os.mkfifo(path)
        case 4:
            path.write_bytes(rng.randbytes(rng.choice([0, 7, 8, 9, 3000])))
        case 5:
            path.symlink_to("/dev/zero")
        case 6:
            shutil.rmtree(run / "snapshots")
            (run / "snapshots").symlink_to(outside)
        case 7:
            link = run / rng.choice(["train.log", ".lock", ".stop"])
            link.unlink(missing_ok=True)
            link.symlink_to(outside / "secret.txt")


def swapped_files(rng: random.Random, run: Path) -> None:
    one, other = _file(rng, run), _file(rng, run)
    a, b = one.read_bytes(), other.read_bytes()
    one.write_bytes(b)
    other.write_bytes(a)


def file_of_another_run(rng: random.Random, run: Path) -> None:
    path = _file(rng, run)
    other = run.parent.parent / "runs" / rng.choice(list(KINDS)) / path.relative_to(run)
    if other.exists():
        path.write_bytes(other.read_bytes())


def odd_snapshot_names(rng: random.Random, run: Path) -> None:
    path = rng.choice(sorted(run.glob("snapshots/*")))
    steps = rng.choice(["000001", "0000002", "999999999", "9" * 30, "-00002", "00002", "000003"])
    shutil.copy(path, path.with_name(f"step-{steps}.safetensors"))
    if rng.random() < 0.5:
        path.unlink()


def claims(rng: random.Random, run: Path) -> None:
    """A header that claims another length, shape, type or place."""
    path = _tensors(rng, run)
    data = path.read_bytes()
    end = 8 + int.from_bytes(data[:8], "little")
    header = json.loads(data[8:end])
    name = rng.choice([name for name in header if name != "__metadata__"])
    entry = header[name]
    match rng.randrange(7):
        case 0:
            path.write_bytes(rng.choice([2**63, 2**40, 2**24, end, 0]).to_bytes(8, "little") + data[8:])
            return
        case 1:
            entry["shape"] = rng.choice([[2**62], [2**32, 2**32], [-1], [0, 2**62], [], [1.5], "x", [10**30], None])
        case 2:
            entry["dtype"] = rng.choice(["F64", "F32", "BF16", "I64", "U8", "BOOL", "F4", "C64", None, ["F32"]])
        case 3:
            entry["data_offsets"] = rng.choice([[0, 2**62], [-4, 0], [4, 0], [0], None, [0, 0], [True, 4]])
        case 4:
            entry[rng.choice(["extra", "dtype", "shape"])] = rng.choice(VALUES[:30])
        case 5:
            header[rng.choice(["__metadata__", name, "new"])] = rng.choice(VALUES[:30])
        case 6:
            text = json.dumps(header)
            twice = json.dumps({name: entry})[1:-1]
            _write(path, rng.choice([f"{text[:-1]},{twice}}}", "[" * 100_000, text[:-1], f"[{text}]"]), data[end:])
            return
    _write(path, json.dumps(header), data[end:])


def _write(path: Path, header: str, data: bytes) -> None:
    text = header.encode()
    path.write_bytes(len(text).to_bytes(8, "little") + text + data)


def other_tensors(rng: random.Random, run: Path) -> None:
    """Names, shapes, types and metadata as somebody may have written them."""
    for path in rng.choice([[_tensors(rng, run)], sorted(run.glob("snapshots/*"))]):
        tensors, metadata = _load(path)
        name = rng.choice(sorted(tensors))
        match rng.randrange(9):
            case 0:
                tensors[rng.choice(["extra", "", "../x", "<b>", "\u202e"])] = tensors.pop(name)
            case 1:
                del tensors[name]
            case 2:
                tensors["extra"] = torch.zeros(3)
            case 3:
                tensors = {f"module.{one}": values for one, values in tensors.items()}
            case 4:
                kinds = [torch.int64, torch.bool, torch.float64, torch.bfloat16, torch.float16, torch.uint8]
                tensors[name] = tensors[name].to(rng.choice(kinds))
            case 5:
                tensors[name] = tensors[name].reshape(-1)
            case 6:
                tensors[name] = tensors[name][:-1] if tensors[name].ndim else tensors[name][None]
            case 7:
                metadata = rng.choice([{}, {**metadata, "step": rng.choice(TEXTS[:8])}])
            case 8:
                key = rng.choice(["task", "model", "training"])
                metadata[key] = rng.choice([json.dumps(value) for value in VALUES] + TEXTS[:8])
        _save(path, tensors, metadata)


def bad_numbers(rng: random.Random, run: Path) -> None:
    paths = sorted(run.glob("snapshots/*"))
    for path in rng.choice([[rng.choice(paths)], [paths[0]], [paths[-1]], paths]):
        tensors, metadata = _load(path)
        value = rng.choice([float("nan"), float("inf"), -float("inf"), 1e10, 1e30, 3e38, 1e3, 0.0])
        for name in rng.choice([[rng.choice(sorted(tensors))], sorted(tensors)]):
            flat = tensors[name].reshape(-1)
            tensors[name] = flat.index_fill(0, torch.tensor([rng.randrange(len(flat))]), value).view_as(tensors[name])
            if rng.random() < 0.3:
                tensors[name] = tensors[name] * value
        _save(path, tensors, metadata)


def bad_losses(rng: random.Random, run: Path) -> None:
    path = run / "metrics.safetensors"
    tensors, metadata = _load(path)
    match rng.randrange(6):
        case 0:
            n = rng.choice([0, 1, 2, 4])
            tensors = {name: values[:n].contiguous() for name, values in tensors.items()}
        case 1:
            tensors = {name: torch.cat([values] * 3) for name, values in tensors.items()}
        case 2 if "test_step" in tensors:
            steps = tensors["test_step"]
            tensors["test_step"] = rng.choice([steps.flip(0), steps - 1, steps * 0, steps + 2**40, steps * 2])
        case 3:
            tensors = {name: values[:0] if name.startswith("test_") else values for name, values in tensors.items()}
        case _:
            value = rng.choice([float("nan"), float("inf"), -float("inf"), 1e300, -1e30, 1e-300, 0.0])
            first = rng.randrange(DONE)
            for values in tensors.values():
                if values.is_floating_point() and rng.random() < 0.7:
                    values[first : rng.choice([first + 1, DONE])] = torch.tensor(value, dtype=torch.float64).to(values)
    _save(path, tensors, metadata)


def other_settings(rng: random.Random, run: Path) -> None:
    """Another value somewhere in run.json."""
    path = run / "run.json"
    values = json.loads(path.read_text())
    place, name = rng.choice(list(_places(values)))
    match rng.randrange(6):
        case 0:
            del place[name]
        case 1:
            place["new"] = rng.choice(VALUES)
        case 2 if type(place[name]) is int:
            place[name] += rng.choice([-1, 1, 100, 10**7])
        case _:
            place[name] = rng.choice(VALUES)
    path.write_text(json.dumps(values))


def _places(values: dict[str, Any]) -> Iterator[tuple[dict[str, Any], str]]:
    for name, value in values.items():
        yield values, name
        if isinstance(value, dict):
            yield from _places(value)


def hostile_texts(rng: random.Random, run: Path) -> None:
    text = rng.choice(TEXTS)
    (run / "about.md").write_bytes(text.encode(errors="surrogatepass") * rng.choice([1, 50]))
    (run / "train.log").write_bytes(text.encode(errors="surrogatepass"))
    values = json.loads((run / "run.json").read_text())
    values |= {"message": rng.choice(VALUES), "preset": rng.choice(VALUES), "status": rng.choice(["failed", "running"])}
    (run / "run.json").write_text(json.dumps(values))


def _load(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    with safe_open(path, framework="pt") as file:
        metadata = file.metadata() or {}
    metadata.pop(CHECKSUM, None)
    return load_file(path), metadata


def _save(path: Path, tensors: dict[str, Tensor], metadata: dict[str, str]) -> None:
    safe = {name: text.encode(errors="replace").decode() for name, text in metadata.items()}
    save_file({name: values.contiguous().clone() for name, values in tensors.items()}, path, safe)


DO_NOT_FIT = (OSError, ValueError, IndexError, TypeError, KeyError, RuntimeError, SafetensorError)
MUTATIONS: tuple[Callable[[random.Random, Path], None], ...] = (
    *(flipped_bytes, flipped_header, other_length, other_kind_of_file, swapped_files, file_of_another_run),
    *(
        odd_snapshot_names,
        claims,
        other_tensors,
        bad_numbers,
        bad_losses,
        other_settings,
        other_settings,
        hostile_texts,
    ),
)


def mutated(rng: random.Random, run: Path, number: int) -> str:
    """Change a run in one way, in turn, now and then in two.

    Returns:
        The names of the changes, for the message of a test that fails.
    """
    chosen, second = MUTATIONS[number % len(MUTATIONS)], rng.choice(MUTATIONS)
    chosen(rng, run)
    if rng.random() < 0.9:
        return chosen.__name__
    with contextlib.suppress(*DO_NOT_FIT):
        second(rng, run)
    return f"{chosen.__name__} and {second.__name__}"


def weights_of(run: Run) -> dict[str, dict[str, Tensor]]:
    """The weights in each snapshot file, by the file's name."""
    return {path.name: load_file(path) for path in sorted(run.snapshots_folder.iterdir())}
