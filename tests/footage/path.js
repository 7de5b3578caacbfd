// Where the technician's head is at each moment of the loop.
//
// Owns: camera position and aim as a function of time. The last pose meets the first.
// Never: randomness or a clock; the same time gives the same pose.
// Elsewhere: what stands in the room (scene.js).
import { Vector3 } from "three";

// Stays: from `at` seconds on the head rests around this pose, then moves on to the next.
// eye and aim in metres; the pump's shaft lies along x, the wall is at z = -1.35.
const STAYS = [
  { at: 0.0, leave: 3.4, eye: [0.82, 0.98, 1.22], aim: [-0.12, 0.6, -0.12] }, // the whole pump
  { at: 6.0, leave: 10.4, eye: [0.16, 0.8, 0.78], aim: [-0.2, 0.45, 0.0] }, // the seal that drips
  { at: 12.6, leave: 14.2, eye: [-0.4, 1.0, 1.06], aim: [-0.66, 0.52, 0.0] }, // motor and its plate
  { at: 16.4, leave: 19.6, eye: [0.66, 1.1, 0.8], aim: [0.2, 0.9, -0.42] }, // gauge and discharge flange
  { at: 22.0, leave: 25.0, eye: [0.86, 0.8, 0.82], aim: [0.02, 0.47, -0.06] }, // the cover and its bolts
];

const smoother = (u) => u * u * u * (u * (u * 6 - 15) + 10);

/** Pose of the stays alone, without the small motion of a living head. */
function rest(time, duration) {
  const count = STAYS.length;
  for (let i = 0; i < count; i++) {
    const here = STAYS[i];
    const next = STAYS[(i + 1) % count];
    const arrive = i + 1 < count ? next.at : duration;
    if (time >= here.at && time < here.leave) return { eye: new Vector3(...here.eye), aim: new Vector3(...here.aim) };
    if (time >= here.leave && time < arrive) {
      const u = (time - here.leave) / (arrive - here.leave);
      // The eyes lead: the aim arrives before the body does.
      const body = smoother(u);
      const look = smoother(Math.min(1, u * 1.25));
      return {
        eye: new Vector3(...here.eye).lerp(new Vector3(...next.eye), body).add(new Vector3(0, 0.035 * Math.sin(Math.PI * body) * Math.sin(4 * Math.PI * u), 0)),
        aim: new Vector3(...here.aim).lerp(new Vector3(...next.aim), look),
      };
    }
  }
  throw new RangeError(`no stay at ${time} s`);
}

// Whole cycles per loop, so that the loop closes: [cycles, size, phase].
const SWAY = {
  x: [[5, 0.014, 0.3], [13, 0.006, 1.9], [31, 0.0022, 4.0]],
  y: [[8, 0.009, 1.1], [17, 0.004, 0.2], [37, 0.0018, 2.2]],
  z: [[4, 0.012, 2.5], [11, 0.005, 5.1]],
};
const GAZE = {
  x: [[7, 0.022, 0.9], [19, 0.008, 3.3], [43, 0.003, 0.4]],
  y: [[6, 0.014, 4.2], [23, 0.007, 1.3], [47, 0.0028, 3.0]],
  z: [[9, 0.012, 0.1]],
};
const ROLL = [[5, 0.014, 0.8], [12, 0.007, 2.9], [29, 0.0025, 5.5]];

const waves = (terms, turn) => terms.reduce((sum, [cycles, size, phase]) => sum + size * Math.sin(cycles * turn + phase), 0);

/** Places the camera at `time` seconds of a loop of `duration` seconds. */
export function place(camera, time, duration) {
  const turn = (2 * Math.PI * time) / duration;
  const { eye, aim } = rest(time % duration, duration);
  eye.add(new Vector3(waves(SWAY.x, turn), waves(SWAY.y, turn), waves(SWAY.z, turn)));
  aim.add(new Vector3(waves(GAZE.x, turn), waves(GAZE.y, turn), waves(GAZE.z, turn)));
  camera.position.copy(eye);
  camera.lookAt(aim);
  camera.rotateZ(waves(ROLL, turn));
}
