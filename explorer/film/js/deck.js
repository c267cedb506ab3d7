// A deck: slides with words beside one large panel, and the player that shows the film of each (see deck.py).

import { element } from "./dom.js";
import { count } from "./numbers.js";
import { Player } from "./player.js";
import { clamp, nearest } from "./scales.js";
import { LEAST_TYPE, magnification } from "./stage.js";
import { Timeline } from "./timeline.js";

/** @typedef {import("./types.d.ts").DeckData} DeckData */
/** @typedef {import("./types.d.ts").FilmData} FilmData */
/** @typedef {import("./types.d.ts").PanelData} PanelData */

const GLIDE = 900; // ms from one slide to the next
const REVEAL = 2400; // ms in which what was covered goes by
const SCRUB = 120; // pixels of the slim timeline
const NARROW = "(max-width: 900px)"; // as in deck.css: the words are above the film
const IN_APP = 0.8; // of the height of the window, which the app's bars share
const IN_FILE = 0.96;
const MARGINS = 64; // pixels above and below the film on a full screen

/** @type {import("./player.js").Controls} */
const CONTROLS = {
  keys: { play: "P", back: ",", forward: "." },
  shortcuts: [
    ["← →, Space", "the beat before or after"],
    ["r, Enter", "reveal what is covered"],
    ["p", "play or pause"],
    [", .", "one snapshot back or forward"],
    ["Home, End", "the first or the last snapshot"],
    ["f", "fill the screen, or leave it"],
    ["?", "these keys"],
  ],
};

/**
 * The panels of a film that a slide shows: one large, and below it a slim timeline, unless the large one is a timeline.
 * @param {FilmData} film
 * @param {string} id of the large panel
 * @param {(kind: string) => boolean} isTimeline
 * @returns {FilmData}
 */
export const shown = (film, id, isTimeline) => {
  const large = film.panels.filter((panel) => panel.id === id);
  const slim = large.some(({ kind }) => isTimeline(kind)) ? [] : film.panels.filter(({ kind }) => isTimeline(kind));
  return {
    steps: film.steps,
    look: [],
    origin: film.origin,
    each: film.each,
    panels: [
      ...large.map((panel) => ({ ...panel, span: 12 })),
      ...slim.slice(0, 1).map((panel) => ({ ...panel, span: 12, height: SCRUB, slim: true })),
    ],
  };
};

/**
 * The last frame up to a veil.
 * @param {number[]} steps
 * @param {number} veil a step
 */
export const lastBefore = (steps, veil) => Math.max(0, steps.filter((step) => step <= veil).length - 1);

export class Deck {
  deck = /** @type {DeckData} */ (/** @type {unknown} */ (null)); // set by `show`
  at = 0;
  revealed = new Set();
  drawn = /** @type {FilmData | null} */ (null); // the film on screen
  moves = 0;
  onSlide = (/** @type {number} */ _at) => {};

  /**
   * @param {HTMLElement} root
   * @param {Record<string, import("./types.d.ts").PanelClass>} kinds of panels, by name
   * @param {boolean} linked whether links into the app lead somewhere
   */
  constructor(root, kinds, linked) {
    this.root = root;
    this.kinds = kinds;
    this.linked = linked;
    const button = (/** @type {string} */ name, /** @type {string} */ text, /** @type {() => void} */ act) => {
      const made = element("button", { type: "button", class: name }, text);
      made.onclick = act;
      return made;
    };
    this.where = element("p", { class: "where" });
    this.headline = element("h2");
    this.text = element("div", { class: "prose" });
    this.more = element("div", { class: "prose more", "aria-live": "polite" });
    this.revealing = button("reveal", "Reveal (R)", () => this.reveal());
    this.links = element("p", { class: "links" });
    this.dots = element("span", { class: "dots" });
    const back = button("back", "← Back", () => this.go(this.at - 1));
    const next = button("next", "Next →", () => this.go(this.at + 1));
    this.ends = { back, next };
    const words = element("section", { class: "words", "aria-label": "Story" });
    words.append(this.where, this.headline, this.text, this.revealing, this.more, this.links);
    words.append(element("nav", { "aria-label": "Beats" }, back, next, this.dots));
    const film = element("div", { class: "film", tabindex: -1 });
    root.append(words, film);
    this.player = new Player(film, kinds, false, CONTROLS);
    this.player.stage.toggle = () => this.fill();
    this.player.bindings = {
      ArrowLeft: () => this.go(this.at - 1),
      PageUp: () => this.go(this.at - 1),
      ArrowRight: () => this.go(this.at + 1),
      PageDown: () => this.go(this.at + 1),
      " ": () => this.go(this.at + 1),
      ",": () => this.player.nudge(-1),
      ".": () => this.player.nudge(1),
      p: () => this.player.toggle(),
      r: () => this.reveal(),
      R: () => this.reveal(),
      Enter: () => this.reveal(),
    };
    film.addEventListener("painted", () => this.say());
    words.addEventListener("click", (event) => this.follow(/** @type {HTMLElement} */ (event.target)));
    this.resizing = new ResizeObserver(() => this.measure());
    this.resizing.observe(root);
  }

  close() {
    this.resizing.disconnect();
    this.player.close();
  }

  /** @type {import("./types.d.ts").SlideData} */
  get slide() {
    return this.deck.slides[this.at];
  }

  /** Whether the future is covered, or an answer is kept back. */
  get isVeiled() {
    return Boolean(this.slide.reveal || this.slide.veil !== null) && !this.revealed.has(this.at);
  }

  fill() {
    const root = /** @type {Document | ShadowRoot} */ (this.root.getRootNode());
    if (root.fullscreenElement) document.exitFullscreen();
    else this.root.requestFullscreen();
  }

  /**
   * @param {DeckData} deck
   * @param {number} at the slide to open at
   */
  show(deck, at) {
    const isSame = this.deck?.title === deck.title && this.at === at;
    this.deck = deck;
    if (isSame && this.drawn) {
      if (!this.root.classList.contains("waiting")) return this.speak(); // a film of another slide has come
    } else this.revealed.clear();
    this.dots.replaceChildren(
      ...deck.slides.map((slide, i) => {
        const dot = element("button", { type: "button", "aria-label": `Beat ${i + 1}: ${slide.headline}` });
        dot.onclick = () => this.go(i);
        return dot;
      }),
    );
    this.at = clamp(at, 0, deck.slides.length - 1);
    this.open();
  }

  /** @param {number} at */
  go(at) {
    if (at < 0 || at >= this.deck.slides.length || at === this.at) return;
    this.at = at;
    this.open();
    this.onSlide(at);
  }

  /** Show the slide: its words at once, its film at the step shown before, from which it glides. */
  open() {
    const { player, slide, deck } = this;
    this.speak();
    const film = deck.films[slide.film];
    this.root.classList.toggle("waiting", !film);
    if (!film) return;
    player.pause();
    const before = this.drawn ? player.here : film.steps[0];
    this.drawn = film;
    const isTimeline = (/** @type {string} */ kind) => this.kinds[kind].prototype instanceof Timeline;
    this.moves -= 1; // never a number of Python's, which counts up
    player.veil = null;
    player.room = this.room(isTimeline(film.panels.find(({ id }) => id === slide.panel)?.kind ?? ""));
    player.show({
      film: shown(film, slide.panel, isTimeline),
      start: before,
      move: this.moves,
      switches: slide.switches,
      asks: false,
    });
    if (slide.veil !== null && this.isVeiled) player.cover(lastBefore(film.steps, slide.veil));
    player.choose(slide.light);
    player.glide(nearest(film.steps, slide.start), GLIDE);
  }

  /** The words of the slide. They are HTML that was made from Markdown without any HTML in it. */
  speak() {
    const { slide, at, deck } = this;
    this.headline.textContent = slide.headline;
    this.text.innerHTML = slide.text;
    this.more.innerHTML = this.isVeiled ? "" : slide.reveal;
    this.revealing.hidden = !this.isVeiled;
    this.links.replaceChildren();
    if (slide.explore && this.linked) {
      if (slide.own) this.links.append(element("a", { href: slide.own }, "Your own example"), " · ");
      this.links.append(element("a", { href: slide.explore }, "Explore from here"));
    } else if (slide.explore) this.links.append("Explore from here in the app: ", element("code", {}, slide.explore));
    if (!this.linked) for (const link of this.root.querySelectorAll("a.scene")) link.replaceWith(...link.childNodes);
    [...this.dots.children].forEach((dot, i) => {
      if (i === at) dot.setAttribute("aria-current", "step");
      else dot.removeAttribute("aria-current");
    });
    this.ends.back.disabled = at === 0;
    this.ends.next.disabled = at === deck.slides.length - 1;
    this.root.dataset.beat = String(at + 1);
    this.say();
  }

  say() {
    const step = this.drawn ? ` · step ${count(this.player.here)}` : "";
    this.where.textContent = `${this.deck.title} · ${this.deck.run}${step}`;
  }

  reveal() {
    if (!this.isVeiled) return;
    const covered = this.slide.veil !== null;
    this.revealed.add(this.at);
    this.speak();
    if (!covered || !this.drawn) return;
    this.player.cover(null);
    this.player.glide(this.drawn.steps.length - 1, REVEAL);
  }

  /** @param {HTMLElement} target what was clicked */
  follow(target) {
    const found = /** @type {HTMLElement | null} */ (target.closest("[data-step], [data-light]"));
    if (!found || !this.drawn) return;
    const { step, light } = found.dataset;
    if (step) this.player.glide(nearest(this.drawn.steps, Number(step)), GLIDE);
    else this.player.choose(light ?? null);
  }

  /**
   * The height for the large panel, in the player's own pixels.
   * @param {boolean} alone whether there is no slim timeline below it
   */
  room(alone) {
    const { zoom, transport } = this.player;
    if (this.isFull) return Math.max(240, innerHeight / zoom - transport.root.offsetHeight - MARGINS);
    return Math.max(240, innerHeight * (this.linked ? IN_APP : IN_FILE) - (alone ? 150 : 170 + SCRUB));
  }

  get isFull() {
    return /** @type {Document | ShadowRoot} */ (this.root.getRootNode()).fullscreenElement === this.root;
  }

  /** Fit to the size of the page or of the screen. */
  measure() {
    const scale = String(this.isFull ? magnification(innerWidth, innerHeight) : 1);
    this.player.root.style.zoom = scale;
    this.root.style.setProperty("--magnification", scale);
    this.root.classList.toggle("full", this.isFull);
    this.player.leastType = this.isFull || matchMedia(NARROW).matches ? LEAST_TYPE : 0;
    const first = this.player.panels[0];
    if (!this.deck || !first) return;
    this.player.room = this.room(first instanceof Timeline);
    this.player.layout();
  }
}
