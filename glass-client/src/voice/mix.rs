//! Several voices into one, never louder than the loudspeaker can take, and how loud that was.
//!
//! Owns: the limiter, the level. Never: a thread, a device. Elsewhere: the voices (`stream`), where it goes (`sink`).

/// Up to here nothing is changed (-1 dBFS).
const CEILING: f32 = 0.891;
/// Of the missing gain per block of 10 ms that comes back after something loud: half in 70 ms.
const RELEASE: f32 = 0.1;
/// Weight of a block in the level: about 100 ms.
const LEVEL_WEIGHT: f32 = 0.1;

/// Turns the sum down at once when it is too loud, and up again slowly.
#[derive(Debug)]
pub(super) struct Limiter {
    gain: f32,
}

impl Limiter {
    pub(super) fn new() -> Self {
        Self { gain: 1.0 }
    }

    pub(super) fn apply(&mut self, block: &mut [f32]) {
        let peak = block.iter().fold(0.0f32, |p, s| p.max(s.abs()));
        let allowed = if peak > CEILING { CEILING / peak } else { 1.0 };
        let goal = allowed.min(self.gain + (1.0 - self.gain) * RELEASE);
        let step = (goal - self.gain) / block.len().max(1) as f32;
        for sample in block {
            self.gain += step;
            *sample = soft(*sample * self.gain);
        }
        self.gain = goal;
    }
}

/// Straight up to the ceiling, then bending towards full scale.
fn soft(x: f32) -> f32 {
    let over = x.abs() - CEILING;
    if over <= 0.0 {
        return x;
    }
    (CEILING + (1.0 - CEILING) * (over / (1.0 - CEILING)).tanh()).copysign(x)
}

/// Root mean square, about the last 100 ms. 0 silence, 1 full scale.
#[derive(Debug, Default)]
pub(super) struct Level {
    power: f32,
}

impl Level {
    pub(super) fn add(&mut self, block: &[f32]) -> f32 {
        let power = block.iter().map(|s| s * s).sum::<f32>() / block.len().max(1) as f32;
        self.power += (power - self.power) * LEVEL_WEIGHT;
        if self.power < 1e-10 {
            self.power = 0.0;
        }
        self.power.sqrt()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sine(amplitude: f32, from: usize) -> Vec<f32> {
        (from..from + 480).map(|n| amplitude * (n as f32 * 0.0576).sin()).collect()
    }

    #[test]
    fn what_fits_is_not_touched() {
        let mut limiter = Limiter::new();
        let mut block = sine(0.8, 0);
        limiter.apply(&mut block);
        assert_eq!(block, sine(0.8, 0));
    }

    #[test]
    fn three_loud_voices_do_not_clip_and_quiet_ones_come_back() {
        let mut limiter = Limiter::new();
        for n in 0..50 {
            let mut block = sine(2.7, n * 480);
            limiter.apply(&mut block);
            assert!(block.iter().all(|s| s.abs() <= 1.0));
            if n > 0 {
                assert!(block.iter().all(|s| s.abs() <= CEILING + 1e-3), "bent in block {n}");
            }
        }
        for n in 50..150 {
            let mut block = sine(0.5, n * 480);
            limiter.apply(&mut block);
            if n > 130 {
                let peak = block.iter().fold(0.0f32, |p, s| p.max(s.abs()));
                assert!((peak - 0.5).abs() < 0.01, "{peak}");
            }
        }
    }

    #[test]
    fn level_of_a_sine_is_its_effective_value() {
        let mut level = Level::default();
        let mut last = 0.0;
        for n in 0..100 {
            last = level.add(&sine(0.5, n * 480));
        }
        assert!((last - 0.3535).abs() < 0.02, "{last}");
        for _ in 0..400 {
            last = level.add(&[0.0; 480]);
        }
        assert_eq!(last, 0.0);
    }
}
