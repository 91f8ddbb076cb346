"use strict";
// What every page of the lab draws with: elements, images, pixels on a canvas, and the glow of an attention map.

function element(tag, attributes = {}, ...children) {
  const made = document.createElement(tag);
  for (const [name, value] of Object.entries(attributes)) {
    if (name.startsWith("on")) made.addEventListener(name.slice(2), value);
    else if (value !== false) made.setAttribute(name, value === true ? "" : value);
  }
  made.append(...children);
  return made;
}

async function loadImage(source) {
  const image = new Image();
  image.src = source;
  await image.decode();
  return image;
}

// `bytes`: four for each pixel, row by row.
function canvasOf({ width, height, bytes }) {
  const canvas = element("canvas", { width, height });
  canvas.getContext("2d").putImageData(new ImageData(bytes, width, height), 0, 0);
  return canvas;
}

// The bytes of a map's glow: from nothing at its lowest value to a bright orange at its highest.
function glow(map) {
  const low = Math.min(...map), high = Math.max(...map), bytes = new Uint8ClampedArray(4 * map.length);
  map.forEach((value, i) => {
    const heat = (value - low) / (high - low || 1);
    bytes.set([255, 70 + 160 * heat ** 2, 20 + 90 * heat ** 4, 240 * heat ** 2], 4 * i);
  });
  return bytes;
}
