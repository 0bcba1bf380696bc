// Draws maps, sent by the server with one byte for each value, on canvases.

let colours = null; // 256 colours of three bytes

export function setColours(table) {
  colours = table;
}

export function bytes(text) {
  return Uint8Array.from(atob(text), (character) => character.charCodeAt(0));
}

export function paint(canvas, values, width) {
  const height = values.length / width;
  const image = new ImageData(width, height);
  values.forEach((value, index) => {
    image.data.set(colours.subarray(3 * value, 3 * value + 3), 4 * index);
    image.data[4 * index + 3] = 255;
  });
  canvas.width = width;
  canvas.height = height;
  canvas.getContext("2d").putImageData(image, 0, 0);
}

export function largest(values) {
  return values.reduce((best, value, index) => (value > values[best] ? index : best), 0);
}
