// Keeps the address in the browser the same as the scene on screen.
//
// Another page or another run is a new entry in the browser's history, so that Back returns to the one before. All else
// (steps, examples, options, the switches of the player's panels) replaces the entry. Streamlit adds the entry of another
// page by itself. The player changes its switches without asking Python, so they come from the player and not from `data`.

/** @param {string} query */
const runOf = (query) => new URLSearchParams(query).get("run");

/**
 * The address of a query, with the player's switches at its end.
 * @param {string} query
 * @param {string} switches
 */
export const withSwitches = (query, switches) => {
  const parameters = query.replace(/^\?/, "").split("&");
  const kept = parameters.filter((parameter) => parameter && !parameter.startsWith("player="));
  if (switches)
    kept.push(`player=${encodeURIComponent(switches).replace(/%20/g, "+").replace(/%3A/g, ":").replace(/%2C/g, ",")}`);
  return kept.length ? `?${kept.join("&")}` : "";
};

let opened = 0; // how many links were opened when the address was written last

/**
 * @param {string} query
 * @param {boolean} mayAdd whether another run may be a new entry
 */
const write = (query, mayAdd) => {
  const next = new URL(location.href);
  next.search = query;
  if (next.search === location.search) return;
  const isNew = mayAdd && runOf(location.search) !== runOf(next.search);
  history[isNew ? "pushState" : "replaceState"](history.state, "", next);
};

/** The player tells of its switches after each change of one, and after each film that it takes up.
 * @param {Event} event */
const onSwitches = (event) => {
  write(withSwitches(location.search, /** @type {CustomEvent<string>} */ (event).detail), false);
};

/** @param {{ data: { query: string, view: string, opened: number } }} component */
export default function ({ data }) {
  const inAddress = new URLSearchParams(location.search).get("player") ?? "";
  // The scene of a link that was just opened stays in its entry, also where the link's run does not exist.
  write(withSwitches(data.query, inAddress), opened === data.opened);
  opened = data.opened;
  // The same function is added once, however often this is called.
  window.addEventListener("switches", onSwitches);
}
