"""Files are dropped on the page Runs, in a real browser."""

import torch
from playwright.sync_api import expect
from safetensors.torch import save_file

from explorer.model.transformer import ModelConfig, Transformer
from explorer.runs import Runs
from tests.browser import SECOND, free_port, needs_chromium, served, stands_at

pytestmark = needs_chromium


def test_dropped_files_are_described_refused_or_made_a_run(chromium, tmp_path):
    files, page = [], chromium.new_context(viewport={"width": 1400, "height": 1000}).new_page()
    page.set_default_timeout(60 * SECOND)
    for step in (0, 100):
        model = Transformer(ModelConfig(9, 9, 12, d_model=8, n_heads=2, d_head=4, d_mlp=8), seed=step)
        files.append(tmp_path / f"mine_{step}.safetensors")
        save_file({name: weight.detach() for name, weight in model.state_dict().items()}, files[-1])
    (tmp_path / "broken_7.safetensors").write_bytes(b"<b>no weights</b>")
    (tmp_path / "runs").mkdir()
    port = free_port()
    with served(tmp_path / "runs", port):
        page.goto(f"http://localhost:{port}/runs")
        page.get_by_text("Bring in a model of your own").click()
        drop = page.locator("input[type=file]")
        drop.set_input_files([tmp_path / "broken_7.safetensors"])
        problem = page.get_by_test_id("stAlert").filter(has_text="broken_7")
        expect(problem).to_contain_text("is damaged")
        page.get_by_role("button", name="Remove broken_7.safetensors").click()
        expect(problem).to_have_count(0)
        drop.set_input_files(files)
        expect(page.get_by_text("2 snapshots, steps 0 to 100")).to_be_visible(timeout=30 * SECOND)
        expect(page.get_by_text("Assumed, as nothing says otherwise")).to_contain_text("positions=learned, act_fn=relu")
        page.get_by_role("button", name="Import", exact=True).click()
        page.wait_for_url("**/overview?run=mine-0&*")
        stands_at(page, 0)
        page.locator(".film").focus()
        page.keyboard.press("End")
        stands_at(page, 100)
    run = Runs(tmp_path / "runs").open("mine-0")
    assert torch.equal(run.snapshot(100)["embed.W_E"], model.embed.W_E)
    page.context.close()
