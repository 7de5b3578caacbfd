// The wear page: shows the display as worn, and says the words that are offered.
// Owns: the socket and what is on the page. Never: decides what is offered, or keeps a picture.

import { TEXTS } from '/texts.js';

const AGAIN_MS = 1_000;
const HOLD_MS = 600;
const HUD = 1;
// Meters: from this many dB below full scale.
const QUIETEST_DB = -54;
const LOUD_DB = -6;

const $ = (id) => document.getElementById(id);
const pictures = { hud: { element: $('hud') }, camera: { element: $('camera') } };
let state = {};
let offered = [];
let texts = TEXTS.en;
let socket = null;
let hudOnly = false;

// --- out

function send(message) {
  if (socket?.readyState === WebSocket.OPEN) socket.send(JSON.stringify(message));
}

function say(word) {
  send({ say: word });
}

function wantCamera() {
  send({ camera: !hudOnly && !document.hidden });
}

// --- in

function connect() {
  socket = new WebSocket(`ws://${location.host}/live`);
  socket.binaryType = 'blob';
  socket.onopen = () => {
    $('stage').classList.remove('gone');
    wantCamera();
    readSimulated();
  };
  socket.onmessage = ({ data }) => (typeof data === 'string' ? onText(JSON.parse(data)) : onPicture(data));
  socket.onclose = () => {
    $('stage').classList.add('gone');
    offered = [];
    // Nothing is known any more, so nothing is claimed.
    state = { name: state.name, language: state.language };
    draw();
    setTimeout(connect, AGAIN_MS);
    answer('');
  };
}

function onText(message) {
  if (message.state) {
    state = message.state;
    // As the display numbers them: its own words first.
    const all = state.offered ?? [];
    offered = [...all.filter((o) => o.on_hud), ...all.filter((o) => !o.on_hud)];
    draw();
  } else if (message.said) {
    // The button has no label: what it did shows by itself.
    const label = offered.find((o) => o.word === message.said)?.label ?? '';
    answer(message.why ? texts.notSaid(label || texts.temple, message.why) : label && texts.said(label), Boolean(message.why));
  }
}

async function onPicture(blob) {
  const kind = new Uint8Array(await blob.slice(0, 1).arrayBuffer())[0];
  const picture = kind === HUD ? pictures.hud : pictures.camera;
  const url = URL.createObjectURL(blob.slice(1, blob.size, kind === HUD ? 'image/png' : 'image/jpeg'));
  const old = picture.url;
  picture.url = url;
  picture.element.src = url;
  picture.element.hidden = false;
  if (old) URL.revokeObjectURL(old);
  if (kind === HUD) drawStage();
}

function answer(text, no = false) {
  $('answer').textContent = text;
  $('answer').classList.toggle('no', no);
}

// --- the page

function put(id, text) {
  const element = $(id);
  if (element.textContent !== text) element.textContent = text;
}

function draw() {
  const language = state.language === 'de' ? 'de' : 'en';
  texts = TEXTS[language];
  document.documentElement.lang = language;
  document.title = `Lotse · ${texts.title(state.name ?? '')}`;
  put('title', texts.title(state.name ?? ''));
  const { watchers } = state;
  const parts = watchers ? [watchers.length ? texts.watching(watchers) : texts.nobody] : [];
  if (state.case_number) parts.unshift(texts.caseNumber(state.case_number));
  put('subtitle', parts.join(' · '));
  pill('link', state.link, texts.link[state.link]);
  const recording = state.recording;
  pill('recording', recording, recording === 'on' ? texts.recording.on(since(state.recording_since_ms)) : texts.recording[recording]);
  $('say-title').hidden = !state.screen;
  put('say-title', offered.length ? texts.say : state.screen ? texts.sayNothing : '');
  put('who-title', texts.whoTitle);
  put('who', texts.who);
  const live = state.screen === 'live';
  // Only what is so: a covered camera shows nothing, a connection being made carries nothing.
  const next = live && state.private ? 'covered' : live && state.media === false ? 'joining' : state.screen;
  put('next', texts.next[next] ?? '');
  put('microphone-name', texts.microphone);
  put('speaker-name', texts.speaker);
  put('speaker-trouble', texts.noSpeaker);
  $('speaker-trouble').hidden = !state.speaker_trouble;
  put('temple-name', texts.temple);
  put('temple-help', texts.templeHelp);
  put('keys', texts.keys);
  drawSimulated();
  put('only', texts.hudOnly);
  $('view').setAttribute('aria-label', texts.view);
  meter('microphone', texts.microphone, state.microphone_level);
  meter('speaker', texts.speaker, state.speaker_level);
  drawTheme();
  drawStage();
  drawWords();
}

function drawStage() {
  const stage = $('stage');
  const gone = stage.classList.contains('gone');
  stage.classList.toggle('only', hudOnly);
  $('hud').alt = texts.hud(state.screen ?? '');
  $('camera').alt = texts.camera;
  $('none').hidden = !gone && Boolean(pictures.hud.url);
  put('none', gone ? texts.gone : texts.none);
  put('caption', hudOnly ? texts.captionOnly : state.private ? texts.covered : texts.captionWorn);
}

// The demo's link: only where these glasses have a simulated one.
let simulated = '';
async function readSimulated() {
  const reply = await fetch('/link').catch(() => null);
  simulated = reply?.status === 200 ? await reply.text() : '';
  drawSimulated();
}

function drawSimulated() {
  $('simulated').hidden = !simulated;
  put('simulated-name', texts.simulated);
  const select = $('simulated-kind');
  const kinds = Object.entries(texts.kinds);
  while (select.options.length < kinds.length) select.append(new Option('', kinds[select.options.length][0]));
  kinds.forEach(([, [name]], i) => {
    if (select.options[i].textContent !== name) select.options[i].textContent = name;
  });
  if (document.activeElement !== select) select.value = simulated;
  put('simulated-help', texts.kinds[simulated]?.[1] ?? simulated);
}

$('simulated-kind').onchange = async ({ target }) => {
  const reply = await fetch(`/link/${target.value}`, { method: 'POST' }).catch(() => null);
  if (!reply?.ok) answer(texts.notSaid(texts.simulated, reply ? await reply.text() : texts.gone), true);
  target.blur();
  readSimulated();
};

function pill(id, is, text) {
  const element = $(id);
  element.hidden = !text;
  element.dataset.is = is ?? '';
  put(id, text ?? '');
}

function since(ms) {
  const seconds = Math.max(0, Math.floor(((state.at_ms ?? 0) - (ms ?? 0)) / 1_000));
  const two = (n) => String(n).padStart(2, '0');
  const hours = Math.floor(seconds / 3_600);
  const rest = `${two(Math.floor(seconds / 60) % 60)}:${two(seconds % 60)}`;
  return hours ? `${hours}:${rest}` : rest;
}

function meter(id, name, level) {
  const db = level > 0 ? 20 * Math.log10(level) : -Infinity;
  const part = Math.min(1, Math.max(0, (db - QUIETEST_DB) / -QUIETEST_DB));
  const bar = $(id);
  bar.setAttribute('aria-label', name);
  bar.setAttribute('aria-valuenow', String(Math.round(part * 100)));
  bar.classList.toggle('loud', db > LOUD_DB);
  bar.firstElementChild.style.transform = `scaleX(${part.toFixed(3)})`;
}

// A word that stays keeps its button, so that nothing moves under a finger and the keyboard's place is kept.
function drawWords() {
  const list = $('words');
  const old = new Map([...list.children].map((item) => [item.dataset.word, item]));
  offered.forEach((one, i) => {
    const item = old.get(one.word) ?? wordItem(one.word);
    old.delete(one.word);
    const button = item.firstElementChild;
    if (button.textContent !== one.label) button.textContent = one.label;
    button.dataset.number = i < 9 ? String(i + 1) : '';
    button.classList.toggle('focus', Boolean(one.focus));
    button.classList.toggle('aside', !one.on_hud);
    if (i < 9) button.setAttribute('aria-keyshortcuts', String(i + 1));
    if (list.children[i] !== item) list.insertBefore(item, list.children[i] ?? null);
  });
  for (const item of old.values()) item.remove();
}

function wordItem(word) {
  const item = document.createElement('li');
  item.dataset.word = word;
  const button = document.createElement('button');
  button.type = 'button';
  button.className = 'word';
  button.onclick = () => say(word);
  item.append(button);
  return item;
}

// --- look

function theme() {
  return document.documentElement.dataset.theme ?? (matchMedia('(prefers-color-scheme: light)').matches ? 'light' : 'dark');
}

function drawTheme() {
  $('theme').setAttribute('aria-label', texts.theme[theme()]);
  $('theme').title = texts.theme[theme()];
}

function remember(key, value) {
  try {
    localStorage.setItem(key, value);
  } catch {
    // Without storage the choice lasts as long as the page.
  }
}

function remembered(key) {
  try {
    return localStorage.getItem(key);
  } catch {
    return null;
  }
}

// --- hands

$('theme').onclick = () => {
  document.documentElement.dataset.theme = theme() === 'dark' ? 'light' : 'dark';
  remember('theme', theme());
  drawTheme();
};

$('only').onclick = () => {
  hudOnly = !hudOnly;
  $('only').setAttribute('aria-pressed', String(hudOnly));
  wantCamera();
  drawStage();
};

let holding = null;
function press() {
  if (holding) return;
  $('temple').classList.add('held');
  holding = setTimeout(() => release('HOLD'), HOLD_MS);
}
function release(word) {
  if (!holding) return;
  clearTimeout(holding);
  holding = null;
  $('temple').classList.remove('held');
  if (word) say(word);
}
$('temple').onpointerdown = (event) => {
  $('temple').setPointerCapture(event.pointerId);
  press();
};
$('temple').onpointerup = () => release('TAP');
$('temple').onpointercancel = () => release(null);
$('temple').onkeydown = (event) => {
  if (event.key === ' ' || event.key === 'Enter') {
    event.preventDefault();
    press();
  }
};
$('temple').onkeyup = (event) => {
  if (event.key === ' ' || event.key === 'Enter') release('TAP');
};
$('temple').onblur = () => release(null);

addEventListener('keydown', (event) => {
  if (event.ctrlKey || event.altKey || event.metaKey || event.repeat) return;
  if (event.key === 'Escape') {
    const way = offered.find((o) => o.word === 'BACK') ?? offered.find((o) => o.word === 'CANCEL');
    if (way) say(way.word);
  } else if (/^[1-9]$/.test(event.key)) {
    const one = offered[Number(event.key) - 1];
    if (one) say(one.word);
  }
});
document.addEventListener('visibilitychange', wantCamera);

const chosen = remembered('theme');
if (chosen === 'light' || chosen === 'dark') document.documentElement.dataset.theme = chosen;
draw();
connect();
