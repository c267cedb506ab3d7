// What is kept when the reader opens another page, which closes the player: its step, its speed, and the switches of
// panels by panel id. Ids and names can come from a link, so they are keys of Maps and never of plain objects.

/** @typedef {import("./types.d.ts").Memory} Memory */
/** @typedef {import("./types.d.ts").SwitchValue} SwitchValue */

/** @returns {Memory} */
export const newMemory = () => {
  /** @type {Memory} */
  const memory = {
    move: null,
    step: null,
    reported: null,
    steps: null,
    speed: 1,
    switches: new Map(),
    declared: new Map(),
    // The component that writes the address listens to this event.
    onSwitches: () => globalThis.dispatchEvent?.(new CustomEvent("switches", { detail: switchesText(memory) })),
    switchesText: () => switchesText(memory),
  };
  return memory;
};

/** Global, so that it is kept if Streamlit loads this script again. */
export const memory = (globalThis.phaseChangeExplorer ??= newMemory());

/**
 * The inner map of an id, which is added if there is none.
 * @template V
 * @param {Map<string, Map<string, V>>} maps
 * @param {string} id
 * @returns {Map<string, V>}
 */
const within = (maps, id) => {
  const found = maps.get(id) ?? new Map();
  maps.set(id, found);
  return found;
};

/**
 * Say that a panel on screen has a switch.
 * @param {Memory} memory
 * @param {string} id of the panel
 * @param {string} name
 * @param {SwitchValue} initial
 * @param {string[]} [names] values that a list may have
 */
export const declare = (memory, id, name, initial, names) => {
  within(memory.declared, id).set(name, { initial, names });
};

/**
 * The value of a declared switch.
 * @param {Memory} memory
 * @param {string} id
 * @param {string} name
 * @returns {any}
 */
export const get = (memory, id, name) =>
  memory.switches.get(id)?.get(name) ?? memory.declared.get(id)?.get(name)?.initial;

/**
 * Set a switch that the reader changed.
 * @param {Memory} memory
 * @param {string} id
 * @param {string} name
 * @param {SwitchValue} value
 */
export const set = (memory, id, name, value) => {
  within(memory.switches, id).set(name, value);
  memory.onSwitches?.();
};

/**
 * Set the switches that a link names, and reset all others to their initial values.
 * @param {Memory} memory
 * @param {[string, string, SwitchValue][]} switches
 */
export const takeUp = (memory, switches) => {
  memory.switches.clear();
  for (const [id, name, value] of switches) within(memory.switches, id).set(name, value);
};

/**
 * The switches of the panels on screen whose values differ from the initial ones, as a link writes them: `losses.log
 * losses.smooth:off patterns.enlarged:L1H0`.
 * @param {Memory} memory
 */
export const switchesText = (memory) => {
  const tokens = [];
  for (const [id, switches] of memory.declared) {
    for (const [name, { initial, names }] of switches) {
      const value = get(memory, id, name);
      const text = valueText(value, names);
      if (text !== valueText(initial, names)) tokens.push(`${id}.${name}${text && `:${text}`}`);
    }
  }
  return tokens.sort().join(" ");
};

/**
 * @param {SwitchValue} value
 * @param {string[]} [names]
 * @returns {string} empty for a switch that is on
 */
const valueText = (value, names) => {
  if (value === true) return "";
  if (Array.isArray(value)) {
    const known = value.filter((name) => !names || names.includes(name));
    return known.map(encoded).join(",") || "off";
  }
  return value ? encoded(value) : "off";
};

/**
 * Text in which every character that has a meaning in a link is escaped.
 * @param {string} text
 */
const encoded = (text) =>
  encodeURIComponent(text).replace(/[!'()*]/g, (letter) => `%${letter.charCodeAt(0).toString(16).toUpperCase()}`);
