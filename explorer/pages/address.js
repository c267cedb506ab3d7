// Keeps the address in the browser the same as the scene on screen.
//
// Another page or another run is a new entry in the browser's history, so that Back returns to the one before. All else
// (steps, examples, options, the switches of the player's panels) replaces the entry. Streamlit adds the entry of another
// page by itself. The player changes its switches without asking Python, so they come from the player and not from `data`.

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

/**
 * The address of a query, with those parameters of the address before that are Streamlit's own.
 * @param {string} query
 * @param {string} before
 */
export const withEmbedding = (query, before) => {
  const own = before
    .replace(/^\?/, "")
    .split("&")
    .filter((parameter) => /^embed(_options)?=/.test(parameter));
  return own.length ? `${query || "?"}${query.length > 1 ? "&" : ""}${own.join("&")}` : query;
};

/**
 * Whether a scene is a new entry in the history: another run than in the address before. After a change of page the
 * address names no run yet, and Streamlit has added an entry; a link that was just opened has one too.
 * @param {string} before the query in the address
 * @param {string} after the query to be written
 * @param {boolean} isOpened whether a link was just opened
 */
export const isNewEntry = (before, after, isOpened) => {
  const [from, to] = [before, after].map((query) => new URLSearchParams(query).get("run"));
  return !isOpened && from !== null && from !== to;
};

/**
 * @param {string} query
 * @param {boolean} isOpened
 */
const write = (query, isOpened) => {
  const next = new URL(location.href);
  next.search = withEmbedding(query, location.search);
  if (next.search === location.search) return;
  const act = isNewEntry(location.search, next.search, isOpened) ? "pushState" : "replaceState";
  history[act](history.state, "", next);
};

/** The player tells of its switches after each change of one, and after each film that it takes up.
 * @param {Event} event */
const onSwitches = (event) => {
  write(withSwitches(location.search, /** @type {CustomEvent<string>} */ (event).detail), false);
};

let opened = 0; // how many links had been opened when the address was written last

/** @param {{ data: { query: string, view: string, opened: number } }} component */
export default function ({ data }) {
  const inAddress = new URLSearchParams(location.search).get("player") ?? "";
  write(withSwitches(data.query, inAddress), opened !== data.opened);
  opened = data.opened;
  // The same function is added once, however often this is called.
  window.addEventListener("switches", onSwitches);
}
