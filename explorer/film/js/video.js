// A video of the film as one panel shows it, recorded while the film plays.

import { SECONDS } from "./motion.js";
import { onCanvas, picture } from "./picture.js";

const TYPES = ["video/webm;codecs=vp9", "video/webm;codecs=vp8", "video/webm"];
const WIDEST = 1920; // pixels
const BITS = 8_000_000; // per second
const LAST = 600; // ms for which the last frame stays

/** What the browser can record as WebM; undefined if it cannot. */
export const videoType = () => TYPES.find((type) => globalThis.MediaRecorder?.isTypeSupported(type));

/**
 * The most bytes that a video of a film takes.
 * @param {number} speed at which the film plays
 */
export const mostBytes = (speed) => (BITS / 8) * (SECONDS / speed + LAST / 1000);

/**
 * Play the film from its start to its end and record a panel. Who stops the film, or opens another, ends the recording.
 * @param {import("./panel.js").Panel} panel
 * @param {string} type of `videoType`
 * @param {(share: number) => void} onProgress
 * @returns {Promise<Blob | null>} null if the film was stopped
 */
export const recorded = (panel, type, onProgress) => {
  const { player } = panel;
  const start = player.position;
  player.pause();
  player.position = 0;
  panel.live();
  const { width } = picture(panel);
  const ratio = Math.min(2, WIDEST / width);
  const canvas = onCanvas(picture(panel), ratio);
  const context = /** @type {CanvasRenderingContext2D} */ (canvas.getContext("2d"));
  const recorder = new MediaRecorder(canvas.captureStream(), { mimeType: type, videoBitsPerSecond: BITS });
  const parts = /** @type {Blob[]} */ ([]);
  recorder.ondataavailable = ({ data }) => parts.push(data);
  return new Promise((resolve) => {
    let isWhole = false;
    const onPaint = () => {
      const last = player.film.steps.length - 1;
      picture(panel).draw(context);
      onProgress(player.position / (last || 1));
      if (player.playing && panel.root.isConnected) return;
      player.root.removeEventListener("painted", onPaint);
      isWhole = player.index === last && panel.root.isConnected;
      setTimeout(() => recorder.stop(), isWhole ? LAST : 0);
    };
    recorder.onstop = () => {
      if (panel.root.isConnected) player.seek(start);
      resolve(isWhole ? new Blob(parts, { type: "video/webm" }) : null);
    };
    recorder.start();
    player.root.addEventListener("painted", onPaint);
    player.play();
  });
};
