// Interpolation of colours in OKLab, where equal distances look equal.

import { clamp } from "./scales.js";

/** @typedef {[number, number, number]} Triple */

/** @param {number} c */
const linear = (c) => (c <= 0.04045 ? c / 12.92 : ((c + 0.055) / 1.055) ** 2.4);
/** @param {number} c */
const gamma = (c) => (c <= 0.0031308 ? 12.92 * c : 1.055 * c ** (1 / 2.4) - 0.055);

/**
 * @param {Triple} rgb red, green and blue from 0 to 255
 * @returns {Triple} lightness L from 0 to 1, and the colour axes a and b
 */
export const toLab = ([red, green, blue]) => {
  const [r, g, b] = [red, green, blue].map((c) => linear(c / 255));
  const l = Math.cbrt(0.4122214708 * r + 0.5363325363 * g + 0.0514459929 * b);
  const m = Math.cbrt(0.2119034982 * r + 0.6806995451 * g + 0.1073969566 * b);
  const s = Math.cbrt(0.0883024619 * r + 0.2817188376 * g + 0.6299787005 * b);
  return [
    0.2104542553 * l + 0.793617785 * m - 0.0040720468 * s,
    1.9779984951 * l - 2.428592205 * m + 0.4505937099 * s,
    0.0259040371 * l + 0.7827717662 * m - 0.808675766 * s,
  ];
};

/**
 * @param {Triple} lab
 * @returns {Triple} red, green and blue from 0 to 255
 */
export const fromLab = ([L, a, b]) => {
  const l = (L + 0.3963377774 * a + 0.2158037573 * b) ** 3;
  const m = (L - 0.1055613458 * a - 0.0638541728 * b) ** 3;
  const s = (L - 0.0894841775 * a - 1.291485548 * b) ** 3;
  const rgb = [
    4.0767416621 * l - 3.3077115913 * m + 0.2309699292 * s,
    -1.2684380046 * l + 2.6097574011 * m - 0.3413193965 * s,
    -0.0041960863 * l - 0.7034186147 * m + 1.707614701 * s,
  ].map((c) => Math.round(255 * clamp(gamma(clamp(c, 0, 1)), 0, 1)));
  return /** @type {Triple} */ (rgb);
};

/**
 * @param {string} text a colour such as #08306b
 * @returns {Triple}
 */
export const hex = (text) => {
  const n = parseInt(text.slice(1), 16);
  return [n >> 16, (n >> 8) & 255, n & 255];
};

/**
 * 256 colours whose lightness changes evenly from the first stop to the last, packed for an ImageData.
 * @param {Triple[]} stops
 */
export const ramp = (stops) => {
  const labs = stops.map(toLab);
  const [first, last] = [labs[0][0], labs[labs.length - 1][0]];
  const even = labs.map((lab, i) => [first + ((last - first) * i) / (labs.length - 1), lab[1], lab[2]]);
  return Uint32Array.from({ length: 256 }, (_, i) => {
    const at = (i / 255) * (even.length - 1);
    const k = Math.min(Math.floor(at), even.length - 2);
    const lab = even[k].map((value, axis) => value + (even[k + 1][axis] - value) * (at - k));
    const [r, g, b] = fromLab(/** @type {Triple} */ (lab));
    return (255 << 24) | (b << 16) | (g << 8) | r;
  });
};

/**
 * A diverging scale of two ramps that meet at zero.
 * @param {Uint32Array} down from zero to the negative end
 * @param {Uint32Array} up from zero to the positive end
 */
export const joinedRamps = (down, up) =>
  Uint32Array.from({ length: 256 }, (_, i) => (i < 128 ? down[255 - 2 * i] : up[2 * i - 255]));

/** @param {Triple} rgb red, green and blue from 0 to 255 @returns {number} luminance as WCAG 2 defines it, up to 1 */
const luminance = ([r, g, b]) => 0.2126 * linear(r / 255) + 0.7152 * linear(g / 255) + 0.0722 * linear(b / 255);

/**
 * How much two colours contrast, from 1 to 21, as WCAG 2 defines it.
 * @param {Triple} one
 * @param {Triple} other
 */
export const contrast = (one, other) => {
  const [low, high] = [luminance(one), luminance(other)].sort((a, b) => a - b);
  return (high + 0.05) / (low + 0.05);
};

/**
 * The colour in which text is best read on another: black or white, of which one has a contrast of at least 4.58.
 * @param {Triple} on
 */
export const readable = (on) => (contrast(on, [255, 255, 255]) > contrast(on, [0, 0, 0]) ? "#ffffff" : "#000000");

/**
 * The colour of a category: of the palette, or, if there are more than it has, of hues at even distances.
 * @param {Pick<import("./types.d.ts").Theme, "palette" | "ring">} theme
 * @param {number} place of the category
 * @param {number} n how many there are
 */
export const category = ({ palette, ring }, place, n) => (n > palette.length ? hue(ring, place, n) : palette[place]);

/**
 * One of n colours at even distances.
 * @param {[number, number]} ring
 * @param {number} place
 * @param {number} n
 */
export const hue = ([saturation, lightness], place, n) => `hsl(${(360 * place) / n}, ${saturation}%, ${lightness}%)`;

/** @param {number} packed @returns {Triple} */
export const unpacked = (packed) => [packed & 255, (packed >> 8) & 255, (packed >> 16) & 255];

/**
 * A packed colour as CSS.
 * @param {number} packed
 */
export const css = (packed) => `rgb(${unpacked(packed).join(", ")})`;
