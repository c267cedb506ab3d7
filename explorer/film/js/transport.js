// The bar with which the reader plays, steps and seeks. It shows the step and copies a link to what is on screen.

import { element, icon } from "./dom.js";
import { memory } from "./memory.js";
import { count } from "./numbers.js";

/** @typedef {import("./types.d.ts").FilmData} FilmData */

const SPEEDS = [0.25, 0.5, 1, 2, 4];
const CONFIRMED = 1600; // ms for which the page says that the link was copied

/**
 * The address of a scene with another step. Everything else is left as it is written.
 * @param {string} href
 * @param {number} step
 */
export const linkTo = (href, step) => {
  const url = new URL(href);
  const parameters = url.search.replace(/^\?/, "").split("&");
  const place = parameters.findIndex((parameter) => parameter.startsWith("step="));
  parameters[place < 0 ? parameters.length : place] = `step=${step}`;
  url.search = parameters.filter(Boolean).join("&");
  return url.href;
};

/**
 * A beat of a story, as its writers have it: a headline, and the scene of an address with one panel.
 * @param {string} href
 * @param {string} panel its id
 */
export const beatOf = (href, panel) => {
  const { pathname, search } = new URL(href);
  const view = pathname.split("/").filter(Boolean).at(-1) ?? "overview";
  return `## Headline\n\n\`\`\`scene\n${view}${search}\npanel: ${panel}\n\`\`\`\n`;
};

export class Transport {
  /**
   * @param {import("./player.js").Player} player
   * @param {boolean} linked whether the page's address can be opened by others
   */
  constructor(player, linked) {
    this.player = player;
    const { keys } = player.controls;
    this.playButton = this.button("play", `Play, ${keys.play}`, () => player.toggle());
    this.playButton.title = `Play or pause (${keys.play})`;
    this.playButton.append(element("kbd", {}, keys.play));
    this.range = element("input", { type: "range", min: 0, step: 1, "aria-label": "Snapshot" });
    this.range.oninput = () => {
      player.pause();
      player.seek(Number(this.range.value));
    };
    this.range.onchange = () => player.report();
    this.speeds = element("select", { "aria-label": "Speed", title: "Speed" });
    for (const speed of SPEEDS) this.speeds.append(element("option", { value: speed }, `${speed}×`));
    this.speeds.value = String(memory.speed);
    this.speeds.onchange = () => {
      memory.speed = Number(this.speeds.value);
      this.speeds.blur();
    };
    this.step = element("span");
    this.frame = element("small");
    this.root = element(
      "div",
      { class: "transport", role: "group", "aria-label": "Playback" },
      this.button("back", `Step back (${keys.back})`, () => player.nudge(-1)),
      this.playButton,
      this.button("forward", `Step forward (${keys.forward})`, () => player.nudge(1)),
      this.speeds,
      this.range,
      element("div", { class: "where" }, this.step, this.frame),
    );
    if (linked) {
      const link = () => linkTo(location.href, player.here);
      this.root.append(
        this.copier("link", "link", "Copy link to what is on screen", link),
        this.copier("beat", "beat", "Copy as a beat of a story", () => beatOf(link(), player.stage.first())),
      );
    }
    this.root.append(this.button("full", "Fill the screen, for a talk (F)", () => player.stage.toggle()));
  }

  /**
   * @param {import("./dom.js").Icon} name
   * @param {string} label
   * @param {() => void} act
   */
  button(name, label, act) {
    const made = element("button", { type: "button", class: name, title: label, "aria-label": label }, icon(name));
    made.onclick = act;
    return made;
  }

  /**
   * A button that copies a text; where the clipboard cannot be written, a field to copy it from.
   * @param {import("./dom.js").Icon} name
   * @param {string} what is copied, in a word
   * @param {string} label
   * @param {() => string} text asked when it is copied: the address has the step that was reported last, which is
   *   behind while the film plays or is dragged
   */
  copier(name, what, label, text) {
    const status = element("span", { class: "said", role: "status" });
    const holder = element("div", { class: "copier" });
    const button = this.button(name, label, async () => {
      const copy = text();
      try {
        await navigator.clipboard.writeText(copy);
        status.textContent = `${what[0].toUpperCase()}${what.slice(1)} copied`;
        setTimeout(() => (status.textContent = ""), CONFIRMED);
      } catch {
        const field = element("textarea", { rows: copy.split("\n").length, readonly: "", "aria-label": label });
        field.value = copy;
        field.onblur = () => setTimeout(() => field.remove()); // not at once: removing it may be what blurs it
        field.onkeydown = (event) => event.key === "Escape" && field.blur();
        holder.append(field);
        field.select();
      }
    });
    holder.append(button, status);
    return holder;
  }

  /**
   * @param {number} index
   * @param {Pick<FilmData, "steps" | "each">} film
   */
  say(index, { steps, each }) {
    this.range.value = String(index);
    this.range.setAttribute("aria-valuetext", `step ${steps[index]}`);
    this.step.textContent = `step ${count(steps[index])}`;
    this.frame.textContent = `${each} ${index + 1} of ${steps.length}`;
  }

  /** @param {"play" | "pause"} name what the button does now */
  offer(name) {
    this.playButton.firstChild?.replaceWith(icon(name));
    this.playButton.setAttribute(
      "aria-label",
      `${name === "play" ? "Play" : "Pause"}, ${this.player.controls.keys.play}`,
    );
  }
}
