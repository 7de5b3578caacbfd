// Machine parts: bolts, flanges, pipes, the spiral casing.
//
// Owns: shapes, each built around its own origin, in metres.
// Never: where a part stands in the room (scene.js).
import * as THREE from "three";

export const X = new THREE.Vector3(1, 0, 0);
export const Y = new THREE.Vector3(0, 1, 0);
export const Z = new THREE.Vector3(0, 0, 1);

export function mesh(geometry, material, position = [0, 0, 0]) {
  const made = new THREE.Mesh(geometry, material);
  made.position.set(...position);
  made.castShadow = made.receiveShadow = true;
  return made;
}

export function group(...members) {
  const made = new THREE.Group();
  if (members.length) made.add(...members);
  return made;
}

/** Turns a part that was built along y so that it points along `axis`. */
export function along(part, axis) {
  part.quaternion.setFromUnitVectors(Y, axis);
  return part;
}

/** A box with broken edges: sharp ones look like cardboard. */
export function box(width, height, depth, material, position, edge = 0.006) {
  const shape = new THREE.Shape();
  const [w, h, r] = [width / 2 - 1.5 * edge, height / 2 - 1.5 * edge, edge];
  shape.moveTo(-w - r, -h).lineTo(-w - r, h).quadraticCurveTo(-w - r, h + r, -w, h + r);
  shape.lineTo(w, h + r).quadraticCurveTo(w + r, h + r, w + r, h);
  shape.lineTo(w + r, -h).quadraticCurveTo(w + r, -h - r, w, -h - r);
  shape.lineTo(-w, -h - r).quadraticCurveTo(-w - r, -h - r, -w - r, -h);
  const geometry = new THREE.ExtrudeGeometry(shape, { depth: depth - 2 * edge, bevelEnabled: true, bevelSize: edge * 0.5, bevelThickness: edge, bevelSegments: 2, curveSegments: 3 });
  geometry.translate(0, 0, -depth / 2 + edge);
  return mesh(geometry, material, position);
}

/** A turned part: [radius, height] pairs from bottom to top, around y. */
export function turned(profile, material, segments = 64) {
  return mesh(new THREE.LatheGeometry(profile.map(([r, y]) => new THREE.Vector2(r, y)), segments), material);
}

export function rod(radius, length, material, segments = 40) {
  return mesh(new THREE.CylinderGeometry(radius, radius, length, segments), material);
}

/** Hexagon head with washer; its seat is y = 0. */
export function bolt(size, materials, thread = 0) {
  const washer = mesh(new THREE.CylinderGeometry(size * 1.25, size * 1.25, size * 0.22, 24), materials.steel, [0, size * 0.11, 0]);
  const head = turned([[0, 0], [size, 0], [size, size * 0.6], [size * 0.86, size * 0.78], [0, size * 0.78]], materials.bolt, 6);
  head.geometry = head.geometry.toNonIndexed();
  head.geometry.computeVertexNormals();
  head.position.y = size * 0.22;
  const made = group(washer, head);
  if (thread) made.add(mesh(new THREE.CylinderGeometry(size * 0.55, size * 0.55, thread, 16), materials.dark, [0, size + thread / 2, 0]));
  return made;
}

/** `count` bolts on a circle in the plane y = 0, heads up. */
export function circle(count, radius, size, materials, { thread = 0, turn = 0 } = {}) {
  const made = group();
  for (let i = 0; i < count; i++) {
    const angle = turn + (i / count) * Math.PI * 2;
    const one = bolt(size, materials, thread);
    one.position.set(Math.cos(angle) * radius, 0, Math.sin(angle) * radius);
    one.rotation.y = i * 1.7;
    made.add(one);
  }
  return made;
}

/** Two flanges with a gasket between, bolted; the joint lies in y = 0. */
export function joint(radius, bore, materials, { bolts = 8, thick = 0.024, surface = materials.cast, size = 0.0125 } = {}) {
  const disc = (y) => {
    const half = thick / 2;
    const made = turned([[bore, -half], [radius - 0.003, -half], [radius, -half + 0.003], [radius, half - 0.003], [radius - 0.003, half], [bore, half]], surface);
    made.position.y = y;
    return made;
  };
  const seat = thick + 0.003;
  const upper = circle(bolts, radius * 0.8, size, materials, { thread: 0.008 });
  upper.position.y = seat;
  const lower = circle(bolts, radius * 0.8, size, materials, { thread: 0.008 });
  lower.rotation.x = Math.PI;
  lower.position.y = -seat;
  const gasket = mesh(new THREE.CylinderGeometry(radius * 0.93, radius * 0.93, 0.006, 48), materials.gasket);
  return group(disc(thick / 2 + 0.003), disc(-thick / 2 - 0.003), gasket, upper, lower);
}

/** A pipe through the given points with round bends. */
export function pipe(points, radius, material, bend = 0.08) {
  const corners = points.map((p) => new THREE.Vector3(...p));
  const path = new THREE.CurvePath();
  let from = corners[0];
  for (let i = 1; i < corners.length; i++) {
    const corner = corners[i];
    const next = corners[i + 1];
    if (!next) {
      path.add(new THREE.LineCurve3(from, corner));
      break;
    }
    const before = corner.clone().add(from.clone().sub(corner).setLength(bend));
    const after = corner.clone().add(next.clone().sub(corner).setLength(bend));
    path.add(new THREE.LineCurve3(from, before));
    path.add(new THREE.QuadraticBezierCurve3(before, corner, after));
    from = after;
  }
  return mesh(new THREE.TubeGeometry(path, 48 * corners.length, radius, 28), material);
}

/** Spiral casing around the x axis; it ends at z = -end with its mouth up. Radii in metres. */
export function spiral({ begin, end, thin, wide, squeeze }, material) {
  const [rings, sides] = [180, 36];
  const positions = [];
  const indices = [];
  for (let i = 0; i <= rings; i++) {
    const u = i / rings;
    const angle = u * Math.PI * 2;
    const radius = begin + (end - begin) * u;
    const tube = thin + (wide - thin) * u;
    for (let j = 0; j <= sides; j++) {
      const turn = (j / sides) * Math.PI * 2;
      const out = radius + tube * Math.cos(turn);
      positions.push(tube * squeeze * Math.sin(turn), out * Math.sin(angle), -out * Math.cos(angle));
      if (i < rings && j < sides) {
        const a = i * (sides + 1) + j;
        const b = a + sides + 1;
        indices.push(a, b, a + 1, b, b + 1, a + 1);
      }
    }
  }
  const geometry = new THREE.BufferGeometry();
  geometry.setAttribute("position", new THREE.Float32BufferAttribute(positions, 3));
  geometry.setAttribute("uv", new THREE.Float32BufferAttribute(positions.flatMap((_, i) => (i % 3 ? [] : [positions[i + 1] * 3, positions[i + 2] * 3])), 2));
  geometry.setIndex(indices);
  geometry.computeVertexNormals();
  // The first and last side of each ring are one place: without one normal a seam shows.
  const normals = geometry.attributes.normal;
  for (let i = 0; i <= rings; i++) {
    const [first, last] = [i * (sides + 1), i * (sides + 1) + sides];
    const one = new THREE.Vector3().fromBufferAttribute(normals, first).add(new THREE.Vector3().fromBufferAttribute(normals, last)).normalize();
    normals.setXYZ(first, one.x, one.y, one.z);
    normals.setXYZ(last, one.x, one.y, one.z);
  }
  return mesh(geometry, material);
}

/** Sheet with a trapezoid profile, ribs along x, standing in the plane z = 0. */
export function cladding(width, height, material, rib = 0.16, depth = 0.022) {
  const steps = [[0, 0], [0.55, 0], [0.62, 1], [0.93, 1], [1, 0]];
  const positions = [];
  const uvs = [];
  let y = 0;
  const profile = [];
  while (y < height) {
    for (const [share, out] of steps.slice(0, 4)) profile.push([y + share * rib, out * depth]);
    y += rib;
  }
  for (let i = 0; i + 1 < profile.length; i++) {
    const [[y0, z0], [y1, z1]] = [profile[i], profile[i + 1]];
    const corners = [[-width / 2, y0, z0], [width / 2, y0, z0], [width / 2, y1, z1], [-width / 2, y1, z1]];
    for (const k of [0, 1, 2, 0, 2, 3]) {
      positions.push(...corners[k]);
      uvs.push(corners[k][0], corners[k][1]);
    }
  }
  const geometry = new THREE.BufferGeometry();
  geometry.setAttribute("position", new THREE.Float32BufferAttribute(positions, 3));
  geometry.setAttribute("uv", new THREE.Float32BufferAttribute(uvs, 2));
  geometry.computeVertexNormals();
  return mesh(geometry, material);
}

/** Handwheel around y. */
export function handwheel(radius, material) {
  const rim = mesh(new THREE.TorusGeometry(radius, radius * 0.1, 18, 60), material);
  rim.rotation.x = Math.PI / 2;
  const made = group(rim, rod(radius * 0.2, radius * 0.3, material));
  for (let i = 0; i < 5; i++) {
    const spoke = rod(radius * 0.07, radius, material, 14);
    const angle = (i / 5) * Math.PI * 2;
    along(spoke, new THREE.Vector3(Math.cos(angle), 0, Math.sin(angle)));
    spoke.position.set((Math.cos(angle) * radius) / 2, 0, (Math.sin(angle) * radius) / 2);
    made.add(spoke);
  }
  return made;
}
