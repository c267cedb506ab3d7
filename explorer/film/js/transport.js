// The bar with which the reader plays, steps and seeks. It shows the step and copies a link to what is on screen.

import { element, icon } from "./dom.js";
import { memory } from "./memory.js";
import { count } from "./numbers.js";

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

export class Transport {
  /**
   * @param {import("./player.js").Player} player
   * @param {boolean} linked whether the page's address can be opened by others
   */
  constructor(player, linked) {
    this.player = player;
    this.playButton = this.button("play", "Play (Space)", () => player.toggle());
    this.playButton.setAttribute("aria-label", "Play, Space");
    this.playButton.append(element("kbd", {}, "Space"));
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
      this.button("back", "Step back (←)", () => player.nudge(-1)),
      this.playButton,
      this.button("forward", "Step forward (→)", () => player.nudge(1)),
      this.speeds,
      this.range,
      element("div", { class: "where" }, this.step, this.frame),
    );
    if (linked) this.root.append(this.copier());
    this.root.append(this.button("full", "Fill the screen, for a talk (F)", () => player.fill()));
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
   * A button that copies a link to what is on screen; where the clipboard cannot be written, a field to copy it from.
   * The address itself has the step that was reported last, which is behind while the film plays or is dragged.
   */
  copier() {
    const status = element("span", { class: "said", role: "status" });
    const holder = element("div", { class: "copier" });
    const button = this.button("link", "Copy link to what is on screen", async () => {
      const link = linkTo(location.href, this.player.here);
      try {
        await navigator.clipboard.writeText(link);
        status.textContent = "Link copied";
        setTimeout(() => (status.textContent = ""), CONFIRMED);
      } catch {
        const field = element("input", { type: "text", readonly: "", "aria-label": "Link to what is on screen" });
        field.value = link;
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
   * @param {number[]} steps
   */
  say(index, steps) {
    this.range.value = String(index);
    this.range.setAttribute("aria-valuetext", `step ${steps[index]}`);
    this.step.textContent = `step ${count(steps[index])}`;
    this.frame.textContent = `snapshot ${index + 1} of ${steps.length}`;
  }

  /** @param {"play" | "pause"} name what the button does now */
  offer(name) {
    this.playButton.firstChild?.replaceWith(icon(name));
  }
}
