//! One voice from packets to sound: decodes, fills what is missing, and keeps the delay where it should be.
//!
//! Owns: the decoder, the samples decoded ahead, the place on the RTP time line. A block is asked for with the time.
//! Never: reads a clock, waits. Elsewhere: order and jitter (`buffer`), the sum (`mix`).

use std::{collections::VecDeque, time::Instant};

use opus::{Channels, Decoder};

use super::{
    Counters, SAMPLE_RATE, VoicePacket,
    buffer::{Buffer, Pushed},
    per_ms,
};

/// Longest Opus packet: 120 ms.
const LONGEST: usize = 5_760;
/// Opus codes in steps of 2.5 ms.
const STEP: usize = 120;
/// Filled packets in a row (100 ms at 20 ms), then silence: longer guesses sound like a robot.
const FILLED_MAX: u32 = 5;
/// Largest change of speed, 0.5 %: 9 cents, not heard in speech.
const SPEED_MAX: f64 = 0.005;
/// A wrong delay is halved in about 1.4 s.
const CORRECT_OVER_MS: f64 = 2_000.0;
/// Largest change of the speed per block of 10 ms: no step in pitch.
const SPEED_SLEW: f64 = 0.000_2;
/// Further from the wanted delay than this, ms, a quiet packet is left out or doubled.
const QUIET_FIX_MS: f64 = 20.0;
/// Below this effective value (-50 dBFS) a packet is quiet.
const QUIET: f32 = 0.003;
/// A late packet is waited for until the voice is so far behind, ms.
const HOLD_MS: f64 = 40.0;
/// Further behind than this, ms, packets are skipped.
const SKIP_MS: f64 = 150.0;
/// What is left of a jump after each sample: gone in about 4 ms.
const DECLICK: f32 = 0.985;

/// One voice.
#[derive(Debug)]
pub(super) struct Voice {
    buffer: Buffer,
    decoder: Decoder,
    /// Decoded and not heard; `before` is the last one heard.
    ahead: VecDeque<f32>,
    before: f32,
    /// Place between `ahead[0]` and `ahead[1]`, 0 to 1.
    phase: f64,
    speed: f64,
    /// RTP time of what is decoded next; `None`: silent until a packet is due.
    next: Option<i64>,
    last_seq: Option<i64>,
    /// Samples of the last packet.
    length: usize,
    filled: u32,
    /// Filled while it was open whether a packet was late or the sender silent.
    undecided: u64,
    /// The next samples do not follow from the ones before.
    jump: bool,
    click: f32,
    scratch: Vec<f32>,
    pub(super) last_arrival: Instant,
    pub(super) counters: Counters,
}

impl Voice {
    pub(super) fn new(now: Instant) -> Result<Self, opus::Error> {
        Ok(Self {
            buffer: Buffer::new(now),
            decoder: Decoder::new(SAMPLE_RATE, Channels::Mono)?,
            ahead: VecDeque::with_capacity(LONGEST * 2),
            before: 0.0,
            phase: 0.0,
            speed: 1.0,
            next: None,
            last_seq: None,
            length: 960,
            filled: 0,
            undecided: 0,
            jump: false,
            click: 0.0,
            scratch: vec![0.0; LONGEST],
            last_arrival: now,
            counters: Counters::default(),
        })
    }

    pub(super) fn push(&mut self, packet: VoicePacket) {
        self.last_arrival = packet.arrived;
        // An empty payload is the sender's silence: the gap in time says the same.
        if packet.payload.is_empty() {
            return;
        }
        match self.buffer.push(packet, self.next) {
            Pushed::Kept => {}
            Pushed::Late => self.counters.late += 1,
            Pushed::Duplicate | Pushed::Full | Pushed::Odd => self.counters.dropped += 1,
            Pushed::Restart => {
                self.last_seq = None;
                self.fall_silent();
            }
        }
    }

    /// Adds the next samples to `out`; `now` is when the first of them is heard.
    pub(super) fn add_to(&mut self, now: Instant, out: &mut [f32]) {
        self.steer(now, out.len());
        let needed = (self.phase + self.speed * out.len() as f64).ceil() as usize + 3;
        while self.ahead.len() < needed {
            self.decode_ahead(now);
        }
        for sample in out {
            let t = self.phase as f32;
            *sample += between(self.before, self.ahead[0], self.ahead[1], self.ahead[2], t);
            self.phase += self.speed;
            while self.phase >= 1.0 {
                self.phase -= 1.0;
                self.before = self.ahead.pop_front().unwrap_or(0.0);
            }
        }
    }

    /// The RTP time heard next; `None` while silent.
    pub(super) fn position(&self) -> Option<f64> {
        self.next.map(|next| next as f64 - self.ahead.len() as f64 + self.phase)
    }

    /// Samples ahead of the wanted delay; negative: behind.
    fn off(&self, now: Instant) -> f64 {
        self.position().map_or(0.0, |p| p - self.buffer.due(now))
    }

    fn steer(&mut self, now: Instant, samples: usize) {
        let wanted = 1.0 - (self.off(now) / per_ms(CORRECT_OVER_MS)).clamp(-SPEED_MAX, SPEED_MAX);
        let slew = SPEED_SLEW * samples as f64 / per_ms(10.0);
        self.speed += (wanted - self.speed).clamp(-slew, slew);
    }

    fn decode_ahead(&mut self, now: Instant) {
        let Some(next) = self.next else { return self.wait(now) };
        if self.off(now) < -per_ms(SKIP_MS) && self.skip(now) {
            return;
        }
        match self.buffer.first() {
            Some((time, _)) if time < next => {
                self.buffer.take_first();
                self.counters.late += 1;
            }
            Some((time, _)) if time == next => self.decode_first(now),
            Some((time, seq)) => self.bridge(next, time, seq),
            None => self.hold(now, next),
        }
    }

    /// Silent: until the first packet is due.
    fn wait(&mut self, now: Instant) {
        match self.buffer.first() {
            Some((time, seq)) if time as f64 <= self.buffer.due(now) + self.ahead.len() as f64 => {
                if let Some(last) = self.last_seq {
                    self.counters.concealed += (seq - last - 1).max(0) as u64;
                }
                self.next = Some(time);
                self.filled = 0;
                self.jump = true;
            }
            _ => self.append_silence(STEP),
        }
    }

    fn decode_first(&mut self, now: Instant) {
        let Some((time, packet)) = self.buffer.take_first() else { return };
        self.last_seq = Some(packet.seq);
        // Filled while this packet was on its way: it was late, and that was heard.
        self.counters.concealed += std::mem::take(&mut self.undecided);
        let mut sound = std::mem::take(&mut self.scratch);
        match self.decoder.decode_float(&packet.payload, &mut sound, false) {
            Ok(length) if length > 0 => {
                self.length = length;
                self.next = Some(time + length as i64);
                self.filled = 0;
                self.counters.played += 1;
                let frame = &sound[..length];
                let off = self.off(now);
                let power = frame.iter().map(|s| s * s).sum::<f32>() / length as f32;
                let quiet = power < QUIET * QUIET;
                if quiet && off < -per_ms(QUIET_FIX_MS) {
                    self.jump = true;
                } else {
                    self.append(frame);
                    if quiet && off > per_ms(QUIET_FIX_MS) {
                        self.jump = true;
                        self.append(frame);
                    }
                }
                self.scratch = sound;
            }
            _ => {
                self.scratch = sound;
                self.counters.dropped += 1;
                self.next = Some(time + self.length as i64);
                self.fill(self.length);
                self.counters.concealed += 1;
            }
        }
    }

    /// The next packet there comes later than wanted: something is lost, or the sender was silent.
    fn bridge(&mut self, next: i64, time: i64, seq: i64) {
        let gap = time - next;
        let silent_sender = self.last_seq.is_none_or(|last| seq == last + 1);
        let undecided = std::mem::take(&mut self.undecided);
        if !silent_sender {
            self.counters.concealed += undecided;
        }
        if gap < STEP as i64 {
            self.next = Some(time);
            self.jump = true;
            return;
        }
        let counted = u64::from(!silent_sender);
        if self.filled >= FILLED_MAX {
            return self.fall_silent();
        }
        let length = self.length.min(gap as usize) / STEP * STEP;
        self.next = Some(next + length as i64);
        self.counters.concealed += counted;
        // The packet after a single lost one carries a coarse copy of it.
        let copy = if !silent_sender && gap <= self.length as i64 { self.buffer.first_payload() } else { None };
        match copy {
            Some(payload) => {
                let mut sound = std::mem::take(&mut self.scratch);
                match self.decoder.decode_float(&payload, &mut sound[..length], true) {
                    Ok(n) => self.append(&sound[..n]),
                    Err(_) => self.append_silence(length),
                }
                self.scratch = sound;
                self.filled += 1;
            }
            None => self.fill(length),
        }
    }

    /// Nothing is there: wait for it with filled sound, as long as the delay may grow; then it is lost.
    fn hold(&mut self, now: Instant, next: i64) {
        if self.filled >= FILLED_MAX {
            return self.fall_silent();
        }
        if self.off(now) < -per_ms(HOLD_MS) {
            self.next = Some(next + self.length as i64);
        }
        self.undecided += 1;
        self.fill(self.length);
    }

    /// Forward to the packet that is due. False: there is none further on.
    fn skip(&mut self, now: Instant) -> bool {
        let due = self.buffer.due(now) + self.ahead.len() as f64;
        let mut skipped = false;
        while let Some((time, seq)) = self.buffer.first() {
            if (time + self.length as i64) as f64 > due {
                break;
            }
            self.buffer.take_first();
            self.last_seq = Some(seq);
            self.counters.dropped += 1;
            skipped = true;
        }
        if skipped {
            self.next = self.buffer.first().map(|(time, _)| time);
            self.jump = true;
        }
        skipped
    }

    /// A guess by the decoder, from what was heard before.
    fn fill(&mut self, length: usize) {
        self.filled += 1;
        let mut sound = std::mem::take(&mut self.scratch);
        match self.decoder.decode_float(&[], &mut sound[..length], false) {
            Ok(n) if n > 0 => self.append(&sound[..n]),
            _ => self.append_silence(length),
        }
        self.scratch = sound;
    }

    fn fall_silent(&mut self) {
        self.next = None;
        self.jump = true;
        self.undecided = 0;
    }

    fn append_silence(&mut self, samples: usize) {
        self.append(&[0.0; LONGEST][..samples.min(LONGEST)]);
    }

    /// A jump is bent into a short slope.
    fn append(&mut self, sound: &[f32]) {
        if std::mem::take(&mut self.jump)
            && let Some(first) = sound.first()
        {
            let last = self.ahead.back().copied().unwrap_or(self.before);
            self.click = last - first;
        }
        for sample in sound {
            self.ahead.push_back(sample + self.click);
            self.click = if self.click.abs() < 1e-5 { 0.0 } else { self.click * DECLICK };
        }
    }
}

/// Catmull-Rom: between `b` (t = 0) and `c` (t = 1).
fn between(a: f32, b: f32, c: f32, d: f32, t: f32) -> f32 {
    let slope_b = (c - a) * 0.5;
    let slope_c = (d - b) * 0.5;
    let curve = 2.0 * (b - c) + slope_b + slope_c;
    ((curve * t + 3.0 * (c - b) - 2.0 * slope_b - slope_c) * t + slope_b) * t + b
}
