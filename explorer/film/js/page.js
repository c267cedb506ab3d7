// The player in an exported HTML file, which holds the film as base64.

import { decode } from "./decode.js";
import { Player } from "./player.js";

const text = /** @type {HTMLElement} */ (document.querySelector("#film")).textContent ?? "";
const root = /** @type {HTMLElement & { player?: Player }} */ (document.querySelector(".film"));
const player = new Player(root, KINDS, false);
root.player = player;
player.show(decode(Uint8Array.from(atob(text.trim()), (letter) => letter.charCodeAt(0))));
matchMedia("(prefers-color-scheme: dark)").addEventListener("change", () => player.retheme());
