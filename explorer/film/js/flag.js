// A flag at a step of curves.

/**
 * A small flag at the top, with a line down through the curves, or a band over its stretch of steps.
 * @param {CanvasRenderingContext2D} context
 * @param {string} colour
 * @param {import("./types.d.ts").Box} box of the curves
 * @param {number} x
 * @param {number | null} until where the stretch ends
 */
export const flag = (context, colour, box, x, until) => {
  context.strokeStyle = context.fillStyle = colour;
  if (until !== null) {
    context.globalAlpha = 0.15;
    context.fillRect(x, box.top, Math.max(1, until - x), box.bottom - box.top);
    context.globalAlpha = 1;
  }
  context.lineWidth = 1;
  context.setLineDash([3, 3]);
  context.beginPath();
  context.moveTo(x, box.top);
  context.lineTo(x, box.bottom);
  context.stroke();
  context.setLineDash([]);
  context.beginPath();
  context.moveTo(x - 5, box.top - 6);
  context.lineTo(x + 5, box.top - 6);
  context.lineTo(x, box.top + 3);
  context.fill();
};
