// The deck as a Streamlit component. Streamlit calls it again with each new message and each change of theme.

import { Deck } from "./deck.js";
import { decodeDeck } from "./decode.js";

/**
 * @param {object} props
 * @param {Uint8Array} props.data
 * @param {HTMLElement | ShadowRoot} props.parentElement
 * @param {(name: string, value: unknown) => void} props.setStateValue
 */
export default function ({ data, parentElement, setStateValue }) {
  const root = /** @type {HTMLElement & { deck?: Deck, data?: Uint8Array, move?: string }} */ (
    parentElement.querySelector(".deck")
  );
  const deck = (root.deck ??= new Deck(root, KINDS, true));
  deck.onSlide = (at) => setStateValue("slide", at);
  if (root.data === data) deck.player.retheme();
  else {
    root.data = data;
    const { move, slide, deck: read } = decodeDeck(data);
    deck.show(read, root.move === move ? deck.at : slide);
    root.move = move;
  }
  return () => {
    deck.close();
    root.replaceChildren();
    delete root.deck;
    delete root.data;
    delete root.move;
  };
}
