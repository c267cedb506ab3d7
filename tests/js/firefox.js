// Opens pages in Firefox, one after another, plays those with a film, and prints what went wrong as JSON:
// node tests/js/firefox.js FIREFOX '[{"url": ..., "film": true}, ...]'

import process from "node:process";

import puppeteer from "puppeteer-core";

const WAIT = 60_000; // ms
const PLAYED = 1000; // ms

/**
 * How often a film is painted while it plays.
 * @param {Element} film
 * @param {number} duration ms
 */
const play = (film, duration) =>
  new Promise((resolve) => {
    const { player } = /** @type {any} */ (film.closest(".deck"))?.deck ?? film;
    let paints = 0;
    film.addEventListener("painted", () => (paints += 1));
    player.seek(0);
    player.play();
    setTimeout(() => {
      player.pause();
      resolve(paints);
    }, duration);
  });

const [executablePath, places] = process.argv.slice(2);
const browser = await puppeteer.launch({ browser: "firefox", executablePath, headless: true });
try {
  const found = [];
  for (const { url, film } of JSON.parse(places)) {
    const page = await browser.newPage();
    /** @type {string[]} */
    const errors = [];
    page.on("pageerror", (error) => errors.push(String(error)));
    page.on("console", (message) => message.type() === "error" && errors.push(message.text()));
    await page.goto(url);
    // Streamlit puts the player into a shadow root.
    const drawn = await page.waitForSelector(film ? ">>> .film[data-step]" : "h1", { timeout: WAIT });
    const paints = film && drawn ? await drawn.evaluate(play, PLAYED) : 0;
    found.push({ url, errors, paints });
    await page.close();
  }
  console.log(JSON.stringify(found));
} finally {
  await browser.close();
}
