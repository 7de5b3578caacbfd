/**
 * A phone that is turned during a call: the picture turns with it, and every mark stays on the picture it was drawn on.
 *
 * The camera is the workshop clip, cut as Chrome on Android gives it: pictures whose size changes. Safari's stay lying and say how they are
 * turned; that Safari turns the pixels itself where nobody takes such words (`server/sfu/src/engine.rs`) only a real phone can show.
 */
import { type Browser, type Page, expect, test } from '@playwright/test';

import { callFromField, draw, endSession, logIn, newPage, newPhonePage, openBrowser, openPhone, replayWithReason, takeCall } from './people.ts';
import { eventually, expectMark, frameNumber } from './pictures.ts';
import { Programs } from './programs.ts';

type Held = 'across' | 'upright';

let programs: Programs;
let desk: Browser;
let phone: Browser;

test.beforeAll(async () => {
  programs = await Programs.start([]);
  desk = await openBrowser();
  phone = await openPhone(programs.folder);
});

test.afterAll(async () => {
  await desk?.close();
  await phone?.close();
  await programs?.stop();
});

test('a phone that is turned turns the picture; marks, earlier pictures and the replay stay right', async () => {
  const field = await newPhonePage(phone, { isMobile: true, viewport: ACROSS });
  const expert = await newPage(desk);
  await field.addInitScript(turnable);
  const frames: number[] = [];

  await test.step('held across', async () => {
    await callFromField(field, programs, 'Which way is up');
    await hold(field, 'across');
    await logIn(expert, programs, 'expert');
    await takeCall(expert, 'Which way is up');
    await field.getByRole('button', { name: 'YES, RECORD' }).click();
    await expect.poll(() => sizeOf(expert, 'live-video')).toEqual(LYING);
    await expect(expert.getByTestId('recording-pill')).toHaveText(/Recording \d/);
    await expect.poll(() => field.evaluate(() => screen.orientation.type)).toBe('landscape-primary');
  });

  await test.step('turned while the expert draws: the frozen picture stays as it was, and its mark in its place', async () => {
    frames.push(await freezeAndDraw(expert));
    await hold(field, 'upright');
    await expect.poll(() => sizeOf(expert, 'live-video')).toEqual(STANDING);
    expect(await sizeOf(expert, 'frozen-picture')).toEqual(LYING);
    expect(await frameNumber(expert.getByTestId('frozen-picture'))).toBe(frames[0]);
    await arrives(expert, field, 'Across', frames[0]!, LYING);
  });

  await test.step('held upright the expert sees, freezes and marks the whole upright picture', async () => {
    await expect.poll(() => frameNumber(expert.getByTestId('live-video'))).not.toBeNull();
    expect(await sizeOf(field, 'own-video'), 'what the technician sees of it').toEqual(STANDING);
    frames.push(await freezeAndDraw(expert));
    expect(await sizeOf(expert, 'frozen-picture')).toEqual(STANDING);
    await arrives(expert, field, 'Upright', frames[1]!, STANDING);
  });

  await test.step('back across, and one can step back to the upright picture', async () => {
    await hold(field, 'across');
    await expect.poll(() => sizeOf(expert, 'live-video')).toEqual(LYING);
    await expert.keyboard.press('f');
    await expect.poll(() => sizeOf(expert, 'frozen-picture')).toEqual(LYING);
    await expect
      .poll(async () => {
        await expert.keyboard.press('j');
        return sizeOf(expert, 'frozen-picture');
      })
      .toEqual(STANDING);
    await expect.poll(() => frameNumber(expert.getByTestId('frozen-picture'))).not.toBeNull();
    await expert.keyboard.press('Escape');
    await endSession(expert, 'Solved');
  });

  await test.step('the replay shows each picture as it was held, and each mark on its frame', async () => {
    const manager = await newPage(desk);
    await logIn(manager, programs, 'manager');
    await manager.getByRole('link', { name: /Which way is up/ }).first().click();
    await replayWithReason(manager, 'Warranty check');
    await expect(manager.getByTestId('chain-pill')).toHaveText(/Verified/);
    const sizes = [LYING, STANDING];
    for (const [i, words] of ['Across', 'Upright'].entries()) {
      await manager.getByRole('list').getByText(words).first().click();
      await expect(manager.locator('.stage [data-mark]').first()).toBeVisible();
      await manager.getByRole('button', { name: 'To the original frame' }).click();
      await expect.poll(() => frameNumber(manager.getByTestId('replay-video')), `the frame of ${words}`).toBe(frames[i]);
      expect(await sizeOf(manager, 'replay-video')).toEqual(sizes[i]);
    }
  });
});

const LYING = [1280, 720];
const STANDING = [720, 1280];
const ACROSS = { width: 844, height: 390 };
const UPRIGHT = { width: 390, height: 844 };

/** Turns the phone: the window and the pictures of its camera. */
async function hold(field: Page, held: Held): Promise<void> {
  await field.setViewportSize(held === 'across' ? ACROSS : UPRIGHT);
  await field.evaluate((h) => ((window as unknown as { held: string }).held = h), held);
}

/** A rectangle from 30 to 60 % of the width; the frozen picture's frame number. */
async function freezeAndDraw(expert: Page): Promise<number> {
  await expert.keyboard.press('r');
  await draw(expert, [[0.3, 0.3], [0.6, 0.7]]);
  await expect(expert.getByTestId('frozen-picture')).toBeVisible();
  return eventually(() => frameNumber(expert.getByTestId('frozen-picture')));
}

/** Sent, it stands before the technician: the same frame, whole, with the mark in its place. */
async function arrives(expert: Page, field: Page, words: string, frame: number, size: number[]): Promise<void> {
  await expert.getByPlaceholder(/Instruction in words/).fill(words);
  await expert.keyboard.press('Enter');
  await expect(field.getByRole('heading', { name: words })).toBeVisible();
  const picture = field.getByTestId('marked-picture');
  await expect.poll(() => frameNumber(picture)).toBe(frame);
  expect(await sizeOf(field, 'marked-picture')).toEqual(size);
  await expectMark(field);
  await field.getByRole('button', { name: 'DONE', exact: true }).click();
  await expect(expert.getByTestId('receipt-state').first()).toHaveText(/Done/);
}

/** Pixels of a video, picture or canvas; upright is higher than wide. */
function sizeOf(page: Page, id: string): Promise<number[]> {
  return page.getByTestId(id).evaluate((e) => {
    const x = e as HTMLVideoElement & HTMLImageElement & HTMLCanvasElement;
    return [x.videoWidth || x.naturalWidth || x.width, x.videoHeight || x.naturalHeight || x.height];
  });
}

/** In the phone's page: the camera's pictures come as `window.held` says, the clip's whole picture at the foot of an upright one. */
function turnable(): void {
  const globals = window as unknown as {
    held: string;
    MediaStreamTrackProcessor: new (i: { track: MediaStreamTrack }) => { readable: ReadableStream<VideoFrame> };
    MediaStreamTrackGenerator: new (i: { kind: 'video' }) => MediaStreamTrack & { writable: WritableStream<VideoFrame> };
  };
  globals.held = 'across';
  const open = navigator.mediaDevices.getUserMedia.bind(navigator.mediaDevices);
  navigator.mediaDevices.getUserMedia = async (wish) => {
    const stream = await open(wish);
    const camera = stream.getVideoTracks()[0];
    if (!camera) return stream;
    const turned = new globals.MediaStreamTrackGenerator({ kind: 'video' });
    const canvas = new OffscreenCanvas(0, 0);
    const turn = new TransformStream<VideoFrame, VideoFrame>({
      transform(frame, out) {
        const { timestamp } = frame;
        if (globals.held === 'across') {
          out.enqueue(frame);
          return;
        }
        [canvas.width, canvas.height] = [720, 1280];
        const context = canvas.getContext('2d')!;
        context.drawImage(frame, 437, 0, 406, 720, 0, 0, 720, 1280);
        context.drawImage(frame, 0, 875, 720, 405);
        frame.close();
        out.enqueue(new VideoFrame(canvas, { timestamp }));
      },
    });
    void new globals.MediaStreamTrackProcessor({ track: camera }).readable.pipeThrough(turn).pipeTo(turned.writable).catch(() => {});
    return new MediaStream([turned, ...stream.getAudioTracks()]);
  };
}
