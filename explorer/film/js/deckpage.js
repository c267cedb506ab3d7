// A deck in an exported HTML file, which holds it as base64.

import { Deck } from "./deck.js";
import { decodeDeck } from "./decode.js";

const text = /** @type {HTMLElement} */ (document.querySelector("#film")).textContent ?? "";
const root = /** @type {HTMLElement & { deck?: Deck }} */ (document.querySelector(".deck"));
const deck = new Deck(root, KINDS, false);
root.deck = deck;
const { slide, deck: read } = decodeDeck(Uint8Array.from(atob(text.trim()), (letter) => letter.charCodeAt(0)));
deck.show(read, slide);
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => deck.player.retheme());
