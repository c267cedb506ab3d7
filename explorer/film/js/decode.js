// Reads a message of film.py.

/** @typedef {import("./types.d.ts").Message} Message */

/**
 * @param {Uint8Array} message
 * @returns {Message} Arrays are views into a copy of the message and have their shape as a property.
 */
export const decode = (message) => {
  const bytes = message.slice(); // in a buffer of its own, arrays are aligned
  const [head, packed] = header(bytes, 0);
  return { ...head, film: filmAt(bytes, packed) };
};

/**
 * @param {Uint8Array} message of deck.py
 * @returns {{ move: string, slide: number, deck: import("./types.d.ts").DeckData }}
 */
export const decodeDeck = (message) => {
  const bytes = message.slice();
  const [head, packed] = header(bytes, 0);
  const [deck, start] = header(bytes, packed);
  const films = deck.films.map(
    (/** @type {[number, number] | null} */ place) => place && filmAt(bytes, start + place[0]),
  );
  return { ...head, deck: { ...deck, films } };
};

/**
 * The film that begins at a place.
 * @param {Uint8Array<ArrayBuffer>} bytes
 * @param {number} at
 * @returns {import("./types.d.ts").FilmData}
 */
const filmAt = (bytes, at) => {
  const [film, arrays] = header(bytes, at);
  /** @type {Record<string, typeof Float32Array | typeof Int32Array>} */
  const kinds = { f4: Float32Array, i4: Int32Array };
  /** @type {(thing: any) => any} */
  const walk = (thing) => {
    if (Array.isArray(thing)) return thing.map(walk);
    if (thing === null || typeof thing !== "object") return thing;
    if ("dtype" in thing) {
      const size = thing.shape.reduce((/** @type {number} */ a, /** @type {number} */ b) => a * b, 1);
      const array = new kinds[thing.dtype](bytes.buffer, arrays + thing.at, size);
      return Object.assign(array, { shape: thing.shape });
    }
    return Object.fromEntries(Object.entries(thing).map(([name, value]) => [name, walk(value)]));
  };
  return walk(film);
};

/**
 * A JSON header that follows its length, and where it ends.
 * @param {Uint8Array} bytes
 * @param {number} at
 * @returns {[any, number]}
 */
const header = (bytes, at) => {
  const end = at + 4 + new DataView(bytes.buffer).getUint32(at, true);
  return [JSON.parse(new TextDecoder().decode(bytes.subarray(at + 4, end))), end];
};
