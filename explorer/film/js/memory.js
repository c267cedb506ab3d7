// What outlives a player, which goes with its page: where it stood, its speed, and the switches of panels by their ids.

/** @typedef {import("./types.d.ts").Memory} Memory */
/** @typedef {import("./types.d.ts").SwitchValue} SwitchValue */

/** @returns {Memory} */
export const newMemory = () => {
  /** @type {Memory} */
  const memory = {
    move: null,
    step: null,
    reported: null,
    speed: 1,
    switches: {},
    declared: {},
    // Other components of the page, such as the one that writes the address, hear of it as an event of the window.
    onSwitches: () => globalThis.dispatchEvent?.(new CustomEvent("switches", { detail: switchesText(memory) })),
    switchesText: () => switchesText(memory),
  };
  return memory;
};

/** The page's own memory, which other components of the page may read. */
export const memory = (globalThis.phaseChangeExplorer ??= newMemory());

/**
 * Say that a panel on screen has a switch.
 * @param {Memory} memory
 * @param {string} id of the panel
 * @param {string} name
 * @param {SwitchValue} initial
 * @param {string[]} [names] what a list may hold
 */
export const declare = (memory, id, name, initial, names) => {
  (memory.declared[id] ??= {})[name] = { initial, names };
};

/**
 * How a declared switch is set.
 * @param {Memory} memory
 * @param {string} id
 * @param {string} name
 * @returns {any}
 */
export const get = (memory, id, name) => memory.switches[id]?.[name] ?? memory.declared[id][name].initial;

/**
 * Set a switch because a person did.
 * @param {Memory} memory
 * @param {string} id
 * @param {string} name
 * @param {SwitchValue} value
 */
export const set = (memory, id, name, value) => {
  (memory.switches[id] ??= {})[name] = value;
  memory.onSwitches?.();
};

/**
 * Set all switches as a link says; those that it does not name are as they are to begin with.
 * @param {Memory} memory
 * @param {[string, string, SwitchValue][]} switches
 */
export const takeUp = (memory, switches) => {
  memory.switches = {};
  for (const [id, name, value] of switches) (memory.switches[id] ??= {})[name] = value;
};

/**
 * The switches of the panels on screen that are not as they are to begin with, as a link writes them: `losses.log
 * losses.smooth:off patterns.enlarged:L1H0`.
 * @param {Memory} memory
 */
export const switchesText = (memory) => {
  const tokens = [];
  for (const [id, switches] of Object.entries(memory.declared)) {
    for (const [name, { initial, names }] of Object.entries(switches)) {
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
 * @returns {string} nothing for a switch that is on
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
 * Text that holds no character with a meaning in a link.
 * @param {string} text
 */
const encoded = (text) =>
  encodeURIComponent(text).replace(/[!'()*]/g, (letter) => `%${letter.charCodeAt(0).toString(16).toUpperCase()}`);
