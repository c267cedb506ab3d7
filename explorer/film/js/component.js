// The Streamlit component. Streamlit calls it again with each new message and each change of theme.

import { decode } from "./decode.js";
import { Player } from "./player.js";

/**
 * @param {object} props
 * @param {Uint8Array} props.data
 * @param {HTMLElement | ShadowRoot} props.parentElement
 * @param {(name: string, value: unknown) => void} props.setStateValue
 */
export default function ({ data, parentElement, setStateValue }) {
  const root = /** @type {HTMLElement & { player?: Player }} */ (parentElement.querySelector(".film"));
  const player = (root.player ??= new Player(root, KINDS, true));
  // With the time, two stops at the same step are two different values.
  player.onStep = (step) => setStateValue("stopped", { step, at: performance.now() });
  if (player.message === data) player.retheme();
  else {
    player.message = data;
    const message = decode(data);
    player.onAsk = message.asks ? (what) => setStateValue("asked", { what, at: performance.now() }) : null;
    player.show(message);
    /** @type {ShadowRoot} */ (root.getRootNode()).host.classList.add("drawn"); // the page has kept room for it until now
  }
  return () => {
    player.close();
    root.replaceChildren();
    delete root.player;
  };
}
