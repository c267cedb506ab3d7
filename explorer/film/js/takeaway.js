// The menu of a panel: its picture, its numbers and its video, as files, and its numbers as a table.

import { csv, csvOfAll, csvSize } from "./csv.js";
import { element } from "./dom.js";
import { download, fileName, placeOf } from "./files.js";
import { memory } from "./memory.js";
import { Menu } from "./menu.js";
import { count, sizeText } from "./numbers.js";
import { Origin } from "./origin.js";
import { onCanvas, picture } from "./picture.js";
import { Sheet } from "./sheet.js";
import { svgOf } from "./svg.js";
import { mostBytes, recorded, videoType } from "./video.js";

const MOST_ROWS = 3_000_000; // of a file; about 100 MB
const LARGE = 200_000; // bytes of a file whose size is told before it is taken
const NO_VIDEO = "This browser cannot record WebM. Open the page in Chromium, Chrome, Edge or Firefox.";
const CSV = "text/csv;charset=utf-8";

/**
 * The size of a large file, in words; empty for a small one.
 * @param {number | undefined} bytes undefined: there is no file
 * @param {string} [how] exact it is
 */
const large = (bytes = 0, how = "") => (bytes < LARGE ? "" : how + sizeText(bytes));

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
    const { steps } = panel.player.film;
    const now = () => panel.table(panel.player.index);
    /** @type {import("./menu.js").Choice[]} */
    const choices = [
      {
        label: "Picture of this frame (PNG)",
        act: () => this.png(),
        size: async () => large((await this.shot())?.size),
      },
      {
        label: "Drawing of this frame (SVG)",
        act: () => this.save(svgOf(picture(panel)), "svg", "image/svg+xml"),
        size: () => large(new Blob([svgOf(picture(panel))]).size),
      },
      {
        label: "Numbers of this frame (CSV)",
        act: () => this.save(csv(now()), "csv", CSV),
        size: () => large(csvSize(now()), "about "),
      },
      {
        label: "Numbers of all frames (CSV)",
        act: () => this.all(),
        size: () => large(csvSize(now(), steps), "about "),
      },
    ];
    if (steps.length > 1)
      choices.push({
        label: "Video of the film (WebM)",
        act: () => this.video(),
        size: () => (videoType() ? large(mostBytes(memory.speed), "at most ") : ""),
      });
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

  /**
   * The picture of this frame as a file.
   * @returns {Promise<Blob | null>} null if it is too large for the browser
   */
  shot() {
    return new Promise((resolve) => onCanvas(picture(this.panel), 2).toBlob(resolve));
  }

  async png() {
    const step = this.panel.player.here;
    const blob = await this.shot();
    if (blob) this.save(blob, "png", "image/png", step);
    else this.said.textContent = "This picture is too large for the browser. Take the SVG.";
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

  async video() {
    const { panel } = this;
    const type = videoType();
    if (!type) {
      this.said.textContent = NO_VIDEO;
      return;
    }
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
