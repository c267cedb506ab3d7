"""Files that are damaged, or made to do harm, offered to import: each is one sentence, and nothing is left of it."""

import io
import json
import pickle
import random
import struct
import zipfile
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import save

from explorer.errors import UserError
from explorer.model.transformer import ModelConfig, Transformer
from explorer.runs import Run, Runs
from explorer.runs.archive import pack, unpack
from explorer.runs.importing import bring_in, look

CONFIG = ModelConfig(9, 9, 6, d_model=8, n_heads=2, d_head=4, d_mlp=8)
WEIGHTS = {name: weight.detach().clone() for name, weight in Transformer(CONFIG, seed=5).state_dict().items()}
EACH = 75  # damaged files of each kind


def brought_in(runs: Runs, file: Path) -> Run:
    return unpack(runs, file) if file.suffix == ".zip" else bring_in(runs, "brought-in", look([file]))


def refused(folder: Path, file: Path) -> str:
    """The sentence with which a file is refused; nothing may be left of it."""
    before = sorted(folder.rglob("*"))
    runs = Runs(folder / "runs")
    with pytest.raises(UserError) as caught:
        brought_in(runs, file)
    left = [path for path in sorted(folder.rglob("*")) if path not in before and path != runs.root]
    assert left == []
    sentence = str(caught.value)
    assert sentence.endswith(".")
    assert "\n" not in sentence
    assert len(sentence) < 600
    return sentence


def damaged(data: bytes, rng: random.Random) -> bytes:
    """The bytes, cut short, lengthened, or with some of them changed."""
    how = rng.randrange(4)
    if how == 0:
        return data[: rng.randrange(len(data))]
    if how == 1:
        at = rng.randrange(len(data))
        return data[:at] + rng.randbytes(rng.randrange(1, 64)) + data[at:]
    changed = bytearray(data)
    for _ in range(rng.choice((1, 4, 32))):
        changed[rng.randrange(len(data) if how == 2 else min(len(data), 400))] = rng.randrange(256)
    return bytes(changed)


def pickled(held: object) -> bytes:
    file = io.BytesIO()
    torch.save(held, file)
    return file.getvalue()


@pytest.mark.parametrize("kind", ["safetensors", "pth", "json", "zip"])
def test_damaged_files_are_refused_or_come_in_whole(tmp_path, small, kind):
    """A change may by chance leave a file that is right; then all of it comes in."""
    rng = random.Random(kind)
    archive = tmp_path / "archive.zip"
    pack(small, archive)
    right = {"safetensors": save(WEIGHTS), "pth": pickled(WEIGHTS), "zip": archive.read_bytes()}
    right["json"] = json.dumps({"n_heads": 2, "act_fn": "relu", "normalization_type": None, "d_head": 4}).encode()
    n_refused = 0
    for attempt in range(EACH):
        folder = tmp_path / str(attempt)
        folder.mkdir()
        data = damaged(right[kind], rng)
        file = folder / f"weights.{'safetensors' if kind == 'json' else kind}"
        file.write_bytes(right["safetensors"] if kind == "json" else data)
        if kind == "json":
            file.with_suffix(".json").write_bytes(data)
        try:
            run = brought_in(Runs(folder / "runs"), file)
        except UserError:
            refused(folder, file)
            n_refused += 1
        else:
            assert run.ensemble(problems=[]).steps
    assert n_refused > EACH / 4


def header(tensors: object, data: bytes = b"", length: int | None = None) -> bytes:
    text = tensors if isinstance(tensors, bytes) else json.dumps(tensors).encode()
    return struct.pack("<Q", len(text) if length is None else length) + text + data


def f32(*shape: int, end: int | None = None, dtype: str = "F32") -> dict:
    n = 4
    for size in shape:
        n *= size
    return {"dtype": dtype, "shape": list(shape), "data_offsets": [0, n if end is None else end]}


HEADERS = {
    "claims a header of 126 MB": header({}, length=126 * 10**6),
    "claims a header of all memory": header({}, length=2**63),
    "has no tensors": header({}),
    "is empty": b"",
    "claims a huge tensor": header({"embed.W_E": f32(2**40, 2**20)}),
    "has a shape that overflows": header({"embed.W_E": f32(2**62, 8, end=0)}),
    "has an odd type": header({"embed.W_E": f32(2, dtype="F8_E4M3")}, bytes(8)),
    "has a type that is none": header({"embed.W_E": f32(2, dtype="__class__")}, bytes(8)),
    "names a tensor twice": header(b'{"a":%b,"a":%b}' % ((json.dumps(f32(2)).encode(),) * 2), bytes(8)),
    "has tensors that overlap": header({"a": f32(2), "b": f32(2)}, bytes(8)),
    "is nested too deeply": header(b"[" * 100_000),
    "has a name of a megabyte": header({"x" * 2**20: f32(2)}, bytes(8)),
    "has HTML for a name": header({"<img src=x onerror=alert(1)>": f32(2)}, bytes(8)),
}


@pytest.mark.parametrize("what", HEADERS)
def test_a_header_that_lies_is_refused(tmp_path, what):
    file = tmp_path / "lies.safetensors"
    file.write_bytes(HEADERS[what])
    refused(tmp_path, file)


class _Harm:
    """Makes a file when it is unpickled."""

    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self):
        return (Path.touch, (self.path,))


def strange_tensors() -> dict[str, Callable[[], object]]:
    return {
        "a huge tensor of one number": lambda: {**WEIGHTS, "embed.W_E": torch.ones(1).expand(2**20, 2**18)},
        "a sparse tensor": lambda: {**WEIGHTS, "embed.W_E": torch.ones(9, 8).to_sparse()},
        "a tensor on no device": lambda: {**WEIGHTS, "embed.W_E": torch.empty(9, 8, device="meta")},
        "a list": lambda: [1, 2, 3],
        "nothing": lambda: OrderedDict(),
        "objects within objects": lambda: _nested(40),
    }


def _nested(depth: int) -> object:
    return WEIGHTS if depth == 0 else {"inner": _nested(depth - 1)}


@pytest.mark.filterwarnings("ignore:Sparse invariant")
@pytest.mark.parametrize("what", strange_tensors())
def test_a_pickled_file_that_holds_something_else_is_refused(tmp_path, what):
    file = tmp_path / "strange.pth"
    file.write_bytes(pickled(strange_tensors()[what]()))
    refused(tmp_path, file)


@pytest.mark.parametrize("form", ["torch", "plain", "compressed"])
def test_nothing_is_unpickled_that_could_run(tmp_path, form):
    file, harmed = tmp_path / "harm.pth", tmp_path / "harmed"
    held = {**WEIGHTS, "harm": _Harm(harmed)}
    if form == "plain":
        file.write_bytes(pickle.dumps(held))
    else:
        file.write_bytes(pickled(held if form == "torch" else WEIGHTS))
    if form == "compressed":
        with zipfile.ZipFile(file) as stored:
            parts = {name: stored.read(name) for name in stored.namelist()}
        with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
            for name, data in parts.items():
                archive.writestr(name, data)
    refused(tmp_path, file)
    assert not harmed.exists()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("config.yaml", "!!python/object/apply:os.mkdir ['{harm}']"),
        ("config.yaml", "a: &a [x, x]\nb: &b [*a, *a]\nact_fn: !!python/name:os.system"),
        ("config.json", "[1, 2]"),
        ("config.json", '{"n_heads": 2, "n_heads": 3}'),
        ("config.json", "[" * 100_000),
        ("config.json", '{"act_fn": "<script>alert(1)</script>"}'),
        ("tokenizer.json", "{}"),
        ("tokenizer.json", "no JSON"),
        ("tokenizer.json", '{"model": {"type": "BPE", "vocab": {"a": -1}, "merges": [["a", "b"]]}}'),
        ("weights.safetensors.index.json", '{"weight_map": {"embed.W_E": "../../etc/passwd"}}'),
        ("weights.safetensors.index.json", '{"weight_map": {"embed.W_E": "/etc/x.safetensors"}}'),
        (
            "weights.safetensors.index.json",
            '{"weight_map": {"embed.W_E": "weights.safetensors", "b": "weights.safetensors"}}',
        ),
        ("weights.safetensors.index.json", "{}"),
    ],
)
def test_a_file_beside_the_weights_that_does_harm_is_refused(tmp_path, name, text):
    file, harm = tmp_path / "weights.safetensors", tmp_path / "harmed"
    file.write_bytes(save(WEIGHTS))
    (tmp_path / name).write_text(text.replace("{harm}", str(harm)))
    refused(tmp_path, tmp_path / name if name.endswith("index.json") else file)
    assert not harm.exists()


def test_a_yaml_file_that_refers_to_itself_a_billion_times_is_read_in_time(tmp_path):
    file = tmp_path / "weights.safetensors"
    file.write_bytes(save(WEIGHTS))
    levels = [f"l{i}: &l{i} [{', '.join([f'*l{i - 1}'] * 9) if i else 'x'}]" for i in range(12)]
    (tmp_path / "config.yaml").write_text("\n".join([*levels, "act_fn: *l11", "n_heads: 2"]))
    assert look([file]).info.model.act_fn == "relu"


def test_a_tokenizer_of_100_mb_is_refused_before_it_is_read(tmp_path):
    file = tmp_path / "weights.safetensors"
    file.write_bytes(save(WEIGHTS))
    with (tmp_path / "tokenizer.json").open("wb") as large:
        large.truncate(100 * 10**6)
    assert "16 MiB" in refused(tmp_path, file)


ENTRIES = {
    "climbs out": {"../run.json": b"{}"},
    "is absolute": {"/tmp/run.json": b"{}"},
    "climbs within": {"r/snapshots/../../x": b""},
    "is a script": {"r/run.json": b"{}", "r/x.py": b""},
    "holds two runs": {"a/run.json": b"{}", "b/run.json": b"{}"},
    "has no run.json": {"r/metrics.safetensors": b""},
    "has a run.json that is none": {"r/run.json": b"[]"},
    "has a name with HTML": {"<b>/run.json": b"{}"},
    "uses backslashes": {"r\\run.json": b"{}"},
    "is empty": {},
}


@pytest.mark.parametrize("what", ENTRIES)
def test_an_archive_that_is_not_of_a_run_is_refused(tmp_path, what):
    file = tmp_path / "hostile.zip"
    with zipfile.ZipFile(file, "w") as archive:
        for name, data in ENTRIES[what].items():
            archive.writestr(name, data)
    refused(tmp_path, file)


def test_an_archive_that_explodes_is_refused(tmp_path):
    file = tmp_path / "bomb.zip"
    with zipfile.ZipFile(file, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("r/run.json", b"{}")
        archive.writestr("r/metrics.safetensors", bytes(10**7))
    assert "compressed" in refused(tmp_path, file)


def test_an_archive_goes_out_and_comes_back(tmp_path, small):
    file = tmp_path / "run.zip"
    assert pack(small, file) == file.stat().st_size
    run = unpack(Runs(tmp_path / "runs"), file)
    assert run.name == small.name
    assert run.info() == small.info()
    assert run.steps() == small.steps()
    for name, values in small.metrics().items():
        assert torch.equal(run.metrics()[name].nan_to_num(), values.nan_to_num())
    assert not run.resume_file.exists()
    assert "already a file or folder small" in refused(tmp_path, file)
