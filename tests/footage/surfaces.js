// The surfaces of the workshop: every texture is drawn here, nothing is loaded.
//
// Owns: noise, canvases and materials.
// Never: shapes or places (scene.js), true randomness (all noise is seeded).
import * as THREE from "three";

/** Seeded random numbers in [0, 1): the same picture at every rendering. */
export function seeded(seed) {
  let state = seed >>> 0;
  return () => {
    state = (state + 0x6d2b79f5) >>> 0;
    let t = Math.imul(state ^ (state >>> 15), state | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return ((t ^ (t >>> 14)) >>> 0) / 4294967296;
  };
}

/** Tileable noise of several octaves, values around 0.5. */
function noise(size, octaves, seed) {
  const out = new Float32Array(size * size);
  let weight = 1;
  let total = 0;
  for (const grid of octaves) {
    const random = seeded(seed + grid);
    const points = Float32Array.from({ length: grid * grid }, random);
    const at = (x, y) => points[((y + grid) % grid) * grid + ((x + grid) % grid)];
    for (let y = 0; y < size; y++)
      for (let x = 0; x < size; x++) {
        const gx = (x / size) * grid;
        const gy = (y / size) * grid;
        const x0 = Math.floor(gx);
        const y0 = Math.floor(gy);
        const u = (gx - x0) ** 2 * (3 - 2 * (gx - x0));
        const v = (gy - y0) ** 2 * (3 - 2 * (gy - y0));
        const top = at(x0, y0) * (1 - u) + at(x0 + 1, y0) * u;
        const low = at(x0, y0 + 1) * (1 - u) + at(x0 + 1, y0 + 1) * u;
        out[y * size + x] += weight * (top * (1 - v) + low * v);
      }
    total += weight;
    weight *= 0.62;
  }
  return out.map((value) => value / total);
}

function canvas(width, height = width) {
  const element = document.createElement("canvas");
  element.width = width;
  element.height = height;
  return element;
}

function texture(element, repeat = 1, colour = true) {
  const made = new THREE.CanvasTexture(element);
  made.wrapS = made.wrapT = THREE.RepeatWrapping;
  if (Array.isArray(repeat)) made.repeat.set(...repeat);
  else made.repeat.set(repeat, repeat);
  if (colour) made.colorSpace = THREE.SRGBColorSpace;
  made.anisotropy = 2;
  return made;
}

/** A picture of noise between two colours, for colour or roughness. */
function mottled(size, octaves, seed, dark, light, contrast = 2.2) {
  const field = noise(size, octaves, seed);
  const element = canvas(size);
  const context = element.getContext("2d");
  const image = context.createImageData(size, size);
  field.forEach((value, i) => {
    const t = Math.min(1, Math.max(0, 0.5 + (value - 0.5) * contrast));
    for (let c = 0; c < 3; c++) image.data[i * 4 + c] = dark[c] + (light[c] - dark[c]) * t;
    image.data[i * 4 + 3] = 255;
  });
  context.putImageData(image, 0, 0);
  return element;
}

function concrete() {
  const element = mottled(1024, [5, 12, 40, 130, 400], 11, [78, 76, 71], [148, 144, 136]);
  const context = element.getContext("2d");
  const random = seeded(5);
  for (let i = 0; i < 26; i++) {
    // old oil and water marks
    const [x, y, r] = [random() * 1024, random() * 1024, 20 + random() * 90];
    const mark = context.createRadialGradient(x, y, r * 0.2, x, y, r);
    mark.addColorStop(0, `rgba(32,29,25,${0.1 + random() * 0.22})`);
    mark.addColorStop(1, "rgba(32,29,25,0)");
    context.fillStyle = mark;
    context.fillRect(x - r, y - r, 2 * r, 2 * r);
  }
  context.strokeStyle = "rgba(30,28,26,0.5)";
  context.lineWidth = 1.2;
  for (let i = 0; i < 5; i++) {
    let [x, y] = [random() * 1024, random() * 1024];
    context.beginPath();
    context.moveTo(x, y);
    for (let s = 0; s < 26; s++) context.lineTo((x += (random() - 0.35) * 24), (y += (random() - 0.5) * 26));
    context.stroke();
  }
  return element;
}

/** Draws on a canvas and gives it as a texture. */
export function drawn(width, height, paint) {
  const element = canvas(width, height);
  paint(element.getContext("2d"), width, height);
  return texture(element);
}

/** Every material of the room, by name. */
export function materials() {
  const worn = texture(mottled(512, [4, 16, 60, 200], 3, [120, 120, 120], [230, 230, 230]), 1, false);
  const fine = texture(mottled(512, [30, 120, 300], 9, [110, 110, 110], [150, 150, 150]), 3, false);
  const brushed = texture(mottled(256, [8, 100, 250], 21, [120, 120, 120], [200, 200, 200]), [1, 6], false);
  const standard = (options) => new THREE.MeshStandardMaterial(options);
  const paint = (color, extra = {}) => standard({ color, metalness: 0.05, roughness: 0.62, roughnessMap: worn, bumpMap: fine, bumpScale: 0.35, ...extra });
  const metal = (color, roughness = 0.42, extra = {}) => standard({ color, metalness: 0.92, roughness, roughnessMap: brushed, ...extra });
  // Floor and walls fill most of the picture: without reflections they render twice as fast.
  const matt = (options) => new THREE.MeshLambertMaterial(options);
  const ground = concrete();
  return {
    floor: matt({ map: texture(ground, 2.4), bumpMap: texture(ground, 2.4, false), bumpScale: 0.7 }),
    plinth: matt({ map: texture(ground, 0.5), color: 0xc9c7c0, bumpMap: texture(ground, 0.5, false), bumpScale: 0.8 }),
    wall: matt({ map: texture(mottled(512, [3, 9, 40, 180], 31, [112, 121, 113], [142, 149, 139], 1.8), [1.2, 0.8]) }),
    blue: paint(0x2263a2),
    blueDark: paint(0x1b4f85),
    motor: paint(0x55595a, { roughness: 0.7 }),
    motorDark: paint(0x303335),
    black: paint(0x17191a, { roughness: 0.55 }),
    rubber: standard({ color: 0x121313, roughness: 0.9 }),
    steel: metal(0xb9bec2),
    cast: metal(0x8f9598, 0.62),
    bolt: metal(0xd4d7d8, 0.36),
    dark: metal(0x5b5f61, 0.5),
    brass: metal(0xc79a3f, 0.36),
    copper: metal(0xb76e4a, 0.4),
    gasket: standard({ color: 0x7e2f22, roughness: 0.85 }),
    orange: standard({ color: 0xd96a14, roughness: 0.6 }),
    yellow: paint(0xd9a514),
    red: paint(0xb92b20),
    green: paint(0x2c7a46),
    grey: paint(0x8b9092),
    clad: metal(0xc3c8ca, 0.34),
    skid: paint(0x3d4245),
    zinc: metal(0xa9b0b4, 0.5),
    lamp: new THREE.MeshBasicMaterial({ color: 0xfff6e2 }),
    water: new THREE.MeshPhysicalMaterial({ color: 0xdfeaf2, metalness: 0, roughness: 0.05, transparent: true, opacity: 0.72 }),
    wet: standard({ color: 0x1c1f21, roughness: 0.06, metalness: 0.25, transparent: true, opacity: 0.62 }),
    glass: new THREE.MeshPhysicalMaterial({ color: 0xffffff, roughness: 0.03, metalness: 0, transparent: true, opacity: 0.13 }),
  };
}
