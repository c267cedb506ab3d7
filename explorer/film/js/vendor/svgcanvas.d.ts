// What the player uses of svgcanvas, which has no types of its own.

/** A 2D context that makes an SVG of what is drawn on it. */
export const Context: new (options: { width: number; height: number }) => CanvasRenderingContext2D & {
  getSvg(): SVGSVGElement;
  getSerializedSvg(): string;
};
