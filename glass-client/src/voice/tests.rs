//! A voice over seeded bad networks, in virtual time: what is heard, how late, and what was filled.

use std::time::{Duration, Instant};

use bytes::Bytes;
use opus::{Application, Channels, Encoder};
use proptest::prelude::*;
use rand::{RngExt, SeedableRng, rngs::StdRng};

use super::*;

/// The sender's tone, Hz, and its size.
const TONE: f64 = 440.0;
const SIZE: f64 = 0.4;
/// Steepest step of the tone from sample to sample, with room for the codec.
const STEEPEST: f32 = 0.4 * std::f32::consts::TAU * 440.0 / 48_000.0;
/// Sent after this much of everything, ms: no network is quicker.
const WAY_MS: f64 = 30.0;

/// A network between a speaking sender and a voice.
struct Network {
    loss: f64,
    jitter_ms: f64,
    duplicates: f64,
    /// The sender's clock is quicker by this part.
    drift: f64,
    /// From, to, ms of sending: packets come only at the end of it.
    held: Option<(f64, f64)>,
    /// From, to, ms of sending: the sender is silent and sends nothing.
    pause: Option<(f64, f64)>,
    speech: bool,
}

const CALM: Network =
    Network { loss: 0.0, jitter_ms: 0.0, duplicates: 0.0, drift: 0.0, held: None, pause: None, speech: false };

/// What was heard.
struct Heard {
    sound: Vec<f32>,
    /// Ms from mouth to ear beyond the way, once a block.
    delay: Vec<f64>,
    counters: Counters,
}

impl Network {
    fn send(&self, seconds: u32, seed: u64) -> Heard {
        let mut random = StdRng::seed_from_u64(seed);
        let epoch = Instant::now();
        let at = |ms: f64| epoch + Duration::from_micros((ms * 1_000.0) as u64);
        let mut packets = self.packets(seconds, &mut random);
        packets.sort_by(|a, b| a.0.total_cmp(&b.0));
        let mut waiting = packets.into_iter().peekable();
        let mut voice: Option<Voice> = None;
        let mut heard = Heard { sound: Vec::new(), delay: Vec::new(), counters: Counters::default() };
        for n in 0..seconds * 100 {
            let now_ms = f64::from(n) * 10.0;
            while let Some((arrives, rtp_time, seq, payload)) = waiting.next_if(|p| p.0 <= now_ms) {
                let packet = VoicePacket { rtp_time, seq, payload, arrived: at(arrives) };
                voice.get_or_insert_with(|| Voice::new(packet.arrived).expect("decoder")).push(packet);
            }
            let mut block = [0.0; BLOCK];
            if let Some(voice) = &mut voice {
                voice.add_to(at(now_ms), &mut block);
                if let Some(position) = voice.position() {
                    let said_ms = (position - FIRST_TIME as f64) / per_ms(1.0) / (1.0 + self.drift);
                    heard.delay.push(now_ms + 10.0 - said_ms - WAY_MS);
                }
                heard.counters = voice.counters;
            }
            heard.sound.extend(block);
        }
        heard
    }

    /// Arrival in ms, RTP time, sequence number, payload.
    fn packets(&self, seconds: u32, random: &mut StdRng) -> Vec<(f64, u32, u16, Bytes)> {
        let mut encoder = Encoder::new(SAMPLE_RATE, Channels::Mono, Application::Voip).expect("encoder");
        encoder.set_inband_fec(true).expect("fec");
        encoder.set_packet_loss_perc(10).expect("loss");
        encoder.set_bitrate(opus::Bitrate::Bits(32_000)).expect("rate");
        let mut packets = Vec::new();
        let mut seq = 65_500u16;
        for n in 0..seconds * 50 {
            let sent_ms = f64::from(n) * 20.0 / (1.0 + self.drift);
            let sound: Vec<f32> = (n * 960..(n + 1) * 960).map(|i| self.sample(i)).collect();
            let payload = Bytes::from(encoder.encode_vec_float(&sound, 400).expect("encode"));
            if self.pause.is_some_and(|(from, to)| (from..to).contains(&sent_ms)) {
                continue;
            }
            seq = seq.wrapping_add(1);
            let time = (FIRST_TIME as u32).wrapping_add(n * 960);
            let mut arrives = sent_ms + WAY_MS + random.random_range(0.0..=self.jitter_ms);
            if let Some((from, to)) = self.held
                && (from..to).contains(&arrives)
            {
                arrives = to + (arrives - from) / 100.0;
            }
            if !random.random_bool(self.loss) {
                packets.push((arrives, time, seq, payload.clone()));
            }
            if random.random_bool(self.duplicates) {
                packets.push((arrives + 3.0, time, seq, payload));
            }
        }
        packets
    }

    fn sample(&self, i: u32) -> f32 {
        let t = f64::from(i) / 48_000.0;
        // Speech: 1.6 s of tone, 0.4 s of a pause.
        let loud = if self.speech && t % 2.0 > 1.6 { 0.0 } else { SIZE };
        (loud * (std::f64::consts::TAU * TONE * t).sin()) as f32
    }
}

/// Close to the wrap of 32 bits.
const FIRST_TIME: i64 = 0xffff_f000;

impl Heard {
    fn share_concealed(&self) -> f64 {
        self.counters.concealed as f64 / (self.counters.concealed + self.counters.played).max(1) as f64
    }

    /// Steepest step between two samples, after the first half second.
    fn steepest(&self) -> f32 {
        self.sound[24_000..].windows(2).map(|w| (w[1] - w[0]).abs()).fold(0.0, f32::max)
    }

    fn delay_between(&self, from_s: f64, to_s: f64) -> (f64, f64) {
        let part = &self.delay[(from_s * 100.0) as usize..((to_s * 100.0) as usize).min(self.delay.len())];
        (part.iter().copied().fold(f64::MAX, f64::min), part.iter().copied().fold(f64::MIN, f64::max))
    }

    /// Worst ratio of what is not the tone to the tone, dB, over windows of 50 ms. The last half second is the sender's end. The frequency is that heard, Hz.
    fn worst_noise_db(&self, hz: f64, from_s: usize) -> f64 {
        let mut worst = f64::MIN;
        for window in self.sound[48_000 * from_s..self.sound.len() - 24_000].chunks_exact(2_400) {
            let (mut c, mut s) = (0.0, 0.0);
            for (i, x) in window.iter().enumerate() {
                let w = std::f64::consts::TAU * hz * i as f64 / 48_000.0;
                c += f64::from(*x) * w.cos() / 1_200.0;
                s += f64::from(*x) * w.sin() / 1_200.0;
            }
            let rest: f64 = window
                .iter()
                .enumerate()
                .map(|(i, x)| {
                    let w = std::f64::consts::TAU * hz * i as f64 / 48_000.0;
                    (f64::from(*x) - c * w.cos() - s * w.sin()).powi(2)
                })
                .sum::<f64>()
                / 2_400.0;
            let tone = (c * c + s * s) / 2.0;
            worst = worst.max(10.0 * ((rest + 1e-12) / (tone + 1e-12)).log10());
        }
        worst
    }
}

#[test]
fn a_calm_network_changes_nothing() {
    let heard = CALM.send(10, 1);
    assert_eq!((heard.counters.concealed, heard.counters.late, heard.counters.dropped), (0, 0, 0));
    assert!(heard.counters.played > 490);
    let noise = heard.worst_noise_db(TONE, 1);
    assert!(noise < -25.0, "{noise} dB");
    assert!(heard.steepest() < STEEPEST * 1.4, "{}", heard.steepest());
    let (least, most) = heard.delay_between(1.0, 10.0);
    assert!(least > 25.0 && most < 60.0, "{least} to {most} ms");
}

#[test]
fn jitter_and_reordering_are_taken_up_by_the_delay() {
    for seed in 0..4 {
        let heard = Network { jitter_ms: 60.0, ..CALM }.send(20, seed);
        assert!(heard.share_concealed() < 0.02, "{:?}", heard.counters);
        assert!(heard.steepest() < STEEPEST * 1.6, "{}", heard.steepest());
        let (_, most) = heard.delay_between(2.0, 20.0);
        assert!(most < 120.0, "{most} ms");
    }
}

#[test]
fn one_lost_packet_in_twenty_is_filled_without_a_click() {
    for seed in 0..4 {
        let heard = Network { loss: 0.05, jitter_ms: 15.0, ..CALM }.send(20, seed);
        let share = heard.share_concealed();
        assert!((0.03..0.08).contains(&share), "{share} {:?}", heard.counters);
        assert!(heard.steepest() < STEEPEST * 2.0, "{}", heard.steepest());
        let (_, most) = heard.delay_between(2.0, 20.0);
        assert!(most < 90.0, "{most} ms");
    }
}

#[test]
fn a_third_lost_is_bad_but_bounded() {
    let heard = Network { loss: 0.33, jitter_ms: 30.0, ..CALM }.send(20, 3);
    let share = heard.share_concealed();
    assert!((0.25..0.42).contains(&share), "{share}");
    assert!(heard.sound.iter().all(|s| s.is_finite() && s.abs() < 1.0));
    let (_, most) = heard.delay_between(2.0, 20.0);
    assert!(most < 150.0, "{most} ms");
}

#[test]
fn the_same_packet_twice_is_heard_once() {
    let heard = Network { duplicates: 0.3, ..CALM }.send(10, 5);
    assert!((100..200).contains(&heard.counters.dropped), "{:?}", heard.counters);
    assert_eq!(heard.counters.concealed, 0);
    assert!(heard.worst_noise_db(TONE, 1) < -25.0);
}

#[test]
fn a_sender_with_another_clock_is_followed() {
    for drift in [100e-6, -100e-6, 0.003, -0.003] {
        let heard = Network { drift, ..CALM }.send(60, 6);
        assert_eq!((heard.counters.concealed, heard.counters.dropped, heard.counters.late), (0, 0, 0), "{drift}");
        let (least, most) = heard.delay_between(10.0, 59.0);
        assert!(least > 15.0 && most < 60.0, "{drift}: {least} to {most} ms");
        let noise = heard.worst_noise_db(TONE * (1.0 + drift), 8);
        assert!(noise < -20.0, "{drift}: {noise} dB");
        assert!(heard.steepest() < STEEPEST * 1.4, "{drift}: {}", heard.steepest());
    }
}

#[test]
fn after_a_gap_of_a_second_the_delay_comes_back() {
    let heard = Network { held: Some((5_000.0, 6_000.0)), speech: true, ..CALM }.send(30, 7);
    let (_, most) = heard.delay_between(7.0, 30.0);
    assert!(most < 360.0, "{most} ms");
    let (_, late) = heard.delay_between(20.0, 29.0);
    assert!(late < 75.0, "{late} ms");
    assert!(heard.steepest() < STEEPEST * 2.5, "{}", heard.steepest());
}

#[test]
fn a_silent_sender_is_not_a_lossy_one() {
    let heard = Network { pause: Some((3_000.0, 6_000.0)), ..CALM }.send(10, 8);
    assert_eq!(heard.counters.concealed, 0, "{:?}", heard.counters);
    let silent = &heard.sound[48_000 * 4..48_000 * 5];
    assert!(silent.iter().all(|s| s.abs() < 1e-4));
    assert!(heard.sound[48_000 * 8..].iter().any(|s| s.abs() > 0.3));
    assert!(heard.steepest() < STEEPEST * 2.5, "{}", heard.steepest());
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 64, ..ProptestConfig::default() })]
    #[test]
    fn whatever_comes_never_breaks_the_sound(packets in prop::collection::vec(
        (any::<u32>(), any::<u16>(), prop::collection::vec(any::<u8>(), 0..60), 0u64..3_000), 0..200)) {
        let epoch = Instant::now();
        let mut mixer = Mixer::new();
        for (n, (rtp_time, seq, payload, at)) in packets.into_iter().enumerate() {
            let track = TrackId(uuid::Uuid::from_u128(n as u128 % 3));
            let arrived = epoch + Duration::from_millis(at);
            mixer.push(track, VoicePacket { rtp_time, seq, payload: payload.into(), arrived });
            let mut block = [0.0; BLOCK];
            mixer.next_block(epoch + Duration::from_millis(n as u64 * 10), &mut block);
            prop_assert!(block.iter().all(|s| s.is_finite() && s.abs() <= 1.0));
        }
    }
}

/// Chunk lengths of a WAV file against what is there.
fn wav_samples(bytes: &[u8]) -> Vec<i16> {
    assert_eq!((&bytes[..4], &bytes[8..16], &bytes[36..40]), (&b"RIFF"[..], &b"WAVEfmt "[..], &b"data"[..]));
    let number = |at: usize| u32::from_le_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]) as usize;
    assert_eq!(number(24), 48_000);
    assert_eq!(number(4) + 8, number(40) + 44);
    let data = &bytes[44..44 + number(40)];
    data.chunks_exact(2).map(|b| i16::from_le_bytes([b[0], b[1]])).collect()
}

#[test]
fn the_file_can_be_read_at_any_moment_and_its_time_is_time_since_start() {
    let dir = tempfile::tempdir().expect("dir");
    let path = dir.path().join("voice.wav");
    let speaker = Speaker::start(SpeakerConfig::parse(&format!("wav:{}", path.display())).expect("config"));
    let start = Instant::now();
    let track = TrackId(uuid::Uuid::from_u128(1));
    let mut random = StdRng::seed_from_u64(1);
    let packets = CALM.packets(4, &mut random);
    let mut loudest = 0.0f32;
    for (arrives, rtp_time, seq, payload) in packets {
        let arrived = start + Duration::from_micros((arrives * 1_000.0) as u64);
        std::thread::sleep(arrived.saturating_duration_since(Instant::now()));
        speaker.push(track, VoicePacket { rtp_time, seq, payload, arrived: Instant::now() });
        loudest = loudest.max(speaker.level());
        if let Ok(bytes) = std::fs::read(&path)
            && bytes.len() >= 44
        {
            wav_samples(&bytes);
        }
    }
    assert_eq!(speaker.state(), SinkState::Playing);
    assert!(speaker.counters().played > 180, "{:?}", speaker.counters());
    assert!((loudest - 0.28).abs() < 0.05, "{loudest}");
    let told = start.elapsed().as_secs_f64();
    let in_file = wav_samples(&std::fs::read(&path).expect("file")).len() as f64 / 48_000.0;
    assert!((told - in_file).abs() < 0.75, "{told} s, {in_file} s in the file");
    drop(speaker);
}

#[test]
fn a_missing_device_is_told_and_the_call_goes_on() {
    for device in ["alsa:no-such-device", "wav:/no/such/folder/a.wav"] {
        let speaker = Speaker::start(SpeakerConfig::parse(device).expect("config"));
        let start = Instant::now();
        while !matches!(speaker.state(), SinkState::Failed { .. }) {
            assert!(start.elapsed() < Duration::from_secs(10), "{device}: {:?}", speaker.state());
            std::thread::sleep(Duration::from_millis(10));
        }
        let mut random = StdRng::seed_from_u64(1);
        for (_, rtp_time, seq, payload) in CALM.packets(1, &mut random) {
            speaker.push(
                TrackId(uuid::Uuid::from_u128(1)),
                VoicePacket { rtp_time, seq, payload, arrived: Instant::now() },
            );
            std::thread::sleep(Duration::from_millis(10));
        }
        assert!(speaker.counters().played > 5, "{:?}", speaker.counters());
    }
    assert!(SpeakerConfig::parse("wav:").is_err());
    assert!(SpeakerConfig::parse("loud").is_err());
}
