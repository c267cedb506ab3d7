// Types that several modules use. Data come from film.py; the module of each kind of panel describes its own.

export type NumberArray = (Float32Array | Int32Array) & { shape: number[] };

export interface PanelData {
  kind: string;
  id: string;
  title: string;
  span: number; // of 12 columns
  slim?: boolean; // it is small beside a large one, whatever room there is
  gaps: number[]; // frames without values: they are not finite there
}

export interface SlideData {
  headline: string;
  text: string; // HTML
  reveal: string; // HTML
  film: number;
  start: number;
  switches: [string, string, SwitchValue][];
  panel: string;
  light: string | null;
  veil: number | null;
  explore: string;
  own: string;
}

export interface DeckData {
  title: string;
  run: string;
  slides: SlideData[];
  films: (FilmData | null)[];
}

export interface FilmData {
  steps: number[];
  look: string[]; // what to look at in each frame; empty: nothing is said
  panels: PanelData[];
  origin: Record<string, string>; // where the numbers come from: what is told -> in words
  each: string; // what a frame shows, in one word
}

export type SwitchValue = boolean | string | null | string[];

export interface Message {
  start: number;
  move: number;
  switches: [string, string, SwitchValue][] | null;
  asks: boolean; // whether the host can show another view or example
  film: FilmData;
}

// The numbers that a panel shows in one frame.
export interface Table {
  columns: string[];
  rows: (string | number)[][];
}

export interface Box {
  left: number;
  top: number;
  right: number;
  bottom: number;
}

export type Scale = "sequential" | "diverging";

export interface Colours {
  categories: string[];
  right: string;
  wrong: string;
  ring: [number, number]; // saturation and lightness in percent, of colours whose hues go around
  ramps: Record<"sequential" | "positive" | "negative", string[]>;
}

export interface Theme {
  ink: string;
  paper: string;
  line: string;
  soft: string;
  cursor: string;
  wash: string;
  font: string;
  mode: "light" | "dark";
  palette: string[];
  right: string;
  wrong: string;
  ring: [number, number];
  ramps: Record<Scale, Uint32Array>;
}

// What is kept when a page, and with it the player, closes.
export interface Memory {
  move: number | null; // counts how often Python set the position
  step: number | null; // the step last shown
  reported: number | null; // the step last reported to Python
  steps: number[] | null; // of the film last shown
  speed: number;
  switches: Map<string, Map<string, SwitchValue>>; // panel id -> name -> value, of those that a link or the reader set
  declared: Map<string, Map<string, Declared>>; // panel id -> name -> switch, of the panels on screen
  onSwitches: (() => void) | null; // called when the reader changes a switch, and when the player reports its step
  switchesText: () => string;
}

export interface Declared {
  initial: SwitchValue;
  names?: string[]; // values that a list may have
}

type PanelClass = new (panel: any, player: import("./player.js").Player) => import("./panel.js").Panel;

declare global {
  const PALETTE: Record<"light" | "dark", Colours>; // script.py defines these when it joins the modules
  const KINDS: Record<string, PanelClass>;
  const GLOSSARY: Record<string, string>; // word in lower case -> meaning
  var phaseChangeExplorer: Memory | undefined;
}
