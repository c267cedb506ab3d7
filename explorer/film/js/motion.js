// How a film moves while it plays.

export const SECONDS = 12; // for a whole film at speed 1

/**
 * The position after some time of playing.
 * @param {number} position in snapshots
 * @param {number} seconds since then
 * @param {number} speed
 * @param {number} frames how many snapshots there are
 */
export const advanced = (position, seconds, speed, frames) =>
  Math.min(position + seconds * speed * (frames / SECONDS), frames - 1);

/**
 * The position that is drawn: for a reader who asks for less motion, nothing moves between two snapshots.
 * @param {number} position
 * @param {boolean} isCalm
 */
export const drawnAt = (position, isCalm) => (isCalm ? Math.floor(position) : position);

/** Whether the reader's system asks for less motion. */
export const isCalm = () => matchMedia("(prefers-reduced-motion: reduce)").matches;
