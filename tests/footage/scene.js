// The pump workshop: pump P-204, its motor, pipes and gauge, in a corner of a hall.
//
// Owns: what stands where, the light, and the drops that fall.
// Never: the camera (path.js), shapes of parts (parts.js), colours (surfaces.js).
import * as THREE from "three";
import { RoomEnvironment } from "three/addons/environments/RoomEnvironment.js";
import { X, Y, Z, along, bolt, box, circle, cladding, group, handwheel, joint, mesh, pipe, rod, spiral, turned } from "./parts.js";
import { drawn, materials, seeded } from "./surfaces.js";

const SHAFT = 0.5; // height of the pump's shaft above the floor, m
const WALL = -1.35; // z of the wall, m
const SEAL = -0.25; // x of the shaft seal, m

/** Builds the room. `fall(time, duration)` moves the drops; the scene is otherwise still. */
export function build(renderer) {
  const m = materials();
  const scene = new THREE.Scene();
  scene.background = new THREE.Color(0x2a2e2e);
  const generator = new THREE.PMREMGenerator(renderer);
  scene.environment = generator.fromScene(new RoomEnvironment(), 0.03).texture;
  scene.environmentIntensity = 0.22;
  scene.add(room(m), skid(m), pump(m), coupling(m), motor(m), discharge(m), gauge(m), pipework(m), cabinet(m), clutter(m));
  light(scene);
  const drops = leak(m);
  scene.add(drops.part);
  return { scene, fall: drops.fall };
}

function light(scene) {
  scene.add(new THREE.HemisphereLight(0xdfe8ee, 0x4a4638, 0.62));
  const spot = (color, power, from, to, angle, shadow) => {
    const lamp = new THREE.SpotLight(color, power, 9, angle, 0.75, 1.7);
    lamp.position.set(...from);
    lamp.target.position.set(...to);
    if (shadow) {
      lamp.castShadow = true;
      lamp.shadow.mapSize.set(2048, 2048);
      lamp.shadow.camera.near = 0.6;
      lamp.shadow.camera.far = 7;
      lamp.shadow.bias = -0.0004;
      lamp.shadow.normalBias = 0.02;
      lamp.shadow.radius = 4;
    }
    scene.add(lamp, lamp.target);
  };
  spot(0xfff1d8, 46, [1.3, 3.0, 1.7], [-0.15, 0.45, -0.2], 0.62, true);
  spot(0xdfeaff, 20, [-2.1, 2.9, 1.2], [-0.5, 0.5, -0.3], 0.7, true);
  spot(0xffe2b0, 9, [0.4, 2.8, -0.7], [0.3, 0.9, -1.3], 0.9, false);
}

function room(m) {
  const floor = mesh(new THREE.PlaneGeometry(9, 9), m.floor);
  floor.rotation.x = -Math.PI / 2;
  floor.castShadow = false;
  const wall = cladding(9, 3.2, m.wall);
  wall.position.set(0, 0.32, WALL);
  const foot = box(9, 0.34, 0.08, m.plinth, [0, 0.17, WALL + 0.01]);
  const line = mesh(new THREE.PlaneGeometry(9, 0.1), m.yellow, [0, 0.002, 0.72]);
  line.rotation.x = -Math.PI / 2;
  const posts = [-2.3, 1.55].map((x) => {
    const web = box(0.012, 3.2, 0.16, m.grey, [x, 1.6, WALL + 0.1], 0.002);
    const sides = [-0.08, 0.08].map((z) => box(0.16, 3.2, 0.014, m.grey, [x, 1.6, WALL + 0.1 + z], 0.003));
    return group(web, ...sides);
  });
  return group(floor, wall, foot, line, ...posts);
}

function skid(m) {
  const made = group(box(2.0, 0.1, 0.74, m.plinth, [-0.4, 0.05, 0]));
  for (const z of [-0.24, 0.24]) {
    made.add(box(1.84, 0.016, 0.09, m.skid, [-0.4, 0.192, z], 0.003), box(1.84, 0.016, 0.09, m.skid, [-0.4, 0.11, z], 0.003), box(1.84, 0.07, 0.012, m.skid, [-0.4, 0.15, z], 0.003));
    for (const x of [-1.24, -0.55, 0.42]) {
      const anchor = bolt(0.014, m, 0.02);
      anchor.position.set(x, 0.2, z);
      made.add(anchor);
    }
  }
  for (const x of [-1.28, -0.36, 0.48]) made.add(box(0.08, 0.075, 0.48, m.skid, [x, 0.155, 0], 0.003));
  made.add(box(0.98, 0.014, 0.46, m.zinc, [-0.32, 0.202, 0], 0.004));
  return made;
}

function pump(m) {
  const made = group();
  made.position.y = SHAFT;
  made.add(spiral({ begin: 0.135, end: 0.215, thin: 0.052, wide: 0.088, squeeze: 1.02 }, m.blue));
  const body = along(turned([[0, -0.1], [0.1, -0.1], [0.14, -0.085], [0.15, -0.05], [0.15, 0], [0.152, 0.05], [0.162, 0.078], [0.165, 0.084], [0.165, 0.096], [0, 0.096]], m.blue), X);
  made.add(body);

  // Front cover with its bolts and the brass plug.
  const cover = along(turned([[0, 0], [0.156, 0], [0.16, 0.004], [0.16, 0.018], [0.156, 0.022], [0.094, 0.022], [0.086, 0.03], [0.05, 0.034], [0, 0.034]], m.cast), X);
  cover.position.x = 0.096;
  const ring = along(circle(8, 0.128, 0.0145, m, { turn: 0.39 }), X);
  ring.position.x = 0.118;
  const plug = along(group(turned([[0, 0], [0.042, 0], [0.042, 0.012], [0, 0.012]], m.brass, 40), nut(0.036, 0.03, m.brass)), X);
  plug.position.x = 0.13;
  made.add(cover, ring, plug);

  // Towards the motor: back plate, seal housing with its gland, bearing bracket.
  const back = along(turned([[0, 0], [0.09, 0], [0.105, 0.014], [0.15, 0.03], [0.16, 0.034], [0.16, 0.05], [0, 0.05]], m.blueDark), X);
  back.position.x = -0.145;
  const housing = along(turned([[0.03, 0], [0.062, 0], [0.062, 0.05], [0.09, 0.09], [0.09, 0.11], [0, 0.11]], m.blue), X);
  housing.position.x = SEAL;
  made.add(back, housing);
  const gland = along(joint(0.088, 0.026, m, { bolts: 6, thick: 0.016, surface: m.steel, size: 0.0085 }), X);
  gland.position.x = SEAL;
  const sleeve = along(rod(0.052, 0.05, m.dark), X);
  sleeve.position.x = SEAL - 0.045;
  const shaft = along(rod(0.024, 0.34, m.steel), X);
  shaft.position.x = SEAL - 0.13;
  made.add(gland, sleeve, shaft);

  // Feet.
  for (const z of [-0.15, 0.15]) {
    made.add(box(0.13, 0.2, 0.05, m.blue, [0, -0.2, z], 0.008), box(0.2, 0.024, 0.1, m.blue, [0, -0.28, z], 0.006));
    for (const x of [-0.075, 0.075]) {
      const foot = bolt(0.012, m, 0.01);
      foot.position.set(x, -0.268, z + Math.sign(z) * 0.02);
      made.add(foot);
    }
  }
  made.add(box(0.05, 0.16, 0.26, m.blueDark, [-0.02, -0.2, 0], 0.008));

  // Asset tag on the front foot.
  const plate = mesh(new THREE.PlaneGeometry(0.088, 0.044), new THREE.MeshStandardMaterial({ map: tag("P-204", "#e9d45a", "#16181a"), roughness: 0.5 }));
  plate.position.set(0, -0.238, 0.1765);
  made.add(plate);
  return made;
}

function nut(radius, height, material) {
  const made = turned([[0, 0.01], [radius, 0.01], [radius, 0.01 + height * 0.8], [radius * 0.86, 0.01 + height], [0, 0.01 + height]], material, 6);
  made.geometry = made.geometry.toNonIndexed();
  made.geometry.computeVertexNormals();
  return made;
}

function tag(text, back, front) {
  return drawn(512, 256, (c, w, h) => {
    c.fillStyle = back;
    c.fillRect(0, 0, w, h);
    c.strokeStyle = front;
    c.lineWidth = 12;
    c.strokeRect(14, 14, w - 28, h - 28);
    c.fillStyle = front;
    c.font = "bold 150px Inter, sans-serif";
    c.textAlign = "center";
    c.textBaseline = "middle";
    c.fillText(text, w / 2, h / 2 + 8);
  });
}

function coupling(m) {
  const made = group();
  made.position.set(-0.44, SHAFT, 0);
  const hub = (x, flip) => {
    const part = turned([[0, 0], [0.05, 0], [0.05, 0.05], [0.078, 0.054], [0.08, 0.058], [0.08, 0.076], [0, 0.076]], m.dark);
    along(part, flip ? X : X.clone().negate());
    part.position.x = x;
    return part;
  };
  const star = along(rod(0.072, 0.02, m.orange), X);
  made.add(hub(-0.086, true), hub(0.086, false), star);
  for (let i = 0; i < 6; i++) {
    const angle = (i / 6) * Math.PI * 2;
    const pin = along(bolt(0.009, m), X);
    pin.position.set(0.03, Math.cos(angle) * 0.063, Math.sin(angle) * 0.063);
    made.add(pin);
  }
  return made;
}

function motor(m) {
  const made = group();
  made.position.set(-0.86, SHAFT, 0);
  const barrel = along(rod(0.158, 0.44, m.motor, 72), X);
  made.add(barrel);
  for (let i = 0; i < 44; i++) {
    const angle = (i / 44) * Math.PI * 2;
    if (Math.abs(Math.sin(angle) + 1) < 0.12) continue;
    const fin = mesh(new THREE.BoxGeometry(0.43, 0.034, 0.006), m.motor);
    fin.position.set(0, Math.sin(angle) * 0.172, Math.cos(angle) * 0.172);
    fin.rotation.x = Math.PI / 2 - angle;
    made.add(fin);
  }
  const shield = (x, axis) => {
    const part = along(turned([[0, 0], [0.19, 0], [0.19, 0.018], [0.186, 0.024], [0.15, 0.03], [0.07, 0.045], [0.05, 0.06], [0, 0.06]], m.motorDark), axis);
    part.position.x = x;
    return part;
  };
  made.add(shield(0.22, X));
  const cowl = along(turned([[0, 0], [0.192, 0], [0.192, 0.11], [0.182, 0.13], [0.15, 0.15], [0, 0.15]], m.motorDark), X.clone().negate());
  cowl.position.x = -0.21;
  made.add(cowl);
  const stub = along(rod(0.024, 0.12, m.steel), X);
  stub.position.x = 0.3;
  made.add(stub);
  for (let i = 0; i < 6; i++) {
    const angle = ((i + 0.5) / 6) * Math.PI * 2;
    const screw = along(bolt(0.009, m), X);
    screw.position.set(0.243, Math.sin(angle) * 0.168, Math.cos(angle) * 0.168);
    made.add(screw);
  }
  // Terminal box, gland and cable; lifting eye.
  made.add(box(0.2, 0.05, 0.17, m.motor, [0.02, 0.188, 0.02]), box(0.22, 0.09, 0.19, m.motorDark, [0.02, 0.25, 0.02], 0.012), box(0.226, 0.014, 0.196, m.black, [0.02, 0.3, 0.02], 0.005));
  for (const [x, z] of [[-0.075, -0.06], [0.115, -0.06], [-0.075, 0.1], [0.115, 0.1]]) {
    const screw = bolt(0.006, m);
    screw.position.set(x, 0.306, z);
    made.add(screw);
  }
  const entry = along(rod(0.022, 0.05, m.brass, 24), Z.clone().negate());
  entry.position.set(-0.04, 0.245, -0.095);
  made.add(entry, pipe([[-0.04, 0.245, -0.1], [-0.04, 0.245, -0.42], [-0.04, 0.62, -0.42], [-0.04, 0.62, -1.1], [-0.04, 1.9, -1.1]].map(([x, y, z]) => [x, y, z * 0.99]), 0.012, m.rubber, 0.12));
  const eye = mesh(new THREE.TorusGeometry(0.026, 0.008, 14, 30), m.steel, [-0.16, 0.21, 0]);
  made.add(eye);
  for (const z of [-0.13, 0.13]) {
    made.add(box(0.34, 0.13, 0.04, m.motor, [0, -0.19, z]), box(0.36, 0.026, 0.11, m.motor, [0, -0.265, z * 1.15], 0.005));
    for (const x of [-0.13, 0.13]) {
      const foot = bolt(0.013, m, 0.012);
      foot.position.set(x, -0.252, z * 1.32);
      made.add(foot);
    }
  }
  // Rating plate.
  const plate = mesh(new THREE.PlaneGeometry(0.15, 0.095), new THREE.MeshStandardMaterial({ map: rating(), metalness: 0.55, roughness: 0.42 }));
  plate.position.set(0.02, 0.045, 0.196);
  plate.rotation.x = -0.2;
  const seat = mesh(new THREE.BoxGeometry(0.165, 0.11, 0.02), m.motor, [0.02, 0.043, 0.184]);
  seat.rotation.x = -0.2;
  made.add(plate, seat);
  return made;
}

function rating() {
  const rows = [["Typ", "KN 132 M-4"], ["Nr.", "204-88317"], ["kW", "7,5"], ["V", "400 / 690"], ["A", "14,6 / 8,4"], ["1/min", "1455"], ["Hz", "50"], ["IP", "55"]];
  return drawn(768, 486, (c, w, h) => {
    c.fillStyle = "#c9cdd0";
    c.fillRect(0, 0, w, h);
    c.strokeStyle = c.fillStyle = "#15181a";
    c.lineWidth = 4;
    c.strokeRect(12, 12, w - 24, h - 24);
    c.font = "bold 56px Inter, sans-serif";
    c.fillText("Nordwerk Motoren", 36, 78);
    c.fillRect(12, 104, w - 24, 4);
    rows.forEach(([name, value], i) => {
      const [x, y] = [36 + (i % 2) * 366, 166 + Math.floor(i / 2) * 88];
      c.font = "34px Inter, sans-serif";
      c.fillText(name, x, y);
      c.font = "bold 40px Inter, sans-serif";
      c.fillText(value, x + 104, y);
      c.fillRect(x, y + 18, 340, 2);
    });
  });
}

function discharge(m) {
  const made = group();
  const [x, z] = [0, -0.215];
  const neck = turned([[0.088, 0], [0.082, 0.1], [0.076, 0.17], [0.08, 0.2], [0.1, 0.215], [0.1, 0.23]], m.blue);
  neck.position.set(x, SHAFT, z);
  const first = joint(0.135, 0.05, m, { surface: m.steel });
  first.position.set(x, SHAFT + 0.262, z);
  const reducer = turned([[0.1, 0], [0.082, 0.02], [0.07, 0.07], [0.07, 0.14], [0.1, 0.165]], m.cast);
  reducer.position.set(x, SHAFT + 0.285, z);
  // Valve with its red handwheel.
  const valve = turned([[0.07, 0], [0.11, 0.03], [0.122, 0.08], [0.11, 0.13], [0.07, 0.16]], m.cast);
  valve.position.set(x, SHAFT + 0.5, z);
  const lower = joint(0.128, 0.05, m, { surface: m.cast });
  lower.position.set(x, SHAFT + 0.475, z);
  const upper = joint(0.128, 0.05, m, { surface: m.cast });
  upper.position.set(x, SHAFT + 0.69, z);
  const bonnet = along(turned([[0.075, 0], [0.07, 0.1], [0.085, 0.105], [0.085, 0.13], [0.04, 0.15], [0.03, 0.24], [0, 0.24]], m.cast), Z);
  bonnet.position.set(x, SHAFT + 0.58, z + 0.05);
  const stem = along(rod(0.012, 0.1, m.steel), Z);
  stem.position.set(x, SHAFT + 0.58, z + 0.33);
  const wheel = along(handwheel(0.12, m.red), Z);
  wheel.position.set(x, SHAFT + 0.58, z + 0.36);
  const riser = rod(0.07, 1.9, m.clad);
  riser.position.set(x, SHAFT + 1.66, z);
  made.add(neck, first, reducer, lower, valve, upper, bonnet, stem, wheel, riser);
  // Flow arrow on the riser neck.
  const arrow = mesh(new THREE.CylinderGeometry(0.0712, 0.0712, 0.07, 30, 1, true, 0.2, 0.9), new THREE.MeshStandardMaterial({ map: drawn(256, 128, (c, w, h) => {
    c.fillStyle = "#1f7f43";
    c.fillRect(0, 0, w, h);
    c.fillStyle = "#fff";
    c.beginPath();
    c.moveTo(w / 2, 16);
    c.lineTo(w / 2 + 60, 112);
    c.lineTo(w / 2 - 60, 112);
    c.fill();
  }), roughness: 0.5 }));
  arrow.position.set(x, SHAFT + 0.38, z);
  made.add(arrow);
  return made;
}

function gauge(m) {
  const [x, y, z] = [0.3, SHAFT + 0.4, -0.3];
  const made = group(pipe([[0.06, SHAFT + 0.34, -0.215], [x - 0.02, SHAFT + 0.34, -0.24], [x - 0.02, y - 0.06, -0.27]], 0.011, m.brass, 0.03));
  const cock = along(rod(0.018, 0.05, m.brass, 20), X);
  cock.position.set(0.16, SHAFT + 0.34, -0.228);
  const lever = box(0.012, 0.06, 0.012, m.red, [0.16, SHAFT + 0.375, -0.228], 0.003);
  made.add(cock, lever);
  const dial = mesh(new THREE.CircleGeometry(0.088, 64), new THREE.MeshStandardMaterial({ map: scale(), roughness: 0.55 }));
  dial.position.z = 0.0255;
  const can = along(turned([[0, 0], [0.092, 0], [0.096, 0.006], [0.096, 0.036], [0.104, 0.04], [0.104, 0.05], [0.098, 0.055], [0.09, 0.052], [0.09, 0.026]], m.steel, 72), Z);
  can.position.z = -0.001;
  const needle = group(mesh(new THREE.BoxGeometry(0.005, 0.082, 0.002), m.black, [0, 0.03, 0]));
  needle.rotation.z = 2.356 - (3.2 / 10) * 4.712;
  needle.position.z = 0.031;
  const hub = along(rod(0.009, 0.008, m.brass, 24), Z);
  hub.position.z = 0.032;
  const pane = mesh(new THREE.CircleGeometry(0.092, 64), m.glass);
  pane.position.z = 0.049;
  pane.castShadow = false;
  const neck = rod(0.016, 0.07, m.brass, 6);
  neck.position.set(0, -0.12, 0.01);
  const head = group(can, dial, needle, hub, pane, neck);
  head.position.set(x - 0.02, y + 0.08, z + 0.02);
  head.rotation.y = 0.42;
  made.add(head);
  return made;
}

/** Dial of the gauge: 0 to 10 bar over 270 degrees. */
function scale() {
  return drawn(768, 768, (c, w) => {
    const middle = w / 2;
    c.fillStyle = "#f2f1ea";
    c.fillRect(0, 0, w, w);
    c.translate(middle, middle);
    const angle = (bar) => ((135 + (bar / 10) * 270) * Math.PI) / 180;
    c.lineWidth = 22;
    for (const [from, to, colour] of [[2, 6, "#2c8a4a"], [8, 10, "#c43227"]]) {
      c.strokeStyle = colour;
      c.beginPath();
      c.arc(0, 0, 318, angle(from), angle(to));
      c.stroke();
    }
    c.strokeStyle = c.fillStyle = "#15171a";
    for (let bar = 0; bar <= 10.001; bar += 0.2) {
      const whole = Math.abs(bar - Math.round(bar)) < 0.01;
      c.lineWidth = whole ? 8 : 3;
      c.beginPath();
      c.moveTo(Math.cos(angle(bar)) * 306, Math.sin(angle(bar)) * 306);
      c.lineTo(Math.cos(angle(bar)) * (whole ? 256 : 280), Math.sin(angle(bar)) * (whole ? 256 : 280));
      c.stroke();
    }
    c.textAlign = "center";
    c.textBaseline = "middle";
    c.font = "bold 62px Inter, sans-serif";
    for (let bar = 0; bar <= 10; bar += 2) c.fillText(String(bar), Math.cos(angle(bar)) * 204, Math.sin(angle(bar)) * 204);
    c.font = "bold 56px Inter, sans-serif";
    c.fillText("bar", 0, 150);
    c.font = "30px Inter, sans-serif";
    c.fillText("Kl. 1,0", 0, 250);
  });
}

function pipework(m) {
  const made = group();
  // Insulated line along the wall with bands and brackets.
  const big = along(rod(0.14, 8, m.clad), X);
  big.position.set(0, 1.62, WALL + 0.28);
  made.add(big);
  for (let i = -4; i <= 4; i++) {
    const band = along(rod(0.1425, 0.035, m.zinc), X);
    band.position.set(i * 0.83 + 0.2, 1.62, WALL + 0.28);
    made.add(band);
    if (i % 2 === 0) made.add(box(0.05, 0.05, 0.3, m.skid, [i * 0.83 + 0.34, 1.455, WALL + 0.16], 0.004));
  }
  // Upright lines: gas in yellow, water in grey, copper pair.
  made.add(pipe([[0.92, 0, WALL + 0.16], [0.92, 3, WALL + 0.16]], 0.038, m.yellow), pipe([[0.72, 0, WALL + 0.18], [0.72, 3, WALL + 0.18]], 0.055, m.grey));
  made.add(pipe([[1.08, 3, WALL + 0.1], [1.08, 0.72, WALL + 0.1], [3, 0.72, WALL + 0.1]], 0.014, m.copper), pipe([[1.14, 3, WALL + 0.1], [1.14, 0.78, WALL + 0.1], [3, 0.78, WALL + 0.1]], 0.014, m.copper));
  for (const y of [0.62, 1.3]) made.add(box(0.62, 0.03, 0.03, m.zinc, [0.9, y, WALL + 0.06], 0.003));
  const joint1 = joint(0.105, 0.04, m, { bolts: 6, surface: m.grey, size: 0.01 });
  joint1.position.set(0.72, 0.98, WALL + 0.18);
  made.add(joint1);
  // Suction line from the back of the pump to the wall.
  made.add(pipe([[-0.01, SHAFT - 0.06, -0.06], [-0.01, SHAFT - 0.06, -0.78], [1.0, SHAFT - 0.06, -0.78], [3, SHAFT - 0.06, -0.78]], 0.062, m.blueDark, 0.16));
  const inlet = along(joint(0.118, 0.05, m, { surface: m.cast }), X);
  inlet.position.set(0.5, SHAFT - 0.06, -0.78);
  made.add(inlet);
  const stand = box(0.06, 0.38, 0.06, m.skid, [0.8, 0.19, -0.78], 0.004);
  made.add(stand);
  // Cable tray high on the left.
  made.add(box(3, 0.012, 0.22, m.zinc, [-2.2, 1.98, WALL + 0.22], 0.002), box(3, 0.06, 0.006, m.zinc, [-2.2, 2.01, WALL + 0.33], 0.002));
  for (let i = 0; i < 4; i++) made.add(pipe([[-3.7, 2.005, WALL + 0.15 + i * 0.04], [-0.9, 2.005, WALL + 0.15 + i * 0.04]], 0.013, i % 2 ? m.rubber : m.grey));
  return made;
}

function cabinet(m) {
  const made = group();
  made.position.set(-1.5, 1.12, WALL + 0.16);
  made.add(box(0.52, 0.7, 0.24, m.grey, [0, 0, 0], 0.01), box(0.49, 0.67, 0.01, m.grey, [0, 0, 0.124], 0.005));
  const face = drawn(512, 200, (c, w, h) => {
    c.fillStyle = "#eceeea";
    c.fillRect(0, 0, w, h);
    c.fillStyle = "#15181a";
    c.font = "bold 78px Inter, sans-serif";
    c.fillText("P-204", 26, 92);
    c.font = "44px Inter, sans-serif";
    c.fillText("Umwälzpumpe", 26, 160);
  });
  made.add(mesh(new THREE.PlaneGeometry(0.22, 0.086), new THREE.MeshStandardMaterial({ map: face, roughness: 0.6 }), [-0.08, 0.25, 0.1305]));
  const warn = drawn(256, 256, (c) => {
    c.fillStyle = "#f0c419";
    c.beginPath();
    c.moveTo(128, 14);
    c.lineTo(246, 232);
    c.lineTo(10, 232);
    c.fill();
    c.fillStyle = c.strokeStyle = "#141414";
    c.lineWidth = 14;
    c.lineJoin = "round";
    c.stroke();
    c.beginPath();
    for (const [x, y] of [[142, 76], [100, 150], [126, 150], [112, 212], [162, 128], [134, 128]]) c.lineTo(x, y);
    c.fill();
  });
  made.add(mesh(new THREE.PlaneGeometry(0.1, 0.1), new THREE.MeshStandardMaterial({ map: warn, transparent: true, roughness: 0.6 }), [0.15, 0.24, 0.1308]));
  const glow = (color) => new THREE.MeshStandardMaterial({ color, emissive: color, emissiveIntensity: 0.9, roughness: 0.3 });
  [[-0.14, 0x19b357], [-0.05, 0xd9d9d0], [0.04, 0xc62a20]].forEach(([x, colour]) => {
    const button = along(rod(0.021, 0.02, glow(colour), 30), Z);
    button.position.set(x, 0.08, 0.138);
    const rim = mesh(new THREE.TorusGeometry(0.024, 0.004, 10, 30), m.steel, [x, 0.08, 0.131]);
    made.add(button, rim);
  });
  const stop = along(turned([[0, 0], [0.02, 0], [0.02, 0.02], [0.036, 0.026], [0.036, 0.044], [0, 0.05]], m.red), Z);
  stop.position.set(-0.05, -0.08, 0.13);
  const collar = mesh(new THREE.CylinderGeometry(0.052, 0.052, 0.008, 40), m.yellow, [-0.05, -0.08, 0.13]);
  collar.rotation.x = Math.PI / 2;
  made.add(stop, collar, box(0.018, 0.09, 0.02, m.dark, [0.2, -0.02, 0.135], 0.004));
  return made;
}

function clutter(m) {
  const made = group();
  // Toolbox with its lid handle.
  made.add(box(0.44, 0.17, 0.22, m.red, [0.98, 0.085, -0.3], 0.01), box(0.45, 0.03, 0.23, m.red, [0.98, 0.185, -0.3], 0.008), pipe([[0.86, 0.19, -0.3], [0.86, 0.25, -0.3], [1.1, 0.25, -0.3], [1.1, 0.19, -0.3]], 0.01, m.black, 0.03));
  // Two spanners on the skid and a rag.
  const spanner = (length, at, turn) => {
    const shank = box(length, 0.008, 0.016, m.bolt, [0, 0, 0], 0.002);
    const ends = [-1, 1].map((side) => {
      const end = mesh(new THREE.TorusGeometry(0.017, 0.007, 10, 24, side > 0 ? Math.PI * 2 : Math.PI * 1.5), m.bolt, [(side * length) / 2 + side * 0.014, 0, 0]);
      end.rotation.set(Math.PI / 2, 0, side > 0 ? 0 : 2.4);
      return end;
    });
    const part = group(shank, ...ends);
    part.position.set(...at);
    part.rotation.y = turn;
    return part;
  };
  made.add(spanner(0.19, [0.3, 0.217, 0.27], 0.5), spanner(0.15, [0.38, 0.217, 0.2], 0.9));
  const rag = mesh(new THREE.PlaneGeometry(0.3, 0.24, 40, 32), new THREE.MeshStandardMaterial({ color: 0xb9553a, roughness: 0.95, side: THREE.DoubleSide }));
  const random = seeded(77);
  const [a, b, c] = [random() * 6, random() * 6, random() * 6];
  const place = rag.geometry.attributes.position;
  for (let i = 0; i < place.count; i++) {
    const [x, y] = [place.getX(i), place.getY(i)];
    place.setZ(i, 0.012 + 0.016 * Math.abs(Math.sin(x * 24 + a) * Math.cos(y * 19 + b)) + 0.01 * Math.sin(x * 47 + y * 31 + c) ** 2);
  }
  rag.geometry.computeVertexNormals();
  rag.rotation.set(-Math.PI / 2, 0, 0.6);
  rag.position.set(0.72, 0.0, 0.42);
  made.add(rag);
  // Bucket.
  const bucket = turned([[0, 0.004], [0.1, 0.004], [0.135, 0.26], [0.142, 0.264], [0.142, 0.27], [0.13, 0.268], [0.095, 0.01]], m.zinc);
  bucket.position.set(-0.28, 0, 0.55);
  const content = mesh(new THREE.CircleGeometry(0.118, 40), m.wet, [-0.28, 0.17, 0.55]);
  content.rotation.x = -Math.PI / 2;
  made.add(bucket, content);
  // Hose on the floor.
  const turns = [];
  for (let i = 0; i <= 90; i++) {
    const angle = (i / 90) * Math.PI * 6.4;
    const radius = 0.2 + 0.02 * Math.sin(angle * 0.33);
    turns.push(new THREE.Vector3(1.7 + Math.cos(angle) * radius, 0.02 + i * 0.0012, -0.75 + Math.sin(angle) * radius));
  }
  made.add(mesh(new THREE.TubeGeometry(new THREE.CatmullRomCurve3(turns), 400, 0.018, 14), m.green));
  return made;
}

/** Water at the seal: a bead that grows, drops that fall on the skid, the puddle below. */
function leak(m) {
  const part = group();
  const [x, z] = [SEAL, 0.018];
  const from = SHAFT - 0.094;
  const to = 0.2115;
  const puddle = mesh(new THREE.CircleGeometry(1, 64), m.wet);
  const edge = puddle.geometry.attributes.position;
  for (let i = 1; i < edge.count; i++) {
    const angle = Math.atan2(edge.getY(i), edge.getX(i));
    const radius = 1 + 0.16 * Math.sin(angle * 3 + 1) + 0.08 * Math.sin(angle * 7 + 2);
    edge.setXY(i, Math.cos(angle) * radius, Math.sin(angle) * radius);
  }
  puddle.rotation.x = -Math.PI / 2;
  puddle.scale.set(0.19, 0.12, 1);
  puddle.position.set(x + 0.01, 0.2103, 0.07);
  puddle.castShadow = false;
  const ball = new THREE.SphereGeometry(1, 20, 16);
  const bead = mesh(ball, m.water);
  const drops = [0, 1, 2].map(() => mesh(ball, m.water));
  const rings = [0, 1].map(() => {
    const ring = mesh(new THREE.RingGeometry(0.86, 1, 40), m.water);
    ring.rotation.x = -Math.PI / 2;
    ring.castShadow = false;
    return ring;
  });
  const track = rod(0.004, 0.05, m.water, 12);
  track.position.set(x, from + 0.02, z + 0.012);
  part.add(puddle, bead, track, ...drops, ...rings);
  for (const wet of [bead, track, ...drops]) wet.castShadow = false;
  const PERIOD = 0.6; // s between drops; the loop is a whole number of them
  const g = 9.81;
  const flight = Math.sqrt((2 * (from - to)) / g);
  const fall = (time) => {
    const phase = (time % PERIOD) / PERIOD;
    bead.scale.setScalar(0.003 + 0.0045 * phase);
    bead.position.set(x, from - 0.003 * phase, z);
    drops.forEach((drop, i) => {
      const age = (time % PERIOD) - i * 0.085;
      drop.visible = age >= 0 && age < flight;
      const size = 0.0072 - i * 0.0018;
      drop.scale.set(size * 0.9, size * (1.1 + age), size * 0.9);
      drop.position.set(x + i * 0.0015, from - 0.5 * g * age * age, z);
    });
    rings.forEach((ring, i) => {
      const age = ((time - flight + PERIOD - i * 0.085) % PERIOD) / PERIOD;
      ring.scale.setScalar(0.008 + 0.06 * age);
      ring.position.set(x, to + 0.0006, z + 0.004);
      ring.visible = age < 0.7;
    });
  };
  return { part, fall };
}
