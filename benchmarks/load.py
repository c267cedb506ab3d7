"""Many viewers of one server: errors, waiting times and memory.

    python -m benchmarks.load                # 20 viewers for two minutes
    python -m benchmarks.load 40 300         # 40 viewers for five minutes

Each viewer speaks to the server as a browser does, over a websocket of its own: it opens a page of a run, waits for the
film, lets its sample grow, looks at it for a while, and opens another. The server is read-only and starts anew. Its
memory is read every second; it should level off, because all that viewers compute is kept in caches of bounded size.
"""

import asyncio
import os
import random
import statistics
import subprocess
import sys
import time
from collections import Counter
from dataclasses import dataclass, field

import psutil
from streamlit.proto.Alert_pb2 import Alert
from streamlit.proto.BackMsg_pb2 import BackMsg
from streamlit.proto.Element_pb2 import Element
from streamlit.proto.ForwardMsg_pb2 import ForwardMsg
from streamlit.util import calc_hash
from websockets.asyncio.client import ClientConnection, connect

from benchmarks.player import ROOT, serve
from explorer.runs import Runs
from explorer.views import all_views

PORT = 8577
LOOKS = (0.5, 4.0)  # seconds that a viewer looks at a film
LONGEST = 60.0  # seconds that a viewer waits for a page
OPTIONS = {  # besides the defaults
    "losses": ["show=kinds", "show=examples", "smoothing=0.98"],
    "heads": ["show=mean", "show=heads", "of=scores", "of=gradient"],
    "activations": ["form=scatter", "form=training", "hook=blocks.0.hook_resid_post"],
    "fourier": ["show=circles", "show=neurons", "show=progress", "show=pairs"],
    "cut": ["do=each", "do=each&mode=mean", "mode=mean"],
    "circuits": [],
    "compare": ["align=loss"],
}


@dataclass
class Seen:
    """What all viewers have met."""

    waits: list[float] = field(default_factory=list)  # seconds from a click to the film
    errors: Counter[str] = field(default_factory=Counter)
    still_growing: int = 0  # films whose sample was not complete when the viewer left
    received: int = 0  # bytes


class Viewer:
    """A session. Its place is a page and a query, as in the address of a browser."""

    def __init__(self, socket: ClientConnection, chance: random.Random, seen: Seen):
        self._socket, self._chance, self._seen = socket, chance, seen
        self._runs, self._views = Runs(ROOT / "checkpoints").names(), list(all_views())
        self._growing = ""  # the fragment that the page runs again and again while its sample grows

    async def look_until(self, end: float) -> None:
        is_first = True
        while time.monotonic() < end:
            view = self._chance.choice(self._views)
            options = self._chance.choice(["", *OPTIONS.get(view, [])])
            query = f"run={self._chance.choice(self._runs)}" + (f"&{options}" if options else "")
            await self._open(view, query, not is_first)
            await asyncio.sleep(self._chance.uniform(*LOOKS))
            is_first = False

    async def _open(self, view: str, query: str, is_history: bool) -> None:
        """Open a page and wait until its film is complete."""
        message, self._growing = BackMsg(), ""
        message.rerun_script.query_string = query
        message.rerun_script.page_script_hash = calc_hash("" if view == self._views[0] else view)
        message.rerun_script.is_history_navigation = is_history
        began = time.monotonic()
        try:
            async with asyncio.timeout(LONGEST):
                await self._socket.send(message.SerializeToString())
                await self._finished(f"{view}?{query}")
                self._seen.waits.append(time.monotonic() - began)
                while self._growing:
                    await asyncio.sleep(0.1)
                    message.rerun_script.fragment_id = self._growing
                    message.rerun_script.is_auto_rerun = True
                    await self._socket.send(message.SerializeToString())
                    await self._finished(f"{view}?{query}")
        except TimeoutError:
            if self._growing:
                self._seen.still_growing += 1
            else:
                self._seen.errors[f"{view}?{query}: no film within {LONGEST:g} s"] += 1

    async def _finished(self, place: str) -> None:
        """Receive until the script has finished."""
        growing = ""
        while True:
            data = await self._socket.recv()
            assert isinstance(data, bytes)
            self._seen.received += len(data)
            message = ForwardMsg.FromString(data)
            match message.WhichOneof("type"):
                case "auto_rerun":
                    growing = message.auto_rerun.fragment_id
                case "delta":
                    self._note(place, message.delta.new_element)
                case "script_finished":
                    if message.script_finished == ForwardMsg.FINISHED_FRAGMENT_RUN_SUCCESSFULLY:
                        return
                    if message.script_finished != ForwardMsg.FINISHED_EARLY_FOR_RERUN:
                        self._growing = growing
                        return
                    growing = ""

    def _note(self, place: str, element: Element) -> None:
        """Count an element if it is an error."""
        if element.WhichOneof("type") == "exception":
            self._seen.errors[f"{place}: {element.exception.type} {element.exception.message}"] += 1
        elif element.WhichOneof("type") == "alert" and element.alert.format == Alert.ERROR:
            self._seen.errors[f"{place}: {element.alert.body}"] += 1


async def watch_memory(process: psutil.Process, used: list[float]) -> None:
    """Append the server's memory in MiB every second."""
    while True:
        used.append(process.memory_info().rss / 2**20)
        await asyncio.sleep(1)


async def measured(server: subprocess.Popen, n_viewers: int, seconds: float) -> tuple[Seen, list[float]]:
    seen, used = Seen(), list[float]()
    watching = asyncio.create_task(watch_memory(psutil.Process(server.pid), used))
    end = time.monotonic() + seconds

    async def view(seed: int) -> None:
        address = f"ws://localhost:{PORT}/_stcore/stream"
        async with connect(address, max_size=None, subprotocols=["streamlit"], origin=f"http://localhost:{PORT}") as ws:
            await Viewer(ws, random.Random(seed), seen).look_until(end)

    await asyncio.gather(*map(view, range(n_viewers)))
    watching.cancel()
    return seen, used


def main(n_viewers: int = 20, seconds: float = 120.0) -> None:
    os.environ["EXPLORER_READ_ONLY"] = "1"
    server = serve("streamlit_app.py", PORT, ROOT / "checkpoints")
    try:
        seen, used = asyncio.run(measured(server, n_viewers, seconds))
    finally:
        server.terminate()
        server.wait()
    waits = sorted(seen.waits)
    at = {share: waits[int(share * (len(waits) - 1))] for share in (0.5, 0.95, 1)}
    print(f"{n_viewers} viewers, {seconds:g} s: {len(waits):,} pages, {sum(seen.errors.values())} errors")
    print(f"to a first film: {at[0.5]:.2f} s median, {at[0.95]:.2f} s at 95 %, {at[1]:.2f} s at most")
    print(f"{seen.still_growing} films were still growing after {LONGEST:g} s")
    print(f"sent {seen.received / len(waits) / 2**20:.1f} MiB a page")
    quarters = [statistics.mean(used[i * len(used) // 4 : (i + 1) * len(used) // 4]) for i in range(4)]
    print("memory of the server, MiB, mean of each quarter:", ", ".join(f"{part:,.0f}" for part in quarters))
    for error, n in seen.errors.most_common():
        print(f"{n} x {error}")


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
