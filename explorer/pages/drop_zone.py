"""Where files of other people's weights are dropped, looked at, and made a run."""

import tempfile
from pathlib import Path

import streamlit as st

from explorer.errors import UserError
from explorer.pages import state
from explorer.pages.plain import plain
from explorer.runs import Run
from explorer.runs.archive import unpack
from explorer.runs.importing import bring_in, default_name, given, look
from explorer.tasks import KINDS

LARGEST = 256  # MiB of one file
KINDS_OF_FILE = ["safetensors", "pth", "pt", "json", "yaml", "zip"]
DESCRIPTIONS = (".json", ".yaml")  # of files that say more about the others
FOUND_OUT = "find out"


def drop_zone() -> None:
    """The drop zone, what the dropped files are, and a button that makes a run of them."""
    with st.expander("Bring in a model of your own", icon=":material/upload_file:"):
        files = st.file_uploader(
            f"One file for each snapshot, or the archive of a run; up to {LARGEST} MiB each. Add config.json and "
            "tokenizer.json if there are any.",
            KINDS_OF_FILE,
            accept_multiple_files=True,
            max_upload_size=LARGEST,
            key="import.files",
        )
        with st.container(horizontal=True, vertical_alignment="bottom"):
            task = st.selectbox("Task", [FOUND_OUT, *sorted(KINDS)], key="import.task", width=200)
            settings = st.text_input(
                "What the files do not say", placeholder="n_heads=8 act_fn=gelu", key="import.settings", width=280
            )
            steps = st.text_input("Steps", placeholder="0, 100, 200", key="import.steps", width=160)
        if not files:
            return
        with tempfile.TemporaryDirectory() as folder:
            paths = [Path(folder) / Path(file.name).name for file in files]
            try:
                if len(set(paths)) < len(paths):
                    raise UserError("Two of the files have one name; rename one of them.")
                for path, file in zip(paths, files, strict=True):
                    path.write_bytes(file.getbuffer())
                _offer(paths, "" if task == FOUND_OUT else task, settings, steps)
            except UserError as error:
                st.error(plain(str(error)))


def _offer(paths: list[Path], task: str, settings: str, steps: str) -> None:
    archives = [path for path in paths if path.suffix == ".zip"]
    if archives and len(paths) > 1:
        raise UserError("An archive holds a whole run; drop it alone.")
    indices = [path for path in paths if path.name.endswith(".index.json")]
    weights = indices or [path for path in paths if path.suffix not in DESCRIPTIONS]
    if not weights:
        raise UserError("There are no weights among these files; add .safetensors, .pth or .pt files.")
    if not archives:
        described = [path for path in paths if path.suffix in DESCRIPTIONS and path not in indices]
        config = next((path for path in described if path.name != "tokenizer.json"), None)
        offer = look(weights, given(task, settings.split(), steps, config))
        st.markdown("  \n".join(map(plain, offer.described.split("\n"))))
    with st.container(horizontal=True, vertical_alignment="bottom"):
        name = st.text_input("Name", placeholder=default_name(weights[0]), key="import.name", max_chars=64, width=280)
        pressed = st.button("Import", type="primary", icon=":material/upload_file:")
    if not pressed:
        return
    with st.spinner("Importing…"):
        if archives:
            run = unpack(state.runs(), archives[0], name.strip())
        else:
            run = bring_in(state.runs(), name.strip() or default_name(weights[0]), offer)
    _open(run)


def _open(run: Run) -> None:
    state.choose_run(run.name)
    st.switch_page(st.session_state.pages["overview"])
