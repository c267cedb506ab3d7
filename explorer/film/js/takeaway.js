// The menu of a panel: its picture, its numbers and its video, as files, and its numbers as a table.

import { csv, csvOfAll } from "./csv.js";
import { element } from "./dom.js";
import { download, fileName, placeOf } from "./files.js";
import { Menu } from "./menu.js";
import { count } from "./numbers.js";
import { Origin } from "./origin.js";
import { onCanvas, picture } from "./picture.js";
import { Sheet } from "./sheet.js";
import { svgOf } from "./svg.js";
import { recorded, videoType } from "./video.js";

const MOST_ROWS = 3_000_000; // of a file; about 100 MB
const CSV = "text/csv;charset=utf-8";

export class TakeAway {
  sheet = /** @type {Sheet | Origin | null} */ (null); // what is open beneath the panel

  /** @param {import("./panel.js").Panel} panel */
  constructor(panel) {
    this.panel = panel;
    this.menu = new Menu("take", `Take away: ${panel.panel.title}`, () => this.choices());
    this.said = element("span", { class: "said", role: "status" });
    this.root = element("div", { class: "takeaway" }, this.said, this.menu.root);
  }

  /** @returns {import("./menu.js").Choice[]} */
  choices() {
    const { panel } = this;
    /** @type {import("./menu.js").Choice[]} */
    const choices = [
      { label: "Picture of this frame (PNG)", act: () => this.png() },
      { label: "Drawing of this frame (SVG)", act: () => this.save(svgOf(picture(panel)), "svg", "image/svg+xml") },
      { label: "Numbers of this frame (CSV)", act: () => this.save(csv(panel.table(panel.player.index)), "csv", CSV) },
      { label: "Numbers of all frames (CSV)", act: () => this.all() },
    ];
    const type = videoType();
    if (type && panel.player.film.steps.length > 1)
      choices.push({ label: "Video of the film (WebM)", act: () => this.video(type) });
    for (const [label, Kind] of /** @type {const} */ ([
      ["Show the numbers", Sheet],
      ["Show where this comes from", Origin],
    ]))
      choices.push({ label, act: () => this.toggle(Kind), isOn: this.sheet instanceof Kind });
    return choices;
  }

  /**
   * @param {BlobPart | BlobPart[]} content
   * @param {string} ending
   * @param {string} type
   * @param {number | null} [step] null: all steps
   */
  save(content, ending, type, step = this.panel.player.here) {
    const { panel } = this;
    const name = fileName(placeOf(panel.player.linked), panel.panel.id, step);
    download(new Blob(Array.isArray(content) ? content : [content], { type }), `${name}.${ending}`);
  }

  png() {
    const step = this.panel.player.here;
    onCanvas(picture(this.panel), 2).toBlob((blob) => {
      if (blob) this.save(blob, "png", "image/png", step);
      else this.said.textContent = "This picture is too large for the browser. Take the SVG.";
    });
  }

  all() {
    const { panel } = this;
    const { steps } = panel.player.film;
    const rows = panel.table(0).rows.length * steps.length;
    if (rows <= MOST_ROWS)
      this.save(
        csvOfAll(steps, (frame) => panel.table(frame)),
        "csv",
        CSV,
        null,
      );
    else this.said.textContent = `${count(rows)} rows are too many for one file. Take the numbers of single frames.`;
  }

  /** @param {string} type */
  async video(type) {
    const { panel } = this;
    const cancel = element("button", { type: "button", class: "switch" }, "cancel");
    cancel.onclick = () => panel.player.pause();
    const share = element("span", { "aria-hidden": "true" }); // every percent would be said
    this.said.replaceChildren(share, cancel);
    const blob = await recorded(panel, type, (done) => {
      const text = `recording ${Math.floor(100 * done)} %`;
      if (share.textContent !== text) share.textContent = text;
    });
    this.said.replaceChildren();
    if (blob) this.save(blob, "webm", blob.type, null);
  }

  /**
   * Open what is not open, and close what is.
   * @param {typeof Sheet | typeof Origin} Kind
   */
  toggle(Kind) {
    const wasOpen = this.sheet instanceof Kind;
    this.sheet?.root.remove();
    this.sheet = wasOpen ? null : new Kind(this.panel);
    if (!this.sheet) return;
    this.sheet.update();
    this.panel.root.append(this.sheet.root);
  }
}
